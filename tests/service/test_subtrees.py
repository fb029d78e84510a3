"""Parts of jobs: in the ledger, and with a worker that takes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import networks
from bounds import backward_bounds
from bounds.program import program
from networks import Network, Property, Region
from service.artifacts import open_artifacts
from service.coordinator import Coordinator
from service.embedded import EmbeddedServer
from service.job import Surroundings, run_job
from service.ledger import Ledger
from service.models import JobRecord
from service.queue import Dispatcher
from service.settings import Settings
from service.states import JobState, NetworkState
from service.workers import announce
from solver import policy
from solver.attack import Attack
from solver.parcel import digest
from solver.relu_split import ReluSplit, SplitRegion
from solver.replay import Replayer
from solver.split_region import CellSearch
from solver.verdict import Reason
from tests.random_networks import dense_model
from tests.service.records import record, registered, submit, worker
from tests.solver.oracle import minimum_margin, raised

# -- in the ledger -----------------------------------------------------------------------------------------------------


def running(ledger: Ledger, owner: str = "local") -> JobRecord:
    job = submit(ledger, at_once=1, owner=owner)
    started = ledger.start(job.id, worker="w", lease_seconds=9)
    assert started is not None
    return started


def part_of(ledger: Ledger, parent: JobRecord) -> JobRecord:
    part = ledger.subtrees.give(parent, {"query": {}, "part": {}}, queue="highs-low", time_limit=9.0)
    assert part is not None
    return part


def test_part_is_no_question_of_its_own(ledger: Ledger) -> None:
    parent = running(ledger)
    part = part_of(ledger, parent)
    assert (part.parent, part.owner, part.at_once) == (parent.id, parent.owner, None)
    assert [job.id for job in ledger.jobs()] == [parent.id]
    assert ledger.usage.of(parent.owner).queued == 1
    assert ledger.start(part.id, worker="v", lease_seconds=9), "it must not wait for the job that it works for"


@pytest.mark.parametrize("end", ["finish", "requeue", "cancel"])
def test_parts_end_with_their_parent(ledger: Ledger, end: str) -> None:
    parent = running(ledger)
    waiting, begun, other = (
        part_of(ledger, parent),
        part_of(ledger, parent),
        part_of(ledger, running(ledger, "another")),
    )
    assert ledger.start(begun.id, worker="v", lease_seconds=9)
    if end == "finish":
        assert ledger.finish(parent.id, 1, JobState.SUCCEEDED)
    elif end == "requeue":
        assert ledger.requeue(parent.id, 1, reason="its worker fell silent", lost=True)
    else:
        ledger.request_cancel(parent.id)
    assert ledger.job(waiting.id).state is JobState.CANCELLED
    assert ledger.job(begun.id).state is JobState.CANCELLING
    assert ledger.job(other.id).state is JobState.QUEUED
    assert ledger.subtrees.give(parent, {}, queue="highs-low", time_limit=9.0) is None


def test_what_was_given_away_is_counted(ledger: Ledger) -> None:
    parent = running(ledger)
    assert ledger.subtrees.shared(parent.id) is None
    parts = [part_of(ledger, parent) for _ in range(3)]
    for part, name in zip(parts[:2], ("v", "w"), strict=True):
        assert ledger.start(part.id, worker=name, lease_seconds=9)
    shared = ledger.subtrees.shared(parent.id, newest=2)
    assert shared is not None
    assert shared.parts == {JobState.RUNNING: 2, JobState.QUEUED: 1}
    assert shared.workers == 2
    assert shared.newest == ((parts[2].id, JobState.QUEUED), (parts[1].id, JobState.RUNNING))
    counts = ledger.counts()
    assert (counts[JobState.RUNNING], counts[JobState.QUEUED]) == (1, 0), "parts are no jobs of their own"


def test_parts_come_back_when_they_are_called(ledger: Ledger) -> None:
    parent = running(ledger)
    waiting, begun, kept = (part_of(ledger, parent) for _ in range(3))
    assert ledger.start(begun.id, worker="v", lease_seconds=9)
    ledger.subtrees.recall([waiting.id, begun.id])
    assert ledger.finish(begun.id, 1, JobState.SUCCEEDED, verdict={"part": {"answer": "a" * 64}})
    found = {part.id: (part.state, part.answer) for part in ledger.subtrees.look([waiting.id, begun.id, kept.id])}
    assert found == {
        waiting.id: (JobState.CANCELLED, None),
        begun.id: (JobState.SUCCEEDED, "a" * 64),
        kept.id: (JobState.QUEUED, None),
    }


# -- with a worker -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    made = Settings(
        data_dir=tmp_path_factory.mktemp("parts"), threads=1, share_after=0.0, share_seconds=1.0, heartbeat_seconds=0.1
    )
    with EmbeddedServer(made):
        yield made


class Scene:
    """A job at work in this thread, and a worker in another that takes its parts."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.ledger_url)
        self.ledger.create()
        self.dispatcher = Dispatcher(settings.queue_url)
        self.artifacts = open_artifacts(settings)
        model = dense_model(1, (3, 5, 4, 2))
        self.network: Network = networks.load_bytes(model, name="tiny", compare=False)
        self.artifacts.put(model)
        self.ledger.add_network(self.network.sha256, size=len(model), name="tiny", state=NetworkState.READY, summary={})
        request = {"query": {"input": [0.0] * 3}, "time_limit": 60.0}
        job, _ = record(self.ledger, self.network.sha256, request, queue="highs", time_limit=60.0, max_attempts=3)
        started = self.ledger.start(job.id, worker="mine", lease_seconds=60)
        assert started is not None
        self.job = started
        self.coordinator = Coordinator(started, self.network, self.ledger, self.dispatcher, self.artifacts, settings)
        self.coordinator.least, self.coordinator.delay = 1, 0.0
        self.done: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self._stop.is_set():
            announce(self.dispatcher.redis, worker("helper"))  # or a slow machine would forget it
            for part in self.ledger.waiting(-1.0):
                if part.parent == self.job.id:
                    run_job(part.id, Surroundings(self.settings, "helper"))
                    self.done.append(part.id)
            time.sleep(0.02)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.dispatcher.redis.flushall()
        self.dispatcher.close()
        self.ledger.close()

    def search(self, shift: float, seconds: float = 600.0) -> CellSearch:
        region = Region.linf_ball(np.random.default_rng(1).normal(size=3), 0.6)
        least = minimum_margin(self.network, region, raised(0))
        clause = raised(shift - least)
        attack = Attack(program(self.network), Replayer(self.network), region, Property((clause,)), lambda: False)
        over = SplitRegion(self.network, region, backward_bounds(self.network, region))
        search = ReluSplit(over, clause, attack, steps=0, helpers=self.coordinator)
        end = time.monotonic() + seconds
        found = search.run(lambda: Reason.TIMEOUT if time.monotonic() > end else None, lambda *_: None)
        search.close()
        return found


@pytest.fixture
def scene(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Trees of tiny networks are small, so every look at the workers counts."""
    monkeypatch.setattr(policy, "BAB_BATCH", 1)
    monkeypatch.setattr(policy, "BAB_CLIPS", 0)
    monkeypatch.setattr(policy, "HELP_SHARE", 1e9)
    monkeypatch.setattr("service.coordinator._LOOK_SECONDS", 0.0)
    made = Scene(settings)
    yield made
    made.close()


@pytest.mark.parametrize("shift", [1e-3, -1e-3])
def test_idle_worker_searches_parts_of_a_job(scene: Scene, shift: float) -> None:
    scene.start()
    with registered(scene, worker("mine", job=scene.job.id), worker("helper")):
        found = scene.search(shift)
    assert (found.counterexample is None) == (shift > 0)
    assert found.reason is None
    assert scene.done or shift < 0
    assert all(scene.ledger.job(part).state in {JobState.SUCCEEDED, JobState.CANCELLED} for part in scene.done)


def test_parts_that_nobody_takes_come_home(scene: Scene) -> None:
    """The registry says that a worker is idle, but none comes: the search goes on by itself."""
    with registered(scene, worker("mine", job=scene.job.id), worker("asleep")):
        found = scene.search(1e-3)
    assert found.counterexample is None
    assert found.reason is None


def test_parts_that_fail_come_home(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("service.job.search_part", broken)
    scene.start()
    with registered(scene, worker("mine", job=scene.job.id), worker("helper")):
        found = scene.search(1e-3)
    assert found.counterexample is None
    assert found.reason is None
    assert any(scene.ledger.job(part).state is JobState.FAILED for part in scene.done)


def test_nothing_is_given_away_while_others_wait_or_nobody_is_idle(scene: Scene) -> None:
    coordinator = scene.coordinator
    with registered(scene, worker("mine", job=scene.job.id), worker("helper", job="another")):
        assert coordinator.wanted() == 0
    with registered(scene, worker("mine", job=scene.job.id), worker("helper")):
        assert coordinator.wanted() == 1
        other, _ = record(
            scene.ledger, scene.network.sha256, {"query": {}}, queue="highs", time_limit=9.0, max_attempts=1
        )
        scene.dispatcher.enqueue(other)
        assert coordinator.wanted() == 0


def test_parts_are_called_back_where_others_wait(scene: Scene) -> None:
    with registered(scene, worker("mine", job=scene.job.id), worker("helper")):
        assert scene.coordinator.wanted() == 1
        assert scene.coordinator.give(b"problem", b"piece")
        (part,) = [job for job in scene.ledger.waiting(-1.0) if job.parent == scene.job.id]
        assert scene.ledger.start(part.id, worker="helper", lease_seconds=9)
    other, _ = record(scene.ledger, scene.network.sha256, {"query": {}}, queue="highs", time_limit=9.0, max_attempts=1)
    scene.dispatcher.enqueue(other)
    with registered(scene, worker("mine", job=scene.job.id), worker("helper", job=part.id)):
        assert scene.coordinator.take([digest(b"piece")], 0.0) == {}
    assert scene.ledger.job(part.id).state is JobState.CANCELLING
    assert scene.ledger.job(other.id).state is JobState.QUEUED
