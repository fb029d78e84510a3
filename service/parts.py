"""What a web process holds while it runs, and how it comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from service.access.gate import Gate
from service.artifacts import Artifacts, open_artifacts
from service.dataset_uploads import DatasetIntake
from service.events import AsyncEvents, Events
from service.ledger import Ledger
from service.probes import Probes
from service.queue import Dispatcher
from service.readers import Readers
from service.settings import Settings
from service.uploads import Intake

__all__ = ["Parts", "open_parts"]


#: Certificates that are checked at the same time, each by a process on one core.
_CHECKERS = 2


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that requests are answered with.

    ``checks`` is how many certificates may be checked at the same time; ``probes`` asks parts how they are; ``closing``
    is set when the process is about to end.
    """

    settings: Settings
    ledger: Ledger
    artifacts: Artifacts
    dispatcher: Dispatcher
    publisher: Events
    events: AsyncEvents
    readers: Readers
    intake: Intake
    datasets: DatasetIntake
    gate: Gate
    checks: asyncio.Semaphore
    probes: Probes
    closing: asyncio.Event


@contextlib.asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """The parts that ``settings`` describe; the ledger's tables are created where they are missing."""
    ledger = Ledger(settings.ledger_url)
    artifacts = open_artifacts(settings)
    dispatcher = Dispatcher(settings.queue_url)
    publisher = Events(settings.queue_url)
    events = AsyncEvents(settings.queue_url)
    readers = Readers()
    gate = Gate(settings, ledger)
    try:
        ledger.create()
        yield Parts(
            settings,
            ledger,
            artifacts,
            dispatcher,
            publisher,
            events,
            readers,
            Intake(settings, ledger, artifacts, readers),
            DatasetIntake(settings, ledger, artifacts, readers),
            gate,
            asyncio.Semaphore(_CHECKERS),
            Probes(seconds=settings.probe_seconds),
            asyncio.Event(),
        )
    finally:
        await gate.close()
        readers.close()
        await events.close()
        publisher.close()
        dispatcher.close()
        ledger.close()
