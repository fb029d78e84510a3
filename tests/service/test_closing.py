"""How attempts end, seen from the ledger and the event stream."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.closing import Closing, Failure, plain, tightened, unknown_verdict
from service.embedded import EmbeddedServer
from service.events import Events
from service.ledger import Ledger
from service.queue import Dispatcher
from service.reaper import Reaper
from service.settings import Settings
from service.states import JobState
from solver.verdict import Reason
from tests.service.records import job_in, submit

PROGRESS = {"stage": "bab", "seconds": 2.5, "margin": [-0.5, 0.25], "open": 1, "nodes": 7}


class Parts:
    """What stands around a ledger."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self.ledger = ledger
        self.events = Events(settings.queue_url)
        self.dispatcher = Dispatcher(settings.queue_url)
        self.closing = Closing(ledger, self.events, self.dispatcher)
        self.reaper = Reaper(settings, ledger, self.events, self.dispatcher)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    made = Settings(data_dir=tmp_path_factory.mktemp("closing"))
    with EmbeddedServer(made):
        yield made


@pytest.fixture
def parts(ledger: Ledger, settings: Settings) -> Iterator[Parts]:
    made = Parts(ledger, settings)
    made.dispatcher.redis.flushall()
    yield made
    made.events.close()
    made.dispatcher.close()


def states(parts: Parts, job_id: str) -> list[str]:
    return [event.data["state"] for event in parts.events.read(job_id) if event.kind == "state"]


def test_success_is_recorded_and_announced(parts: Parts) -> None:
    job = job_in(parts.ledger, JobState.RUNNING)
    assert parts.closing.succeed(job, {"verdict": "robust", "margin": [np.float64(1.5), math.inf]})
    assert parts.ledger.job(job.id).verdict == {"verdict": "robust", "margin": [1.5, None]}
    assert states(parts, job.id) == ["succeeded"]


def test_cancelled_job_keeps_the_bounds_that_it_reported(parts: Parts) -> None:
    job = job_in(parts.ledger, JobState.CANCELLING)
    parts.ledger.renew(job.id, 1, lease_seconds=9, progress=PROGRESS)
    assert parts.closing.cancel(job)
    verdict = parts.ledger.job(job.id).verdict
    assert verdict is not None
    assert (verdict["verdict"], verdict["reason"]) == ("unknown", "cancelled")
    assert (verdict["margin"], verdict["seconds"]) == ([-0.5, 0.25], 2.5)


def test_expired_job_has_an_unknown_verdict(parts: Parts) -> None:
    job = job_in(parts.ledger, JobState.RUNNING)
    assert parts.closing.expire(job)
    done = parts.ledger.job(job.id)
    assert done.state is JobState.SUCCEEDED
    assert done.verdict is not None
    assert (done.verdict["reason"], done.verdict["margin"]) == ("timeout", [None, None])


def test_late_end_is_neither_recorded_nor_announced(parts: Parts) -> None:
    job = job_in(parts.ledger, JobState.SUCCEEDED)
    assert not parts.closing.fail(job, Failure.INTERNAL, "late")
    assert parts.ledger.job(job.id).state is JobState.SUCCEEDED
    assert states(parts, job.id) == []


def test_recovered_job_is_queued_until_its_attempts_are_used(parts: Parts) -> None:
    job = submit(parts.ledger, max_attempts=2)
    first = parts.ledger.start(job.id, worker="w", lease_seconds=9)
    assert first is not None
    assert parts.closing.recover(first, "it broke")
    assert parts.dispatcher.missing([parts.ledger.job(job.id)]) == []
    second = parts.ledger.start(job.id, worker="w", lease_seconds=9)
    assert second is not None
    assert parts.closing.recover(second, "it broke again")
    done = parts.ledger.job(job.id)
    assert done.state is JobState.FAILED
    assert done.error == {"code": "worker_lost", "message": "it broke again; 2 of 2 attempts ended like this"}
    assert states(parts, job.id) == ["queued", "failed"]


def test_recovery_of_a_cancelling_job_cancels_it(parts: Parts) -> None:
    job = job_in(parts.ledger, JobState.RUNNING)
    parts.ledger.request_cancel(job.id)
    assert parts.closing.recover(job, "it broke")
    assert parts.ledger.job(job.id).state is JobState.CANCELLED


def test_job_given_back_keeps_its_attempts(parts: Parts) -> None:
    job = job_in(parts.ledger, JobState.RUNNING)
    assert parts.closing.give_back(job, "its worker was stopped")
    assert parts.ledger.job(job.id).losses == 0


def test_sweep_leaves_alone_what_another_reaper_does(parts: Parts) -> None:
    with parts.dispatcher.redis.lock("netproof:reaper", timeout=5):
        assert parts.reaper.sweep() == 0


def test_sweep_puts_back_only_what_waits_nowhere(tmp_path: Path, settings: Settings) -> None:
    eager = settings.model_copy(update={"stray_seconds": 0.0})
    ledger = Ledger(f"sqlite:///{tmp_path / 'l.db'}")
    ledger.create()
    parts = Parts(ledger, eager)
    parts.dispatcher.redis.flushall()
    known, stray = submit(ledger), submit(ledger)
    parts.dispatcher.enqueue(known)
    assert parts.reaper.sweep() == 1
    assert parts.dispatcher.missing([known, stray]) == []
    assert parts.dispatcher.depths()["highs"] == 2
    assert parts.reaper.sweep() == 0
    for part in (parts.events, parts.dispatcher, ledger):
        part.close()


def test_verdict_without_progress_claims_nothing() -> None:
    assert unknown_verdict(None, Reason.TIMEOUT)["margin"] == [None, None]


def test_plain_keeps_only_what_json_has() -> None:
    value = {"a": (np.int64(1), float("nan")), 2: np.array([1.0, np.inf]), "c": "text", "d": None, "e": True}
    assert plain(value) == {"a": [1, None], "2": [1.0, None], "c": "text", "d": None, "e": True}


def test_better_bounds_of_an_earlier_attempt_are_kept() -> None:
    earlier = {"stage": "bab", "margin": [-1.0, 2.0], "distance": [None, 0.5]}
    assert tightened({"margin": [-2.0, None], "nodes": 1}, earlier) == {"margin": [-1.0, 2.0], "nodes": 1}
    assert tightened({"margin": [-0.5, 1.0]}, earlier) == {"margin": [-0.5, 1.0]}
    assert tightened({"distance": [0.25, None]}, earlier) == {"distance": [0.25, 0.5]}
    assert tightened({"margin": [3.0, None]}, earlier) == {"margin": [3.0, None]}
    assert tightened({"margin": None}, None) == {"margin": None}


def test_a_job_that_is_given_back_keeps_the_bounds_of_its_verdict(parts: Parts) -> None:
    job = job_in(parts.ledger, JobState.RUNNING)
    parts.ledger.renew(job.id, 1, lease_seconds=9, progress=PROGRESS)
    known = PROGRESS["margin"][0]
    assert parts.closing.give_back(job, "its worker was stopped", {"margin": [known + 0.5, None], "distance": None})
    again = parts.ledger.start(job.id, worker="w", lease_seconds=9)
    assert again is not None
    assert again.progress["margin"] == [known + 0.5, PROGRESS["margin"][1]]
