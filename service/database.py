"""The database behind a ledger: one engine for SQLite or PostgreSQL, and its schema, which Alembic migrates.

Every process brings the schema up to date when it starts; whoever comes first does it, under a lock that the others
wait for. A ledger that a newer netproof has migrated is refused rather than guessed at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Select, Table, create_engine, event, inspect, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from service.errors import SchemaError
from service.posed import to_json

__all__ = ["HEAD", "insert_new", "is_full", "migrate", "newest", "open_engine", "probe"]

#: The newest revision in ``service/migrations/versions``; a test compares them.
HEAD = "speed"
#: What a ledger of netproof 0.1 has, which knew no migrations.
_BASE = "0001"

#: Any number that no other program's advisory locks use: "netproof" in ASCII.
_LOCK = 0x6E657470726F6F66

#: A PostgreSQL server that fell silent is noticed within half a minute, where TCP alone would wait for many.
_PROMPT = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}

_MIGRATIONS = Path(__file__).parent / "migrations"


def open_engine(url: str) -> Engine:
    """An engine for ``url``; SQLite in write-ahead mode, with its folder made where it is missing.

    Its errors, which end up in logs, do not quote what users sent.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        prompt = {name: value for name, value in _PROMPT.items() if name not in parsed.query}
        return create_engine(
            parsed, pool_pre_ping=True, json_serializer=to_json, hide_parameters=True, connect_args=prompt
        )
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    # IMMEDIATE: a writer waits for its turn at BEGIN; a deferred one may find its snapshot stale, which is an error
    engine = create_engine(
        parsed,
        json_serializer=to_json,
        hide_parameters=True,
        connect_args={"isolation_level": "IMMEDIATE", "timeout": 30.0},
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # NORMAL: a power cut may undo the newest transactions, which the reaper then has redone; it corrupts nothing
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    return engine


def migrate(engine: Engine) -> None:
    """Bring the schema to `HEAD`, or find it there.

    Raises:
        SchemaError: a newer netproof has migrated the ledger.
        SQLAlchemyError: the database does not answer, or refuses a change.
    """
    with engine.connect() as connection:
        if _revision(connection) == HEAD:
            return
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # Python's sqlite3 begins nothing for DDL by itself
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        _upgrade(connection)
        connection.commit()


def probe(engine: Engine) -> None:
    """Write to the ledger without changing it, and find its schema at `HEAD`.

    Raises:
        SchemaError: the schema is another version's.
        SQLAlchemyError: the database does not answer, or takes no writes.
    """
    same = text("UPDATE alembic_version SET version_num = version_num WHERE version_num = :head")
    with engine.begin() as connection:
        if connection.execute(same, {"head": HEAD}).rowcount != 1:
            raise SchemaError(str(_revision(connection)), HEAD)


def is_full(error: OperationalError) -> bool:
    """Whether the database says that its disk has no room left."""
    state = getattr(error.orig, "sqlstate", None)  # PostgreSQL: disk_full
    return state == "53100" or "disk is full" in str(error.orig)


def insert_new(connection: Connection, table: Table) -> Insert:
    """An INSERT into ``table`` that leaves rows alone whose key exists; unlike an error, it spoils no transaction."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()


def newest(table: Table, *, limit: int, before: str | None, **values: Any) -> Select[Any]:
    """Rows of a table whose identifiers are ordered by time, the newest first.

    Args:
        table: with a column ``id``, see `service.identifiers`.
        limit: how many.
        before: the identifier that ended the previous page.
        values: of columns; None: any.
    """
    query = select(table).order_by(table.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(table.c.id < before)
    for name, value in values.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    return query


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    before = _revision(connection)
    if before == HEAD:
        return  # while this process waited for the lock
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    if before is None and inspect(connection).has_table("jobs"):
        command.stamp(config, _BASE)
    try:
        command.upgrade(config, HEAD)
    except CommandError as error:
        raise SchemaError(str(before), HEAD) from error


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)
