"""Settings: defaults that fit together, and their way to other processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NETPROOF_")]:
        monkeypatch.delenv(name)


def test_data_folder_follows_the_desktop_convention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert Settings().data_dir == Path("/data/netproof")
    assert Settings().ledger_url == "sqlite:////data/netproof/ledger.db"


def test_settings_survive_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path, redis_url="redis://host:1/2", threads=3, grace_seconds=1.5)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert Settings(workers=2).job_threads == 4
    assert Settings(workers=16).job_threads == 1
    assert Settings(workers=2, threads=3).job_threads == 3


def test_socket_lies_in_the_data_folder_when_its_path_fits(tmp_path: Path) -> None:
    short = Settings(data_dir=Path("/d"))
    assert short.socket == Path("/d/valkey.sock")
    assert short.queue_url == "unix:///d/valkey.sock"
    long = Settings(data_dir=tmp_path / ("x" * 120))
    assert len(os.fsencode(long.socket)) <= 103
    assert long.socket == Settings(data_dir=long.data_dir).socket
    assert long.socket != Settings(data_dir=tmp_path / ("y" * 120)).socket


def test_lease_must_outlast_several_heartbeats() -> None:
    with pytest.raises(ValidationError, match=r"lease_seconds \(2\) must be at least three times heartbeat_seconds"):
        Settings(lease_seconds=2, heartbeat_seconds=1)


def test_default_limit_must_be_allowed() -> None:
    with pytest.raises(ValidationError, match=r"default_time_limit \(300\) exceeds max_time_limit \(60\)"):
        Settings(max_time_limit=60)
