"""The thread beside a job: renewal, progress, and every way of being told to stop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.lease import DRAIN, Lease, Stop
from service.ledger import Ledger
from service.models import JobRecord
from service.settings import Settings
from service.states import JobState
from solver.verdict import Progress
from tests.service.records import job_in


class Record:
    """Stands for events and for the ways out: notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., bool]:
        def note(*_: Any) -> bool:
            self.calls.append(name)
            return True

        return note


class Watched(Lease):
    """A lease that comes to rest where it would end the process, and says so."""

    died = False

    def _die(self) -> None:  # type: ignore[override]
        self.died = True
        while not self._done:
            time.sleep(0.01)


@pytest.fixture
def job(ledger: Ledger) -> JobRecord:
    return job_in(ledger, JobState.RUNNING)


@pytest.fixture
def leash() -> Iterator[list[int]]:
    ends = list(os.pipe())
    yield ends
    for end in ends:
        os.close(end)


def lease(job: JobRecord, ledger: Ledger, record: Record, leash: int | None = None, **settings: float) -> Watched:
    quick = {"heartbeat_seconds": 0.02, "lease_seconds": 5.0, "cancel_seconds": 30.0, **settings}
    return Watched(job, ledger, record, record, Settings(**quick), leash=leash)  # type: ignore[arg-type]


def wait(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.005)


def test_lease_is_renewed_and_progress_reported_once(ledger: Ledger, job: JobRecord) -> None:
    record = Record()
    with lease(job, ledger, record) as held:
        held.report(Progress(stage="bab", seconds=1.0, lower=-2.0))
        wait(lambda: ledger.job(job.id).progress is not None)
        first = ledger.job(job.id).attempts[0].lease_until
        wait(lambda: ledger.job(job.id).attempts[0].lease_until > first)
        assert not held.stop()
    assert ledger.job(job.id).progress == Progress(stage="bab", seconds=1.0, lower=-2.0).to_json()
    assert record.calls == ["publish"]


def test_release_is_prompt_and_may_be_repeated(ledger: Ledger, job: JobRecord) -> None:
    held = lease(job, ledger, Record(), heartbeat_seconds=30.0, lease_seconds=100.0)
    with held:
        begin = time.monotonic()
        held.release()
    assert time.monotonic() - begin < 5


def test_cancellation_is_passed_on(ledger: Ledger, job: JobRecord) -> None:
    with lease(job, ledger, Record()) as held:
        ledger.request_cancel(job.id)
        wait(held.stop)
        assert held.reason is Stop.CANCELLED
        assert not held.died


def test_solver_that_ignores_cancellation_is_ended(ledger: Ledger, job: JobRecord) -> None:
    record = Record()
    with lease(job, ledger, record, cancel_seconds=0.1) as held:
        ledger.request_cancel(job.id)
        wait(lambda: held.died)
    assert record.calls == ["cancel"]


def test_solver_that_ignores_its_deadline_is_ended(ledger: Ledger, job: JobRecord) -> None:
    record = Record()
    held = lease(job, ledger, record, grace_seconds=0.0)
    held._deadline = time.monotonic() + 0.1
    with held:
        wait(lambda: held.died)
    assert record.calls == ["expire"]


def test_superseded_attempt_ends_without_a_trace(ledger: Ledger, job: JobRecord) -> None:
    record = Record()
    with lease(job, ledger, record) as held:
        ledger.requeue(job.id, 1, reason="lost", lost=True)
        wait(lambda: held.died)
    assert record.calls == []


def test_drain_leaves_a_moment_then_stops(ledger: Ledger, job: JobRecord, leash: list[int]) -> None:
    with lease(job, ledger, Record(), leash[0], drain_seconds=0.2) as held:
        begin = time.monotonic()
        os.write(leash[1], DRAIN)
        wait(held.stop)
        assert time.monotonic() - begin >= 0.2
        assert held.reason is Stop.DRAINED


def test_drained_solver_that_does_not_return_is_given_back(ledger: Ledger, job: JobRecord, leash: list[int]) -> None:
    record = Record()
    with lease(job, ledger, record, leash[0], drain_seconds=0.0, cancel_seconds=0.1) as held:
        os.write(leash[1], DRAIN)
        wait(lambda: held.died)
    assert record.calls == ["give_back"]


def test_cancellation_outranks_a_drain(ledger: Ledger, job: JobRecord, leash: list[int]) -> None:
    with lease(job, ledger, Record(), leash[0], drain_seconds=0.0) as held:
        os.write(leash[1], DRAIN)
        wait(held.stop)
        ledger.request_cancel(job.id)
        wait(lambda: held.reason is Stop.CANCELLED)


def test_end_of_the_leash_ends_the_job(ledger: Ledger, job: JobRecord, leash: list[int]) -> None:
    record = Record()
    with lease(job, ledger, record, leash[0]) as held:
        os.close(leash[1])
        wait(lambda: held.died)
        leash[1] = os.dup(leash[0])
    assert record.calls == []


def test_failing_heartbeat_leaves_the_solver_alone(
    ledger: Ledger, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[int] = []

    def fail(*_: Any, **__: Any) -> None:
        beats.append(1)
        msg = "the database is away"
        raise OSError(msg)

    monkeypatch.setattr(ledger, "renew", fail)
    with lease(job, ledger, Record()) as held:
        wait(lambda: len(beats) > 2)
        assert not held.stop()
