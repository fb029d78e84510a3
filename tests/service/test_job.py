"""What a job writes down at its end, run in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import solver.kinds
from service.artifacts import open_artifacts
from service.embedded import EmbeddedServer
from service.events import Events
from service.job import Surroundings, run_job
from service.ledger import Ledger
from service.models import JobRecord
from service.settings import Settings
from service.states import JobState, NetworkState
from tests.random_networks import dense_model
from tests.service.records import record


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    made = Settings(data_dir=tmp_path_factory.mktemp("job"), threads=1)
    with EmbeddedServer(made):
        yield made


@pytest.fixture
def book(settings: Settings) -> Iterator[Ledger]:
    ledger = Ledger(settings.ledger_url)
    ledger.create()
    yield ledger
    ledger.close()


def run(settings: Settings, book: Ledger, *, max_attempts: int = 1, **changes: Any) -> JobRecord:
    """Submit a query about a tiny network and run it as a worker's child would."""
    artifact = open_artifacts(settings).put(dense_model(1, (3, 5, 2)))
    book.add_network(artifact.sha256, size=artifact.size, name="tiny", state=NetworkState.READY, summary={})
    query = {"input": [0.5, 0.5, 0.5], "epsilon": 0.01, "norm": "linf", "domain": [0, 1], "label": 0, "targets": None}
    request = {"network": artifact.sha256, "query": {**query, **changes}, "time_limit": 20.0, "seed": 0, "reuse": False}
    job, _ = record(book, artifact.sha256, request, queue="highs", time_limit=20.0, max_attempts=max_attempts)
    run_job(job.id, Surroundings(settings, "test"))
    return book.job(job.id)


def test_job_stores_its_verdict_and_announces_each_state(settings: Settings, book: Ledger) -> None:
    job = run(settings, book)
    assert job.state is JobState.SUCCEEDED
    assert job.verdict is not None
    assert job.verdict["verdict"] in {"robust", "counterexample"}
    events = Events(settings.queue_url)
    states = [event.data["state"] for event in events.read(job.id) if event.kind == "state"]
    events.close()
    assert states == ["running", "succeeded"]


def test_query_that_does_not_fit_fails_with_the_words_of_the_error(settings: Settings, book: Ledger) -> None:
    job = run(settings, book, input=[0.5])
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error["code"] == "invalid_region"
    assert job.error["message"].startswith("the input has 1 entries, but the network takes 3")


def test_internal_error_shows_no_traceback(
    settings: Settings, book: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        msg = "secret detail"
        raise KeyError(msg)

    monkeypatch.setattr(solver.kinds, "verify", broken)
    job = run(settings, book)
    assert job.error == {
        "code": "internal_error",
        "message": f"an internal error ended the job (KeyError); the worker's log has it under job {job.id}",
    }
    assert "secret detail" in caplog.text


def test_failed_allocation_is_told_as_such(settings: Settings, book: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def large(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(solver.kinds, "verify", large)
    job = run(settings, book)
    assert job.error is not None
    assert job.error["code"] == "out_of_memory"


def test_job_that_is_not_queued_is_left_alone(settings: Settings, book: Ledger) -> None:
    job = run(settings, book)
    run_job(job.id, Surroundings(settings, "another"))
    assert book.job(job.id) == job


def test_a_ledger_that_is_away_for_a_moment_fails_no_job(
    settings: Settings, book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr("service.job._work", away)
    job = run(settings, book, max_attempts=2)
    assert (job.state, job.losses) == (JobState.QUEUED, 1)
    assert job.attempts[0].reason == "the job's worker lost its way to the service (OperationalError)"
    run_job(job.id, Surroundings(settings, "test"))
    job = book.job(job.id)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error["code"] == "worker_lost"
