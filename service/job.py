"""What happens inside the forked child that a worker starts for each job."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import redis
from sqlalchemy.exc import InterfaceError, OperationalError

from networks.dataset import Dataset
from networks.errors import NetproofError, SoundnessError
from service import tracing
from service.artifacts import Artifacts, open_artifacts
from service.closing import Closing, Failure, plain, tightened
from service.context import at_work
from service.coordinator import Coordinator, search_part
from service.errors import StorageDamagedError, StorageError
from service.events import Events
from service.keeping import Keeper
from service.lease import Lease, Stop
from service.ledger import Ledger
from service.limits import lift_memory_limit, limit_memory
from service.models import JobRecord
from service.queue import Dispatcher
from service.request import build_query
from service.reuse import Asked, asked
from service.settings import Settings
from service.sweep import run_sweep
from solver.errors import LicenceLimitError
from solver.sizes import is_memory_error
from solver.verdict import Outcome

if TYPE_CHECKING:
    from networks.graph import Network

__all__ = ["Surroundings", "run_job"]

logger = logging.getLogger(__name__)

#: The interpreter-independent deadline comes this much after the one that can still write a verdict.
_LAST_RESORT_SECONDS = 5.0
#: A verdict waits so long for a ledger that cannot be written to; then the job is left to the reaper, and done again.
_PATIENCE_SECONDS = 60.0

#: What a job meets where ledger or queue do not answer, for a moment or for good.
_AWAY = (OperationalError, InterfaceError, redis.RedisError)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a job needs to know of where it runs: the worker's name, and the leash (see `service.lease`)."""

    settings: Settings
    worker: str
    leash: int | None = None


def run_job(job_id: str, around: Surroundings) -> None:
    """Start the job's next attempt, run it to its end and write down how it ended.

    A job that is not queued (it was started elsewhere, or cancelled) is left alone. Whatever goes wrong ends up in the
    ledger in words for the user; a traceback goes to the log only.
    """
    settings = around.settings
    with ExitStack() as stack:
        ledger = Ledger(settings.ledger_url)
        stack.callback(ledger.close)
        job = ledger.start(
            job_id, worker=around.worker, lease_seconds=settings.lease_seconds, threads=settings.job_threads
        )
        if job is None:
            logger.info("job %s is not queued any more; nothing to do", job_id)
            return
        stack.enter_context(at_work(job.id, job.attempt, job.origin))
        logger.info("job %s: attempt %d starts", job.id, job.attempt)
        events = Events(settings.queue_url)
        stack.callback(events.close)
        dispatcher = Dispatcher(settings.queue_url)
        stack.callback(dispatcher.close)
        closing = Closing(ledger, events, dispatcher, patience=_PATIENCE_SECONDS)
        if job.started_at is not None:
            events.tallies.observe("queued_seconds", (job.started_at - job.queued_at).total_seconds(), job.queue)
        events.publish(job.id, "state", {"state": job.state, "attempt": job.attempt})
        with _deadline(job, settings), Lease(job, ledger, events, closing, settings, leash=around.leash) as lease:
            _run(job, lease, ledger, closing, settings)
        if tracing.wanted():
            tracing.trace_job(ledger.job(job.id))


def _run(job: JobRecord, lease: Lease, ledger: Ledger, closing: Closing, settings: Settings) -> None:
    limit_memory(settings.memory_limit_mb)
    artifacts = open_artifacts(settings)
    keeper = Keeper(artifacts, lease)
    try:
        found = _work(job, lease, ledger, closing, settings, artifacts, keeper)
    except Exception as error:  # noqa: BLE001 - the last place that can tell the user anything
        lift_memory_limit()
        lease.release()
        if isinstance(error, StorageError) and not isinstance(error, StorageDamagedError):
            closing.give_back(job, str(error))  # no fault of the job's: it is worked on again when the store is back
        elif isinstance(error, _AWAY):
            closing.recover(job, f"the job's worker lost its way to the service ({type(error).__name__})")
        elif not (isinstance(error, LicenceLimitError) and closing.escalate(job, str(error))):
            closing.fail(job, *_explain(job, error, settings))
        return
    lift_memory_limit()
    lease.release()
    if found is not None and found.verdict.get("verdict") == Outcome.UNKNOWN:
        found = replace(found, verdict=tightened(found.verdict, job.progress))
    if found is not None and not found.verdict.get("cached_from"):
        found.verdict["history"] = lease.history.points()
    stopped = lease.stop() and (found is None or found.verdict.get("reason") is not None)
    if stopped and lease.reason is Stop.CANCELLED:
        closing.cancel(job, None if found is None else found.verdict)
    elif stopped:
        closing.give_back(job, "its worker was stopped", None if found is None else found.verdict)
    elif found is None:
        closing.swept(job)
    else:
        try:
            closing.succeed(job, found.verdict, asked=found.asked)
        except SoundnessError as error:
            closing.fail(job, *_explain(job, error, settings))
    keeper.confirm()


@dataclass(frozen=True, slots=True)
class _Answer:
    """A verdict in JSON, and the question whose later askers it may serve."""

    verdict: dict[str, Any]
    asked: Asked | None


def _work(
    job: JobRecord,
    lease: Lease,
    ledger: Ledger,
    closing: Closing,
    settings: Settings,
    artifacts: Artifacts,
    keeper: Keeper,
) -> _Answer | None:
    """The job's answer; None for a sweep, which has written down what it found."""
    import networks

    record = ledger.network(job.network)
    model = artifacts.read(job.network)
    # The inspection of the upload has compared these very bytes with ONNX Runtime already.
    network = networks.load_bytes(model, name=record.name, compare=False)
    if "sweep" in job.request:
        data = artifacts.get(ledger.datasets.get(job.request["dataset"]).artifact).path
        threads = settings.job_threads
        run_sweep(job, network, data, lease, ledger, threads=threads, keeper=keeper, tallies=closing.tallies)
        return None
    if job.parent is not None:
        return _Answer(search_part(job, network, lease, artifacts, keeper, threads=settings.job_threads), None)
    return _solve(job, network, lease, ledger, closing, artifacts, keeper, settings)


def _solve(
    job: JobRecord,
    network: Network,
    lease: Lease,
    ledger: Ledger,
    closing: Closing,
    artifacts: Artifacts,
    keeper: Keeper,
    settings: Settings,
) -> _Answer:
    from solver import answer

    request = _with_input(job.request, ledger, artifacts)
    if request["query"].get("kind") == "universal":
        return _Answer(_universal(request, network, lease, settings), None)
    key = asked(request)
    request = _with_other(request, ledger, artifacts)
    question, options, budget = build_query(request, network, threads=settings.job_threads)
    if key is not None and request.get("reuse", True):
        known = ledger.answers.find([key], owner=job.owner).get(key)
        if known is not None:
            return _Answer(known, None)
    helpers = Coordinator(job, question.network, ledger, closing.dispatcher, artifacts, settings)
    budget = dataclasses.replace(budget, helpers=helpers)
    verdict = answer(question, options=options, budget=budget, progress=lease.report, cancel=lease.stop)
    if verdict.certificate is not None:
        keeper.put(verdict.certificate)
    document = plain(verdict.to_json())
    if question.network is not network:
        keeper.put(question.network.model)
        document["product"] = {"bytes": len(question.network.model), "sha256": question.network.sha256}
    return _Answer(document, key)


def _universal(request: dict[str, Any], network: Network, lease: Lease, settings: Settings) -> dict[str, Any]:
    """The document about one perturbation of many inputs."""
    from solver import Backend, Budget, Options
    from solver.universal_question import as_document, search_universal

    members = {name: value for name, value in request["query"].items() if name != "kind"}
    found = search_universal(
        network,
        **members,
        options=Options(backend=Backend(request["backend"])),
        budget=Budget(float(request["time_limit"]), settings.job_threads),
        progress=lease.report,
        cancel=lease.stop,
    )
    return as_document(found)


def _with_other(request: dict[str, Any], ledger: Ledger, artifacts: Artifacts) -> dict[str, Any]:
    """The request with the network that another is compared with in place of its sha256, where there is one."""
    import networks

    stated = request["query"].get("equivalent_to")
    if stated is None:
        return request
    record = ledger.network(stated["network"])
    other = networks.load_bytes(artifacts.read(record.sha256), name=record.name, compare=False)
    return {**request, "query": {**request["query"], "equivalent_to": {**stated, "network": other}}}


def _with_input(request: dict[str, Any], ledger: Ledger, artifacts: Artifacts) -> dict[str, Any]:
    """The request with its input in place, where it names one of a data set."""
    query = request["query"]
    if "dataset" not in query:
        return request
    dataset = Dataset.read(artifacts.get(ledger.datasets.get(query["dataset"]).artifact).path)
    rest = {key: value for key, value in query.items() if key not in {"dataset", "index"}}
    return {**request, "query": {**rest, "input": dataset.input(query["index"])}}


def _explain(job: JobRecord, error: Exception, settings: Settings) -> tuple[str, str]:
    """The code and message of a failure, for the user."""
    if is_memory_error(error):
        message = (
            f"the job needed more than its limit of {settings.memory_limit_mb} MB of memory; use a smaller network or "
            "ask the operator to raise NETPROOF_MEMORY_LIMIT_MB"
        )
        return Failure.OUT_OF_MEMORY, message
    if isinstance(error, NetproofError):
        from service.problems import kind_of  # brings FastAPI, which a job that goes well does not need

        return kind_of(error).slug.replace("-", "_"), str(error)
    logger.error("job %s failed", job.id, exc_info=error)
    message = f"an internal error ended the job ({type(error).__name__}); the worker's log has it under job {job.id}"
    return Failure.INTERNAL, message


@contextlib.contextmanager
def _deadline(job: JobRecord, settings: Settings) -> Iterator[None]:
    """End this process when all other deadlines have failed, even inside native code that holds the global lock.

    The dump of all threads goes to a log file. The worker outside sees the exit and closes the attempt.
    """
    log = _deadline_log(settings)
    try:
        with contextlib.suppress(OSError):  # what a full disk does not take is not worth a job
            os.write(log, f"job {job.id} attempt {job.attempt} pid {os.getpid()}\n".encode())
        seconds = job.time_limit + settings.grace_seconds + _LAST_RESORT_SECONDS
        faulthandler.dump_traceback_later(seconds, exit=True, file=log)
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.close(log)


def _deadline_log(settings: Settings) -> int:
    """A descriptor of the log file of deadlines; without room for one, of the worker's own log."""
    try:
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        return os.open(settings.log_dir / "deadlines.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        logger.warning("deadlines are logged to stderr: %s", error)
        return os.dup(2)
