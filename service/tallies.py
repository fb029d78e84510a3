"""Counts of what jobs did, kept in Redis: every process adds to the same ones, and none has to live for them to last.

They are a courtesy like events (`service.events`): what happens while Redis is away is not counted, and a Redis that
forgets begins at zero again, which Prometheus knows how to read. The truth about single jobs is in the ledger.

Labels have few values, which are listed here; whatever else comes is counted as ``other``.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import redis

from service.queue import ALL_QUEUES
from service.states import TERMINAL
from solver.verdict import Outcome

__all__ = ["FAMILIES", "LAST_SWEEP", "Family", "Found", "Tallies"]

logger = logging.getLogger(__name__)

#: Redis key with the moment at which the reaper's last sweep ended, in seconds since 1970.
LAST_SWEEP = "netproof:reaper:swept"

_KEY = "netproof:tallies"
_OTHER = "other"

_STAGES = ("replay", "interval", "linear", "alpha", "attack", "tighten", "bab", "deep", "milp", "improve", "universal")
_ENGINES = (*_STAGES, "certificate", "none")
_VERDICTS = (*(str(outcome) for outcome in Outcome), "none")
_CODES = ("out_of_memory", "worker_lost", "crashed", "internal_error", "contradiction", "licence_limit")
#: Seconds, from what bounds alone decide to searches of an hour.
_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: what it counts, and the values that each label may have; with ``buckets``, a distribution."""

    about: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()


FAMILIES: dict[str, Family] = {
    "jobs_ended": Family(
        "Jobs that a worker or the reaper ended.",
        {"state": tuple(sorted(str(state) for state in TERMINAL)), "verdict": _VERDICTS},
    ),
    "jobs_failed": Family("Jobs without a verdict, by what ended them.", {"code": _CODES}),
    "items_ended": Family("Items of batches that sweep jobs decided.", {"verdict": _VERDICTS}),
    "cache_lookups": Family(
        "Questions for which an earlier answer was looked up.",
        {"at": ("request", "job", "item"), "result": ("hit", "miss")},
    ),
    "leases_lost": Family("Attempts whose worker fell silent."),
    "jobs_requeued": Family(
        "Attempts that ended with the job back in the queue.", {"why": ("lost", "drained", "licence")}
    ),
    "reaper_actions": Family("What the reaper put right.", {"action": ("lapsed", "overdue", "stray")}),
    "solve_seconds": Family(
        "Seconds of solving, by the stage that decided.", {"engine": _ENGINES, "verdict": _VERDICTS}, _BUCKETS
    ),
    "queued_seconds": Family("Seconds that a job waited for a worker.", {"queue": ALL_QUEUES}, _BUCKETS),
    "cancel_seconds": Family("Seconds from asking a running job to stop to its end.", {}, _BUCKETS),
}

#: Values of one family by labels: a number, or for a distribution the counts of its buckets and then the sum.
Found: TypeAlias = dict[tuple[str, ...], list[float]]


class Tallies:
    """Adds to the counts, and reads them.

    Args:
        server: connection to Redis that gives up soon.
    """

    def __init__(self, server: redis.Redis) -> None:
        self._server = server
        self._lock = threading.Lock()  # a job's lease may end it while it counts
        self._counts: Counter[str] = Counter()
        self._sums: defaultdict[str, float] = defaultdict(float)

    def count(self, family: str, *labels: str, by: int = 1) -> None:
        """Count ``by`` more; `flush` sends it."""
        if not by:
            return
        with self._lock:
            self._counts[_field(family, labels, "n")] += by

    def observe(self, family: str, seconds: float, *labels: str) -> None:
        """Count one more value of a distribution; `flush` sends it."""
        bucket = bisect_left(FAMILIES[family].buckets, seconds)
        with self._lock:
            self._counts[_field(family, labels, str(bucket))] += 1
            self._sums[_field(family, labels, "sum")] += max(0.0, seconds)

    def flush(self) -> None:
        """Send what was counted; with Redis away, it is dropped."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            sums, self._sums = self._sums, defaultdict(float)
        if not counts:
            return
        try:
            with self._server.pipeline(transaction=False) as pipe:
                for name, number in counts.items():
                    pipe.hincrby(_KEY, name, number)
                for name, seconds in sums.items():
                    pipe.hincrbyfloat(_KEY, name, seconds)
                pipe.execute()
        except redis.RedisError as error:
            logger.warning("%d counts are lost: %s", counts.total(), error)

    def read(self) -> dict[str, Found]:
        """Every family with what was counted.

        Raises:
            redis.RedisError: the queue server does not answer.
        """
        found: dict[str, Found] = {name: {} for name in FAMILIES}
        counted: dict[bytes, bytes] = self._server.hgetall(_KEY)  # type: ignore[assignment]
        for raw, value in counted.items():
            name, *labels, place = raw.decode().split("|")
            if name not in FAMILIES or len(labels) != len(FAMILIES[name].labels):
                continue  # another version's
            buckets = len(FAMILIES[name].buckets)
            slots = found[name].setdefault(tuple(labels), [0.0] * (buckets + 2 if buckets else 1))
            slots[0 if place == "n" else -1 if place == "sum" else int(place)] += float(value)
        return found


def _field(family: str, labels: tuple[str, ...], place: str) -> str:
    allowed = FAMILIES[family].labels.values()
    kept = (label if label in values else _OTHER for label, values in zip(labels, allowed, strict=True))
    return "|".join((family, *kept, place))
