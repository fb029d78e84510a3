"""Over two hundred questions while everything around them is killed: none lost, none answered twice, none stuck."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import netproof
from netproof import Client
from networks import Dataset
from service.settings import Settings
from service.states import ItemState, JobState
from tests.faults.clock import FakeClock
from tests.faults.deployment import QUICK
from tests.faults.small_disk import SmallDisk
from tests.faults.test_supervisor import serving, wait_for
from tests.service.postgres import Postgres, postgres_server

EXAMPLES = Path(__file__).parents[2] / "examples"
NETWORK, DATA = EXAMPLES / "digits_plain.onnx", EXAMPLES / "digits.npz"
JOBS, ITEMS = 120, 100
EPSILON = "0.03"
STORM_SECONDS = 45.0
#: So long may pass without anything ending, afterwards.
STUCK_SECONDS = 120.0


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Settings, Postgres | None]]:
    quick = QUICK | {"max_attempts": 20, "memory_limit_mb": 4096, "min_free_mb": 1}
    if request.param == "sqlite":
        yield Settings(data_dir=tmp_path, port=0, workers=2, **quick), None
        return
    with tempfile.TemporaryDirectory(prefix="pg-") as folder, postgres_server(Path(folder)) as server:
        yield Settings(data_dir=tmp_path, port=0, workers=2, database_url=server.database(), **quick), server


class Storm:
    """Kills something every second or so; says how often it killed what."""

    def __init__(
        self, supervisor: subprocess.Popen[str], disk: SmallDisk, clock: FakeClock, database: Postgres | None
    ) -> None:
        self._supervisor = psutil.Process(supervisor.pid)
        self._disk = disk
        self._chance = random.Random(7)
        self.killed: Counter[str] = Counter()
        self._blows: dict[str, Callable[[], bool]] = {
            "web": lambda: self._kill("service.web"),
            "worker": lambda: self._kill("service.worker"),
            "reaper": lambda: self._kill("service.reaper"),
            "child": self._kill_child,
            "queue": lambda: self._kill_queue(forget=False),
            "queue and its data": lambda: self._kill_queue(forget=True),
            "disk full": self._fill_disk,
        }
        if clock.variables:
            self._blows["clock"] = lambda: clock.set(timedelta(hours=self._chance.choice([1, -1, 24, -24, 0])))
        if database is not None:
            self._blows["database"] = database.restart

    def rage(self, until: threading.Event) -> None:
        end = time.monotonic() + STORM_SECONDS
        while time.monotonic() < end and not until.is_set():
            # those that were dealt least come first, so that none is left out
            rarest = sorted(self._blows, key=lambda name: (self.killed[name], self._chance.random()))
            for name in rarest[:2]:
                with contextlib.suppress(psutil.Error):
                    self.killed[name] += self._blows[name]()
            time.sleep(self._chance.uniform(0.5, 2.5))

    def _kill(self, module: str) -> bool:
        found = [process for process in self._supervisor.children() if module in process.cmdline()]
        if found:
            self._chance.choice(found).kill()
        return bool(found)

    def _fill_disk(self) -> bool:
        self._disk.fill()
        time.sleep(self._chance.uniform(1, 4))
        self._disk.free()
        return True

    def _kill_child(self) -> bool:
        workers = [process for process in self._supervisor.children() if "service.worker" in process.cmdline()]
        found = [child for worker in workers for child in worker.children()]
        if found:
            self._chance.choice(found).kill()
        return bool(found)

    def _kill_queue(self, *, forget: bool) -> bool:
        servers = [each for each in self._supervisor.children() if "valkey" in each.name() or "redis" in each.name()]
        for server in servers:
            server.send_signal(signal.SIGSTOP)
            if forget:
                for path in self._disk.path.glob("appendonlydir"):
                    shutil.rmtree(path)
                for path in self._disk.path.glob("*.rdb"):
                    path.unlink()
            server.kill()
        return bool(servers)


def ask(url: str, sha256: str, image: list[float], label: int, number: int) -> str:
    """One question, asked again under its key until the service is there to answer."""
    query = {"input": image, "label": label, "epsilon": EPSILON, "domain": [0, 1]}
    body = {"network": sha256, "query": query, "time_limit": 30, "reuse": False}
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.post(f"{url}/v1/verify", json=body, headers={"Idempotency-Key": f"n{number}"}, timeout=20)
            if answer.is_success:
                return str(answer.json()["id"])
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_nothing_is_lost_and_nothing_answered_twice(
    settings: tuple[Settings, Postgres | None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    chosen, database = settings
    disk = SmallDisk(chosen.data_dir, megabytes=256)
    clock = FakeClock(tmp_path_factory.mktemp("clock"))
    audit = netproof.audit(NETWORK, DATA, EPSILON, domain=(0, 1), indices=range(ITEMS), workers=2)
    expected = {record["index"]: record["verdict"] for record in audit.records}
    dataset = Dataset.read(DATA)
    starting = serving(chosen, prefix=disk.command(), variables=clock.variables)
    with starting as (supervisor, url), Client(url, retries=60) as client:
        disk.seen_by(supervisor.pid)
        wait_for(url, STUCK_SECONDS)
        sha256 = client.upload(NETWORK)["sha256"]
        batch = client.batches.submit(NETWORK, DATA, epsilon=EPSILON, domain=(0, 1), end=ITEMS, reuse=False)
        storm, over = Storm(supervisor, disk, clock, database), threading.Event()
        raging = threading.Thread(target=storm.rage, args=(over,))
        raging.start()
        try:
            jobs = {
                ask(url, sha256, dataset.input(n % ITEMS).tolist(), dataset.label(n % ITEMS), n): n % ITEMS
                for n in range(JOBS)
            }
        finally:
            raging.join()
        print(json.dumps(storm.killed))
        began = moved = time.monotonic()
        before: set[str] = set()
        while left := _left(url, list(jobs), batch.id):
            if left != before:
                before, moved = left, time.monotonic()
            assert time.monotonic() - moved < STUCK_SECONDS, left
            time.sleep(1)
        print(f"calm after {time.monotonic() - began:.1f} s, attempts: {_check(url, jobs, batch.id, expected)}")
    assert all(
        storm.killed[name] for name in ("web", "worker", "queue", "queue and its data", "reaper", "disk full")
    ), storm.killed


def _check(url: str, jobs: dict[str, int], batch: str, expected: dict[int, str]) -> Counter[int]:
    """See that everything has its one answer; how many attempts the jobs took."""
    assert len(jobs) == JOBS, "each question got a job of its own"
    attempts: Counter[int] = Counter()
    for job_id, index in jobs.items():
        job = _get(f"{url}/v1/jobs/{job_id}")
        assert job["state"] == JobState.SUCCEEDED, (job["error"], job["attempts"])
        assert job["verdict"]["verdict"] == expected[index]
        assert Counter(attempt["outcome"] for attempt in job["attempts"])["succeeded"] == 1
        attempts[len(job["attempts"])] += 1
    items = _get(f"{url}/v1/batches/{batch}/items?limit=200")["items"]
    assert {item["index"]: item["verdict"] for item in items} == expected
    assert {item["state"] for item in items} == {ItemState.DONE}
    return attempts


def _left(url: str, jobs: list[str], batch: str) -> set[str]:
    """What has not ended, and how far it is; the service may be about to come back itself."""
    try:
        whole = _get(f"{url}/v1/batches/{batch}")
        records = [_get(f"{url}/v1/jobs/{job}") for job in jobs]
    except (httpx.TransportError, httpx.HTTPStatusError) as error:
        return {str(error)}
    going = {f"job {job['id']}" for job in records if job["state"] not in {"succeeded", "failed", "cancelled"}}
    return going if whole["state"] == "finished" else {*going, f"batch {whole['counts']}"}


def _get(url: str) -> dict[str, Any]:
    return dict(httpx.get(url, timeout=20).raise_for_status().json())
