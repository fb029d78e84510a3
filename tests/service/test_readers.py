"""The readers' server: one process for each upload, started anew when it ends, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service import reader_server
from service.inspection import inspect
from service.readers import ReaderError, Readers
from tests.service.serving import NETWORK

LIMITS = {"name": "n.onnx", "seconds": 30.0, "memory_mb": 2048, "max_bytes": 2**26}


@pytest.fixture
def readers() -> Iterator[Readers]:
    readers = Readers()
    yield readers
    readers.close()


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "n.onnx"
    path.write_bytes(NETWORK)
    return path


def server(readers: Readers) -> psutil.Process:
    """The readers' server; other fixtures may have one of their own."""
    assert readers._process is not None
    return psutil.Process(readers._process.pid)


def test_many_networks_are_read_by_one_server(readers: Readers, network: Path) -> None:
    async def several() -> list[dict[str, Any]]:
        return await asyncio.gather(*(inspect(readers, network, **LIMITS) for _ in range(6)))

    assert [summary["inputs"] for summary in asyncio.run(several())] == [3] * 6
    assert server(readers).children() == []


def test_the_server_sees_no_secret(readers: Readers, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETPROOF_DATABASE_URL", "postgresql://netproof:secret@db/netproof")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    asyncio.run(inspect(readers, network, **LIMITS))
    assert "secret" not in str(server(readers).environ())
    if sys.platform.startswith("linux"):
        opened = {str(link.readlink()) for link in Path(f"/proc/{server(readers).pid}/fd").iterdir()}
        assert not [path for path in opened if path.startswith("/") and "(deleted)" not in path and path != "/dev/null"]


def test_a_server_that_was_killed_is_started_again(readers: Readers, network: Path) -> None:
    asyncio.run(inspect(readers, network, **LIMITS))
    first = server(readers)
    first.kill()
    first.wait()
    assert asyncio.run(inspect(readers, network, **LIMITS))["inputs"] == 3
    assert server(readers).pid != first.pid


def test_a_reader_ends_with_the_request(readers: Readers, network: Path) -> None:
    """Whoever asked goes away while the reader is at work."""

    async def impatient() -> None:
        await inspect(readers, network, **LIMITS)
        asked = asyncio.create_task(_stopped_reader(readers, network))
        await asked

    asyncio.run(impatient())
    deadline = time.monotonic() + 5
    while server(readers).children() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server(readers).children() == []


async def _stopped_reader(readers: Readers, network: Path) -> None:
    asked = asyncio.create_task(inspect(readers, network, **LIMITS))
    while not server(readers).children():
        await asyncio.sleep(0)
    os.kill(server(readers).children()[0].pid, signal.SIGSTOP)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked


def test_a_crash_is_told_and_harms_nobody_else(readers: Readers, network: Path) -> None:
    async def crash() -> None:
        await inspect(readers, network, **LIMITS)
        asked = asyncio.create_task(readers.ask("service.inspection", str(network), seconds=30))
        while not (readers_ := server(readers).children()):
            await asyncio.sleep(0)
        os.kill(readers_[0].pid, signal.SIGSEGV)
        with pytest.raises(ReaderError, match="status -11"):
            await asked
        assert (await inspect(readers, network, **LIMITS))["inputs"] == 3

    asyncio.run(crash())


def test_only_readers_are_run(readers: Readers) -> None:
    with pytest.raises(ReaderError, match="status 1"):
        asyncio.run(readers.ask("http.server", seconds=30))
    assert all(
        hasattr(sys.modules.get(name) or __import__(name, fromlist=["main"]), "main") for name in reader_server.PROGRAMS
    )


def test_a_wrong_answer_is_no_answer(readers: Readers, tmp_path: Path) -> None:
    """The parser of arguments ends the reader with a usage message."""
    with pytest.raises(ReaderError, match="status 1"):
        asyncio.run(readers.ask("service.inspection", "--nonsense", seconds=30))


def test_the_log_of_a_reader_reaches_ours(readers: Readers, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ReaderError):
        asyncio.run(readers.ask("service.inspection", "--nonsense", seconds=30))
    assert "usage: service.inspection" in caplog.text
