"""How attempts and jobs end, whoever notices: the job itself, its worker, or the reaper.

Every way out is a method of `Closing`: one compare-and-set in the ledger, then a ``state`` event. Each returns whether
it took effect, which it does not when the attempt is no longer the job's current one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import logging
import math
import time
from collections.abc import Callable
from typing import Any, Literal

import redis
from sqlalchemy.exc import OperationalError

from service.answers import Asked
from service.context import at_work
from service.events import Events
from service.ledger import Ledger
from service.models import JobRecord
from service.queue import Dispatcher, unlimited
from service.states import JobState
from solver.verdict import Outcome, Reason, Verdict

__all__ = ["Closing", "Failure", "tightened", "unknown_verdict"]

logger = logging.getLogger(__name__)


_PAUSE_SECONDS = 0.5
#: Members of reports and verdicts that are intervals, proven below and attained above.
_BOUNDS = ("margin", "distance")
#: The report of an attempt that has reported nothing.
_NOTHING: dict[str, Any] = {"stage": "queued", "seconds": 0.0, "open": 0, "nodes": 0}


class Failure(enum.StrEnum):
    """Codes of failures that are about the run; those about the input are coded as `service.problems` names them."""

    OUT_OF_MEMORY = "out_of_memory"
    WORKER_LOST = "worker_lost"
    CRASHED = "crashed"
    INTERNAL = "internal_error"


class Closing:
    """Ends attempts: in the ledger, in the job's event stream and, where there is another try, in the queue.

    Attributes:
        tallies: where it counts what it does.
        dispatcher: where it queues jobs.

    Args:
        ledger, events, dispatcher: where.
        patience: seconds for which a ledger that does not answer, or has no room, is tried again: a job that holds a
            verdict had better wait than have it found once more.
    """

    def __init__(self, ledger: Ledger, events: Events, dispatcher: Dispatcher, *, patience: float = 0.0) -> None:
        self._patience = patience
        self._ledger = ledger
        self._events = events
        self.dispatcher = dispatcher
        self.tallies = events.tallies

    def succeed(self, job: JobRecord, verdict: dict[str, Any], *, asked: Asked | None = None) -> bool:
        """The job has its verdict, ``unknown`` being one; it serves later questions like ``asked``.

        Raises:
            SoundnessError: the verdict contradicts another answer to the same question; the job goes on.
        """
        return self._finish(job, JobState.SUCCEEDED, verdict=plain(verdict), asked=asked)

    def swept(self, job: JobRecord) -> bool:
        """The sweep job has written down what it found; what it left goes back to its batch."""
        return self._finish(job, JobState.SUCCEEDED)

    def advance(self, batch: str) -> None:
        """Make and queue the jobs that a batch needs next; without Redis they wait in the ledger for the reaper."""
        made = self._ledger.batches.advance(batch)
        with contextlib.suppress(redis.RedisError):
            for job in made:
                self.dispatcher.enqueue(job)

    def cancel(self, job: JobRecord, verdict: dict[str, Any] | None = None) -> bool:
        """The job was asked to stop and has; without a verdict, the last bounds that it reported are kept."""
        kept = plain(verdict) if verdict is not None else self._bounds(job, Reason.CANCELLED)
        return self._finish(job, JobState.CANCELLED, verdict=kept)

    def expire(self, job: JobRecord) -> bool:
        """The job ran past its deadline and was killed; the last bounds that it reported are its verdict."""
        reason = "killed at its deadline"
        return self._finish(job, JobState.SUCCEEDED, verdict=self._bounds(job, Reason.TIMEOUT), reason=reason)

    def fail(self, job: JobRecord, code: str, message: str) -> bool:
        """The job cannot have a verdict."""
        return self._finish(job, JobState.FAILED, error={"code": code, "message": message}, reason=message[:1024])

    def give_back(self, job: JobRecord, why: str, verdict: dict[str, Any] | None = None) -> bool:
        """The job's worker is leaving: it is queued again at no cost to its attempts, with ``verdict``'s bounds."""
        progress = self._ledger.job(job.id).progress
        if verdict is not None:
            known = {name: verdict[name] for name in _BOUNDS if verdict.get(name) is not None}
            progress = tightened({**(progress or _NOTHING), **plain(known)}, progress)
        return self._requeue(job, why, "drained", progress=progress)

    def escalate(self, job: JobRecord, why: str) -> bool:
        """The job is too large for its worker's licence: it moves to where a full one is; False if that is nowhere."""
        queue = unlimited(job.queue)
        try:
            workers = [] if queue is None else self.dispatcher.workers()
        except redis.RedisError:
            return False  # who else there is cannot be known
        if not any(queue in worker.queues and not worker.draining for worker in workers):
            return False
        return self._requeue(job, why, "licence", queue=queue)

    def recover(self, job: JobRecord, why: str, *, failure: Failure = Failure.WORKER_LOST) -> bool:
        """The attempt ended without a word: try again while attempts are left, else fail with ``failure``.

        A job that was being cancelled is cancelled: nobody waits for another attempt.
        """
        if self._ledger.job(job.id).state is JobState.CANCELLING:
            return self.cancel(job)
        if job.losses + 1 >= job.max_attempts:
            message = f"{why}; {job.losses + 1} of {job.max_attempts} attempts ended like this"
            return self.fail(job, failure, message)
        return self._requeue(job, why, "lost")

    def _requeue(
        self,
        job: JobRecord,
        why: str,
        kind: Literal["lost", "drained", "licence"],
        *,
        queue: str | None = None,
        progress: dict[str, Any] | None = None,
    ) -> bool:
        values: dict[str, Any] = {"reason": why[:1024], "lost": kind == "lost", "queue": queue, "progress": progress}
        with at_work(job.id, job.attempt, job.origin):
            if not self._insist(lambda: self._ledger.requeue(job.id, job.attempt, **values)):
                return False
            logger.warning("job %s, attempt %d: %s; queued again", job.id, job.attempt, why)
            self.tallies.count("jobs_requeued", kind)
            self.tallies.flush()
            self._publish(job, JobState.QUEUED)
            # without Redis the job stays queued in the ledger, where the reaper finds it
            with contextlib.suppress(redis.RedisError):
                self.dispatcher.enqueue(dataclasses.replace(job, queue=queue or job.queue))
            return True

    def _finish(self, job: JobRecord, state: JobState, **values: Any) -> bool:
        with at_work(job.id, job.attempt, job.origin):
            if not self._insist(lambda: self._ledger.finish(job.id, job.attempt, state, **values)):
                logger.warning("job %s: attempt %d came too late to make it %s", job.id, job.attempt, state)
                return False
            logger.info("job %s: attempt %d ended, %s", job.id, job.attempt, state)
            if job.parent is None:
                self._count(job, state, **values)
            self._publish(job, state)
            if job.batch is not None:
                self.advance(job.batch)
            following = self._ledger.following(job)
            if following is not None:
                with contextlib.suppress(redis.RedisError):
                    self.dispatcher.enqueue(following)
            return True

    def _count(
        self,
        job: JobRecord,
        state: JobState,
        *,
        verdict: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
        asked: Asked | None = None,
        reason: str | None = None,  # noqa: ARG002 - has no few values
    ) -> None:
        tallies, outcome = self.tallies, "none" if verdict is None else str(verdict["verdict"])
        tallies.count("jobs_ended", state, outcome)
        if error is not None:
            tallies.count("jobs_failed", error["code"])
        cached = verdict is not None and bool(verdict.get("cached_from"))
        if cached or (asked is not None and job.request.get("reuse", True)):
            tallies.count("cache_lookups", "job", "hit" if cached else "miss")
        if verdict is not None and not cached:
            engine = verdict.get("decided_by") or "none"
            tallies.observe("solve_seconds", float(verdict.get("seconds", 0.0)), engine, outcome)
        if state is JobState.CANCELLED:
            ended = self._ledger.job(job.id)
            if ended.cancelled_at is not None and ended.finished_at is not None:
                tallies.observe("cancel_seconds", (ended.finished_at - ended.cancelled_at).total_seconds())
        tallies.flush()

    def _insist(self, write: Callable[[], bool]) -> bool:
        """What a compare-and-set in the ledger says, tried again while the database cannot be written to.

        One that took effect although its answer was lost says False the next time; either way it is written once.
        """
        end = time.monotonic() + self._patience
        while True:
            try:
                return write()
            except OperationalError as error:
                if time.monotonic() + _PAUSE_SECONDS > end:
                    raise
                logger.warning("the ledger cannot be written to (%s); tried again in %g s", error.orig, _PAUSE_SECONDS)
                time.sleep(_PAUSE_SECONDS)

    def _publish(self, job: JobRecord, state: JobState) -> None:
        self._events.publish(job.id, "state", {"state": state, "attempt": job.attempt})

    def _bounds(self, job: JobRecord, reason: Reason) -> dict[str, Any]:
        return unknown_verdict(self._ledger.job(job.id).progress, reason)


def unknown_verdict(progress: dict[str, Any] | None, reason: Reason) -> dict[str, Any]:
    """The verdict of a job that could not speak for itself, from the last progress that it reported.

    *Soundness.* Both bounds were proven, or replayed, when they were reported; nothing is concluded from them here.
    """
    known = progress or {}
    lower, upper = known.get("margin") or (None, None)
    verdict = Verdict(
        outcome=Outcome.UNKNOWN,
        trust=None,
        margin=(-math.inf if lower is None else lower, math.inf if upper is None else upper),
        seconds=float(known.get("seconds", 0.0)),
        reason=reason,
        hint="the job was ended from outside; these are the bounds that it had last reported",
    )
    return verdict.to_json()


def tightened(document: dict[str, Any], earlier: dict[str, Any] | None) -> dict[str, Any]:
    """A report or verdict with the bounds of an earlier report where these are better.

    *Soundness.* Both are about the same question, so what was proven or replayed then holds now. Where the two have
    nothing in common, which float32 rounding can bring about, the newer stay as they are.
    """
    for name in _BOUNDS:
        new, old = document.get(name), (earlier or {}).get(name)
        if new is None or old is None:
            continue
        lower = max((end for end in (new[0], old[0]) if end is not None), default=None)
        upper = min((end for end in (new[1], old[1]) if end is not None), default=None)
        if lower is None or upper is None or lower <= upper:
            document = {**document, name: [lower, upper]}
    return document


def plain(value: Any) -> Any:
    """``value`` with only what JSON has: NumPy scalars become numbers, numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
