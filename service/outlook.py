"""How far a batch is: its counts, its curve over epsilon, and an honest estimate of what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from service.batch_models import BatchRecord
from service.batch_schemas import CountsDocument, LeftDocument, PointDocument
from service.batches import Group
from service.states import ITEM_ENDED, ItemState
from solver.audit import Outlook
from solver.verdict import Outcome, Trust

__all__ = ["counts_of", "curve_of", "left_of"]


def counts_of(groups: Sequence[Group]) -> CountsDocument:
    """Items by state and verdict."""
    states: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    for group in groups:
        states[group.state] += group.count
        if group.state is ItemState.DONE:
            outcomes[str(group.outcome)] += group.count
    return CountsDocument(
        **{str(state): states[state] for state in ItemState},
        **{str(outcome): outcomes[outcome] for outcome in Outcome},
        misclassified=sum(group.count for group in groups if group.misclassified),
        certified=sum(group.count for group in groups if group.trust == Trust.CERTIFIED),
        cached=sum(group.count for group in groups if group.cached),
    )


def curve_of(batch: BatchRecord, groups: Sequence[Group]) -> list[PointDocument]:
    """The interval of the robust accuracy at each epsilon."""
    return [_point(text, batch, groups) for text in batch.request["epsilon"]]


def _point(epsilon: str, batch: BatchRecord, groups: Iterable[Group]) -> PointDocument:
    here: Counter[str] = Counter()
    for group in groups:
        if group.epsilon == epsilon and group.state is ItemState.DONE:
            here[str(group.outcome)] += group.count
    robust, broken = here[Outcome.ROBUST], here[Outcome.COUNTEREXAMPLE]
    return PointDocument(
        epsilon=epsilon,
        robust=robust,
        counterexample=broken,
        undecided=batch.inputs - robust - broken,
        robust_accuracy=(robust / batch.inputs, 1 - broken / batch.inputs),
    )


def left_of(
    batch: BatchRecord, groups: Sequence[Group], running: Sequence[datetime], workers: int, now: datetime
) -> LeftDocument:
    """What is left and how long it may take, as `solver.audit.Outlook` estimates it.

    Items that were taken from other answers cost nothing and say nothing about those that are left.
    """
    here = Outlook(max(1, workers), batch.time_limit)
    left = 0
    for group in groups:
        left += 0 if group.state in ITEM_ENDED else group.count
        here.sweeping += group.count if group.state in {ItemState.PENDING, ItemState.SWEEPING} else 0
        here.searching += group.count if group.state in {ItemState.OPEN, ItemState.SEARCHING} else 0
        if group.cached:
            continue
        searched = group.searched and group.state in ITEM_ENDED
        here.swept += group.count if group.swept else 0
        here.sweep_seconds += group.sweep_seconds
        here.searched += group.count if searched else 0
        here.search_seconds += group.search_seconds
        here.opened += group.count if searched or group.state in {ItemState.OPEN, ItemState.SEARCHING} else 0
    here.at_work = sum((now - begun).total_seconds() for begun in running)
    estimate = here.seconds_left() if workers else None
    if estimate is None:
        return LeftDocument(items=left, seconds=None, at_most=False, workers=workers)
    seconds, at_most = estimate
    return LeftDocument(items=left, seconds=round(seconds, 1), at_most=at_most, workers=workers)
