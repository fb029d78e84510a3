"""The ledger's part about batches: one question about many inputs, at one or several epsilons.

A batch is worked off by jobs like any other, made as earlier ones end (`service.batch_work`): *sweep* jobs take chunks
of items through replay, bounds and a short attack, and each item that they leave open gets an *exact* job of its own.
What an item comes to is written in the transaction that ends its job, or, within a sweep, as it is decided; so whatever
dies, nothing that was decided is lost or decided again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from service import batch_work
from service.access.principal import EVERYBODY, Principal
from service.access.usage import check_batch
from service.answers import Answers
from service.batch_models import BatchRecord, ItemRecord, batches, items
from service.batch_work import LIVE, Found
from service.database import newest
from service.errors import IdempotencyError, NotFoundError, QuotaError, StateChangeError
from service.identifiers import new_id
from service.item_rows import BRIEF, ItemFilter, items_of
from service.models import JobRecord, jobs, owned_key
from service.states import BatchState, ItemState, JobState, batch_sources
from solver.verdict import Outcome

__all__ = ["Batches", "Group", "ItemFilter"]

#: Rows of one INSERT; databases limit the parameters of a statement.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Group:
    """How many items of a batch agree in these respects, and the seconds that they took."""

    epsilon: str
    state: ItemState
    outcome: str | None
    trust: str | None
    swept: bool
    cached: bool
    misclassified: bool
    searched: bool
    count: int
    sweep_seconds: float
    search_seconds: float


class Batches:
    """Records of batches and their items; a part of `service.ledger.Ledger`."""

    def __init__(self, engine: Engine, now: Callable[[], datetime], answers: Answers) -> None:
        self._engine = engine
        self._now = now
        self._answers = answers

    def submit(
        self,
        request: dict[str, Any],
        wanted: Sequence[tuple[int, str, int]],
        *,
        queue: str,
        max_attempts: int,
        idempotency_key: str | None = None,
        fingerprint: str | None = None,
        caller: Principal = EVERYBODY,
    ) -> tuple[BatchRecord, bool]:
        """Record a new batch and its items; returns it and whether it is new. `advance` then makes its first jobs.

        Args:
            request: as `service.batch_admission` completes it.
            wanted: input, epsilon and label of each item; the epsilons of one input come one after the other.
            queue: of its jobs.
            max_attempts: of each of them.
            idempotency_key: the same key gives the same batch.
            fingerprint: digest of the request that the key came with.
            caller: whose it becomes, within the caller's quota.

        Raises:
            IdempotencyError: the key came before with another fingerprint.
            QuotaError: the caller has as many batches at work as its key allows, or has used up the day.
        """
        moment = self._now()
        identifier = new_id(int(moment.timestamp() * 1000))
        values = {
            "id": identifier,
            "network": request["network"],
            "dataset": request["dataset"],
            "name": request["name"],
            "request": request,
            "state": BatchState.RUNNING,
            "queue": queue,
            "time_limit": request["time_limit"],
            "total_limit": request["total_limit"],
            "max_attempts": max_attempts,
            "inputs": len({index for index, _, _ in wanted}),
            "items": len(wanted),
            "revision": 0,
            "idempotency_key": owned_key(caller.owner, idempotency_key),
            "fingerprint": fingerprint,
            "owner": caller.owner,
            "at_once": caller.quota.running,
            "created_at": moment,
            "changed_at": moment,
        }
        fresh = ItemState.PENDING if batch_work.sweeps(request) else ItemState.OPEN
        rows = [
            {"batch": identifier, "number": number, "input": index, "epsilon": epsilon, "label": label, "state": fresh}
            | {"swept": False, "sweep_seconds": 0.0, "search_seconds": 0.0}
            for number, (index, epsilon, label) in enumerate(wanted)
        ]
        try:
            with self._engine.begin() as connection:
                check_batch(connection, caller.owner, caller.quota, moment)
                connection.execute(insert(batches).values(values))
                for start in range(0, len(rows), _AT_ONCE):
                    connection.execute(insert(items), rows[start : start + _AT_ONCE])
        except (IntegrityError, QuotaError):  # the same request may have made its batch meanwhile
            if idempotency_key is None:
                raise
            earlier = self.earlier(caller.owner, idempotency_key, fingerprint)
            if earlier is None:
                raise
            return earlier, False
        return self.get(identifier), True

    def earlier(self, owner: str, key: str, fingerprint: str | None) -> BatchRecord | None:
        """The batch that an idempotency key of ``owner``'s made. Raises IdempotencyError, see `submit`."""
        query = select(batches).where(batches.c.idempotency_key == owned_key(owner, key))
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        if row["fingerprint"] != fingerprint:
            raise IdempotencyError(key, f"batch {row['id']}")
        return BatchRecord.of(row)

    # -- reading -------------------------------------------------------------------------------------------------

    def get(self, batch_id: str, *, owner: str | None = None) -> BatchRecord:
        """The batch, if it is one of ``owner``'s; None sees all. Raises NotFoundError."""
        with self._engine.connect() as connection:
            return _read(connection, batch_id, owner=owner)

    def newest(
        self,
        *,
        limit: int = 50,
        before: str | None = None,
        state: BatchState | None = None,
        network: str | None = None,
        owner: str | None = None,
    ) -> list[BatchRecord]:
        """Newest batches first, those of ``owner`` or all; ``before`` is the identifier that ended the last page."""
        query = newest(batches, limit=limit, before=before, state=state, network=network, owner=owner)
        with self._engine.connect() as connection:
            return [BatchRecord.of(row) for row in connection.execute(query).mappings()]

    def unfinished(self) -> list[str]:
        """Batches whose jobs may need a hand: what the reaper looks through."""
        query = select(batches.c.id).where(batches.c.state.in_([BatchState.RUNNING, BatchState.CANCELLING]))
        with self._engine.connect() as connection:
            return list(connection.execute(query.order_by(batches.c.id)).scalars())

    def groups(self, batch_id: str) -> list[Group]:
        """The batch's items, counted."""
        searched = items.c.search_seconds > 0
        wrong = (items.c.decided_by == "replay") & (items.c.outcome == Outcome.COUNTEREXAMPLE)
        flags = (items.c.swept, items.c.cached, wrong, searched)
        keys = (items.c.epsilon, items.c.state, items.c.outcome, items.c.trust, *flags)
        sums = (func.count(), func.sum(items.c.sweep_seconds), func.sum(items.c.search_seconds))
        query = select(*keys, *sums).where(items.c.batch == batch_id).group_by(*keys)
        with self._engine.connect() as connection:
            return [
                Group(epsilon, ItemState(state), outcome, trust, *map(bool, row[:4]), *row[4:])
                for epsilon, state, outcome, trust, *row in connection.execute(query)
            ]

    def running_since(self, batch_id: str) -> list[datetime]:
        """When the batch's exact searches at work began."""
        query = (
            select(jobs.c.started_at)
            .join(items, (items.c.job == jobs.c.id) & (items.c.batch == batch_id))
            .where(items.c.state == ItemState.SEARCHING, jobs.c.state.in_(LIVE), jobs.c.started_at.is_not(None))
            .where(jobs.c.state != JobState.QUEUED)
        )
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def ended_since(self, batch_id: str, seconds: float) -> int:
        """How many items ended in the last ``seconds``."""
        since = self._now() - timedelta(seconds=seconds)
        query = select(func.count()).where(items.c.batch == batch_id, items.c.finished_at > since)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def items(
        self,
        batch_id: str,
        chosen: ItemFilter | None = None,
        *,
        limit: int = 100,
        after: tuple[Any, int] | None = None,
        sort: str = "number",
        verdicts: bool = False,
    ) -> list[ItemRecord]:
        """Items in order, with their verdicts if these are asked for.

        Args:
            batch_id: of the batch.
            chosen: which of them.
            limit: how many.
            after: sort value and number of the item that ended the previous page.
            sort: ``number``, or ``seconds`` or ``margin``, the largest seconds and the smallest margins first.
            verdicts: whether to read the verdicts, too.
        """
        query = items_of(batch_id, chosen or ItemFilter(), limit=limit, after=after, sort=sort, verdicts=verdicts)
        with self._engine.connect() as connection:
            return [ItemRecord.of(row) for row in connection.execute(query).mappings()]

    def item(self, batch_id: str, number: int) -> ItemRecord:
        """One item with its verdict. Raises NotFoundError if there is none."""
        query = select(items).where(items.c.batch == batch_id, items.c.number == number)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            key = f"{batch_id}/{number}"
            raise NotFoundError(key, kind="item")
        return ItemRecord.of(row)

    # -- working -------------------------------------------------------------------------------------------------

    def advance(self, batch_id: str) -> list[JobRecord]:
        """Make the jobs that the batch needs next, or end it; returns the new jobs, which are to be queued."""
        with self._engine.begin() as connection:
            return batch_work.advance(connection, batch_id, self._now())

    def chunk(self, job: JobRecord) -> list[ItemRecord]:
        """What a sweep job still has to look at."""
        query = select(*BRIEF).where(items.c.job == job.id, items.c.state == ItemState.SWEEPING)
        with self._engine.connect() as connection:
            return [ItemRecord.of(row) for row in connection.execute(query.order_by(items.c.number)).mappings()]

    def record(self, job: JobRecord, found: Sequence[Found]) -> bool:
        """Write down what a running sweep job found; False if its attempt is not the current one.

        Raises:
            SoundnessError: a verdict contradicts another answer to the same question.
        """
        with self._engine.begin() as connection:
            return batch_work.record(connection, job, found, self._answers, self._now())

    def settle(self, connection: Connection, job: JobRecord) -> None:
        """Bring the items of a job that has just ended to where they belong, in the transaction that ends it."""
        batch_work.settle(connection, job, self._now())

    # -- what users ask for --------------------------------------------------------------------------------------

    def request_cancel(self, batch_id: str) -> BatchRecord:
        """Stop: queued jobs are cancelled at once, running ones are asked to; finished items stay as they are.

        Raises:
            NotFoundError: no such batch.
            StateChangeError: the batch has ended.
        """
        moment = self._now()
        with self._engine.begin() as connection:
            if self._change(connection, batch_id, BatchState.CANCELLING):
                mine = (jobs.c.batch == batch_id) & (jobs.c.state == JobState.QUEUED)
                ended = {"state": JobState.CANCELLED, "cancelled_at": moment, "finished_at": moment}
                connection.execute(update(jobs).where(mine).values(ended))
                mine = (jobs.c.batch == batch_id) & (jobs.c.state == JobState.RUNNING)
                asked = {"state": JobState.CANCELLING, "cancelled_at": moment}
                connection.execute(update(jobs).where(mine).values(asked))
                batch_work.advance(connection, batch_id, moment)
            batch = _read(connection, batch_id)
        if batch.state not in {BatchState.CANCELLING, BatchState.CANCELLED}:
            raise StateChangeError(batch_id, batch.state, BatchState.CANCELLING, kind="batch")
        return batch

    def resume(self, batch_id: str, *, total_limit: float | None = None, caller: Principal = EVERYBODY) -> BatchRecord:
        """Go on with a batch that was cancelled, or whose budget was spent; `advance` then makes its next jobs.

        Raises:
            NotFoundError: no such batch.
            QuotaError: as in `submit`.
            StateChangeError: the batch is at work, or finished.
        """
        stopped = [BatchState.CANCELLED, BatchState.EXHAUSTED]
        values: dict[str, Any] = {} if total_limit is None else {"total_limit": total_limit}
        with self._engine.begin() as connection:
            check_batch(connection, caller.owner, caller.quota, self._now())
            changed = self._change(connection, batch_id, BatchState.RUNNING, before=stopped, **values)
            batch = _read(connection, batch_id)
        if not changed:
            raise StateChangeError(batch_id, batch.state, BatchState.RUNNING, kind="batch")
        return batch

    def retry(
        self,
        batch_id: str,
        *,
        time_limit: float | None = None,
        unknown: bool = True,
        caller: Principal = EVERYBODY,
    ) -> tuple[BatchRecord, int]:
        """Open again what failed and, with ``unknown``, what stayed unknown; returns how many items that are.

        Args:
            batch_id: of the batch.
            time_limit: seconds for each item from now on; None leaves it.
            unknown: whether undecided items are tried again, too.
            caller: who asks.

        Raises:
            NotFoundError: no such batch.
            QuotaError: as in `submit`.
            StateChangeError: the batch is at work.
        """
        values: dict[str, Any] = {} if time_limit is None else {"time_limit": time_limit}
        failed = items.c.state == ItemState.FAILED
        again = (
            failed | ((items.c.state == ItemState.DONE) & (items.c.outcome == Outcome.UNKNOWN)) if unknown else failed
        )
        fresh = {"state": ItemState.OPEN, "job": None, "error": None, "finished_at": None}
        with self._engine.begin() as connection:
            check_batch(connection, caller.owner, caller.quota, self._now())
            if not self._change(connection, batch_id, BatchState.RUNNING, **values):
                raise StateChangeError(batch_id, _read(connection, batch_id).state, BatchState.RUNNING, kind="batch")
            opened = connection.execute(update(items).where(items.c.batch == batch_id, again).values(fresh))
            return _read(connection, batch_id), opened.rowcount

    def _change(
        self,
        connection: Connection,
        batch_id: str,
        after: BatchState,
        *,
        before: Iterable[BatchState] | None = None,
        **values: Any,
    ) -> bool:
        """The compare-and-set that changes of state by users go through; those of its work are in `batch_work`."""
        allowed = batch_sources(after) if before is None else batch_sources(after).intersection(before)
        query = update(batches).where(batches.c.id == batch_id, batches.c.state.in_(sorted(allowed)))
        moment = {"revision": batches.c.revision + 1, "changed_at": self._now(), "finished_at": None}
        return connection.execute(query.values(state=after, **moment, **values)).rowcount == 1


def _read(connection: Connection, batch_id: str, *, owner: str | None = None) -> BatchRecord:
    query = select(batches).where(batches.c.id == batch_id)
    if owner is not None:
        query = query.where(batches.c.owner == owner)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(batch_id, kind="batch")
    return BatchRecord.of(row)
