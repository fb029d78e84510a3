"""A queue server that dies, forgets, or is written to by strangers; attempts that come back late."""

from __future__ import annotations

import signal
import subprocess

from rq import Queue
from rq.serializers import JSONSerializer

from service.states import JobState
from tests.faults.deployment import Deployment, ball, ended, obstinate_model
from tests.random_networks import dense_model

Worker = subprocess.Popen[bytes]

HARD = obstinate_model()
EASY = dense_model(1, (3, 5, 2))


def test_restarted_queue_server_loses_nothing(deployment: Deployment, worker: Worker) -> None:
    running = deployment.submit(HARD, ball(12), time_limit=3.0)
    deployment.wait_for_bounds(running)
    waiting = deployment.submit(EASY, ball(3, 0.01))
    deployment.kill_server()
    asked_meanwhile = deployment.submit(EASY, ball(3, 0.02), dispatch=False)
    deployment.server.start()
    assert deployment.wait(running, ended, reap=True).state is JobState.SUCCEEDED
    assert len(deployment.ledger.job(running.id).attempts) == 1
    assert deployment.wait(waiting, ended, reap=True).state is JobState.SUCCEEDED
    assert deployment.wait(asked_meanwhile, ended, reap=True).state is JobState.SUCCEEDED
    assert worker.poll() is None


def test_queue_that_forgets_everything_loses_nothing(deployment: Deployment, worker: Worker) -> None:
    running = deployment.submit(HARD, ball(12), time_limit=3.0)
    deployment.wait_for_bounds(running)
    waiting = deployment.submit(EASY, ball(3, 0.01))
    deployment.dispatcher.redis.flushall()
    assert deployment.wait(running, ended, reap=True).state is JobState.SUCCEEDED
    assert deployment.wait(waiting, ended, reap=True).state is JobState.SUCCEEDED
    assert worker.poll() is None


def test_entry_of_a_stranger_is_refused(deployment: Deployment, worker: Worker) -> None:
    mark = deployment.settings.data_dir / "mark"
    queue = Queue("highs-high", connection=deployment.dispatcher.redis, serializer=JSONSerializer)
    queue.enqueue_call("pathlib.Path.touch", args=(str(mark),), job_id="stranger")
    job = deployment.wait(deployment.submit(EASY, ball(3, 0.01)), ended)
    assert job.state is JobState.SUCCEEDED
    assert queue.fetch_job("stranger").is_failed
    assert not mark.exists()
    assert worker.poll() is None


def test_entry_that_comes_twice_starts_once(deployment: Deployment, worker: Worker) -> None:
    job = deployment.submit(EASY, ball(3, 0.01))
    deployment.dispatcher.enqueue(job)
    deployment.wait(job, ended)
    later = deployment.wait(deployment.submit(EASY, ball(3, 0.02)), ended)
    assert later.state is JobState.SUCCEEDED
    assert deployment.ledger.job(job.id).attempt == 1
    assert worker.poll() is None


def test_attempt_that_wakes_up_late_ends_without_a_trace(deployment: Deployment, worker: Worker) -> None:
    job = deployment.submit(HARD, ball(12), time_limit=3.0)
    deployment.wait_for_bounds(job)
    orphan = deployment.child_of(worker)
    orphan.suspend()
    lost = deployment.wait(job, lambda j: j.state is JobState.QUEUED, reap=True)
    assert lost.attempts[0].reason == "its worker fell silent"
    orphan.send_signal(signal.SIGCONT)
    job = deployment.wait(job, ended)
    assert job.state is JobState.SUCCEEDED
    assert [attempt.outcome for attempt in job.attempts] == ["queued", "succeeded"]
    assert not orphan.is_running()


def test_job_cancelled_in_the_queue_is_never_started(deployment: Deployment, worker: Worker) -> None:
    job = deployment.submit(EASY, ball(3, 0.01), dispatch=False)
    deployment.ledger.request_cancel(job.id)
    deployment.dispatcher.enqueue(job)
    later = deployment.wait(deployment.submit(EASY, ball(3, 0.02)), ended)
    assert later.state is JobState.SUCCEEDED
    job = deployment.ledger.job(job.id)
    assert (job.state, job.attempt) == (JobState.CANCELLED, 0)
    assert worker.poll() is None
