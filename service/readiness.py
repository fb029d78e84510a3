"""Would a job that is sent now be kept, handed over and worked on? Each part is tried, not just asked whether it is up.

Every check has a time limit (`service.probes`), so a part that hangs is reported like one that is gone, and hides no
other. A part that works but not as it should is *degraded*: the service goes on, and somebody should look.
"""

from __future__ import annotations

import shutil
import time

from service.errors import SchemaError
from service.load import Load
from service.parts import Parts
from service.system_schemas import Check
from service.tallies import LAST_SWEEP
from service.workers import WorkerRecord

__all__ = ["examine"]

_READY_KEY = "netproof:ready"
_ARTIFACT = b"Written by /readyz, to see whether artifacts can be.\n"
#: What was found out serves other probers for this long.
_FRESH_SECONDS = 1.0
#: A reaper that has not looked for so many of its periods, and at least so many seconds, is missed.
_PERIODS, _SILENCE_SECONDS = 6, 60.0
#: With less free disk than so many times the least, somebody should look.
_SCARCE = 4


class _NotReadyError(Exception):
    """A part answers, but is not enough."""


class _Degraded(Exception):  # noqa: N818 - works, but not as it should
    """A part works, but not as it should."""


def examine(parts: Parts) -> dict[str, Check]:
    """Each part with how it is."""
    questions = {
        "ready ledger": lambda: _ledger(parts),
        "ready queue": lambda: _queue(parts),
        "ready artifacts": lambda: _artifacts(parts),
        "ready workers": lambda: _workers(parts),
    }
    checks = {}
    for name, answer in parts.probes.ask(questions, fresh=_FRESH_SECONDS).items():
        error = answer.exception()
        checks[name.removeprefix("ready ")] = Check(ok=True, detail=answer.result()) if error is None else _fault(error)
    return checks


def _fault(error: BaseException) -> Check:
    """What is wrong; an unexpected error's type tells operators enough, its text may hold addresses and passwords."""
    if isinstance(error, _Degraded):
        return Check(ok=True, degraded=True, detail=str(error))
    if isinstance(error, _NotReadyError | SchemaError | TimeoutError):
        return Check(ok=False, detail=str(error))
    return Check(ok=False, detail=f"does not answer ({type(error).__name__})")


def _ledger(parts: Parts) -> str:
    """A ledger of this version's schema that takes writes."""
    parts.ledger.probe()
    counts = parts.ledger.counts()
    return ", ".join(f"{number} {state}" for state, number in counts.items() if number) or "no jobs yet"


def _queue(parts: Parts) -> str:
    """A queue that takes writes, which a full or read-only server that answers PING does not, and a reaper."""
    server = parts.dispatcher.redis
    server.set(_READY_KEY, "1", ex=60)
    waiting = sum(parts.dispatcher.depths().values())
    swept = server.get(LAST_SWEEP)
    patience = max(_SILENCE_SECONDS, _PERIODS * parts.settings.reap_seconds)
    if swept is None or time.time() - float(swept) > patience:
        msg = f"{waiting} waiting; no reaper has looked for {patience:g} s: lost jobs stay lost; start one"
        raise _Degraded(msg)
    return f"{waiting} waiting"


def _artifacts(parts: Parts) -> str:
    """A store that takes writes, and room for more."""
    parts.artifacts.put(_ARTIFACT)
    free, least = shutil.disk_usage(parts.settings.data_dir).free // 2**20, parts.settings.min_free_mb
    if free < least:
        msg = f"{free} MB are free in the data directory, less than NETPROOF_MIN_FREE_MB={least}; make room"
        raise _NotReadyError(msg)
    if free < _SCARCE * least:
        msg = f"writable, but only {free} MB are free in the data directory; make room"
        raise _Degraded(msg)
    return f"writable, {free} MB free"


def _workers(parts: Parts) -> str:
    """Workers that take jobs, for every queue in which some wait."""
    workers = parts.dispatcher.workers()
    if not workers:
        msg = "no live worker; start one with `netproof worker`, or look at why they end"
        raise _NotReadyError(msg)
    busy, draining = sum(worker.busy for worker in workers), sum(worker.draining for worker in workers)
    found = f"{len(workers)} alive, {busy} busy, {draining} draining"
    if draining == len(workers):
        msg = f"{found}: jobs wait for another worker"
        raise _Degraded(msg)
    unserved = _unserved(parts.ledger.load(), workers)
    if unserved:
        msg = f"{found}; no worker serves {', '.join(unserved)}, where jobs wait; start one with --queue"
        raise _Degraded(msg)
    return found


def _unserved(load: Load, workers: list[WorkerRecord]) -> list[str]:
    served = {queue for worker in workers for queue in worker.queues if not worker.draining}
    return sorted(queue for queue, waiting in load.queues.items() if waiting.queued and queue not in served)
