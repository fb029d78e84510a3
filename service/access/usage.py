"""What owners use: seconds of solving on each day, and what they have at work; a part of `service.ledger.Ledger`.

What is counted is counted over all that an owner has, so a second key brings no second quota. Whoever counts and then
adds does both in one transaction and waits for its turn (`take_turns`), so requests that come at the same moment see
each other's rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Select, func, select, text, update

from service.access.models import usage
from service.access.principal import Quota
from service.batch_models import batches
from service.database import insert_new
from service.errors import QuotaError
from service.models import attempts, jobs
from service.states import BATCH_ENDED, TERMINAL, BatchState, JobState

__all__ = ["Usage", "Used", "at_work", "charge", "check_batch", "check_questions", "crowded", "take_turns"]

_LIVE_JOBS = [state for state in JobState if state not in TERMINAL]
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
#: A quota of what is at work may be free again soon.
_BUSY_SECONDS = 5
_LIVE_BATCHES = [state for state in BatchState if state not in BATCH_ENDED]


@dataclass(frozen=True, slots=True)
class Used:
    """What an owner uses.

    Attributes:
        running: jobs at work.
        queued: questions of their own that have not ended, those at work included.
        batches: batches that have not ended.
        cpu_seconds: of attempts that ended today (UTC).
    """

    running: int
    queued: int
    batches: int
    cpu_seconds: float


class Usage:
    """Counts."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def of(self, owner: str) -> Used:
        """What ``owner`` uses now, and has used today."""
        working = jobs.c.state.in_([JobState.RUNNING, JobState.CANCELLING])
        mine = jobs.c.owner == owner
        with self._engine.connect() as connection:
            return Used(
                _count(connection, select(func.count()).where(mine, working)),
                _questions(connection, owner),
                _batches(connection, owner),
                _spent(connection, owner, self._now()),
            )

    def spent(self, owner: str) -> float:
        """CPU seconds of attempts that ended today."""
        with self._engine.connect() as connection:
            return _spent(connection, owner, self._now())


def take_turns(connection: Connection, what: str, owners: Iterable[str]) -> None:
    """Wait until nobody else counts and adds to ``what`` these owners have, and keep others waiting while the
    transaction lasts.

    It comes before the transaction writes anything, and locks are taken in one order, so no two wait for each other.
    What is counted after it is all that was committed by those who waited for the same turn, as PostgreSQL begins each
    statement, and SQLite the transaction, with what is committed then.
    """
    wanted = set(owners)
    if connection.dialect.name == "sqlite":
        if wanted:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # Python's sqlite3 begins nothing for a SELECT by itself
        return
    for key in sorted(_turn(what, owner) for owner in wanted):
        connection.execute(_LOCK, {"key": key})


def check_questions(connection: Connection, owner: str, quota: Quota, adding: int, moment: datetime) -> None:
    """Raise QuotaError where ``owner`` may not have ``adding`` further questions at work, not recorded yet.

    The caller has taken its turn for ``questions``.
    """
    most = quota.queued
    if most is not None and _questions(connection, owner) + adding > most:
        msg = f"{owner} has as many questions at work as this key allows, {most}; wait for one, or cancel it"
        raise QuotaError(msg, _BUSY_SECONDS)
    _check_day(connection, owner, quota, moment)


def check_batch(connection: Connection, owner: str, quota: Quota, moment: datetime) -> None:
    """Raise QuotaError where ``owner`` may not have another batch at work, in the transaction that puts it there."""
    most = quota.batches
    if most is not None:
        take_turns(connection, "batches", [owner])
        if _batches(connection, owner) >= most:
            msg = f"{owner} has {most} batches at work, as many as this key allows; wait for one, or cancel it"
            raise QuotaError(msg, _BUSY_SECONDS)
    _check_day(connection, owner, quota, moment)


def crowded(connection: Connection, job_id: str) -> bool:
    """Whether so many of the owner's jobs are at work that this one has to wait, in the transaction that starts it."""
    job = connection.execute(select(jobs.c.owner, jobs.c.at_once).where(jobs.c.id == job_id)).first()
    if job is None or job.at_once is None:
        return False
    take_turns(connection, "starts", [job.owner])
    return bool(connection.execute(select(at_work(job.owner) >= job.at_once)).scalar())


def at_work(owner: Any) -> Any:
    """How many jobs of an owner are at work, without their parts; ``owner`` is a name or a column."""
    others = jobs.alias()
    mine = (others.c.owner == owner) & others.c.state.in_([JobState.RUNNING, JobState.CANCELLING])
    return select(func.count()).select_from(others).where(mine, others.c.parent.is_(None)).scalar_subquery()


def charge(connection: Connection, job_id: str, attempt: int, moment: datetime) -> None:
    """Charge an attempt that ends to the job's owner, in the transaction that ends it; a job never begun had none."""
    mine = (attempts.c.job == job_id) & (attempts.c.number == attempt)
    query = select(jobs.c.owner, attempts.c.started_at, attempts.c.threads).join(attempts, jobs.c.id == attempts.c.job)
    row = connection.execute(query.where(mine)).first()
    if row is None:
        return
    seconds = max(0.0, (moment - row.started_at).total_seconds()) * row.threads
    day = {"owner": row.owner, "day": _day(moment)}
    connection.execute(insert_new(connection, usage).values(seconds=0.0, **day))
    today = (usage.c.owner == day["owner"]) & (usage.c.day == day["day"])
    connection.execute(update(usage).where(today).values(seconds=usage.c.seconds + seconds))


def _turn(what: str, owner: str) -> int:
    """The advisory lock of a turn, a signed number of 64 bits."""
    return int.from_bytes(hashlib.sha256(f"{what} {owner}".encode()).digest()[:8], signed=True)


def _count(connection: Connection, query: Select[Any]) -> int:
    return int(connection.execute(query).scalar_one())


def _questions(connection: Connection, owner: str) -> int:
    own = (jobs.c.owner == owner) & jobs.c.batch.is_(None) & jobs.c.parent.is_(None)
    mine = own & jobs.c.state.in_(_LIVE_JOBS)
    return _count(connection, select(func.count()).where(mine))


def _batches(connection: Connection, owner: str) -> int:
    mine = (batches.c.owner == owner) & batches.c.state.in_(_LIVE_BATCHES)
    return _count(connection, select(func.count()).where(mine))


def _spent(connection: Connection, owner: str, moment: datetime) -> float:
    query = select(usage.c.seconds).where(usage.c.owner == owner, usage.c.day == _day(moment))
    return float(connection.execute(query).scalar() or 0.0)


def _check_day(connection: Connection, owner: str, quota: Quota, moment: datetime) -> None:
    most = quota.cpu_seconds
    if most is None or _spent(connection, owner, moment) < most:
        return
    tomorrow = (moment + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    msg = f"{owner} has used {most:g} CPU seconds, all that this key allows a day; the next begins at 0:00 UTC"
    raise QuotaError(msg, int((tomorrow - moment).total_seconds()) + 1)


def _day(moment: datetime) -> str:
    return moment.date().isoformat()
