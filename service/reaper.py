"""The reaper: brings back what fell between ledger, queue and workers.

Every few seconds it looks for

* jobs in progress whose lease lapsed: their worker is gone, and they get another attempt or fail;
* jobs that should have stopped long ago, whose worker can no longer be reached: they end with the bounds they reported;
* jobs that are queued in the ledger but wait in no queue, because Redis lost them or never had them;
* batches whose next jobs nobody made.

All it does is compare-and-set in the ledger, so any number of reapers is safe; a lock in Redis keeps all but one idle.
Leases are compared with this machine's clock, so the clocks of machines must agree to within a few seconds.
"""

from __future__ import annotations

import argparse
import logging
import signal
import threading
import time
from contextlib import ExitStack

import redis
from redis.exceptions import LockError
from sqlalchemy.exc import SQLAlchemyError

from service.closing import Closing
from service.events import Events
from service.ledger import Ledger
from service.limits import die_with_parent
from service.logs import start_logging
from service.queue import Dispatcher
from service.settings import Settings
from service.tallies import LAST_SWEEP

__all__ = ["Reaper", "main"]

logger = logging.getLogger(__name__)

_LOCK = "netproof:reaper"
_LOCK_SECONDS = 60.0


class Reaper:
    """One pass over the ledger at a time."""

    def __init__(self, settings: Settings, ledger: Ledger, events: Events, dispatcher: Dispatcher) -> None:
        self._settings = settings
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._closing = Closing(ledger, events, dispatcher)
        self._tallies = events.tallies

    def sweep(self) -> int:
        """Look once; returns how many jobs were put right. Another reaper at work means none.

        Raises:
            redis.RedisError: the queue server does not answer.
            SQLAlchemyError: the database does not answer.
        """
        lock = self._dispatcher.redis.lock(_LOCK, timeout=_LOCK_SECONDS, blocking=False)
        if not lock.acquire():
            return 0
        try:
            done = {"lapsed": self._lapsed(), "overdue": self._overdue(), "stray": self._stray()}
            for action, number in done.items():
                self._tallies.count("reaper_actions", action, by=number)
            self._tallies.count("leases_lost", by=done["lapsed"])
            self._tallies.flush()
            self._dispatcher.redis.set(LAST_SWEEP, time.time())
            for batch in self._ledger.batches.unfinished():
                self._closing.advance(batch)  # whoever ended its last job may not have come to it
            return sum(done.values())
        finally:
            try:
                lock.release()
            except LockError:
                logger.warning("a sweep took longer than %g s", _LOCK_SECONDS)

    def run(self, stop: threading.Event) -> None:
        """Sweep periodically until ``stop``; servers that do not answer are tried again."""
        while not stop.is_set():
            try:
                self.sweep()
            except (redis.RedisError, SQLAlchemyError) as error:
                logger.warning("the sweep was cut short: %s", error)
            stop.wait(self._settings.reap_seconds)

    def _lapsed(self) -> int:
        why = "its worker fell silent"
        return sum(self._closing.recover(job, why) for job in self._ledger.lapsed())

    def _overdue(self) -> int:
        # the job's own thread and its worker come first, with shorter patience
        patience = 3 * self._settings.cancel_seconds + self._settings.lease_seconds
        return sum(self._closing.cancel(job) for job in self._ledger.overdue_cancels(patience))

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
    start_logging("reaper")
    main(Settings())
