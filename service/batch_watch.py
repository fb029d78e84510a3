"""Batches as they are shown, looked at once for all who ask.

Counting the items of a large batch takes longer than anything else that a request may ask for, and everybody who
watches the batch asks for the same. So a process looks at each batch once for all who ask at the same time, and hands
followers what it saw a moment ago.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.batch_models import BatchRecord
from service.batch_schemas import BatchDocument
from service.batch_views import batch_document
from service.errors import NotFoundError
from service.gathering import Gathering
from service.ledger import Ledger
from service.queue import Dispatcher, alive
from service.recent import Recent

__all__ = ["LOOK_SECONDS", "BatchWatch", "Watched"]

#: A follower looks at the ledger this often: whatever happens to a batch, it is there first.
LOOK_SECONDS = 0.5

#: What followers are shown may be that old.
_FRESH_SECONDS = 0.4
_BATCHES = 100


@dataclass(frozen=True, slots=True)
class Watched:
    """A batch, how it is shown, and a digest of that but for its estimates."""

    record: BatchRecord
    document: BatchDocument
    tag: str


class BatchWatch:
    """Looks at batches, for one web process; who may see them is asked before."""

    def __init__(self, ledger: Ledger, dispatcher: Dispatcher, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._dispatcher = dispatcher
        self._recent: Recent[str, Watched] = Recent(_FRESH_SECONDS, _BATCHES, clock=clock)
        self._looking: Gathering[str, Watched] = Gathering(self._look)

    async def now(self, batch_id: str) -> Watched:
        """The batch as it is. Raises NotFoundError."""
        found = await self._looking.ask(batch_id)
        self._recent.put(batch_id, found)
        return found

    async def lately(self, batch_id: str) -> Watched:
        """The batch as it is, or was a moment ago. Raises NotFoundError."""
        return self._recent.get(batch_id) or await self.now(batch_id)

    def _look(self, wanted: Sequence[str]) -> list[Watched | Exception]:
        workers = alive(self._dispatcher)
        found = {batch_id: self._see(batch_id, workers) for batch_id in set(wanted)}
        return [found[batch_id] for batch_id in wanted]

    def _see(self, batch_id: str, workers: int) -> Watched | Exception:
        try:
            record = self._ledger.batches.get(batch_id)
        except NotFoundError as error:
            return error
        document = batch_document(record, self._ledger, workers)
        lasting = document.model_dump_json(exclude={"left", "per_minute"}).encode()
        return Watched(record, document, hashlib.sha256(lasting).hexdigest()[:32])
