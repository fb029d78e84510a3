"""Workers that are killed, told to leave, or whose jobs misbehave."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from service.states import JobState
from tests.faults.deployment import Deployment, ball, ended, lower_bound, obstinate_model
from tests.random_networks import dense_model

Worker = subprocess.Popen[bytes]

HARD = obstinate_model()
EASY = dense_model(1, (3, 5, 2))


@pytest.mark.usefixtures("worker")
def test_job_runs_to_a_verdict(deployment: Deployment) -> None:
    job = deployment.wait(deployment.submit(EASY, ball(3, 0.01)), ended)
    assert job.state is JobState.SUCCEEDED
    assert job.verdict is not None
    assert job.verdict["verdict"] in {"robust", "counterexample"}
    assert [attempt.outcome for attempt in job.attempts] == ["succeeded"]

    def told() -> list[tuple[str, object]]:
        return [(event.kind, event.data.get("state")) for event in deployment.events.read(job.id)]

    end = time.monotonic() + 20  # the ledger knows before it is told
    while told()[-1] != ("state", "succeeded") and time.monotonic() < end:
        time.sleep(0.02)
    assert told()[0] == ("state", "running")
    assert told()[-1] == ("state", "succeeded")


def test_killed_worker_takes_its_job_along_and_another_attempt_ends_it(deployment: Deployment, worker: Worker) -> None:
    job = deployment.submit(HARD, ball(12), time_limit=3.0)
    deployment.wait_for_bounds(job)
    child = deployment.child_of(worker)
    worker.kill()
    worker.wait()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    deployment.start_worker()
    job = deployment.wait(job, ended, reap=True)
    assert job.state is JobState.SUCCEEDED
    assert job.verdict is not None
    assert (job.verdict["verdict"], job.verdict["reason"]) == ("unknown", "timeout")
    assert [attempt.outcome for attempt in job.attempts] == ["queued", "succeeded"]
    assert job.losses == 1


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("engine", ["bab", "milp"])
def test_cancel_returns_within_two_seconds_with_bounds(deployment: Deployment, engine: str) -> None:
    job = deployment.submit(HARD, ball(12), engine=engine)
    running = deployment.wait_for_bounds(job)
    asked = time.monotonic()
    deployment.ledger.request_cancel(job.id)
    job = deployment.wait(job, ended)
    assert time.monotonic() - asked < 2.0
    assert job.state is JobState.CANCELLED
    assert job.verdict is not None
    assert (job.verdict["verdict"], job.verdict["reason"]) == ("unknown", "cancelled")
    assert lower_bound(job.verdict) >= lower_bound(running.progress)


def test_killed_child_is_noticed_at_once_and_retried(deployment: Deployment, worker: Worker) -> None:
    job = deployment.submit(HARD, ball(12), time_limit=3.0)
    deployment.wait_for_bounds(job)
    deployment.child_of(worker).kill()
    again = deployment.wait(job, lambda j: j.attempt == 2, seconds=5)
    assert again.attempts[0].reason == "the solver's process ended abruptly (signal SIGKILL)"
    assert worker.poll() is None
    assert deployment.wait(job, ended).state is JobState.SUCCEEDED


@pytest.mark.slow
def test_frozen_child_is_killed_by_its_worker_once_its_job_went_elsewhere(
    deployment: Deployment, worker: Worker
) -> None:
    job = deployment.submit(HARD, ball(12), time_limit=3.0)
    deployment.wait_for_bounds(job)
    frozen = deployment.child_of(worker)
    frozen.suspend()
    job = deployment.wait(job, ended, reap=True)
    assert job.state is JobState.SUCCEEDED
    assert [attempt.outcome for attempt in job.attempts] == ["queued", "succeeded"]
    assert not frozen.is_running()
    assert worker.poll() is None


def test_attempts_are_limited(deployment: Deployment, worker: Worker) -> None:
    job = deployment.submit(HARD, ball(12))
    for attempt in range(1, deployment.settings.max_attempts + 1):
        deployment.wait(job, lambda j, n=attempt: j.attempt == n and j.progress is not None)
        deployment.child_of(worker).kill()
    job = deployment.wait(job, ended)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error["code"] == "crashed"


def test_exhausted_memory_fails_the_job_with_a_reason_and_the_worker_lives(
    deployment: Deployment, worker: Worker
) -> None:
    large = deployment.wait(deployment.submit(dense_model(0, (8, 4000, 4000, 2)), ball(8)), ended)
    assert large.state is JobState.FAILED
    assert large.error is not None
    assert large.error["code"] == "out_of_memory"
    assert "512 MB" in large.error["message"]
    small = deployment.wait(deployment.submit(EASY, ball(3, 0.01)), ended)
    assert small.state is JobState.SUCCEEDED
    assert worker.poll() is None


def test_terminated_worker_gives_its_job_back_at_no_cost(deployment: Deployment, worker: Worker) -> None:
    job = deployment.submit(HARD, ball(12))
    running = deployment.wait_for_bounds(job)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    job = deployment.ledger.job(job.id)
    assert lower_bound(job.progress) >= lower_bound(running.progress)
    assert job.state is JobState.QUEUED
    assert (job.attempt, job.losses) == (1, 0)
    assert job.attempts[0].reason == "its worker was stopped"
    assert deployment.dispatcher.missing([job]) == []
    deployment.ledger.request_cancel(job.id)


def test_worker_that_is_told_twice_leaves_at_once_and_its_job_loses_nothing(tmp_path: Path) -> None:
    patient = Deployment(tmp_path, drain_seconds=120.0)
    try:
        worker = patient.start_worker()
        job = patient.submit(HARD, ball(12))
        running = patient.wait_for_bounds(job)
        worker.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        assert worker.poll() is None
        assert [each.draining for each in patient.dispatcher.workers()] == [True]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(15) == 0
        job = patient.ledger.job(job.id)
        assert (job.state, job.losses, job.attempts[0].reason) == (JobState.QUEUED, 0, "its worker was stopped")
        assert lower_bound(job.progress) >= lower_bound(running.progress)
        assert patient.dispatcher.workers() == []
    finally:
        patient.close()
