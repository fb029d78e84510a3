"""Handing queued jobs to workers, through RQ on Redis or Valkey.

RQ only carries job identifiers. An entry that is lost is put back by the reaper and an entry that comes twice starts
nothing the second time, because starting is a compare-and-set in the ledger.

Whoever can write to Redis could make a worker import and call any function, so entries are JSON, name one function,
and `service.worker` refuses every other.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import redis
from rq import Queue
from rq.serializers import JSONSerializer

from service.connections import PROMPT, connect
from service.models import JobRecord
from service.workers import WorkerRecord, live_workers
from solver.options import Backend

__all__ = ["ALL_QUEUES", "JOB_FUNCTION", "QUEUES", "Dispatcher", "Priority", "alive", "queue_name", "unlimited"]

#: The one function that queue entries may name; its only argument is the job's identifier.
JOB_FUNCTION = "service.job.run_job"

_FAILURE_SECONDS = 3600


class Priority(enum.StrEnum):
    """How urgent a job is: workers take ``high`` ones first, and ``low`` ones, where batches are, last."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


def queue_name(backend: Backend | str, priority: Priority | str = Priority.NORMAL) -> str:
    """The queue for jobs that ask for ``backend``; ``auto`` is served where HiGHS is, which is everywhere."""
    name = Backend.HIGHS if Backend(backend) is Backend.AUTO else Backend(backend)
    return str(name) if Priority(priority) is Priority.NORMAL else f"{name}-{Priority(priority)}"


def unlimited(queue: str) -> str | None:
    """The queue beside ``queue`` that is served under a full licence only; None where there is none, or it is one."""
    backend, _, priority = queue.partition("-")
    if backend != Backend.GUROBI or priority.startswith(_FULL):
        return None
    return f"{backend}-{_FULL}-{priority}" if priority else f"{backend}-{_FULL}"


_FULL = "full"

#: The queues that jobs begin in, urgent ones first: the order in which a worker that serves all of them looks.
QUEUES: tuple[str, ...] = tuple(
    queue_name(backend, priority)
    for priority in (Priority.HIGH, Priority.NORMAL, Priority.LOW)
    for backend in (Backend.HIGHS, Backend.GUROBI)
)

#: Every queue, with those that jobs move to which are too large for a size-limited licence.
ALL_QUEUES: tuple[str, ...] = (*QUEUES, *(full for queue in QUEUES if (full := unlimited(queue)) is not None))


class Dispatcher:
    """Puts jobs on their queues and looks at what is there."""

    def __init__(self, url: str, *, retries: int = PROMPT) -> None:
        self.redis = connect(url, retries=retries)

    def enqueue(self, job: JobRecord) -> None:
        """Put a queued job on its queue.

        Raises:
            redis.RedisError: the queue server does not answer; the reaper will put the job there later.
        """
        self._queue(job.queue).enqueue_call(
            JOB_FUNCTION,
            args=(job.id,),
            job_id=_entry(job),
            timeout=-1,  # the job keeps its own deadlines, which also hold inside native code
            result_ttl=0,
            failure_ttl=_FAILURE_SECONDS,
            description=f"job {job.id}",
        )

    def missing(self, jobs: Iterable[JobRecord]) -> list[JobRecord]:
        """Those of the queued ``jobs`` whose next attempt waits in no queue."""
        waiting: dict[str, set[str]] = {}
        out = []
        for job in jobs:
            if job.queue not in waiting:
                waiting[job.queue] = set(self._queue(job.queue).get_job_ids())
            if _entry(job) not in waiting[job.queue]:
                out.append(job)
        return out

    def depths(self) -> dict[str, int]:
        """Entries waiting in each queue."""
        return {name: self._queue(name).count for name in ALL_QUEUES}

    def workers(self) -> list[WorkerRecord]:
        """The live workers."""
        return live_workers(self.redis)

    def ping(self) -> None:
        """Raise redis.RedisError if the queue server does not answer."""
        self.redis.ping()

    def close(self) -> None:
        self.redis.close()

    def _queue(self, name: str) -> Queue:
        return Queue(name, connection=self.redis, serializer=JSONSerializer)


def alive(dispatcher: Dispatcher) -> int:
    """How many workers there are, for what can do without knowing: 0 without the queue server."""
    try:
        return len(dispatcher.workers())
    except redis.RedisError:
        return 0


def _entry(job: JobRecord) -> str:
    """Name of the queue entry for the job's next attempt; a new attempt never shares RQ's records with an old one."""
    return f"{job.id}-{job.attempt + 1}"
