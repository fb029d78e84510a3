"""The ledger: what is known of networks and jobs. All queries of the service live here and in the ledger's parts:
`service.datasets`, `service.batches`, `service.answers` and `service.submissions`.

The ledger is the truth and the queue only a hint, so every state change is one compare-and-set: an update that names
the states it may start from (`service.states`) and, once a job has started, the number of the attempt that writes.
An attempt that was declared lost therefore cannot overwrite what its successor did, however late it comes back.

Leases are kept here too and not in Redis: a queue server that forgets everything must not look like the loss of
every worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, CursorResult, func, insert, select, text, update

from service.access.audit import Audit
from service.access.grants import give, held
from service.access.keys import Keys
from service.access.principal import LOCAL
from service.access.sessions import Sessions
from service.access.usage import Usage, at_work, charge, crowded
from service.answers import Answers, Asked
from service.batch_figures import BatchFigures
from service.batches import Batches
from service.database import insert_new, migrate, newest, open_engine, probe
from service.datasets import Datasets
from service.errors import NotFoundError, StateChangeError
from service.job_rows import read_job, read_jobs
from service.load import Load, load_of
from service.models import AttemptRecord, JobRecord, NetworkRecord, attempts, jobs, networks
from service.retention import Retention, evidence_of, spared
from service.states import JobState, NetworkState, sources
from service.submissions import Submissions
from service.subtrees import Subtrees, end_parts

__all__ = ["Ledger"]

_ACTIVE = (JobState.RUNNING, JobState.CANCELLING)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """The records behind one database URL.

    Args:
        url: SQLAlchemy URL; SQLite runs in write-ahead mode.
        now: clock, for tests.

    Attributes:
        datasets, batches, answers, submissions, retention, keys, sessions, audit, usage: the parts that have tables of
            their own.
    """

    def __init__(self, url: str, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._engine = open_engine(url)
        self._now = now
        self.datasets = Datasets(self._engine, now)
        self.answers = Answers(self._engine, now)
        self.subtrees = Subtrees(self._engine, now)
        self.submissions = Submissions(self._engine, now, self.answers)
        self.retention = Retention(self._engine, now)
        self.batches = Batches(self._engine, now, self.answers)
        self.figures = BatchFigures(self._engine)
        self.keys = Keys(self._engine, now)
        self.sessions = Sessions(self._engine, now)
        self.audit = Audit(self._engine, now)
        self.usage = Usage(self._engine, now)

    def create(self) -> None:
        """Create the tables, or bring them up to date; several processes may do so at once.

        Raises:
            SchemaError: a newer netproof has been at work here.
        """
        migrate(self._engine)

    def ping(self) -> None:
        """Raise SQLAlchemyError if the database does not answer."""
        with self._engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def probe(self) -> None:
        """Find the schema as this version has it, and write.

        Raises:
            SchemaError: it is another version's.
            SQLAlchemyError: the database does not answer, or takes no writes.
        """
        probe(self._engine)

    def close(self) -> None:
        """Close pooled connections."""
        self._engine.dispose()

    # -- networks ------------------------------------------------------------------------------------------------

    def add_network(
        self, sha256: str, *, size: int, name: str, state: NetworkState, summary: dict[str, Any], owner: str = LOCAL
    ) -> tuple[NetworkRecord, bool]:
        """Record a network; returns its record and whether it is new to ``owner``. What is known stays as it is."""
        moment = self._now()
        values = {"sha256": sha256, "size": size, "name": name[:255], "state": state, "summary": summary}
        with self._engine.begin() as connection:
            connection.execute(insert_new(connection, networks).values(created_at=moment, **values))
            new = give(connection, "network", sha256, owner=owner, name=name, moment=moment)
            spared(connection, "network", [sha256])
            spared(connection, "artifact", [sha256])
        return self.network(sha256, owner=owner), new

    def network(self, sha256: str, *, owner: str | None = None) -> NetworkRecord:
        """A network, if ``owner`` has it; None sees all. Raises NotFoundError."""
        query = held(networks, "network", owner).where(networks.c.sha256 == sha256)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise NotFoundError(sha256, kind="network")
        return NetworkRecord.of(row)

    def networks(self, *, limit: int = 50, owner: str | None = None) -> list[NetworkRecord]:
        """The newest networks first, those of ``owner`` or all."""
        query = held(networks, "network", owner).limit(limit)
        with self._engine.connect() as connection:
            return [NetworkRecord.of(row) for row in connection.execute(query).mappings()]

    # -- jobs ----------------------------------------------------------------------------------------------------

    def job(self, job_id: str, *, owner: str | None = None) -> JobRecord:
        """The job with its attempts, if it is one of ``owner``'s; None sees all. Raises NotFoundError."""
        with self._engine.connect() as connection:
            return read_job(connection, job_id, owner=owner)

    def jobs_of(self, wanted: Sequence[tuple[str, str | None]]) -> list[JobRecord | Exception]:
        """Many jobs, each as `job` reads it for an owner; NotFoundError in the place of one that is not there."""
        found: dict[tuple[str, str | None], JobRecord] = {}
        with self._engine.connect() as connection:
            for owner in {owner for _, owner in wanted}:
                mine = sorted({job_id for job_id, each in wanted if each == owner})
                found |= {(key, owner): job for key, job in read_jobs(connection, mine, owner=owner).items()}
        return [found.get(pair) or NotFoundError(pair[0], kind="job") for pair in wanted]

    def jobs(
        self,
        *,
        limit: int = 50,
        before: str | None = None,
        state: JobState | None = None,
        network: str | None = None,
        batch: str | None = None,
        owner: str | None = None,
    ) -> list[JobRecord]:
        """Newest jobs first, without their attempts: those of one batch, or by default those of none; no parts.

        ``before`` is the identifier that ended the previous page; of ``owner``'s jobs, or of everybody's.
        """
        whole = (jobs.c.batch == batch) & jobs.c.parent.is_(None)
        query = newest(jobs, limit=limit, before=before, state=state, network=network, owner=owner).where(whole)
        with self._engine.connect() as connection:
            return [JobRecord.of(row) for row in connection.execute(query).mappings()]

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state; no parts."""
        each = select(jobs.c.state, func.count()).where(jobs.c.parent.is_(None)).group_by(jobs.c.state)
        with self._engine.connect() as connection:
            rows = connection.execute(each).all()
        return dict.fromkeys(JobState, 0) | {JobState(state): number for state, number in rows}

    def load(self) -> Load:
        """What there is to do."""
        return load_of(self._engine)

    # -- state changes -------------------------------------------------------------------------------------------

    def start(self, job_id: str, *, worker: str, lease_seconds: float, threads: int = 1) -> JobRecord | None:
        """Begin the next attempt, with so many threads: queued → running.

        None if the job is not queued (started elsewhere, cancelled), or has to wait for another of its owner's. What an
        earlier attempt has proven stays its progress.
        """
        moment = self._now()
        with self._engine.begin() as connection:
            if crowded(connection, job_id):
                return None
            started = {"attempt": jobs.c.attempt + 1, "started_at": moment}
            if not self._change(connection, job_id, JobState.RUNNING, started):
                return None
            number = connection.execute(select(jobs.c.attempt).where(jobs.c.id == job_id)).scalar_one()
            connection.execute(
                insert(attempts).values(
                    job=job_id,
                    number=number,
                    worker=worker,
                    started_at=moment,
                    lease_until=moment + timedelta(seconds=lease_seconds),
                    threads=threads,
                )
            )
            return read_job(connection, job_id)

    def renew(
        self, job_id: str, attempt: int, *, lease_seconds: float, progress: dict[str, Any] | None = None
    ) -> JobState | None:
        """Extend an attempt's lease and record its progress.

        Returns the job's state, by which a running attempt learns that it is to stop, or None when the attempt is no
        longer the job's current one and must end without a trace.
        """
        lease = self._now() + timedelta(seconds=lease_seconds)
        with self._engine.begin() as connection:
            mine = (attempts.c.job == job_id) & (attempts.c.number == attempt) & attempts.c.ended_at.is_(None)
            if not _changed(connection.execute(update(attempts).where(mine).values(lease_until=lease))):
                return None
            if progress is not None:
                current = (jobs.c.id == job_id) & (jobs.c.attempt == attempt) & jobs.c.state.in_(_ACTIVE)
                connection.execute(update(jobs).where(current).values(progress=progress))
            return JobState(connection.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar_one())

    def finish(
        self,
        job_id: str,
        attempt: int,
        state: JobState,
        *,
        verdict: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
        reason: str | None = None,
        asked: Asked | None = None,
    ) -> bool:
        """End a job from within its attempt; False if the attempt is not the current one or the change is illegal.

        What the job did for a batch, and the answer that it leaves for later questions like ``asked``, are written in
        the same transaction.

        Raises:
            SoundnessError: the verdict contradicts another answer to the same question.
        """
        values = {"verdict": verdict, "error": error, "finished_at": self._now()}
        with self._engine.begin() as connection:
            if not self._change(connection, job_id, state, values, attempt=attempt):
                return False
            self._close_attempt(connection, job_id, attempt, state, reason)
            end_parts(connection, job_id, self._now())
            job = read_job(connection, job_id)
            if job.batch is not None:
                self.batches.settle(connection, job)
            if asked is not None and verdict is not None:
                self.answers.add(connection, asked, verdict, owner=job.owner, job=job_id)
            spared(connection, "artifact", evidence_of(verdict))
            return True

    def requeue(
        self,
        job_id: str,
        attempt: int,
        *,
        reason: str,
        lost: bool,
        queue: str | None = None,
        progress: dict[str, Any] | None = None,
    ) -> bool:
        """Give a running job back to the queue: running → queued.

        Args:
            job_id: the job.
            attempt: the attempt that ends.
            reason: kept with the attempt.
            lost: whether it counts against the job's attempts; a drained worker's jobs do not.
            queue: another one, from which those take the job who can do it.
            progress: the bounds that the attempt came to, for the next to begin with; None: as last reported.
        """
        values: dict[str, Any] = {"queued_at": self._now()}
        values |= {name: value for name, value in (("queue", queue), ("progress", progress)) if value is not None}
        if lost:
            values["losses"] = jobs.c.losses + 1
        with self._engine.begin() as connection:
            if not self._change(connection, job_id, JobState.QUEUED, values, attempt=attempt):
                return False
            self._close_attempt(connection, job_id, attempt, JobState.QUEUED, reason)
            end_parts(connection, job_id, self._now())
            return True

    def request_cancel(self, job_id: str) -> JobRecord:
        """Ask a job to stop: queued → cancelled at once, running → cancelling; asking again changes nothing.

        Raises:
            NotFoundError: no such job.
            StateChangeError: the job has ended.
        """
        moment = self._now()
        with self._engine.begin() as connection:
            # two tries in this order, as a job may start in between but never goes back while it is being cancelled
            ended = {"cancelled_at": moment, "finished_at": moment}
            unstarted = self._change(connection, job_id, JobState.CANCELLED, ended, before=[JobState.QUEUED])
            if not unstarted:
                self._change(connection, job_id, JobState.CANCELLING, {"cancelled_at": moment})
                end_parts(connection, job_id, moment)
            job = read_job(connection, job_id)
            if unstarted and job.batch is not None:
                self.batches.settle(connection, job)
        if job.state not in {JobState.CANCELLED, JobState.CANCELLING}:
            raise StateChangeError(job_id, job.state, JobState.CANCELLING)
        return job

    # -- what the reaper asks ------------------------------------------------------------------------------------

    def active(self) -> list[JobRecord]:
        """Jobs in progress, each with its current attempt alone."""
        current = (attempts.c.job == jobs.c.id) & (attempts.c.number == jobs.c.attempt)
        query = select(*jobs.c, *(column.label(f"try_{column.name}") for column in attempts.c))
        query = query.join(attempts, current).where(jobs.c.state.in_(_ACTIVE))
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            JobRecord.of(
                {column.name: row[column.name] for column in jobs.c},
                (AttemptRecord(**{column.name: row[f"try_{column.name}"] for column in attempts.c}),),
            )
            for row in rows
        ]

    def waiting(self, seconds: float) -> list[JobRecord]:
        """Jobs queued for more than ``seconds``, oldest first: candidates for having been lost by the queue.

        Those of which the clock says that they are still to be queued are among them: it was set back since. Those that
        wait for others of their owner's are left out.
        """
        now, step = self._now(), timedelta(seconds=seconds)
        long_ago = (jobs.c.queued_at < now - step) | (jobs.c.queued_at > now + step)
        query = select(jobs).where(jobs.c.state == JobState.QUEUED, long_ago).order_by(jobs.c.queued_at)
        query = query.where(jobs.c.at_once.is_(None) | (at_work(jobs.c.owner) < jobs.c.at_once))
        with self._engine.connect() as connection:
            return [JobRecord.of(row) for row in connection.execute(query).mappings()]

    def following(self, job: JobRecord) -> JobRecord | None:
        """The job that may have waited for this one: its owner's oldest queued one, where these are counted."""
        if job.at_once is None:
            return None
        mine = (jobs.c.owner == job.owner) & (jobs.c.state == JobState.QUEUED) & jobs.c.at_once.is_not(None)
        with self._engine.connect() as connection:
            row = connection.execute(select(jobs).where(mine).order_by(jobs.c.queued_at).limit(1)).mappings().first()
        return None if row is None else JobRecord.of(row)

    # -- internals -----------------------------------------------------------------------------------------------

    def _change(
        self,
        connection: Connection,
        job_id: str,
        after: JobState,
        values: dict[str, Any],
        *,
        attempt: int | None = None,
        before: Iterable[JobState] | None = None,
    ) -> bool:
        """The compare-and-set that every state change goes through; ``before`` narrows the legal sources."""
        allowed = sources(after) if before is None else sources(after).intersection(before)
        query = update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(sorted(allowed)))
        if attempt is not None:
            query = query.where(jobs.c.attempt == attempt)
        return _changed(connection.execute(query.values(state=after, **values)))

    def _close_attempt(
        self, connection: Connection, job_id: str, attempt: int, outcome: JobState, reason: str | None
    ) -> None:
        mine = (attempts.c.job == job_id) & (attempts.c.number == attempt)
        ended: dict[str, Any] = {"ended_at": self._now(), "outcome": outcome, "reason": reason}
        connection.execute(update(attempts).where(mine).values(ended))
        charge(connection, job_id, attempt, ended["ended_at"])


def _changed(result: CursorResult[Any]) -> bool:
    return result.rowcount == 1
