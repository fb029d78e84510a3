"""One deployment for all fault tests; a worker that a test ended is replaced for the next."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.faults.deployment import Deployment


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    whole = Deployment(tmp_path_factory.mktemp("deployment"))
    yield whole
    whole.close()


@pytest.fixture
def worker(deployment: Deployment) -> subprocess.Popen[bytes]:
    """The worker; starting one takes seconds, so it is shared by tests that let it live."""
    alive = [process for process in deployment.workers if process.poll() is None]
    return alive[0] if alive else deployment.start_worker()
