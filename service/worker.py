"""The worker: takes jobs off the queues and runs each in a forked child, under limits.

RQ does the dispatching. What is added here, because RQ's own answers do not suit solves of hours in native code:

* the child dies with its worker, and its whole process group ends with it;
* no function that a queue entry names is ever imported: an entry is a job's identifier, and the function is ours;
* no thread runs in the parent (RQ's listens for commands; ours come through the ledger), so forking is safe;
* a child that ends without a word has its attempt closed at once, not when its lease lapses;
* on SIGTERM the running job may go on for a moment; if it does not end by itself, it is queued again.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import pkgutil
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import redis
from rq import Queue, Worker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import now as rq_now
from sqlalchemy.exc import SQLAlchemyError

from service.closing import Closing, Failure
from service.connections import PATIENT, connect
from service.context import bound
from service.events import Events
from service.job import Surroundings, run_job
from service.lease import DRAIN
from service.ledger import Ledger
from service.limits import die_with_parent, keep_memory
from service.logs import start_logging
from service.models import JobRecord
from service.queue import JOB_FUNCTION, QUEUES, Dispatcher, unlimited
from service.settings import Settings
from service.solvers import probed
from service.states import JobState
from service.watching import Watch
from service.workers import BEAT_SECONDS, BackendRecord, Licence, WorkerRecord, announce, withdraw
from solver.errors import BackendUnavailableError

__all__ = ["SolverWorker", "main"]

logger = logging.getLogger(__name__)

#: RQ marks a worker dead when it was silent this long; an idle one shows itself in between.
_WORKER_TTL = 60
_MONITOR_SECONDS = 1
#: A second signal that comes sooner is the first, sent to the process and to its group.
_AGAIN_SECONDS = 1.0


class SolverWorker(Worker):  # type: ignore[misc]
    """An RQ worker for `service.job`, one job at a time."""

    def __init__(
        self,
        settings: Settings,
        queues: Sequence[str] = QUEUES,
        *,
        name: str | None = None,
        backends: Mapping[str, BackendRecord] | None = None,
    ) -> None:
        self.settings = settings
        self._leash: tuple[int, int] | None = None
        self._forked = 0.0
        self._watch: Watch[str] = Watch()
        self._backends = dict(backends or {})
        self._job: str | None = None
        self._started_at = self._since = datetime.now(UTC)
        self._draining = False
        connection = connect(settings.queue_url, retries=PATIENT)
        super().__init__(
            [Queue(queue, connection=connection, serializer=JSONSerializer) for queue in queues],
            name=name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}",
            connection=connection,
            serializer=JSONSerializer,
            worker_ttl=_WORKER_TTL,
            job_monitoring_interval=_MONITOR_SECONDS,
            log_job_description=False,
        )

    def subscribe(self) -> None:
        """Nothing: commands come through the ledger, and a thread would make forking unsafe."""

    # -- in the parent ---------------------------------------------------------------------------------------------

    @property
    def dequeue_timeout(self) -> int:
        """Seconds that an idle worker waits before it shows itself again."""
        return BEAT_SECONDS

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        super().heartbeat(timeout, pipeline)
        if not self.is_horse:
            announce(self.connection, self.record())

    def register_death(self) -> None:
        super().register_death()
        withdraw(self.connection, self.name)

    def record(self) -> WorkerRecord:
        """What others are told of this worker."""
        return WorkerRecord(
            name=self.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=metadata.version("netproof"),
            queues=tuple(self.queue_names()),
            backends=self._backends,
            threads=self.settings.job_threads,
            memory_mb=self.settings.memory_limit_mb,
            started_at=self._started_at,
            job=self._job,
            since=self._since,
            draining=self._draining,
            seen_at=datetime.now(UTC),
        )

    def execute_job(self, job: Job, queue: Queue) -> None:
        if not _is_ours(job):
            logger.error("queue %s: refused entry %s, which is not one of ours", queue.name, job.id)
            self.prepare_execution(job)
            self.handle_job_failure(job, queue, exc_string="refused")
            return
        self._leash = os.pipe()
        self._job, self._since = job.args[0], datetime.now(UTC)
        self._forked = time.monotonic()
        self._watch.forget()
        try:
            with bound(job=self._job, attempt=job.id.rpartition("-")[2]):
                super().execute_job(job, queue)
        finally:
            self._job, self._since = None, datetime.now(UTC)
            for end in self._leash:
                os.close(end)
            self._leash = None

    def monitor_work_horse(self, job: Job, queue: Queue) -> None:
        child = self.horse_pid
        try:
            super().monitor_work_horse(job, queue)
        finally:
            # the child leads a process group: helpers that it started must not outlive it
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)

    def maintain_heartbeats(self, job: Job) -> None:
        self._enforce(job)
        try:
            super().maintain_heartbeats(job)
        except redis.RedisError as error:
            # the job needs no Redis to go on, and its lease is in the ledger
            logger.warning("heartbeat of worker %s failed: %s", self.name, error)

    def _enforce(self, job: Job) -> None:
        """Kill a child that should have ended by itself; `handle_work_horse_killed` then closes its attempt.

        The child's own lease thread comes first; this is for one that is frozen, or kept by native code from running.
        """
        try:
            with self._ledger() as ledger:
                record = ledger.job(job.args[0])
        except SQLAlchemyError as error:
            logger.warning("job %s cannot be looked after: %s", job.args[0], error)
            return
        if self._overstays(record):
            logger.warning("job %s: its process should have ended long ago and is killed", record.id)
            self.kill_horse()

    def _overstays(self, job: JobRecord) -> bool:
        if not job.attempts or job.started_at is None:
            return False  # it has only just been forked
        ended = job.attempts[-1].worker != self.name or job.attempts[-1].ended_at is not None
        cancelling = job.state is JobState.CANCELLING
        seen = self._watch.unchanged({"ended": ended, "cancelling": cancelling, "leaving": self._draining})
        if ended:
            # the attempt was given to another worker, or closed; the child clears RQ's records and is gone in a moment
            return seen["ended"] > self.settings.lease_seconds
        if job.state is JobState.CANCELLING:
            return seen["cancelling"] > 2 * self.settings.cancel_seconds
        if self._draining and seen["leaving"] > self.settings.drain_seconds + 2 * self.settings.cancel_seconds:
            return True
        return self._elapsed > job.time_limit + 2 * self.settings.grace_seconds + self.settings.lease_seconds

    @property
    def _elapsed(self) -> float:
        """Seconds since the current child was forked, by a clock that nobody sets."""
        return time.monotonic() - self._forked

    def handle_work_horse_killed(self, job: Job, retpid: int, ret_val: int, rusage: Any) -> None:  # noqa: ARG002
        """Close the attempt of a child that ended without doing so."""
        with ExitStack() as stack:
            ledger = stack.enter_context(self._ledger())
            try:
                record = ledger.job(job.args[0])
                current = record.attempts[-1] if record.attempts else None
                if current is None or current.worker != self.name or current.ended_at is not None:
                    return
                events = Events(self.settings.queue_url)
                stack.callback(events.close)
                dispatcher = Dispatcher(self.settings.queue_url)
                stack.callback(dispatcher.close)
                self._close(Closing(ledger, events, dispatcher), record, ret_val, rusage)
            except SQLAlchemyError as error:
                logger.warning("job %s is left to the reaper: %s", job.args[0], error)

    def _close(self, closing: Closing, job: JobRecord, status: int, rusage: resource.struct_rusage | None) -> None:
        elapsed = self._elapsed
        # what the child took beyond what it inherited; a native library that is refused memory may just abort
        own = resource.getrusage(resource.RUSAGE_SELF)
        taken_mb = (_kilobytes(rusage) - _kilobytes(own)) / 1024
        if job.state is JobState.CANCELLING:
            closing.cancel(job)
        elif elapsed >= job.time_limit + self.settings.grace_seconds:
            closing.expire(job)
        elif taken_mb > self.settings.memory_limit_mb / 2:
            message = (
                f"the job was ended ({_ending(status)}) when it had taken {taken_mb:.0f} MB of memory, with a limit of "
                f"{self.settings.memory_limit_mb} MB; use a smaller network or ask the operator to raise "
                "NETPROOF_MEMORY_LIMIT_MB"
            )
            closing.fail(job, Failure.OUT_OF_MEMORY, message)
        elif self._draining:
            closing.give_back(job, "its worker was stopped")
        else:
            closing.recover(job, f"the solver's process ended abruptly ({_ending(status)})", failure=Failure.CRASHED)

    @contextlib.contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        """A ledger for a moment: no connection of the parent may be open across a fork."""
        ledger = Ledger(self.settings.ledger_url)
        try:
            yield ledger
        finally:
            ledger.close()

    def handle_warm_shutdown_request(self) -> None:
        super().handle_warm_shutdown_request()
        self._draining = True  # told with the next heartbeat: a signal may interrupt another command to Redis
        if self._leash is not None:
            os.write(self._leash[1], DRAIN)

    def request_force_stop(self, signum: int, frame: Any) -> None:  # noqa: ARG002
        """Asked again to leave, give the job back at once; RQ would kill it, and its bounds and an attempt with it."""
        if self._leash is not None and (rq_now() - self._shutdown_requested_date).total_seconds() >= _AGAIN_SECONDS:
            os.write(self._leash[1], DRAIN)

    # -- in the child ----------------------------------------------------------------------------------------------

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        die_with_parent(self.pid)
        assert self._leash is not None
        os.close(self._leash[1])  # else the leash would not end with the worker
        super().main_work_horse(job, queue)

    def perform_job(self, job: Job, queue: Queue) -> bool:
        """Run the job and clear RQ's records of the entry; nothing that the entry names is imported."""
        assert self._leash is not None
        self.prepare_job_execution(job, remove_from_intermediate_queue=len(self.queues) == 1)
        job.started_at = rq_now()
        try:
            run_job(job.args[0], Surroundings(self.settings, self.name, self._leash[0]))
        except Exception:
            logger.exception("job %s ended without being closed", job.args[0])
            raise  # the parent closes the attempt
        job.ended_at = rq_now()
        self.handle_job_success(job, queue, queue.started_job_registry)
        return True


def _is_ours(job: Job) -> bool:
    """Whether a queue entry has the one form that `service.queue.Dispatcher` gives it."""
    try:
        return bool(
            job.func_name == JOB_FUNCTION and len(job.args) == 1 and isinstance(job.args[0], str) and not job.kwargs
        )
    except Exception:  # noqa: BLE001 - undecodable entries raise whatever the decoder raises
        return False


def _ending(status: int | None) -> str:
    if status is not None and os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
    return f"status {status}"


def _kilobytes(rusage: resource.struct_rusage | None) -> int:
    """Peak resident memory; Linux reports kilobytes, macOS bytes."""
    if rusage is None:
        return 0
    return int(rusage.ru_maxrss) // (1024 if sys.platform == "darwin" else 1)


def preload() -> None:
    """Import whatever a job may need, before forking: a job then starts in a tenth of a second and not in two.

    Importing is all: no tensor operation and no solver runs here, as their thread pools would not survive the fork.
    """
    import highspy  # noqa: F401
    import onnx  # noqa: F401
    import pyomo.environ
    import pyomo.repn.plugins.standard_form  # noqa: F401

    import bounds
    import certificates
    import networks
    import solver
    from networks.runtime import onnx_runtime

    for package in (networks, certificates, bounds, solver):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    onnx_runtime()


def main(settings: Settings, queues: Sequence[str] = QUEUES, *, name: str | None = None, burst: bool = False) -> None:
    """Work until told to stop (SIGTERM, SIGINT), or with ``burst`` until the queues are empty."""
    # read when these libraries are loaded, and by whatever pool they start later
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(settings.job_threads)
    keep_memory()
    with probed() as backends:
        preload()
    queues = _licensed(queues, backends)
    Ledger(settings.ledger_url).create()
    SolverWorker(settings, queues, name=name, backends=backends).work(burst=burst, logging_level="WARNING")


def _licensed(queues: Sequence[str], backends: Mapping[str, BackendRecord]) -> list[str]:
    """Those of ``queues`` whose solver can be used here; another worker may have what this one lacks.

    A full licence also serves what is too large for others.

    Raises:
        BackendUnavailableError: none can.
    """
    served = []
    for queue in queues:
        found = backends[queue.partition("-")[0]]
        if found.licence is Licence.NONE:
            logger.warning("queue %s is not served: %s", queue, found.terms)
            continue
        full = unlimited(queue)
        if full is not None and found.licence is Licence.FULL:
            served.append(full)  # first: nobody else can take what waits there
        served.append(queue)
    if not served:
        whys = {backends[queue.partition("-")[0]].terms for queue in queues}
        msg = f"nothing can be solved here for queues {', '.join(queues)}: {'; '.join(sorted(whys))}"
        raise BackendUnavailableError(msg)
    return served


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m service.worker", description="A netproof worker.")
    parser.add_argument("--queue", action="append", choices=QUEUES, help="queue to serve; repeat in order of urgency")
    parser.add_argument("--parent", type=int, help="stop when this process, which must be the parent, ends")
    return parser.parse_args()


if __name__ == "__main__":
    options = _arguments()
    if options.parent is not None:
        die_with_parent(options.parent, signal.SIGTERM)
    settings = Settings()
    start_logging("worker", settings.log_format)
    main(settings, options.queue or QUEUES)
