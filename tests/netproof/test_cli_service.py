"""``netproof serve`` and ``netproof worker`` as an operator starts them."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from netproof.client import Client
from netproof.local import NotReadyError, local_service
from service.settings import Settings
from tests.netproof.conftest import EXAMPLES


@pytest.fixture(autouse=True)
def _logging_as_before():
    """In this process the commands would leave a handler on a captured stream behind."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("rq").level
    yield
    root.handlers[:], level, rq_level = before
    root.setLevel(level)
    logging.getLogger("rq").setLevel(rq_level)


def netproof(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "netproof", *map(str, arguments)]


def test_web_without_workers_and_a_worker_of_its_own(tmp_path):
    """The parts that the compose file starts apart."""
    with local_service_without_workers(tmp_path) as url:
        checks = httpx.get(f"{url}/readyz").json()["checks"]
        assert not checks["workers"]["ok"]
        worker = subprocess.Popen(
            netproof("worker", "--queue", "highs-high", "--queue", "highs", "--data-dir", tmp_path),
            stderr=subprocess.DEVNULL,
            env=os.environ | {"NETPROOF_THREADS": "1"},
        )
        try:
            assert worker_health(tmp_path) == 1
            with Client(url) as client:
                vnnlib = (EXAMPLES / "digits.vnnlib").read_text()
                job = client.verify(EXAMPLES / "digits_plain.onnx", vnnlib=vnnlib, time_limit=60)
            assert job.verdict == "counterexample"
            assert worker_health(tmp_path) == 0
        finally:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(timeout=30) == 0


def worker_health(folder: Path) -> int:
    """Exit code of the compose file's health check for workers, on this service's queue."""
    compose = yaml.safe_load((EXAMPLES.parent / "docker" / "compose.yaml").read_text())
    program = compose["services"]["worker"]["healthcheck"]["test"][3]
    environment = os.environ | {"NETPROOF_REDIS_URL": Settings(data_dir=folder).queue_url}
    return subprocess.run([sys.executable, "-c", program], check=False, env=environment).returncode


class local_service_without_workers:  # noqa: N801  reads as a function
    """``netproof serve --workers 0``; `netproof.local` waits for workers, which will not come here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> str:
        command = netproof("serve", "--workers", "0", "--port", "0", "--data-dir", self.folder)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        url = self.process.stdout.readline().split()[-1]
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{url}/healthz").raise_for_status()
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                break
        return url

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=30) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_service_that_cannot_start_says_why(tmp_path):
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(NotReadyError, match="the ledger cannot be used"), local_service(folder=tmp_path):
        pass


def test_port_in_use_exits_2(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            netproof("serve", "--port", str(port), "--data-dir", tmp_path), check=False, capture_output=True, text=True
        )
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--redis", "unix:///nowhere.sock"), "the queue server of --redis does not answer"),
        (("--redis", "nonsense"), "the queue server of --redis does not answer"),
        (("--database", "nonsense"), "the ledger cannot be used"),
        (("--database", "mysql://host/db"), "the ledger cannot be used"),
    ],
)
def test_faulty_deployment_exits_2(run, tmp_path, arguments, message):
    answer = run("serve", "--port", "0", "--data-dir", tmp_path, *arguments)
    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_worker_without_a_service_exits_2(run, tmp_path):
    answer = run("worker", "--queue", "highs", "--data-dir", tmp_path)
    assert answer.code == 2
    assert f"the queue server in {tmp_path} does not answer" in answer.err
    assert "start `netproof serve` there" in answer.err


def test_worker_knows_its_queues(run):
    answer = run("worker", "--queue", "cplex")
    assert answer.code == 2
    assert "'cplex' is not one of" in answer.err


def test_bad_environment_is_named(run, monkeypatch):
    monkeypatch.setenv("NETPROOF_THREADS", "none")
    answer = run("serve", "--port", "0")
    assert answer.code == 2
    assert "NETPROOF_THREADS: " in answer.err
