"""Networks and jobs in any state, for tests of the ledger and of what stands on it."""

from __future__ import annotations

from service.ledger import Ledger
from service.models import JobRecord
from service.states import JobState, NetworkState

__all__ = ["NETWORK", "add_network", "job_in", "submit"]

NETWORK = "a" * 64


def add_network(ledger: Ledger, sha256: str = NETWORK) -> None:
    ledger.add_network(sha256, size=3, name="tiny.onnx", state=NetworkState.READY, summary={"inputs": 2})


def submit(ledger: Ledger, **changes: object) -> JobRecord:
    add_network(ledger)
    values: dict[str, object] = {"queue": "highs", "time_limit": 30.0, "max_attempts": 3, **changes}
    job, _ = ledger.submit(NETWORK, {"query": {}, "time_limit": 30.0}, **values)  # type: ignore[arg-type]
    return job


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
