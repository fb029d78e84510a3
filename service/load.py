"""How much there is to do, as the ledger counts it, and how many workers it would take.

`Load` is what dashboards and autoscalers ask: jobs waiting and running in each queue, how long the oldest has waited,
batches and their items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, func, select

from service.batch_models import batches, items
from service.models import jobs
from service.states import ITEM_ENDED, BatchState, JobState

__all__ = ["Load", "Waiting", "load_of", "workers_wanted"]

_GOING = (BatchState.RUNNING, BatchState.CANCELLING)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The jobs of one queue.

    Attributes:
        queued, running: jobs.
        oldest: when the one that waits longest was queued.
        limits: sum of the time limits of those that wait: the most that they may take.
    """

    queued: int = 0
    running: int = 0
    oldest: datetime | None = None
    limits: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """All queues that have jobs, and the batches at work."""

    queues: Mapping[str, Waiting]
    batches: int
    items_left: int


def load_of(engine: Engine) -> Load:
    """What is to be done.

    Raises:
        SQLAlchemyError: the database does not answer.
    """
    number = func.count().label("number")
    live = select(jobs.c.queue, jobs.c.state, number, func.min(jobs.c.queued_at), func.sum(jobs.c.time_limit)).where(
        jobs.c.state.in_([JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING])
    )
    going = select(batches.c.id).where(batches.c.state.in_(_GOING))
    left = select(func.count()).where(items.c.batch.in_(going), items.c.state.not_in(sorted(ITEM_ENDED)))
    with engine.connect() as connection:
        rows = connection.execute(live.group_by(jobs.c.queue, jobs.c.state)).all()
        at_work = int(connection.execute(select(func.count()).select_from(going.subquery())).scalar_one())
        items_left = int(connection.execute(left).scalar_one()) if at_work else 0
    queues: dict[str, Waiting] = {}
    for queue, state, count, oldest, limits in rows:
        known = queues.get(queue, Waiting())
        if state == JobState.QUEUED:
            queues[queue] = Waiting(int(count), known.running, oldest, float(limits))
        else:
            queues[queue] = Waiting(known.queued, known.running + int(count), known.oldest, known.limits)
    return Load(queues, at_work, items_left)


def workers_wanted(load: Load, backend: str, *, solve_seconds: float, target_seconds: float) -> int:
    """Workers for ``backend`` that would have what is queued done within ``target_seconds``.

    Args:
        load: what is to be done.
        backend: whose queues are meant.
        solve_seconds: what a job takes on average; a job is never taken for more than its limit.
        target_seconds: the patience of those who wait.

    Returns:
        One for each running job, and for those that wait as many as their seconds need, at most one each.
    """
    chosen = [waiting for queue, waiting in load.queues.items() if queue.partition("-")[0] == backend]
    queued, running = sum(each.queued for each in chosen), sum(each.running for each in chosen)
    if not queued:
        return running
    seconds = min(queued * solve_seconds, sum(each.limits for each in chosen))
    return running + min(queued, math.ceil(seconds / target_seconds))
