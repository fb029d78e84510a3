"""A guarded service on each kind of database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.access.world import World


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two owners with things of their own, and an admin."""
    settings: dict[str, object] = {}
    if request.param == "postgresql":
        settings["database_url"] = request.getfixturevalue("postgres").database()
    made = World(tmp_path_factory.mktemp("world"), **settings)
    yield made
    made.close()
