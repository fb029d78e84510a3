"""A data directory without room: what was acknowledged stays, what cannot be kept is refused, and all goes on after."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.faults.deployment import QUICK, ball
from tests.faults.small_disk import SmallDisk
from tests.faults.test_supervisor import serving, wait_for
from tests.random_networks import dense_model

NETWORK = dense_model(7)
CALM_SECONDS = 120.0


@contextlib.contextmanager
def serving_on(disk: SmallDisk, settings: Settings) -> Iterator[str]:
    """A service whose data directory is on the small disk; gives its URL."""
    with serving(settings, prefix=disk.command()) as (supervisor, url):
        disk.seen_by(supervisor.pid)
        yield url


def ask(http: httpx.Client, sha256: str, number: int, **members: object) -> httpx.Response:
    query = ball(3, 0.001 + number * 1e-5) | {"label": 1}
    return http.post("/v1/verify", json={"network": sha256, "query": query, "reuse": False, **members})


def until(http: httpx.Client, job: str, seconds: float = CALM_SECONDS) -> dict[str, object]:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):
            found = http.get(f"/v1/jobs/{job}", params={"wait": 2})
            if found.is_success and found.json()["state"] in {"succeeded", "failed", "cancelled"}:
                return dict(found.json())
        assert time.monotonic() < end, f"job {job} is stuck"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    settings = Settings(data_dir=folder, port=0, workers=1, min_free_mb=1, **QUICK)
    disk = SmallDisk(folder, megabytes=48)
    with serving_on(disk, settings) as url, httpx.Client(base_url=url, timeout=40) as http:
        wait_for(url)
        sha256 = http.post("/v1/networks", content=NETWORK).json()["sha256"]
        before = [ask(http, sha256, n, certificate=True).json()["id"] for n in range(3)]
        disk.fill()

        refused = http.post("/v1/networks", content=dense_model(8))
        assert refused.status_code == 507, refused.text
        assert refused.json()["type"] == "urn:netproof:problem:storage-full"
        assert refused.headers["Retry-After"]
        assert "no room" in refused.json()["title"]
        answers = [ask(http, sha256, 100 + n) for n in range(40)]
        assert {answer.status_code for answer in answers} <= {202, 507}, "taken, or said that it is not"
        assert answers[-1].status_code == 507, "the ledger is full"
        taken = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        assert http.get("/healthz").status_code == 200
        assert http.get(f"/v1/networks/{sha256}").status_code == 200, "what is there is shown"
        ready = http.get("/readyz")
        assert ready.status_code == 503
        assert not ready.json()["checks"]["artifacts"]["ok"]
        time.sleep(2 * settings.lease_seconds)

        disk.free()
        for job in before + taken:
            ended = until(http, job)
            assert ended["state"] == "succeeded", ended
            assert ended["verdict"]["verdict"] == "robust", ended  # type: ignore[index]
        for job in before:
            assert http.get(f"/v1/jobs/{job}/certificate").status_code == 200
        again = http.post("/v1/networks", content=dense_model(8))
        assert again.status_code == 201, again.text
        wait_for(url, CALM_SECONDS)
        later = ask(http, sha256, 500, certificate=True).json()["id"]
        assert until(http, later)["verdict"]["trust"] == "certified"  # type: ignore[index]
