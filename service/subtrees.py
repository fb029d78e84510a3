"""Parts of jobs in the ledger: subtrees of one hard query that other workers search for a while.

A part is a job whose ``parent`` is the job that it works for. It is queued, leased, retried and cancelled like any
other, but belongs to nobody's questions: lists and quotas leave it out, and it ends with its parent, in the same
transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select, update

from service.identifiers import new_id
from service.models import JobRecord, attempts, jobs, queued_job
from service.states import JobState

__all__ = ["PartRecord", "Shared", "Subtrees", "end_parts"]

#: A part that lost its worker twice goes back to its parent.
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class PartRecord:
    """Where a part stands; ``answer`` is the sha256 of what it came to, None while there is nothing."""

    id: str
    state: JobState
    answer: str | None


@dataclass(frozen=True, slots=True)
class Shared:
    """What was given away of a job.

    Attributes:
        parts: how many there are in each state.
        workers: different ones that have taken a part.
        newest: identifier and state of the parts that were given away last, the newest first.
    """

    parts: Mapping[JobState, int]
    workers: int
    newest: tuple[tuple[str, JobState], ...]


class Subtrees:
    """The ledger's part for parts of jobs."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def give(self, parent: JobRecord, request: Mapping[str, Any], *, queue: str, time_limit: float) -> JobRecord | None:
        """A new part of a running job; None if this attempt of it is not at work any more."""
        moment = self._now()
        values = queued_job(
            new_id(int(moment.timestamp() * 1000)),
            parent.network,
            dict(request),
            queue,
            time_limit,
            _ATTEMPTS,
            moment,
            owner=parent.owner,
            at_once=None,  # it must not wait for the job that it works for
            origin=parent.origin,
        )
        current = (jobs.c.id == parent.id) & (jobs.c.attempt == parent.attempt) & (jobs.c.state == JobState.RUNNING)
        with self._engine.begin() as connection:
            # as an update, it also waits for whoever ends the parent
            if connection.execute(update(jobs).where(current).values(attempt=jobs.c.attempt)).rowcount == 0:
                return None
            made = connection.execute(insert(jobs).values(values | {"parent": parent.id}).returning(*jobs.c)).mappings()
            return JobRecord.of(made.one())

    def look(self, parts: Collection[str]) -> list[PartRecord]:
        """Where these parts stand."""
        query = select(jobs.c.id, jobs.c.state, jobs.c.verdict).where(jobs.c.id.in_(parts))
        with self._engine.connect() as connection:
            return [
                PartRecord(identifier, JobState(state), ((verdict or {}).get("part") or {}).get("answer"))
                for identifier, state, verdict in connection.execute(query).all()
            ]

    def shared(self, parent: str, *, newest: int = 12) -> Shared | None:
        """What was given away of a job, with so many of its parts; None if nothing was."""
        mine = jobs.c.parent == parent
        counts = select(jobs.c.state, func.count()).where(mine).group_by(jobs.c.state)
        last = select(jobs.c.id, jobs.c.state).where(mine).order_by(jobs.c.id.desc()).limit(newest)
        takers = select(func.count(attempts.c.worker.distinct())).join_from(attempts, jobs, attempts.c.job == jobs.c.id)
        with self._engine.connect() as connection:
            found = {JobState(state): number for state, number in connection.execute(counts).all()}
            if not found:
                return None
            workers = connection.execute(takers.where(mine)).scalar_one()
            shown = tuple((part, JobState(state)) for part, state in connection.execute(last).all())
        return Shared(found, workers, shown)

    def recall(self, parts: Collection[str]) -> None:
        """Those that nobody has begun are cancelled; the others are asked to answer now."""
        with self._engine.begin() as connection:
            _end(connection, jobs.c.id.in_(parts), self._now())


def end_parts(connection: Connection, parent: str, moment: datetime) -> None:
    """What is still to be done for a job is not needed any more, because its attempt ends."""
    _end(connection, jobs.c.parent == parent, moment)


def _end(connection: Connection, which: Any, moment: datetime) -> None:
    ended = {"state": JobState.CANCELLED, "cancelled_at": moment, "finished_at": moment}
    connection.execute(update(jobs).where(which, jobs.c.state == JobState.QUEUED).values(ended))
    asked = {"state": JobState.CANCELLING, "cancelled_at": moment}
    connection.execute(update(jobs).where(which, jobs.c.state == JobState.RUNNING).values(asked))
