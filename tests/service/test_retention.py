"""What goes and what stays: expiry, references, and the race between a collection and whoever stores something."""

from __future__ import annotations

import hashlib
import threading
import time
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from service.answers import Asked
from service.artifacts import FolderArtifacts
from service.collection import Collected, collect, safety_seconds
from service.errors import NotFoundError
from service.ledger import Ledger
from service.models import JobRecord, jobs
from service.settings import Settings
from service.states import JobState, NetworkState
from tests.service.records import NETWORK, add_network, job_in, record, submit

DAY = 86_400.0
ASKED = Asked("q" * 64, Fraction(1, 10), "auto", certificate=False)


class Deployment:
    """A ledger and a folder, with a clock that both believe in."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.artifacts = FolderArtifacts(folder / "artifacts")
        self.settings = Settings(data_dir=folder, keep_jobs_days=10, keep_batches_days=10, keep_networks_days=10)

    def collect(self, *, days: float = 0.0, **options: Any) -> Collected:
        """A pass, ``days`` from now."""
        moment = datetime.now(UTC) + timedelta(days=days)
        return collect(self.ledger, self.artifacts, self.settings, now=lambda: moment, **options)

    def put(self, data: bytes, *, age: float = 0.0) -> str:
        artifact = self.artifacts.put(data)
        self.age(artifact.sha256, age)
        return artifact.sha256

    def age(self, sha256: str, seconds: float) -> None:
        import os

        then = time.time() - seconds
        os.utime(self.artifacts.path(sha256), (then, then))

    def certified(self, certificate: bytes, *, asked: Asked | None = None) -> JobRecord:
        """A job that ended with a certificate."""
        job = submit(self.ledger)
        self.ledger.start(job.id, worker="w", lease_seconds=9)
        sha256 = self.put(certificate)
        verdict = {
            "verdict": "robust",
            "trust": "certified",
            "margin": [0.1, None],
            "certificate": {"sha256": sha256, "bytes": len(certificate)},
        }
        assert self.ledger.finish(job.id, 1, JobState.SUCCEEDED, verdict=verdict, asked=asked)
        return self.ledger.job(job.id)

    def let_expire(self, *records: JobRecord, days: float = 11.0) -> None:
        """Let jobs have ended long ago."""
        with self.ledger._engine.begin() as connection:
            for record in records:
                then = datetime.now(UTC) - timedelta(days=days)
                connection.execute(update(jobs).where(jobs.c.id == record.id).values(finished_at=then))


@pytest.fixture
def deployment(ledger: Ledger, tmp_path: Path) -> Deployment:
    return Deployment(ledger, tmp_path)


def gone(ledger: Ledger, job: JobRecord) -> bool:
    try:
        ledger.job(job.id)
    except NotFoundError:
        return True
    return False


def test_nothing_goes_by_default(ledger: Ledger, tmp_path: Path) -> None:
    whole = Deployment(ledger, tmp_path)
    whole.settings = Settings(data_dir=tmp_path)
    job = whole.certified(b"proof")
    whole.let_expire(job, days=10_000)
    found = whole.collect(days=10_000)
    assert (found.jobs, found.batches, found.networks, found.artifacts) == (0, 0, 0, 0)
    assert ledger.job(job.id).verdict is not None


def test_an_expired_job_goes_with_its_evidence_and_its_answer(deployment: Deployment, ledger: Ledger) -> None:
    old, new = deployment.certified(b"old", asked=ASKED), deployment.certified(b"new")
    running = job_in(ledger, JobState.RUNNING)
    deployment.let_expire(old, running)
    preview = deployment.collect(dry_run=True)
    assert preview.jobs == 1
    assert ledger.answers.find([ASKED], owner="local") != {}
    first = deployment.collect()
    assert (first.jobs, first.artifacts) == (1, 0)
    assert gone(ledger, old)
    assert not gone(ledger, new)
    assert not gone(ledger, running)
    assert ledger.answers.find([ASKED], owner="local") == {}
    assert first.condemned == 1, "its certificate"
    assert deployment.collect(days=0.5).artifacts == 0
    for artifact in list(deployment.artifacts.names()):
        deployment.age(artifact, 3 * DAY)
    later = deployment.collect(days=2)
    assert (later.artifacts, later.bytes) == (1, len(b"old"))
    assert list(deployment.artifacts.names()) == [hashlib.sha256(b"new").hexdigest()]


def test_a_reused_verdict_keeps_what_it_was_taken_from(deployment: Deployment, ledger: Ledger) -> None:
    origin = deployment.certified(b"proof", asked=ASKED)
    verdict = ledger.answers.find([ASKED], owner="local")[ASKED]
    served, _ = record(ledger, NETWORK, {"query": {}}, queue="highs", time_limit=1, max_attempts=1, verdict=verdict)
    deployment.let_expire(origin)
    found = deployment.collect()
    assert (found.jobs, found.kept) == (0, 1)
    assert ledger.job(origin.id).verdict is not None
    assert ledger.answers.find([ASKED], owner="local") != {}, "and it goes on to serve"
    deployment.let_expire(served)
    assert deployment.collect().jobs == 2


def test_parts_go_with_the_job_that_they_worked_for(deployment: Deployment, ledger: Ledger) -> None:
    whole, part = deployment.certified(b"whole"), deployment.certified(b"part")
    with ledger._engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == part.id).values(parent=whole.id))
    deployment.let_expire(part)
    assert deployment.collect().jobs == 0
    assert not gone(ledger, part)
    deployment.let_expire(whole)
    assert deployment.collect().jobs == 1
    assert gone(ledger, part)


def test_an_unreferenced_network_goes_after_two_looks(deployment: Deployment, ledger: Ledger) -> None:
    sha256 = deployment.put(b"network")
    add_network(ledger, sha256)
    submit(ledger)  # about another network
    assert deployment.collect(days=11).networks == 0
    assert ledger.network(sha256).sha256 == sha256
    found = deployment.collect(days=13)
    assert found.networks == 1
    with pytest.raises(NotFoundError):
        ledger.network(sha256)
    assert ledger.network(NETWORK).sha256 == NETWORK


def test_a_network_that_is_sent_again_stays(deployment: Deployment, ledger: Ledger) -> None:
    add_network(ledger)
    deployment.collect(days=11)
    ledger.retention.touch("network", NETWORK)
    assert deployment.collect(days=13).networks == 0
    assert ledger.network(NETWORK).sha256 == NETWORK


def test_networks_that_a_question_names_stay(deployment: Deployment, ledger: Ledger) -> None:
    add_network(ledger)
    other = "b" * 64
    add_network(ledger, other)
    request = {"query": {"equivalent_to": {"network": other, "within": "1/10"}}}
    record(ledger, NETWORK, request, queue="highs", time_limit=1, max_attempts=1)
    deployment.collect(days=11)
    assert deployment.collect(days=13).networks == 0
    assert ledger.network(other).sha256 == other


def test_a_file_that_was_just_put_is_never_taken(deployment: Deployment) -> None:
    deployment.put(b"on its way")
    deployment.collect()
    assert deployment.collect(days=1).artifacts == 0, "noted for less than its time"
    assert deployment.collect(days=100).artifacts == 0, "noted for long, but put a moment ago"


def test_a_file_that_is_named_again_is_spared(deployment: Deployment, ledger: Ledger) -> None:
    sha256 = deployment.put(b"again", age=3 * DAY)
    deployment.collect()
    deployment.certified(b"again")
    deployment.age(sha256, 3 * DAY)
    assert deployment.collect(days=3).artifacts == 0
    assert deployment.artifacts.read(sha256) == b"again"
    assert sha256 not in ledger.retention.condemned("artifact")


def test_files_of_dead_uploads_go(deployment: Deployment) -> None:
    upload = deployment.artifacts.upload()
    upload.write(b"half")
    assert deployment.collect().uploads == 0
    import os

    os.utime(upload.path, (1000, 1000))
    assert deployment.collect().uploads == 1
    upload.abort()


class Slow(FolderArtifacts):
    """Removes so slowly that somebody can store the same bytes meanwhile."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.removing, self.go_on = threading.Event(), threading.Event()

    def delete(self, sha256: str) -> int:
        self.removing.set()
        assert self.go_on.wait(10)
        return super().delete(sha256)


@pytest.mark.parametrize("order", ["put before the removal", "row before the removal", "all after"])
def test_what_is_stored_while_it_is_removed_is_there_afterwards(
    deployment: Deployment, ledger: Ledger, order: str
) -> None:
    """The three ways in which an upload can meet the removal of the same bytes."""
    data = b"the same bytes"
    sha256 = deployment.put(data, age=3 * DAY)
    deployment.collect()
    deployment.artifacts = slow = Slow(deployment.artifacts.root)
    collecting = threading.Thread(target=deployment.collect, kwargs={"days": 2})
    put, named = threading.Event(), threading.Event()

    def store() -> None:
        with FolderArtifacts(slow.root).upload() as upload:
            upload.write(data)
            upload.commit()
            put.set()
            # waits where the removal is under way
            ledger.add_network(sha256, size=3, name="n", state=NetworkState.READY, summary={})
            named.set()
            upload.confirm()

    storing = threading.Thread(target=store)
    if order == "row before the removal":
        storing.start()
        assert named.wait(10)
        storing.join()
        deployment.age(sha256, 3 * DAY)
        slow.go_on.set()
        collecting.start()
    else:
        collecting.start()
        assert slow.removing.wait(10)
        if order == "all after":
            slow.go_on.set()
            collecting.join()
        storing.start()
        assert put.wait(10)
        assert named.wait(10 if order == "all after" else 0.3) == (order == "all after")
        slow.go_on.set()
    for thread in (collecting, storing):
        thread.join()
    assert ledger.network(sha256).sha256 == sha256
    assert slow.read(sha256) == data


def test_safety_is_longer_than_any_job(tmp_path: Path) -> None:
    assert safety_seconds(Settings(data_dir=tmp_path)) == 25 * 3600
    assert safety_seconds(Settings(data_dir=tmp_path, max_time_limit=400, gc_safety_hours=2)) == 7200


def test_vacuum_gives_room_back(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger(f"sqlite:///{path}")
    ledger.create()
    whole = Deployment(ledger, tmp_path)
    records = []
    for _ in range(30):
        job = submit(ledger)
        ledger.start(job.id, worker="w", lease_seconds=9)
        ledger.finish(job.id, 1, JobState.SUCCEEDED, verdict={"verdict": "unknown", "text": "x" * 50_000})
        records.append(job)
    whole.let_expire(*records)
    assert whole.collect().jobs == 30
    before = path.stat().st_size
    ledger.retention.vacuum()
    assert path.stat().st_size < before / 4
    assert ledger.retention.rows()["jobs"] == 0
    ledger.close()
