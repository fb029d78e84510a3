"""The thread beside a running job: it renews the job's lease, reports progress, and learns when to stop.

It runs in the forked child. Solvers release Python's global lock while they work, so it keeps its rhythm; should one
not, the worker outside (`service.worker`) and the reaper act on the lease that then lapses.

To stop is first a request: the solver polls `Lease.stop` and returns with its bounds. A solver that does not return is
ended, with the bounds that it had reported.
"""

from __future__ import annotations

import contextvars
import enum
import logging
import os
import select
import signal
import threading
import time
from types import TracebackType
from typing import Self

from service.closing import Closing, tightened
from service.events import Events
from service.history import History
from service.ledger import Ledger
from service.models import JobRecord
from service.settings import Settings
from service.states import JobState
from solver.verdict import Progress

__all__ = ["DRAIN", "Lease", "Stop"]

logger = logging.getLogger(__name__)

#: What a worker writes into a job's leash when it wants to leave; the leash's end means that the worker is gone.
DRAIN = b"d"


class Stop(enum.StrEnum):
    """Why a job is to stop."""

    CANCELLED = "cancelled"
    DRAINED = "drained"
    EXPIRED = "expired"


class Lease:
    """Held while a job runs; a context manager.

    Args:
        job: the running job; its attempt number is what the lease is on.
        leash: read end of a pipe whose write end only the worker holds, None without a worker (tests).

    Attributes:
        history: what was reported so far, to be kept with the verdict.
    """

    def __init__(
        self,
        job: JobRecord,
        ledger: Ledger,
        events: Events,
        closing: Closing,
        settings: Settings,
        *,
        leash: int | None = None,
    ) -> None:
        self._job = job
        self._ledger = ledger
        self._events = events
        self._closing = closing
        self._settings = settings
        self._leash = leash
        self.history = History()
        self._progress: Progress | None = None
        self._deadline = time.monotonic() + job.time_limit + settings.grace_seconds
        self._drain_at: float | None = None
        self._stop: Stop | None = None
        self._stop_since = 0.0
        self._done = False
        self._wake = os.pipe()
        run = contextvars.copy_context().run  # what this thread logs is about this job, too
        self._thread = threading.Thread(target=run, args=(self._run,), name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Stop renewing, at once: the attempt is about to be ended by whoever calls. Again, it does nothing."""
        if self._done:
            return
        self._done = True
        os.close(self._wake[1])
        self._thread.join()
        os.close(self._wake[0])

    def report(self, progress: Progress) -> None:
        """Take note of progress; it is passed on with the next heartbeat, so it may be called as often as one likes."""
        self._progress = progress
        self.history.add(progress.to_json())

    def stop(self) -> bool:
        """Whether the solver is to return now with what it has."""
        return self._stop is not None

    @property
    def remaining(self) -> float:
        """Seconds until the attempt is ended from outside, whatever it is doing then."""
        return max(0.0, self._deadline - time.monotonic())

    @property
    def reason(self) -> Stop | None:
        """Why `stop` is true."""
        return self._stop

    def _run(self) -> None:
        reported: Progress | None = None
        while not self._done:
            progress = self._progress
            fresh = None if progress is reported or progress is None else progress
            try:
                self._beat(fresh)
                reported = progress
            except Exception:
                # whatever fails here (database, memory), the solver goes on
                logger.warning("job %s: a heartbeat failed", self._job.id, exc_info=True)
            self._pause()

    def _beat(self, progress: Progress | None) -> None:
        document = None if progress is None else tightened(progress.to_json(), self._job.progress)
        state = self._ledger.renew(
            self._job.id, self._job.attempt, lease_seconds=self._settings.lease_seconds, progress=document
        )
        if self._done:
            return  # the main thread is ending the attempt, or has
        now = time.monotonic()
        if state is None:
            logger.warning("job %s: attempt %d was superseded and ends", self._job.id, self._job.attempt)
            self._die()
        if state is JobState.CANCELLING:
            self._ask(Stop.CANCELLED, now)
        elif self._drain_at is not None and now >= self._drain_at:
            self._ask(Stop.DRAINED, now)
        if document is not None:
            self._events.publish(self._job.id, "progress", document)
        if self._stop is not None and now - self._stop_since >= self._settings.cancel_seconds:
            self._enforce(self._stop)
        elif now >= self._deadline:
            self._enforce(Stop.EXPIRED)

    def _ask(self, reason: Stop, now: float) -> None:
        if self._stop is None:
            self._stop_since = now
        if self._stop is None or reason is Stop.CANCELLED:  # what a user asks for outranks a drain
            self._stop = reason

    def _enforce(self, reason: Stop) -> None:
        """End the attempt from outside the solver, and this process with it."""
        logger.warning("job %s: the solver does not return (%s) and is ended", self._job.id, reason)
        match reason:
            case Stop.CANCELLED:
                self._closing.cancel(self._job)
            case Stop.DRAINED:
                self._closing.give_back(self._job, "its worker was stopped")
            case Stop.EXPIRED:
                self._closing.expire(self._job)
        self._die()

    def _pause(self) -> None:
        """Wait for the next heartbeat, for the job's end, or for the worker to say something."""
        watched = [end for end in (self._wake[0], self._leash) if end is not None]
        readable, _, _ = select.select(watched, [], [], self._settings.heartbeat_seconds)
        if self._leash is None or self._leash not in readable:
            return
        if os.read(self._leash, 1) != DRAIN:
            logger.warning("job %s: its worker is gone, and so it ends", self._job.id)
            self._die()
        now = time.monotonic()
        # told a second time, the job is to be left at once
        self._drain_at = now + self._settings.drain_seconds if self._drain_at is None else now

    @staticmethod
    def _die() -> None:
        """End this process and what it started; nothing may be written after this attempt's end."""
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)
