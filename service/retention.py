"""The ledger's part about what may go: rows that have expired, and names of files that nothing refers to.

Rows go in small transactions, so that collecting months hinders nobody. What refers to what:

* a job keeps its network, another network or a data set that its question names, its certificate and its product;
* a batch keeps its network and its data set, and each of its items a certificate;
* a verdict that was taken from an earlier one (``cached_from``) names its evidence itself, and keeps the job or the
  batch that it came from, so that it never points at something that is gone;
* an answer goes with the job or the item that it points at.

A network, data set or artifact that nothing keeps is first *condemned*. It goes when a later look finds it unreferenced
still, after longer than any request or job takes (`service.collection`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Table, delete, exists, func, or_, select, true, update
from sqlalchemy.exc import IntegrityError

from service.access.models import audit, grants, sessions
from service.batch_models import answers, batches, datasets, items
from service.database import insert_new
from service.errors import InUseError
from service.models import attempts, condemned, jobs, metadata, networks
from service.states import BATCH_ENDED, TERMINAL

__all__ = ["GONE", "Retention", "chunks", "evidence_of", "spared"]

#: Whose a batch is that is being removed, item by item: nobody's.
GONE = "(removed)"
#: Rows of one transaction.
_ROWS = 500
_IN_USE = "jobs or batches are about {kind} {key}; remove them first, or let `netproof admin gc` do it when they expire"

_HOLDERS: dict[str, tuple[Table, tuple[Table, ...]]] = {
    "network": (networks, (jobs, batches)),
    "dataset": (datasets, (batches,)),
}


class Retention:
    """What may go, and its going; a part of `service.ledger.Ledger`."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    # -- what has expired ------------------------------------------------------------------------------------------

    def expired_jobs(self, before: datetime) -> list[str]:
        """Jobs of no batch, and no parts of others, that ended before that moment."""
        ended = jobs.c.state.in_(sorted(TERMINAL)) & (jobs.c.finished_at < before)
        return self._column(select(jobs.c.id).where(jobs.c.batch.is_(None), jobs.c.parent.is_(None), ended))

    def expired_batches(self, before: datetime) -> list[str]:
        """Batches that ended before that moment, and those whose removal was interrupted."""
        ended = batches.c.state.in_(sorted(BATCH_ENDED)) & (batches.c.finished_at < before)
        return self._column(select(batches.c.id).where(ended | (batches.c.owner == GONE)))

    def origins(self) -> set[tuple[str, str]]:
        """Which job or batch a verdict was taken from, and which job or batch has that verdict."""
        own = func.coalesce(jobs.c.batch, jobs.c.id)
        return {
            *self._origins(jobs.c.verdict["cached_from"], own),
            *self._origins(items.c.cached_from, items.c.batch),
        }

    def _origins(self, source: Any, keeper: ColumnElement[Any]) -> Iterator[tuple[str, str]]:
        for name in ("job", "batch"):
            origin = source[name].as_string()
            query = select(origin, keeper).where(origin.is_not(None)).distinct()
            with self._engine.connect() as connection:
                for row in connection.execute(query):
                    yield row[0], row[1]

    def evidence(self) -> set[str]:
        """The sha256 of every artifact that a record names."""
        queries = [select(networks.c.sha256), select(datasets.c.artifact)]
        for table in (jobs, items):
            for member in ("certificate", "product"):
                name = table.c.verdict[(member, "sha256")].as_string()
                queries.append(select(name).where(name.is_not(None)).distinct())
        return {name for query in queries for name in self._column(query)}

    def idle(self, kind: str, before: datetime | None) -> list[str]:
        """Networks or data sets that no job and no batch is about and nobody was given since ``before``.

        With None, only those that nobody holds any more.
        """
        table, holders = _HOLDERS[kind]
        query = select(table.c.sha256).where(~_used(table, holders))
        mine = (grants.c.kind == kind) & (grants.c.sha256 == table.c.sha256)
        if before is None:
            query = query.where(~exists().where(mine))
        else:
            query = query.where(table.c.created_at < before, ~exists().where(mine, grants.c.created_at >= before))
        named = self._named(kind)
        return [sha256 for sha256 in self._column(query) if sha256 not in named]

    def _named(self, kind: str, owner: str | None = None) -> set[str]:
        """Networks or data sets that questions, of ``owner`` or of anybody, name beside their own."""
        path = ("query", "equivalent_to", "network") if kind == "network" else ("query", "dataset")
        found: set[str] = set()
        for table in (jobs, batches):
            name = table.c.request[path].as_string()
            whose = true() if owner is None else table.c.owner == owner
            found.update(self._column(select(name).where(name.is_not(None), whose).distinct()))
        return found

    # -- its going -------------------------------------------------------------------------------------------------

    def forget_answers(self, identifiers: Iterable[str]) -> int:
        """Let jobs and batches serve no further question."""
        number = 0
        for chunk in chunks(identifiers, _ROWS):
            with self._engine.begin() as connection:
                number += connection.execute(
                    delete(answers).where(answers.c.job.in_(chunk) | answers.c.batch.in_(chunk))
                ).rowcount
        return number

    def remove_jobs(self, identifiers: Iterable[str]) -> int:
        """Remove ended jobs of no batch; returns how many."""
        number = 0
        for chunk in chunks(identifiers, _ROWS):
            with self._engine.begin() as connection:
                number += _remove_jobs(connection, chunk)
        return number

    def remove_batch(self, batch_id: str, *, before: datetime | None = None) -> bool:
        """Remove a batch that has ended, with its items and jobs; False if it has not, or only after ``before``."""
        ended = (batches.c.id == batch_id) & batches.c.state.in_(sorted(BATCH_ENDED))
        if before is not None:
            ended &= (batches.c.finished_at < before) | (batches.c.owner == GONE)
        with self._engine.begin() as connection:
            # nobody's from here on, and so neither shown nor resumed while its rows go
            taken = connection.execute(update(batches).where(ended).values(owner=GONE))
            if taken.rowcount == 0:
                return False
            connection.execute(delete(answers).where(answers.c.batch == batch_id))
        while numbers := self._column(select(items.c.number).where(items.c.batch == batch_id).limit(_ROWS)):
            with self._engine.begin() as connection:
                connection.execute(delete(items).where(items.c.batch == batch_id, items.c.number.in_(numbers)))
        while found := self._column(select(jobs.c.id).where(jobs.c.batch == batch_id).limit(_ROWS)):
            with self._engine.begin() as connection:
                _remove_jobs(connection, found)
        with self._engine.begin() as connection:
            connection.execute(delete(batches).where(batches.c.id == batch_id))
        return True

    def remove_content(self, kind: str, sha256: str) -> bool:
        """Remove a network or data set and its grants; False where something has come to refer to it."""
        table, holders = _HOLDERS[kind]
        try:
            with self._engine.begin() as connection:
                mine = (condemned.c.kind == kind) & (condemned.c.key == sha256)
                if connection.execute(delete(condemned).where(mine)).rowcount == 0:
                    return False  # it was sent again
                gone = connection.execute(delete(table).where(table.c.sha256 == sha256, ~_used(table, holders)))
                if gone.rowcount == 0:
                    return False
                connection.execute(delete(grants).where(grants.c.kind == kind, grants.c.sha256 == sha256))
        except IntegrityError:
            return False
        return True

    def give_up(self, kind: str, sha256: str, *, owner: str | None) -> None:
        """Let ``owner`` hold a network or data set no longer; None, who sees everything, removes it for everybody.

        Content that nobody holds is collected later.

        Raises:
            InUseError: a job or batch of the owner's is about it.
        """
        table, holders = _HOLDERS[kind]
        mine = (grants.c.kind == kind) & (grants.c.sha256 == sha256)
        if owner is not None:
            mine &= grants.c.owner == owner
        used = select(table.c.sha256).where(table.c.sha256 == sha256, _used(table, holders, owner))
        if self._column(used) or sha256 in self._named(kind, owner):
            raise InUseError(_IN_USE.format(kind=kind.replace("dataset", "data set"), key=sha256))
        with self._engine.begin() as connection:
            connection.execute(delete(grants).where(mine))
            if owner is None:
                connection.execute(delete(table).where(table.c.sha256 == sha256, ~_used(table, holders)))

    def remove_own(self, kind: str, identifier: str) -> bool:
        """Remove a job or a batch because its owner says so; False if it has not ended.

        Raises:
            InUseError: another verdict was taken from it.
        """
        keeper = next((keeper for origin, keeper in self.origins() if origin == identifier != keeper), None)
        if keeper is not None:
            msg = f"the verdict of {keeper} was taken from {kind} {identifier}; remove that first"
            raise InUseError(msg)
        if kind == "batch":
            return self.remove_batch(identifier)
        ended = jobs.c.state.in_(sorted(TERMINAL))
        if not self._column(select(jobs.c.id).where(jobs.c.id == identifier, ended)):
            return False
        return self.remove_jobs([identifier]) == 1

    def remove_audit(self, before: datetime) -> int:
        """Remove entries of the audit log."""
        return self._remove_where(audit, audit.c.id, audit.c.at < before)

    def remove_sessions(self) -> int:
        """Remove sessions that have expired."""
        return self._remove_where(sessions, sessions.c.digest, sessions.c.expires_at < self._now())

    def _remove_where(self, table: Table, key: Any, condition: ColumnElement[bool]) -> int:
        number = 0
        while found := self._column(select(key).where(condition).limit(_ROWS)):
            with self._engine.begin() as connection:
                number += connection.execute(delete(table).where(key.in_(found))).rowcount
        return number

    def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        counted = {}
        with self._engine.connect() as connection:
            for table in metadata.sorted_tables:
                counted[table.name] = int(connection.execute(select(func.count()).select_from(table)).scalar_one())
        return counted

    def vacuum(self) -> None:
        """Give the room of removed rows back to the disk; PostgreSQL does so by itself."""
        if self._engine.dialect.name != "sqlite":
            return
        with self._engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert raw is not None
            before, raw.isolation_level = raw.isolation_level, None  # VACUUM runs in no transaction
            try:
                raw.execute("VACUUM")
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                raw.isolation_level = before

    # -- the condemned ---------------------------------------------------------------------------------------------

    def condemned(self, kind: str) -> dict[str, datetime]:
        """What was found unreferenced, and since when."""
        query = select(condemned.c.key, condemned.c.since).where(condemned.c.kind == kind)
        with self._engine.connect() as connection:
            return {row.key: row.since for row in connection.execute(query)}

    def condemn(self, kind: str, keys: Iterable[str], moment: datetime) -> None:
        """Note that nothing refers to these at ``moment``; what was noted before keeps its time."""
        for chunk in chunks(keys, _ROWS):
            with self._engine.begin() as connection:
                rows = [{"kind": kind, "key": key, "since": moment} for key in chunk]
                connection.execute(insert_new(connection, condemned), rows)

    def spare(self, kind: str, keys: Iterable[str]) -> None:
        """Something refers to these again, or they are gone."""
        for chunk in chunks(keys, _ROWS):
            with self._engine.begin() as connection:
                spared(connection, kind, chunk)

    def touch(self, kind: str, key: str) -> None:
        """What was sent once more is wanted."""
        known = select(condemned.c.key).where(condemned.c.kind == kind, condemned.c.key == key)
        if self._column(known):
            self.spare(kind, [key])

    @contextmanager
    def release(self, kind: str, keys: Sequence[str]) -> Iterator[list[str]]:
        """Take condemned ones off the list; those that it gives may be removed until the end of this context.

        Whoever comes to refer to one of them meanwhile waits for that end (see `spared`), and finds it gone.
        """
        with self._engine.begin() as connection:
            mine = (condemned.c.kind == kind) & condemned.c.key.in_(keys)
            found = connection.execute(delete(condemned).where(mine).returning(condemned.c.key)).scalars().all()
            yield list(found)

    def _column(self, query: Any) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())


def spared(connection: Connection, kind: str, keys: Sequence[str]) -> None:
    """In the transaction in which a record comes to name ``keys``: none of them may go any more."""
    if keys:
        connection.execute(delete(condemned).where(condemned.c.kind == kind, condemned.c.key.in_(keys)))


def evidence_of(verdict: dict[str, Any] | None) -> list[str]:
    """Names of the artifacts that a verdict refers to."""
    members = ((verdict or {}).get(member) for member in ("certificate", "product"))
    return [str(member["sha256"]) for member in members if member]


def chunks(values: Iterable[str], size: int) -> Iterator[list[str]]:
    """``values`` in lists of at most ``size``."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk


def _used(table: Table, holders: tuple[Table, ...], owner: str | None = None) -> ColumnElement[bool]:
    """Whether a job or a batch, of ``owner`` or of anybody, is about a row of ``table``."""
    name = table.name.removesuffix("s")
    whose = [true() if owner is None else holder.c.owner == owner for holder in holders]
    return or_(
        *(exists().where(holder.c[name] == table.c.sha256, own) for holder, own in zip(holders, whose, strict=True))
    )


def _remove_jobs(connection: Connection, identifiers: Sequence[str]) -> int:
    """Remove jobs with their parts; how many of ``identifiers`` there were."""
    parts = connection.execute(select(jobs.c.id).where(jobs.c.parent.in_(identifiers))).scalars().all()
    if parts:
        _remove_jobs(connection, parts)
    connection.execute(delete(answers).where(answers.c.job.in_(identifiers)))
    connection.execute(delete(attempts).where(attempts.c.job.in_(identifiers)))
    return connection.execute(delete(jobs).where(jobs.c.id.in_(identifiers))).rowcount
