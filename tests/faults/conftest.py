"""One deployment for all fault tests; a worker that a test ended is replaced for the next."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.deployment import Deployment
from tests.service.postgres import postgres_server


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with contextlib.ExitStack() as stack:
        settings = {}
        if request.param == "postgresql":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pg-")))
            settings["database_url"] = stack.enter_context(postgres_server(folder)).database()
        whole = Deployment(tmp_path_factory.mktemp("deployment"), **settings)
        stack.callback(whole.close)
        yield whole


@pytest.fixture
def worker(deployment: Deployment) -> subprocess.Popen[bytes]:
    """The worker; starting one takes seconds, so it is shared by tests that let it live."""
    alive = [process for process in deployment.workers if process.poll() is None]
    return alive[0] if alive else deployment.start_worker()
