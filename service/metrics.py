"""What `/metrics` tells Prometheus.

Three sources, each right in its own way:

* what this machine's web processes did: requests, counted by ``prometheus_client`` in files that they share, where the
  supervisor has named a folder for them (``PROMETHEUS_MULTIPROC_DIR``);
* what jobs did, counted in Redis by whoever did it (`service.tallies`);
* what there is now: queues and batches from the ledger, workers from Redis, read when somebody asks.

A part that does not answer leaves its metrics out and says so in ``netproof_up``; the others are told all the same.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import cache
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from service.load import Load, workers_wanted
from service.queue import ALL_QUEUES, queue_name
from service.tallies import FAMILIES, Family, Found
from service.workers import Licence, WorkerRecord
from solver.options import Backend

__all__ = ["MEDIA_TYPE", "Scrape", "cached", "exposition", "requested"]

MEDIA_TYPE = CONTENT_TYPE_LATEST

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0)
_BACKENDS = tuple(str(backend) for backend in Backend if backend is not Backend.AUTO)

_requests = Counter("netproof_http_requests", "Requests answered.", ("method", "route", "status"))
_seconds = Histogram(
    "netproof_http_request_seconds",
    "Seconds until an answer began, waits that clients asked for included.",
    ("method", "route"),
    buckets=_REQUEST_BUCKETS,
)
_lookups = Counter("netproof_cache_lookups", FAMILIES["cache_lookups"].about, ("at", "result"))


def requested(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request.

    Args:
        method: of HTTP.
        route: its template, never the path that was asked for.
        status: of the answer, 0 where none was sent.
        seconds: until the answer began.
    """
    method = method if method in _METHODS else "other"
    count, spent = _metrics_of(method, route, status)
    count.inc()
    spent.observe(seconds)


@cache
def _metrics_of(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Finding a metric by its labels costs more than counting; there are as few of them as of routes."""
    return _requests.labels(method, route, str(status)), _seconds.labels(method, route)


def cached(*, hit: bool) -> None:
    """Count a look for an earlier answer while a request waits."""
    _lookups.labels("request", "hit" if hit else "miss").inc()


class Scrape:
    """What is known of a deployment at one moment; a part that did not answer holds its error, or is left out.

    Args:
        answers: by part: ``ledger`` a `Load`, ``queue`` a pair of the tallies and the moment of the reaper's last
            sweep, ``workers`` the live ones, ``artifacts`` the free bytes of the disk or None.
        target_seconds: within which queued jobs should be done, for `netproof_workers_wanted`.
    """

    def __init__(self, answers: dict[str, Future[Any]], *, target_seconds: float) -> None:
        self._answers = answers
        self._target = target_seconds

    def collect(self) -> Iterator[Metric]:
        """All metrics but those of requests."""
        up = GaugeMetricFamily("netproof_up", "Whether a part answers.", labels=("part",))
        for part, answer in self._answers.items():
            up.add_metric((part,), float(answer.exception() is None))
        yield up
        load: Load | None = self._answer("ledger")
        workers: list[WorkerRecord] | None = self._answer("workers")
        told: tuple[dict[str, Found], float | None] | None = self._answer("queue")
        if load is not None:
            yield from _load(load)
        if workers is not None:
            yield from _workers(workers)
        if told is not None:
            tallies, swept = told
            yield from (_tally(name, FAMILIES[name], found) for name, found in tallies.items())
            if swept is not None:
                name, about = "netproof_reaper_last_sweep_timestamp_seconds", "When the reaper last looked."
                yield GaugeMetricFamily(name, about, value=swept)
            if load is not None:
                yield _wanted(load, tallies["solve_seconds"], self._target)
        free = self._answer("artifacts")
        if free is not None:
            about = "Bytes that are free where artifacts are kept."
            yield GaugeMetricFamily("netproof_artifacts_free_bytes", about, value=free)

    def _answer(self, part: str) -> Any:
        answer = self._answers.get(part)
        return None if answer is None or answer.exception() is not None else answer.result()


def exposition(scrape: Scrape) -> bytes:
    """Everything in Prometheus' text format."""

    class Both:
        def collect(self) -> Iterable[Metric]:
            return _merged(itertools.chain(_own(), scrape.collect()))

    return generate_latest(Both())


def _own() -> Iterable[Metric]:
    """The metrics of all web processes that share a folder, or else of this one."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return (metric for metric in REGISTRY.collect() if metric.name.startswith("netproof_"))
    shared: Iterable[Metric] = MultiProcessCollector(CollectorRegistry()).collect()  # type: ignore[no-untyped-call]
    return shared


def _merged(metrics: Iterable[Metric]) -> Iterable[Metric]:
    """Each name once: requests and jobs both look for earlier answers. When counting began, few want to know."""
    found: dict[str, Metric] = {}
    for metric in metrics:
        metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
        if metric.name in found:
            found[metric.name].samples.extend(metric.samples)
        else:
            found[metric.name] = metric
    return found.values()


def _load(load: Load) -> Iterator[Metric]:
    now = datetime.now(UTC)
    queued = GaugeMetricFamily("netproof_jobs_queued", "Jobs that wait for a worker.", labels=("queue",))
    running = GaugeMetricFamily("netproof_jobs_running", "Jobs at work.", labels=("queue",))
    oldest = GaugeMetricFamily("netproof_oldest_job_seconds", "How long the oldest job has waited.", labels=("queue",))
    for queue in ALL_QUEUES:
        waiting = load.queues.get(queue)
        queued.add_metric((queue,), waiting.queued if waiting else 0)
        running.add_metric((queue,), waiting.running if waiting else 0)
        since = waiting.oldest if waiting else None
        oldest.add_metric((queue,), 0.0 if since is None else max(0.0, (now - since).total_seconds()))
    yield from (queued, running, oldest)
    yield GaugeMetricFamily("netproof_batches_running", "Batches at work.", value=load.batches)
    yield GaugeMetricFamily("netproof_items_left", "Items that they still have to decide.", value=load.items_left)


def _workers(workers: list[WorkerRecord]) -> Iterator[Metric]:
    states = GaugeMetricFamily("netproof_workers", "Live workers by what they do.", labels=("state",))
    idle = sum(not worker.busy and not worker.draining for worker in workers)
    draining = sum(worker.draining for worker in workers)
    for state, number in (("idle", idle), ("busy", len(workers) - idle - draining), ("draining", draining)):
        states.add_metric((state,), number)
    about = "Live workers that serve a back end, by their licence for it."
    serving = GaugeMetricFamily("netproof_workers_serving", about, labels=("backend", "licence"))
    for backend, licence in itertools.product(_BACKENDS, Licence):
        if licence is not Licence.NONE:
            serving.add_metric((backend, licence), sum(worker.licence(backend) is licence for worker in workers))
    yield from (states, serving)


def _wanted(load: Load, solved: Found, target_seconds: float) -> Metric:
    """The signal for autoscalers; a job is taken to cost what jobs have cost on average."""
    count = sum(sum(slots[:-1]) for slots in solved.values())
    mean = sum(slots[-1] for slots in solved.values()) / count if count else math.inf
    about = "Workers that would have the queued jobs done within NETPROOF_SCALE_SECONDS."
    wanted = GaugeMetricFamily("netproof_workers_wanted", about, labels=("backend",))
    for backend in _BACKENDS:
        number = workers_wanted(load, backend, solve_seconds=mean, target_seconds=target_seconds)
        wanted.add_metric((queue_name(backend),), number)
    return wanted


def _tally(name: str, family: Family, found: Found) -> Metric:
    """A family of `service.tallies`, with zeros where it has no labels and nothing was counted."""
    if not family.buckets:
        counter = CounterMetricFamily(f"netproof_{name}", family.about, labels=tuple(family.labels))
        for labels, (number,) in sorted((found or _zero(family, [0.0])).items()):
            counter.add_metric(labels, number)
        return counter
    histogram = HistogramMetricFamily(f"netproof_{name}", family.about, labels=tuple(family.labels))
    ends = [*map(str, family.buckets), "+Inf"]
    for labels, slots in sorted((found or _zero(family, [0.0] * (len(ends) + 1))).items()):
        counts = itertools.accumulate(slots[:-1])
        histogram.add_metric(labels, list(zip(ends, counts, strict=True)), slots[-1])
    return histogram


def _zero(family: Family, slots: list[float]) -> Found:
    return {} if family.labels else {(): slots}
