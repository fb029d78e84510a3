"""The ledger: records, idempotency, leases, and compare-and-set on the attempt."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.errors import IdempotencyError, NotFoundError, StateChangeError
from service.ledger import Ledger
from service.states import JobState, NetworkState
from tests.service.records import NETWORK, add_network, job_in, record, submit


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'timed.db'}", now=clock)
    ledger.create()
    yield ledger
    ledger.close()


def test_network_is_kept_once(ledger: Ledger) -> None:
    first, new = ledger.add_network(NETWORK, size=3, name="a", state=NetworkState.READY, summary={"relus": 1})
    again, newer = ledger.add_network(NETWORK, size=9, name="b", state=NetworkState.REFUSED, summary={})
    assert new
    assert not newer
    assert again == first == ledger.network(NETWORK)
    assert ledger.networks() == [first]


def test_what_is_unknown_is_said_so(ledger: Ledger) -> None:
    with pytest.raises(NotFoundError, match=f"there is no network '{'b' * 64}'"):
        ledger.network("b" * 64)
    with pytest.raises(NotFoundError, match="there is no job 'nothing'"):
        ledger.job("nothing")
    with pytest.raises(NotFoundError, match="network"):
        record(ledger, NETWORK, {}, queue="highs", time_limit=1, max_attempts=1)


def test_times_come_back_aware_and_in_utc(timed: Ledger, clock: Clock) -> None:
    job = submit(timed)
    assert job.created_at == clock.time
    assert job.created_at.tzinfo is UTC


def test_identifiers_sort_by_time(ledger: Ledger) -> None:
    made = [submit(ledger).id for _ in range(3)]
    assert [job.id for job in ledger.jobs()] == sorted(made, reverse=True)
    assert all(len(identifier) == 26 for identifier in made)


def test_jobs_are_listed_page_by_page(ledger: Ledger) -> None:
    for _ in range(5):
        submit(ledger)
    first = ledger.jobs(limit=3)
    rest = ledger.jobs(limit=3, before=first[-1].id)
    assert len(first) == 3
    assert len(rest) == 2
    assert len({job.id for job in first + rest}) == 5
    assert ledger.jobs(state=JobState.RUNNING) == []
    assert len(ledger.jobs(network=NETWORK)) == 5
    assert ledger.counts()[JobState.QUEUED] == 5


def test_idempotency_key_returns_the_first_job(ledger: Ledger) -> None:
    add_network(ledger)
    values = {"queue": "highs", "time_limit": 1.0, "max_attempts": 1, "idempotency_key": "k"}
    first, new = record(ledger, NETWORK, {"a": 1}, fingerprint="f", **values)
    again, newer = record(ledger, NETWORK, {"a": 1}, fingerprint="f", **values)
    assert (new, newer) == (True, False)
    assert first == again
    with pytest.raises(IdempotencyError, match=f"belongs to job {first.id}"):
        record(ledger, NETWORK, {"a": 2}, fingerprint="g", **values)


def test_start_counts_attempts_and_only_one_wins(ledger: Ledger) -> None:
    job = submit(ledger)
    won: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda n=n: won.append(ledger.start(job.id, worker=f"w{n}", lease_seconds=9) is not None)
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]
    assert ledger.job(job.id).attempt == 1


def test_late_orphan_cannot_overwrite_its_successor(ledger: Ledger) -> None:
    job = job_in(ledger, JobState.RUNNING)
    assert ledger.requeue(job.id, 1, reason="lost", lost=True)
    second = ledger.start(job.id, worker="other", lease_seconds=9)
    assert second is not None
    assert second.attempt == 2
    assert ledger.renew(job.id, 1, lease_seconds=9, progress={"stage": "late"}) is None
    assert not ledger.finish(job.id, 1, JobState.SUCCEEDED, verdict={"verdict": "robust"})
    assert not ledger.requeue(job.id, 1, reason="late", lost=True)
    assert ledger.job(job.id) == second
    assert ledger.finish(job.id, 2, JobState.SUCCEEDED, verdict={"verdict": "unknown"})
    done = ledger.job(job.id)
    assert done.verdict == {"verdict": "unknown"}
    assert [(a.number, a.outcome, a.reason) for a in done.attempts] == [(1, "queued", "lost"), (2, "succeeded", None)]


def test_renewal_extends_the_lease_keeps_progress_and_tells_of_cancellation(timed: Ledger, clock: Clock) -> None:
    job = job_in(timed, JobState.RUNNING)
    clock.forward(8)
    assert timed.renew(job.id, 1, lease_seconds=9, progress={"stage": "bab"}) is JobState.RUNNING
    (first,) = timed.active()
    timed.request_cancel(job.id)
    clock.forward(8)
    assert timed.renew(job.id, 1, lease_seconds=9) is JobState.CANCELLING
    assert timed.job(job.id).progress == {"stage": "bab"}
    (second,) = timed.active()
    assert second == timed.job(job.id)
    assert second.attempts[0].lease_until - first.attempts[0].lease_until == timedelta(seconds=8)


def test_ended_job_holds_no_lease(timed: Ledger, clock: Clock) -> None:
    job_in(timed, JobState.SUCCEEDED)
    submit(timed)
    clock.forward(100)
    assert timed.active() == []


def test_new_attempt_begins_with_what_the_old_one_has_proven(ledger: Ledger) -> None:
    job = job_in(ledger, JobState.RUNNING)
    ledger.renew(job.id, 1, lease_seconds=9, progress={"margin": [-1.0, None]})
    ledger.requeue(job.id, 1, reason="drained", lost=False)
    again = ledger.start(job.id, worker="w", lease_seconds=9)
    assert again is not None
    assert (again.progress, again.losses) == ({"margin": [-1.0, None]}, 0)
    ledger.requeue(job.id, 2, reason="too large", lost=False, queue="gurobi-full", progress={"margin": [-0.5, None]})
    moved = ledger.job(job.id)
    assert (moved.progress, moved.queue, moved.losses) == ({"margin": [-0.5, None]}, "gurobi-full", 0)


def test_cancelling_again_changes_nothing_and_an_ended_job_cannot_be_cancelled(ledger: Ledger) -> None:
    job = job_in(ledger, JobState.RUNNING)
    first = ledger.request_cancel(job.id)
    assert ledger.request_cancel(job.id) == first
    ledger.finish(job.id, 1, JobState.CANCELLED)
    assert ledger.request_cancel(job.id).state is JobState.CANCELLED
    done = job_in(ledger, JobState.SUCCEEDED)
    with pytest.raises(StateChangeError, match="a succeeded job cannot become cancelling"):
        ledger.request_cancel(done.id)


@pytest.mark.parametrize("seconds", [6, 86_400, -6, -86_400])
def test_waiting_jobs_are_found_by_age_and_also_when_the_clock_was_set_back(
    timed: Ledger, clock: Clock, seconds: float
) -> None:
    queued = submit(timed)
    job_in(timed, JobState.RUNNING)
    assert timed.waiting(5) == []
    clock.forward(seconds)
    assert [job.id for job in timed.waiting(5)] == [queued.id]


def test_numbers_that_json_does_not_have_are_refused(ledger: Ledger) -> None:
    job = job_in(ledger, JobState.RUNNING)
    with pytest.raises(Exception, match="JSON compliant"):
        ledger.finish(job.id, 1, JobState.SUCCEEDED, verdict={"margin": [float("inf")]})
    assert ledger.job(job.id).state is JobState.RUNNING


def test_two_processes_may_create_the_tables(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'ledger.db'}"
    ledgers = [Ledger(url) for _ in range(4)]
    threads = [threading.Thread(target=ledger.create) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ledger in ledgers:
        assert ledger.jobs() == []
        ledger.close()
