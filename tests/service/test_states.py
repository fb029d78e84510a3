"""The table of legal changes, and that the ledger refuses every other."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from service.errors import StateChangeError
from service.ledger import Ledger
from service.models import JobRecord
from service.states import TERMINAL, TRANSITIONS, JobState, may_change, sources
from tests.service.records import job_in

#: How a ledger is asked for a change, and whether it took place.
CHANGES: dict[JobState, Callable[[Ledger, JobRecord], bool]] = {
    JobState.QUEUED: lambda ledger, job: ledger.requeue(job.id, job.attempt, reason="test", lost=True),
    JobState.RUNNING: lambda ledger, job: ledger.start(job.id, worker="w", lease_seconds=9) is not None,
    JobState.CANCELLING: lambda ledger, job: _cancels(ledger, job, JobState.CANCELLING),
    JobState.SUCCEEDED: lambda ledger, job: ledger.finish(job.id, job.attempt, JobState.SUCCEEDED, verdict={}),
    JobState.FAILED: lambda ledger, job: ledger.finish(job.id, job.attempt, JobState.FAILED, error={}),
    JobState.CANCELLED: lambda ledger, job: ledger.finish(job.id, job.attempt, JobState.CANCELLED),
}

#: Asking a queued job to stop is answered by another change than the one asked for; it has a test of its own.
DIVERTED = (JobState.QUEUED, JobState.CANCELLING)

ILLEGAL = [pair for pair in itertools.product(JobState, JobState) if not may_change(*pair) and pair != DIVERTED]
LEGAL = [pair for pair in itertools.product(JobState, JobState) if may_change(*pair)]


def _cancels(ledger: Ledger, job: JobRecord, after: JobState) -> bool:
    before = job.state
    try:
        return ledger.request_cancel(job.id).state is after is not before
    except StateChangeError:
        return False


def test_terminal_states_are_those_without_a_way_out() -> None:
    assert {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED} == TERMINAL


def test_table_names_every_state_and_reads_both_ways() -> None:
    assert set(TRANSITIONS) == set(JobState)
    for before, after in itertools.product(JobState, JobState):
        assert (before in sources(after)) == may_change(before, after)


@pytest.mark.parametrize(("before", "after"), ILLEGAL)
def test_illegal_change_is_refused_and_changes_nothing(ledger: Ledger, before: JobState, after: JobState) -> None:
    job = job_in(ledger, before)
    assert not CHANGES[after](ledger, job)
    assert ledger.job(job.id) == job


@pytest.mark.parametrize(("before", "after"), LEGAL)
def test_legal_change_takes_place(ledger: Ledger, before: JobState, after: JobState) -> None:
    job = job_in(ledger, before)
    assert CHANGES[after](ledger, job)
    assert ledger.job(job.id).state is after


def test_queued_job_that_is_asked_to_stop_is_cancelled_at_once(ledger: Ledger) -> None:
    job = job_in(ledger, JobState.QUEUED)
    assert ledger.request_cancel(job.id).state is JobState.CANCELLED
    assert ledger.job(job.id).finished_at is not None
