"""The schema: migrated to what the tables say, by whoever comes first, on both databases."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

import service.access.models
import service.batch_models  # noqa: F401  its tables belong to the metadata
from service import database
from service.database import HEAD, migrate, open_engine
from service.errors import SchemaError
from service.ledger import Ledger
from service.models import metadata
from service.states import JobState
from tests.service.postgres import Postgres
from tests.service.records import submit


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    yield server.database()


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_migrations_make_what_the_tables_say(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_ledger_from_before_migrations_keeps_its_jobs(url: str) -> None:
    """Version 0.1 made the first three tables without saying which schema that is."""
    ledger = Ledger(url)
    ledger.create()
    job = submit(ledger)
    engine = open_engine(url)
    with engine.begin() as connection:
        for table in (
            "items",
            "batches",
            "datasets",
            "answers",
            "sessions",
            "keys",
            "audit",
            "usage",
            "grants",
            "condemned",
            "alembic_version",
        ):
            connection.execute(text(f"DROP TABLE {table}"))
        for index in ("ix_jobs_batch", "ix_jobs_id_owner", "ix_jobs_owner", "ix_jobs_parent"):
            connection.execute(text(f"DROP INDEX {index}"))
        for column in ("batch", "owner", "at_once", "parent", "origin"):
            connection.execute(text(f"ALTER TABLE jobs DROP COLUMN {column}"))
        connection.execute(text("ALTER TABLE attempts DROP COLUMN threads"))
    ledger.create()
    assert ledger.job(job.id).state is JobState.QUEUED
    with engine.connect() as connection:
        assert "batch" in {column["name"] for column in inspect(connection).get_columns("jobs")}
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
    ledger.close()


def test_a_newer_schema_is_refused(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="schema 9999"):
        migrate(engine)
    engine.dispose()


def _create(url: str) -> None:
    ledger = Ledger(url)
    ledger.create()
    ledger.close()


def test_many_processes_may_migrate_at_once(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_create, args=(url,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    engine = open_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar() == 1
    engine.dispose()
