"""The states of jobs, batches and their items, and the one table for each of legal changes between them."""

from __future__ import annotations

import enum

__all__ = [
    "BATCH_ENDED",
    "BATCH_TRANSITIONS",
    "ITEM_ENDED",
    "ITEM_TRANSITIONS",
    "TERMINAL",
    "TRANSITIONS",
    "BatchState",
    "ItemState",
    "JobState",
    "NetworkState",
    "batch_sources",
    "item_sources",
    "may_change",
    "sources",
]


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


class BatchState(enum.StrEnum):
    """Where a batch stands; what it found out is in its items."""

    RUNNING = "running"
    CANCELLING = "cancelling"  #: asked to stop; some of its jobs have not yet
    CANCELLED = "cancelled"  #: stopped; its finished items stay, and it can be resumed
    EXHAUSTED = "exhausted"  #: its total budget is spent; it can be resumed with a larger one
    FINISHED = "finished"  #: every item has ended


BATCH_TRANSITIONS: dict[BatchState, frozenset[BatchState]] = {
    BatchState.RUNNING: frozenset({BatchState.CANCELLING, BatchState.EXHAUSTED, BatchState.FINISHED}),
    # finished: the last items ended before their jobs learnt that they were to stop
    BatchState.CANCELLING: frozenset({BatchState.CANCELLED, BatchState.FINISHED}),
    BatchState.CANCELLED: frozenset({BatchState.RUNNING}),
    BatchState.EXHAUSTED: frozenset({BatchState.RUNNING}),
    # to try again what failed or stayed unknown
    BatchState.FINISHED: frozenset({BatchState.RUNNING}),
}

BATCH_ENDED: frozenset[BatchState] = frozenset({BatchState.CANCELLED, BatchState.EXHAUSTED, BatchState.FINISHED})


class ItemState(enum.StrEnum):
    """Where one item of a batch stands: one input at one epsilon."""

    PENDING = "pending"  #: nobody has looked at it
    SWEEPING = "sweeping"  #: belongs to a sweep job, queued or running
    OPEN = "open"  #: the sweep left it undecided; it waits for a job of its own
    SEARCHING = "searching"  #: belongs to an exact job, queued or running
    DONE = "done"  #: has its verdict, which may be ``unknown``
    FAILED = "failed"  #: has an error and no verdict


ITEM_TRANSITIONS: dict[ItemState, frozenset[ItemState]] = {
    # done: another epsilon of the same input decides this one, too
    ItemState.PENDING: frozenset({ItemState.SWEEPING, ItemState.DONE}),
    ItemState.SWEEPING: frozenset({ItemState.PENDING, ItemState.OPEN, ItemState.DONE, ItemState.FAILED}),
    ItemState.OPEN: frozenset({ItemState.SEARCHING, ItemState.DONE}),
    ItemState.SEARCHING: frozenset({ItemState.OPEN, ItemState.DONE, ItemState.FAILED}),
    # open: somebody asked for another try of what is unknown, or failed
    ItemState.DONE: frozenset({ItemState.OPEN}),
    ItemState.FAILED: frozenset({ItemState.OPEN}),
}

ITEM_ENDED: frozenset[ItemState] = frozenset({ItemState.DONE, ItemState.FAILED})


def batch_sources(after: BatchState) -> frozenset[BatchState]:
    """The states from which a batch may reach ``after``."""
    return frozenset(before for before, reachable in BATCH_TRANSITIONS.items() if after in reachable)


def item_sources(after: ItemState) -> frozenset[ItemState]:
    """The states from which an item may reach ``after``."""
    return frozenset(before for before, reachable in ITEM_TRANSITIONS.items() if after in reachable)
