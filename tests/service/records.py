"""Networks, workers and jobs in any state, for tests of the ledger and of what stands on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

from service.access.principal import Quota
from service.ledger import Ledger
from service.models import JobRecord
from service.queue import QUEUES, Dispatcher
from service.states import JobState, NetworkState
from service.submissions import Submission
from service.workers import BackendRecord, Licence, WorkerRecord, announce, withdraw

__all__ = ["NETWORK", "add_network", "job_in", "record", "registered", "submit", "worker"]

NETWORK = "a" * 64


def add_network(ledger: Ledger, sha256: str = NETWORK) -> None:
    ledger.add_network(sha256, size=3, name="tiny.onnx", state=NetworkState.READY, summary={"inputs": 2})


def submit(ledger: Ledger, **changes: object) -> JobRecord:
    add_network(ledger)
    values: dict[str, Any] = {"queue": "highs", "time_limit": 30.0, "max_attempts": 3, **changes}
    job, _ = record(ledger, NETWORK, {"query": {}, "time_limit": 30.0}, **values)
    return job


def record(
    ledger: Ledger, network: str, request: dict[str, Any], *, at_once: int | None = None, **values: Any
) -> tuple[JobRecord, bool]:
    """A job for a question, and whether it is new; raises why there is none. ``values`` are those of `Submission`."""
    asked = Submission(request | {"network": network}, quota=Quota(running=at_once), **values)
    (outcome,) = ledger.submissions.record([asked])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def job_in(ledger: Ledger, state: JobState) -> JobRecord:
    """A job that came to ``state`` by the shortest way; its first attempt has number 1."""
    job = submit(ledger)
    if state is JobState.QUEUED:
        return job
    assert ledger.start(job.id, worker="w", lease_seconds=9)
    if state in {JobState.CANCELLING, JobState.CANCELLED}:
        ledger.request_cancel(job.id)
    if state in {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}:
        assert ledger.finish(job.id, 1, state)
    assert ledger.job(job.id).state is state
    return ledger.job(job.id)


def worker(name: str, gurobi: BackendRecord | None = None, **changes: object) -> WorkerRecord:
    """A live worker as it describes itself; with Gurobi it serves all queues, else those of HiGHS."""
    now = datetime.now(UTC)
    backends = {"highs": BackendRecord("1.10", Licence.FULL, "MIT licence")}
    if gurobi is not None:
        backends["gurobi"] = gurobi
    served = QUEUES if gurobi is not None and gurobi.licence is not Licence.NONE else QUEUES[::2]
    values: dict[str, object] = {"name": name, "host": "here", "pid": 1, "version": "0", "queues": tuple(served)}
    values |= {"backends": backends, "threads": 1, "memory_mb": 512, "job": None, "draining": False}
    values |= {"started_at": now, "since": now, "seen_at": now}
    return WorkerRecord(**{**values, **changes})  # type: ignore[arg-type]


class _Deployed(Protocol):
    dispatcher: Dispatcher


@contextlib.contextmanager
def registered(deployment: _Deployed, *workers: WorkerRecord) -> Iterator[None]:
    """These workers as live ones, while the block runs."""
    for each in workers:
        announce(deployment.dispatcher.redis, each)
    try:
        yield
    finally:
        for each in workers:
            withdraw(deployment.dispatcher.redis, each.name)
