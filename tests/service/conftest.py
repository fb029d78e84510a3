"""A ledger, and a running service with and without a worker."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.ledger import Ledger
from tests.service.postgres import Postgres, postgres_server
from tests.service.serving import Service


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger, in each kind of database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
    else:
        url = request.getfixturevalue("postgres").emptied()
    empty = Ledger(url)
    empty.create()
    yield empty
    empty.close()


#: Ledgers are tested in both on every run; all of HTTP with PostgreSQL: pytest -m "slow or not slow" -k postgresql
DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture(scope="package", params=DATABASES)
def web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that nobody works for: its jobs stay queued. Its limits are small enough to be reached."""
    service = Service(
        tmp_path_factory.mktemp("web"),
        max_model_bytes=2**20,
        max_dataset_bytes=2**20,
        wait_max=0.3,
        max_time_limit=3600,
        **_database(request),
    )
    yield service
    service.close()


@pytest.fixture(scope="package", params=DATABASES)
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with one worker."""
    service = Service(tmp_path_factory.mktemp("live"), log_format="json", **_database(request))
    service.ready_worker()
    yield service
    service.close()


def _database(request: pytest.FixtureRequest) -> dict[str, str]:
    """The setting that names the database of a service under test."""
    return {} if request.param == "sqlite" else {"database_url": request.getfixturevalue("postgres").database()}


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; its socket's path must be short, which pytest's folders are not."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder, postgres_server(Path(folder)) as server:
        yield server
