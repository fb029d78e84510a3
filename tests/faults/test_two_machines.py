"""Web, ledger and queue here, the worker on another machine: with and without a shared folder, and with a cut link."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from service.states import JobState
from tests.faults.deployment import ball, obstinate_model
from tests.faults.two_machines import Link, listening_postgres, listening_valkey, second_machine
from tests.service.postgres import postgres_server
from tests.service.s3 import FakeS3
from tests.service.serving import Service

CUT_SECONDS = 30.0
JOBS = 12


@contextlib.contextmanager
def worker_there(
    link: Link, settings: Settings, variables: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """``netproof worker`` on the other machine, with a data directory of its own."""
    environment = {**os.environ, **settings.environment(), **variables}
    command = [*link.command(), sys.executable, "-m", "netproof", "worker", "--queue", "highs-high", "--queue", "highs"]
    with log.open("ab") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", ["s3", "shared folder"])
def test_a_link_that_is_cut_for_half_a_minute_costs_no_answer(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(second_machine())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pg-"))
        database = listening_postgres(stack.enter_context(postgres_server(Path(folder))), link.here)
        queue = stack.enter_context(listening_valkey(tmp_path, link.here))
        variables: dict[str, str] = {}
        artifacts = str(tmp_path / "shared")
        if place == "s3":
            variables = stack.enter_context(FakeS3(host=link.here)).environment
            artifacts = "s3://bucket/netproof"
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        shared: dict[str, Any] = {"artifacts": artifacts, "database_url": database, "redis_url": queue}
        shared |= {"lease_seconds": 15.0, "heartbeat_seconds": 0.5, "reap_seconds": 1.0, "access": "off"}
        here = Service(tmp_path / "here", **shared)
        stack.callback(here.close)
        there = here.settings.model_copy(update={"data_dir": tmp_path / "there", "memory_limit_mb": 2048})
        worker = stack.enter_context(worker_there(link, there, variables, tmp_path / "worker.log"))

        first = here.ask(ball(3, 0.002) | {"label": 1}, certificate=True).json()["id"]
        assert _ended(here, first, 120).verdict["trust"] == "certified", "the other machine works"
        hard = here.ask(ball(12), network=here.upload(obstinate_model()), time_limit=45).json()["id"]
        here.wait(here.ledger.job(hard), lambda job: job.state is JobState.RUNNING, seconds=60)
        link.cut()
        asked = [
            here.ask(ball(3, 0.001 + n * 1e-5) | {"label": 1}, certificate=True, reuse=False).json()["id"]
            for n in range(JOBS)
        ]
        end = time.monotonic() + CUT_SECONDS
        while time.monotonic() < end:
            here.reaper.sweep()
            time.sleep(1)
        link.mend()
        assert worker.poll() is None, (tmp_path / "worker.log").read_text()

        jobs = [_ended(here, job, 120) for job in (hard, *asked)]
        print(Counter((job.state, len(job.attempts)) for job in jobs))
        for job in jobs:
            assert job.state is JobState.SUCCEEDED, job.error
            assert Counter(attempt.outcome for attempt in job.attempts)["succeeded"] == 1
        for job in asked:
            proof = here.http.get(f"/v1/jobs/{job}/certificate")
            assert proof.status_code == 200, "kept where both machines reach it"
        assert not (tmp_path / "there" / "artifacts").exists()
        assert worker.poll() is None


def _ended(here: Service, job: str, seconds: float) -> Any:
    return here.wait(here.ledger.job(job), lambda found: found.terminal, seconds=seconds, reap=True)
