"""The reaper: brings back what fell between ledger, queue and workers.

Every few seconds it looks for

* jobs in progress whose lease lapsed: their worker is gone, and they get another attempt or fail;
* jobs that should have stopped long ago, whose worker can no longer be reached: they end with the bounds they reported;
* jobs that are queued in the ledger but wait in no queue, because Redis lost them or never had them;
* batches whose next jobs nobody made.

All it does is compare-and-set in the ledger, so any number of reapers is safe; a lock in Redis keeps all but one idle.
No clock that can be set decides anything that matters: a lease has lapsed when this reaper saw it unchanged for as long
as leases last, so machines may disagree about the time, and it may jump (`service.watching`).
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import redis
from redis.exceptions import LockError
from sqlalchemy.exc import SQLAlchemyError

from service.closing import Closing
from service.events import Events
from service.ledger import Ledger
from service.limits import die_with_parent
from service.logs import start_logging
from service.models import JobRecord
from service.queue import Dispatcher
from service.settings import Settings
from service.states import JobState
from service.tallies import LAST_SWEEP
from service.watching import Watch

__all__ = ["Reaper", "main"]

logger = logging.getLogger(__name__)

_LOCK = "netproof:reaper"
_LOCK_SECONDS = 60.0


class Reaper:
    """One pass over the ledger at a time."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        events: Events,
        dispatcher: Dispatcher,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._closing = Closing(ledger, events, dispatcher)
        self._leases: Watch[tuple[str, int]] = Watch(clock)
        self._cancels: Watch[str] = Watch(clock)
        self._locks: Watch[str] = Watch(clock)
        self._tallies = events.tallies

    def sweep(self) -> int:
        """Look once; returns how many jobs were put right. Another reaper at work means none.

        Raises:
            redis.RedisError: the queue server does not answer.
            SQLAlchemyError: the database does not answer.
        """
        lock = self._dispatcher.redis.lock(_LOCK, timeout=_LOCK_SECONDS, blocking=False)
        if not lock.acquire():
            self._break_old_lock()
            return 0
        try:
            return self._put_right()
        except SQLAlchemyError:
            # workers could not renew their leases either, and get as long as ever once they can
            self._leases.forget()
            raise
        finally:
            try:
                lock.release()
            except LockError:
                logger.warning("a sweep took longer than %g s", _LOCK_SECONDS)

    def _put_right(self) -> int:
        active = self._ledger.active()
        done = {"lapsed": self._lapsed(active), "overdue": self._overdue(active), "stray": self._stray()}
        for action, number in done.items():
            self._tallies.count("reaper_actions", action, by=number)
        self._tallies.count("leases_lost", by=done["lapsed"])
        self._tallies.flush()
        self._dispatcher.redis.set(LAST_SWEEP, time.time())
        for batch in self._ledger.batches.unfinished():
            self._closing.advance(batch)  # whoever ended its last job may not have come to it
        return sum(done.values())

    def run(self, stop: threading.Event) -> None:
        """Sweep periodically until ``stop``; servers that do not answer are tried again."""
        while not stop.is_set():
            try:
                self.sweep()
            except (redis.RedisError, SQLAlchemyError) as error:
                logger.warning("the sweep was cut short: %s", error)
            stop.wait(self._settings.reap_seconds)

    def _lapsed(self, active: Sequence[JobRecord]) -> int:
        jobs = {(job.id, job.attempt): job for job in active}
        leases = {key: job.attempts[-1].lease_until for key, job in jobs.items()}
        silent = self._leases.unchanged(leases)
        why = "its worker fell silent"
        return sum(
            self._closing.recover(jobs[key], why)
            for key, seconds in silent.items()
            if seconds >= self._settings.lease_seconds
        )

    def _overdue(self, active: Sequence[JobRecord]) -> int:
        # the job's own thread and its worker come first, with shorter patience
        patience = 3 * self._settings.cancel_seconds + self._settings.lease_seconds
        cancelling = {job.id: job for job in active if job.state is JobState.CANCELLING}
        waiting = self._cancels.unchanged({key: job.attempt for key, job in cancelling.items()})
        return sum(self._closing.cancel(cancelling[key]) for key, seconds in waiting.items() if seconds >= patience)

    def _break_old_lock(self) -> None:
        """Remove the lock of a reaper that is gone, should the queue server's clock not let it expire."""
        holder = self._dispatcher.redis.get(_LOCK)
        held = self._locks.unchanged({_LOCK: holder})[_LOCK]
        if holder is not None and held > 2 * _LOCK_SECONDS:
            logger.warning("the reaper's lock has not moved for %.0f s and is removed", held)
            self._dispatcher.redis.delete(_LOCK)

    def _stray(self) -> int:
        stray = self._dispatcher.missing(self._ledger.waiting(self._settings.stray_seconds))
        for job in stray:
            logger.warning("job %s was queued but in no queue; put back", job.id)
            self._dispatcher.enqueue(job)
        return len(stray)


def main(settings: Settings) -> None:
    """Sweep until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        ledger = Ledger(settings.ledger_url)
        stack.callback(ledger.close)
        ledger.create()
        events = Events(settings.queue_url)
        stack.callback(events.close)
        dispatcher = Dispatcher(settings.queue_url)
        stack.callback(dispatcher.close)
        Reaper(settings, ledger, events, dispatcher).run(stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m service.reaper", description="The netproof reaper.")
    parser.add_argument("--parent", type=int, help="stop when this process, which must be the parent, ends")
    options = parser.parse_args()
    if options.parent is not None:
        die_with_parent(options.parent, signal.SIGTERM)
    settings = Settings()
    start_logging("reaper", settings.log_format)
    main(settings)
