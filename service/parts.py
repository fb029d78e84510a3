"""What a web process holds while it runs, and how it comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Self

from service.access.gate import Gate
from service.artifacts import Artifacts, open_artifacts
from service.batch_watch import BatchWatch
from service.closing import Closing
from service.dataset_uploads import DatasetIntake
from service.events import AsyncEvents, Events
from service.gathering import Gathering
from service.ledger import Ledger
from service.models import JobRecord, NetworkRecord
from service.posed import Posed
from service.probes import Probes
from service.queue import Dispatcher
from service.readers import Readers
from service.recent import Recent
from service.settings import Settings
from service.submissions import Submission
from service.uploads import Intake
from service.views import Shown

__all__ = ["Parts", "RecentFinds", "open_parts"]


#: Certificates that are checked at the same time, each by a process on one core.
_CHECKERS = 2


#: What never changes may still be deleted, or taken from who asks: it is known for so long, seconds.
_KNOWN_SECONDS = 3.0
#: Bytes of answers, and of questions, that a process keeps; in memory a question takes several times its bytes.
_ANSWER_BYTES = 16 * 2**20
_QUESTION_BYTES = 4 * 2**20
_NETWORKS = 500


@dataclass(frozen=True, slots=True)
class RecentFinds:
    """What a web process found out lately; nothing that would be missed.

    Attributes:
        networks: by sha256 and the owner who may use them.
        questions: bodies of POST /v1/verify, by digest and the longest time limit of who sent them, as they were read.
        answers: jobs that have ended, by identifier and the owner who may see them, as they are shown.
    """

    networks: Recent[tuple[str, str | None], NetworkRecord]
    questions: Recent[tuple[bytes, float], Posed]
    answers: Recent[tuple[str, str | None], Shown]

    @classmethod
    def empty(cls) -> Self:
        return cls(
            Recent(_KNOWN_SECONDS, _NETWORKS),
            Recent(math.inf, _QUESTION_BYTES),
            Recent(_KNOWN_SECONDS, _ANSWER_BYTES),
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that requests are answered with.

    Attributes:
        checks: how many certificates may be checked at the same time.
        probes: asks parts how they are.
        leaving: set when the process has been asked to end: it answers, but is not ready for more.
        closing: set when the process is about to end.
        jobs: reads jobs by identifier and the owner who may see them, those that are asked for together at once.
        submissions: records new questions, those that come together in one transaction.
        batches: batches as they are shown, looked at once for all who ask.
        audit: writes lines of the audit log, those that come together in one transaction.
        recent: what this process found out lately.
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
    leaving: asyncio.Event
    closing: asyncio.Event
    jobs: Gathering[tuple[str, str | None], JobRecord]
    submissions: Gathering[Submission, tuple[JobRecord, bool]]
    batches: BatchWatch
    audit: Gathering[dict[str, Any], None]
    recent: RecentFinds

    def advance(self, batch: str) -> None:
        """Make and queue the jobs that a batch needs next."""
        Closing(self.ledger, self.publisher, self.dispatcher).advance(batch)


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
            asyncio.Event(),
            Gathering(ledger.jobs_of),
            Gathering(ledger.submissions.record),
            BatchWatch(ledger, dispatcher),
            Gathering(ledger.audit.write),
            RecentFinds.empty(),
        )
    finally:
        await gate.close()
        readers.close()
        await events.close()
        publisher.close()
        dispatcher.close()
        ledger.close()
