"""What Prometheus is told: counted where it happens, the same from whichever process is asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.load import Load, Waiting, workers_wanted
from service.metrics import Scrape, exposition
from service.queue import ALL_QUEUES
from service.reaper import Reaper
from service.states import JobState
from service.tallies import FAMILIES
from service.workers import BackendRecord, Licence
from tests.random_networks import dense_model
from tests.service.records import registered, worker
from tests.service.serving import Service, ball

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
LIMITED = BackendRecord("13.0", Licence.LIMITED, "a licence", variables=2000, constraints=2000, quadratic=199)


def parsed(text: str) -> Samples:
    """Every sample by its name and labels; a malformed text raises."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def told(service: Service) -> Samples:
    answer = service.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return parsed(answer.text)


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, tuple(sorted(labels.items()))), 0.0)


def difference(before: Samples, after: Samples, name: str, **labels: str) -> float:
    return value(after, name, **labels) - value(before, name, **labels)


@pytest.fixture
def fresh(web: Service) -> Service:
    """The service without workers, with nothing waiting."""
    for job in web.ledger.jobs(limit=200, state=JobState.QUEUED):
        web.ledger.request_cancel(job.id)
    return web


def test_requests_are_counted_by_template_and_never_by_path(fresh: Service) -> None:
    before = told(fresh)
    job = fresh.queued_job()
    for _ in range(2):
        fresh.http.get(f"/v1/jobs/{job}")
    fresh.http.get("/nowhere/1")
    fresh.http.get("/nowhere/2")
    after = told(fresh)
    got = {"method": "GET", "route": "/v1/jobs/{job_id}", "status": "200"}
    assert difference(before, after, "netproof_http_requests_total", **got) == 2
    lost = {"method": "GET", "route": "other", "status": "404"}
    assert difference(before, after, "netproof_http_requests_total", **lost) == 2
    timed = {"method": "GET", "route": "/v1/jobs/{job_id}"}
    assert difference(before, after, "netproof_http_request_seconds_count", **timed) == 2
    assert not any("nowhere" in str(labels) or job in str(labels) for _, labels in after)


def test_queues_batches_and_workers_are_read_from_where_they_are(fresh: Service) -> None:
    before = told(fresh)
    job = fresh.queued_job()
    with registered(fresh, worker("a", LIMITED), worker("b", job="01J"), worker("c", draining=True)):
        after = told(fresh)
    assert difference(before, after, "netproof_jobs_queued", queue="highs") == 1
    assert value(after, "netproof_oldest_job_seconds", queue="highs") > 0
    assert [value(after, "netproof_workers", state=each) for each in ("idle", "busy", "draining")] == [1, 1, 1]
    assert value(after, "netproof_workers_serving", backend="gurobi", licence="size-limited") == 1
    assert value(after, "netproof_workers_serving", backend="highs", licence="full") == 3
    assert value(after, "netproof_workers_wanted", backend="highs") >= 1
    assert value(after, "netproof_workers_wanted", backend="gurobi") == 0
    fresh.begin(job)
    running = told(fresh)
    assert difference(before, running, "netproof_jobs_queued", queue="highs") == 0
    assert difference(before, running, "netproof_jobs_running", queue="highs") == 1
    assert {queue for (name, labels) in after if name == "netproof_jobs_queued" for _, queue in labels} == set(
        ALL_QUEUES
    )


def test_ends_of_jobs_are_counted_once_and_outlive_processes(live: Service) -> None:
    before = told(live)
    body = {"network": live.upload(dense_model(31)), "query": ball(epsilon=0.0013), "priority": "high"}
    first = live.http.post("/v1/verify?wait=30", json=body).json()
    again = live.http.post("/v1/verify?wait=30", json=body).json()
    outcome, engine = first["verdict"]["verdict"], first["verdict"]["decided_by"]
    assert again["verdict"]["cached_from"]
    after = told(live)
    ended = {"state": "succeeded", "verdict": outcome}
    assert difference(before, after, "netproof_jobs_ended_total", **ended) == 1
    solved = {"engine": engine, "verdict": outcome}
    assert difference(before, after, "netproof_solve_seconds_count", **solved) == 1
    assert difference(before, after, "netproof_solve_seconds_bucket", le="+Inf", **solved) == 1
    assert difference(before, after, "netproof_queued_seconds_count", queue="highs-high") == 1
    for result in ("miss", "hit"):
        assert difference(before, after, "netproof_cache_lookups_total", at="request", result=result) == 1
    assert difference(before, after, "netproof_cache_lookups_total", at="job", result="miss") == 1


def test_the_reaper_says_what_it_put_right(fresh: Service) -> None:
    before = told(fresh)
    job = fresh.ledger.job(fresh.queued_job())
    assert fresh.ledger.start(job.id, worker="lost", lease_seconds=60)
    moment = 0.0
    reaper = Reaper(fresh.settings, fresh.ledger, fresh.events, fresh.dispatcher, clock=lambda: moment)
    reaper.sweep()
    moment = 3600.0  # and nobody has renewed the lease
    reaper.sweep()
    assert fresh.ledger.job(job.id).losses == 1
    after = told(fresh)
    lapsed = difference(before, after, "netproof_reaper_actions_total", action="lapsed")
    assert difference(before, after, "netproof_leases_lost_total") == lapsed >= 1
    assert difference(before, after, "netproof_jobs_requeued_total", why="lost") >= 1
    swept = value(after, "netproof_reaper_last_sweep_timestamp_seconds")
    assert abs(datetime.now(UTC).timestamp() - swept) < 60


def test_cancelling_a_running_job_is_timed(fresh: Service) -> None:
    before = told(fresh)
    job = fresh.begin(fresh.queued_job())
    fresh.ledger.request_cancel(job.id)
    fresh.reaper._closing.cancel(job)
    after = told(fresh)
    assert difference(before, after, "netproof_cancel_seconds_count") == 1
    ended = {"state": "cancelled", "verdict": "unknown"}
    assert difference(before, after, "netproof_jobs_ended_total", **ended) == 1


def test_labels_are_bounded(fresh: Service) -> None:
    tallies = fresh.events.tallies
    tallies.count("jobs_failed", "a code | that | nobody\nknows")
    tallies.observe("solve_seconds", 1e9, "x" * 500, "robust")
    tallies.flush()
    samples = told(fresh)
    assert value(samples, "netproof_jobs_failed_total", code="other") >= 1
    assert value(samples, "netproof_solve_seconds_bucket", engine="other", verdict="robust", le="+Inf") >= 1
    assert value(samples, "netproof_solve_seconds_bucket", engine="other", verdict="robust", le="3600.0") == 0


def test_every_label_that_is_counted_with_is_listed() -> None:
    """Engines are the stages that the solver names; a new one would hide among the others."""
    root = Path(__file__).resolve().parents[2] / "solver"
    text = "".join(path.read_text() for path in root.glob("*.py"))
    for stage in FAMILIES["solve_seconds"].labels["engine"]:
        assert stage == "none" or f'"{stage}"' in text, stage


def answered(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
    return future


def test_a_part_that_does_not_answer_hides_no_other() -> None:
    answers = {"ledger": OSError("away"), "queue": OSError("away"), "workers": [worker("a")], "artifacts": 5}
    scrape = Scrape({part: answered(answer) for part, answer in answers.items()}, target_seconds=60)
    samples = parsed(exposition(scrape).decode())
    assert [value(samples, "netproof_up", part=part) for part in answers] == [0, 0, 1, 1]
    assert value(samples, "netproof_workers", state="idle") == 1
    assert value(samples, "netproof_artifacts_free_bytes") == 5
    assert not any(name == "netproof_jobs_queued" for name, _ in samples)


def test_workers_are_wanted_by_what_waits() -> None:
    now = datetime.now(UTC) - timedelta(seconds=5)
    load = Load({"highs": Waiting(10, 2, now, 600.0), "highs-low": Waiting(5, 0, now, 10.0)}, 0, 0)
    assert workers_wanted(load, "highs", solve_seconds=1.0, target_seconds=60) == 2 + 1
    assert workers_wanted(load, "highs", solve_seconds=20.0, target_seconds=60) == 2 + 5
    assert workers_wanted(load, "highs", solve_seconds=float("inf"), target_seconds=60) == 2 + 11
    assert workers_wanted(load, "highs", solve_seconds=float("inf"), target_seconds=1) == 2 + 15
    assert workers_wanted(load, "gurobi", solve_seconds=float("inf"), target_seconds=1) == 0


COUNT = "from service import metrics; metrics.requested('GET', '/v1/jobs', 200, 0.01)"
TELL = "from service.metrics import *; import sys; sys.stdout.buffer.write(exposition(Scrape({}, target_seconds=1)))"


def test_processes_that_share_a_folder_tell_of_each_other_and_of_those_that_ended(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", COUNT], env=environment, check=True)
    out = subprocess.run([sys.executable, "-c", TELL], env=environment, check=True, capture_output=True).stdout
    samples = parsed(out.decode())
    got = {"method": "GET", "route": "/v1/jobs", "status": "200"}
    assert value(samples, "netproof_http_requests_total", **got) == 2
    assert value(samples, "netproof_http_request_seconds_count", method="GET", route="/v1/jobs") == 2


def test_the_manual_lists_what_is_told(fresh: Service) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    fresh.reaper.sweep()
    listed = {name.removesuffix("_total") for name in re.findall(r"^\| `(netproof_\w+)`", text, re.MULTILINE)}
    families = list(text_string_to_metric_families(fresh.http.get("/metrics").text))
    assert listed == {family.name.removesuffix("_total") for family in families}
    in_rules = set(re.findall(r"netproof_\w+", "".join(re.findall(r"expr: \"(.*?)\"[,}]", text))))
    assert len(in_rules) > 5
    assert {name.removesuffix("_total") for name in in_rules} <= listed
