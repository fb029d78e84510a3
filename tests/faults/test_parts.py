"""One hard query on two workers, either of which is killed in the middle."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from service.models import JobRecord, jobs
from service.states import TERMINAL, JobState
from tests.faults.deployment import Deployment, ball, ended, obstinate_model

Worker = subprocess.Popen[bytes]

pytestmark = pytest.mark.slow

#: Robust, after 15,255 cells and three seconds of one core.
NETWORK = obstinate_model((20, 32, 32, 2))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment whose jobs ask for help at once."""
    whole = Deployment(tmp_path_factory.mktemp("pair"), share_after=0.2, share_worth=0.0, share_seconds=1.0)
    yield whole
    whole.close()


def two_workers(pair: Deployment) -> None:
    """Starts what is missing, and waits until both are known to be idle."""
    alive = [worker for worker in pair.workers if worker.poll() is None]
    for _ in range(2 - len(alive)):
        pair.start_worker()
    end = time.monotonic() + 120
    pids = {worker.pid for worker in pair.workers if worker.poll() is None}
    while {each.pid for each in pair.dispatcher.workers() if not each.busy} & pids != pids:
        assert time.monotonic() < end
        time.sleep(0.1)


def parts(pair: Deployment, job: JobRecord) -> list[JobRecord]:
    with pair.ledger._engine.connect() as connection:
        found = connection.execute(select(jobs.c.id).where(jobs.c.parent == job.id).order_by(jobs.c.id)).scalars().all()
    return [pair.ledger.job(each) for each in found]


def running_part(pair: Deployment, job: JobRecord) -> JobRecord:
    """A part of the job that a worker has begun."""
    end = time.monotonic() + 120
    while True:
        for part in parts(pair, job):
            if part.state is JobState.RUNNING and part.attempts:
                return part
        assert time.monotonic() < end
        assert not pair.ledger.job(job.id).terminal, "the query is too easy for this test"
        time.sleep(0.01)


def kill(pair: Deployment, job: JobRecord) -> None:
    """Kills the worker that the job runs on."""
    pid = int(pair.ledger.job(job.id).attempts[-1].worker.split("-")[-2])
    (worker,) = [worker for worker in pair.workers if worker.pid == pid]
    worker.kill()
    worker.wait()


def settled(pair: Deployment, job: JobRecord) -> bool:
    """Whether the job has ended and nothing is left of its parts."""
    return ended(job) and all(part.state in TERMINAL for part in parts(pair, job))


def verdict(pair: Deployment, job: JobRecord) -> str:
    done = pair.wait(job, lambda now: settled(pair, now), seconds=240, reap=True)
    assert done.verdict is not None, done.error
    return str(done.verdict["verdict"])


def test_parts_are_searched_and_their_forests_certified(pair: Deployment) -> None:
    two_workers(pair)
    artifact = pair.artifacts.put(NETWORK)
    first = pair.submit(NETWORK, ball(20), time_limit=200.0, engine="bab", reuse=False)
    helped = pair.wait(first, lambda job: ended(job) or bool((job.progress or {}).get("helpers")), seconds=120)
    assert not ended(helped)
    assert verdict(pair, first) == "robust"
    answered = [part for part in parts(pair, first) if "part" in (part.verdict or {})]
    assert answered
    assert {part.network for part in answered} == {artifact.sha256}
    assert first.id in {job.id for job in pair.ledger.jobs()}
    assert not {part.id for part in answered} & {job.id for job in pair.ledger.jobs()}


@pytest.mark.parametrize("victim", ["of the part", "of the job"])
def test_killed_worker_changes_nothing(pair: Deployment, victim: str) -> None:
    two_workers(pair)
    job = pair.submit(NETWORK, ball(20), time_limit=200.0, engine="bab", reuse=False)
    part = running_part(pair, job)
    kill(pair, part if victim == "of the part" else job)
    assert verdict(pair, job) == "robust"
    attempts = [attempt.outcome for attempt in pair.ledger.job(job.id).attempts]
    assert attempts == (["succeeded"] if victim == "of the part" else ["queued", "succeeded"])


def test_parts_end_when_their_job_is_cancelled(pair: Deployment) -> None:
    two_workers(pair)
    job = pair.submit(NETWORK, ball(20), time_limit=200.0, engine="bab", reuse=False)
    running_part(pair, job)
    pair.ledger.request_cancel(job.id)
    done = pair.wait(job, lambda now: settled(pair, now), seconds=30)
    assert done.state is JobState.CANCELLED


def test_somebody_elses_question_does_not_wait_for_a_hard_one(pair: Deployment) -> None:
    """With both workers at the hard query, the helper leaves it for the question that comes."""
    two_workers(pair)
    hard = pair.submit(obstinate_model(), ball(12), time_limit=60.0, engine="bab", reuse=False)
    running_part(pair, hard)
    asked = time.monotonic()
    easy = pair.submit(NETWORK, ball(20, 0.1))
    assert verdict(pair, easy) == "robust"
    waited = time.monotonic() - asked
    hard_now = pair.ledger.job(hard.id)
    assert not ended(hard_now), "the hard query still runs"
    pair.ledger.request_cancel(hard.id)
    pair.wait(hard, lambda now: settled(pair, now), seconds=30)
    assert waited < 20
