"""A batch is looked at once for all who follow it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from service.batch_watch import BatchWatch
from service.errors import NotFoundError
from service.ledger import Ledger
from tests.service.records import NETWORK, add_network


@pytest.fixture
def batch(ledger: Ledger) -> str:
    add_network(ledger)
    ledger.datasets.add("d" * 64, artifact="d" * 64, size=1, name="", summary={"count": 2})
    request = {"network": NETWORK, "dataset": "d" * 64, "name": "", "time_limit": 1.0, "total_limit": None}
    request |= {"epsilon": ["0.1"], "query": {}, "selection": {"indices": None}, "kind": "decide", "engine": "auto"}
    record, _ = ledger.batches.submit(request, [(0, "0.1", 0), (1, "0.1", 1)], queue="highs", max_attempts=3)
    return record.id


class Counting:
    """The ledger's batches, counted."""

    def __init__(self, ledger: Ledger) -> None:
        self.batches, self.looks = self, 0
        self._batches = ledger.batches

    def groups(self, batch_id: str) -> Any:
        self.looks += 1
        return self._batches.groups(batch_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)


def test_followers_share_what_was_seen_and_askers_see_what_is(ledger: Ledger, batch: str) -> None:
    now, counting = 0.0, Counting(ledger)
    watch = BatchWatch(counting, SimpleNamespace(workers=lambda: [1, 2]), clock=lambda: now)  # type: ignore[arg-type]

    async def run() -> None:
        nonlocal now
        first = await asyncio.gather(*(watch.now(batch) for _ in range(20)))
        assert counting.looks <= 2  # the first goes at once, the others together
        assert len({seen.tag for seen in first}) == 1
        before = counting.looks
        assert await asyncio.gather(*(watch.lately(batch) for _ in range(20))) == [first[-1]] * 20
        assert counting.looks == before
        ledger.batches.request_cancel(batch)
        assert (await watch.lately(batch)).record.state == "running"
        assert (await watch.now(batch)).record.state == "cancelled"
        assert (await watch.lately(batch)).tag != first[0].tag
        ledger.batches.resume(batch)
        now = 1.0
        assert (await watch.lately(batch)).record.state == "running"
        with pytest.raises(NotFoundError):
            await watch.now("0" * 26)

    asyncio.run(run())
