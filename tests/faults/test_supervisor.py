"""``netproof serve`` as a whole: it replaces what ends, leaves nothing behind, and survives its own death."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import psutil
import pytest

from service.embedded import EmbeddedServer
from service.settings import Settings
from service.supervisor import serve
from tests.faults.deployment import QUICK

SERVE = """
from service.settings import Settings
from service.supervisor import serve
serve(Settings(), ready=lambda url: print(url, flush=True))
"""


@contextlib.contextmanager
def serving(
    settings: Settings, *, prefix: Sequence[str] = (), variables: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A supervisor and its base URL; whatever a test does, nothing of it remains.

    It is started by the command ``prefix``, with ``variables`` beside the settings in its environment.
    """
    environment = {**os.environ, **settings.environment(), **(variables or {})}
    with (settings.data_dir / "serve.log").open("a") as log:
        supervisor = subprocess.Popen(
            [*prefix, sys.executable, "-c", SERVE], env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
    family: list[psutil.Process] = []
    try:
        assert supervisor.stdout is not None
        url = supervisor.stdout.readline().strip()
        assert url, (settings.data_dir / "serve.log").read_text()
        family = psutil.Process(supervisor.pid).children(recursive=True)
        yield supervisor, url
    finally:
        with supervisor:
            supervisor.kill()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, port=0, workers=1, **QUICK)


def child(supervisor: subprocess.Popen[str], module: str, seconds: float = 20) -> psutil.Process:
    """The supervisor's child that runs ``module``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for process in psutil.Process(supervisor.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if module in process.cmdline():
                    return process
        time.sleep(0.05)
    msg = f"no child runs {module}"
    raise AssertionError(msg)


def wait_for(url: str, seconds: float = 30) -> None:
    """Wait for a worker to be there: only then is the service ready."""
    end = time.monotonic() + seconds
    while (answer := httpx.get(f"{url}/readyz", timeout=seconds)).status_code != 200:
        assert time.monotonic() < end, answer.text
        time.sleep(0.1)


def gone(processes: list[psutil.Process], seconds: float = 15) -> bool:
    _, left = psutil.wait_procs(processes, timeout=seconds)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in left)


def test_ended_processes_are_replaced_and_a_signal_ends_them_all(settings: Settings) -> None:
    with serving(settings) as (supervisor, url):
        assert httpx.get(f"{url}/healthz", timeout=30).status_code == 200
        first = child(supervisor, "service.worker")
        first.kill()
        web = child(supervisor, "service.web")
        web.kill()
        psutil.wait_procs([first, web], timeout=5)
        wait_for(url)
        assert child(supervisor, "service.worker").pid != first.pid
        family = psutil.Process(supervisor.pid).children(recursive=True)
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(30) == 0
        assert gone(family)


def test_killed_supervisor_takes_its_processes_along_and_the_queue_is_adopted(settings: Settings) -> None:
    with serving(settings) as (supervisor, url):
        assert httpx.get(f"{url}/healthz", timeout=30).status_code == 200
        family = psutil.Process(supervisor.pid).children(recursive=True)
        queue = [process for process in family if "--unixsocket" in process.cmdline() or "valkey" in process.name()]
        assert len(queue) == 1
        supervisor.kill()
        supervisor.wait()
        assert gone([process for process in family if process not in queue])
        assert queue[0].is_running()
        with EmbeddedServer(settings) as adopted:
            assert adopted.alive()
            assert adopted.pid is None
        assert gone(queue)


def test_port_in_use_is_said_so(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = f"cannot listen on 127.0.0.1 port {port}: Address already in use; choose another with --port"
        with pytest.raises(OSError, match=re.escape(message)):
            serve(settings.model_copy(update={"port": port}))
