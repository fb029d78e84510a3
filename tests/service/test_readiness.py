"""`/readyz` tells the truth: one test for each thing that may be wrong, and none of them makes it hang."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.service.records import registered, worker
from tests.service.serving import Service

#: How long an answer may take on a loaded machine when a part hangs for ever.
PATIENCE = 8.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    whole = Service(tmp_path_factory.mktemp("ready"), probe_seconds=1.0)
    yield whole
    whole.close()


@pytest.fixture(autouse=True)
def sound(service: Service) -> Iterator[None]:
    """A worker and a reaper that has just looked; nothing that was found out for the test before is fresh."""
    time.sleep(1.05)
    service.reaper.sweep()
    with registered(service, worker("w")):
        yield


def asked(service: Service) -> dict[str, Any]:
    begun = time.monotonic()
    answer = service.http.get("/readyz")
    assert time.monotonic() - begun < PATIENCE
    document = dict(answer.json())
    assert answer.status_code == (200 if document["ready"] else 503)
    return document


def fault(service: Service, part: str) -> str:
    """The detail of the only part that is not there."""
    document = asked(service)
    assert [name for name, check in document["checks"].items() if not check["ok"]] == [part], document
    return str(document["checks"][part]["detail"])


def complaint(service: Service, part: str) -> str:
    """The detail of the only part that is degraded; the service is ready all the same."""
    document = asked(service)
    assert (document["ready"], document["degraded"]) == (True, True), document
    assert [name for name, check in document["checks"].items() if check["degraded"]] == [part], document
    return str(document["checks"][part]["detail"])


def test_everything_is_there(service: Service) -> None:
    document = asked(service)
    assert (document["ready"], document["degraded"]) == (True, False), document
    assert set(document["checks"]) == {"ledger", "queue", "artifacts", "workers"}


@contextlib.contextmanager
def database(service: Service) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(service.settings.data_dir / "ledger.db", isolation_level=None)) as direct:
        yield direct


def test_another_versions_schema(service: Service) -> None:
    with database(service) as direct:
        (before,) = direct.execute("SELECT version_num FROM alembic_version").fetchone()
        direct.execute("UPDATE alembic_version SET version_num = 'future'")
        try:
            assert "the ledger has schema future" in fault(service, "ledger")
        finally:
            direct.execute("UPDATE alembic_version SET version_num = ?", (before,))


def test_a_ledger_that_takes_no_writes(service: Service) -> None:
    with database(service) as direct:
        direct.execute("BEGIN IMMEDIATE")
        assert fault(service, "ledger") == "no answer within 1 s"
        direct.execute("ROLLBACK")


def test_a_frozen_queue_server(service: Service) -> None:
    assert service.server.pid is not None
    os.kill(service.server.pid, signal.SIGSTOP)
    try:
        checks = asked(service)["checks"]
    finally:
        os.kill(service.server.pid, signal.SIGCONT)
    assert {name for name, check in checks.items() if not check["ok"]} == {"queue", "workers"}
    assert checks["queue"]["detail"] == "no answer within 1 s"


def test_a_queue_server_that_takes_no_writes(service: Service) -> None:
    server = service.dispatcher.redis
    server.config_set("min-replicas-to-write", 1)
    try:
        assert server.ping()
        assert "does not answer" in fault(service, "queue")
    finally:
        server.config_set("min-replicas-to-write", 0)


def test_a_reaper_that_fell_silent(service: Service) -> None:
    service.dispatcher.redis.set("netproof:reaper:swept", time.time() - 3600)
    assert "no reaper has looked for 60 s" in complaint(service, "queue")


def test_artifacts_that_cannot_be_written(service: Service) -> None:
    root = service.settings.artifact_dir
    asked(service)
    moved = root.rename(root.with_name("moved"))
    root.write_text("a file where a folder should be")
    time.sleep(1.05)
    try:
        detail = fault(service, "artifacts")
    finally:
        root.unlink()
        moved.rename(root)
    assert detail.startswith("does not answer")
    assert str(root) not in detail


@pytest.mark.parametrize(("free_mb", "ready"), [(100, False), (500, True)])
def test_a_disk_that_is_full(service: Service, monkeypatch: pytest.MonkeyPatch, free_mb: int, ready: bool) -> None:
    def usage(path: Path) -> SimpleNamespace:
        assert path == service.settings.data_dir
        return SimpleNamespace(free=free_mb * 2**20)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    detail = complaint(service, "artifacts") if ready else fault(service, "artifacts")
    assert f"{free_mb} MB are free" in detail


def test_workers_that_all_leave(service: Service) -> None:
    with registered(service, worker("w", draining=True)):
        assert "1 draining" in complaint(service, "workers")


def test_jobs_that_no_worker_serves(service: Service) -> None:
    job = service.queued_job()
    with registered(service, worker("w", queues=("gurobi", "highs-low"))):
        assert "no worker serves highs, where jobs wait" in complaint(service, "workers")
    service.ledger.request_cancel(job)


def test_no_worker(service: Service) -> None:
    with registered(service, worker("w")):
        pass  # the block's end withdraws it
    assert "netproof worker" in fault(service, "workers")
