"""A ledger, and a running service with and without a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.ledger import Ledger
from tests.service.serving import Service


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    empty = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    empty.create()
    yield empty
    empty.close()


@pytest.fixture(scope="package")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that nobody works for: its jobs stay queued. Its limits are small enough to be reached."""
    service = Service(
        tmp_path_factory.mktemp("web"),
        max_model_bytes=2**20,
        max_dataset_bytes=2**20,
        wait_max=0.3,
        max_time_limit=3600,
    )
    yield service
    service.close()


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with one worker."""
    service = Service(tmp_path_factory.mktemp("live"))
    service.start_worker()
    yield service
    service.close()
