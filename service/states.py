"""The states of a job and the one table of legal changes between them."""

from __future__ import annotations

import enum

__all__ = ["TERMINAL", "TRANSITIONS", "JobState", "NetworkState", "may_change", "sources"]


class NetworkState(enum.StrEnum):
    """Whether an uploaded network can be verified."""

    READY = "ready"
    REFUSED = "refused"  #: its file was read and cannot be used; the record says why


class JobState(enum.StrEnum):
    """Where a job stands; what was found out is its verdict, a separate thing."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"  #: running, asked to stop
    SUCCEEDED = "succeeded"  #: has a verdict, which may be ``unknown``
    FAILED = "failed"  #: has an error and no verdict
    CANCELLED = "cancelled"  #: has the bounds proven so far when it was running


TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
    # back to queued: the worker was lost or drained, and attempts are left
    JobState.RUNNING: frozenset({JobState.CANCELLING, JobState.SUCCEEDED, JobState.FAILED, JobState.QUEUED}),
    # succeeded: the verdict was reached before the request to stop
    JobState.CANCELLING: frozenset({JobState.CANCELLED, JobState.SUCCEEDED, JobState.FAILED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}

TERMINAL: frozenset[JobState] = frozenset(state for state, after in TRANSITIONS.items() if not after)


def may_change(before: JobState, after: JobState) -> bool:
    """Whether a job may go from ``before`` to ``after``; staying is not a change."""
    return after in TRANSITIONS[before]


def sources(after: JobState) -> frozenset[JobState]:
    """The states from which a job may reach ``after``: what a compare-and-set compares with."""
    return frozenset(before for before, reachable in TRANSITIONS.items() if after in reachable)
