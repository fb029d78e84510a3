"""Requests that come together: each sees what the others add, so no quota is passed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event

from service.access import Principal, Quota, Scope
from service.batch_models import BatchRecord
from service.errors import QuotaError
from service.ledger import Ledger
from service.submissions import Submission
from tests.service.records import NETWORK, add_network, submit


@pytest.fixture
def slow(ledger: Ledger) -> Iterator[Ledger]:
    """A ledger whose transactions take a while to be committed, so that others come meanwhile."""
    add_network(ledger)
    ledger.datasets.add("d" * 64, artifact="d" * 64, size=1, name="", summary={"count": 1})
    yield ledger
    if event.contains(ledger._engine, "commit", _linger):
        event.remove(ledger._engine, "commit", _linger)


def _linger(_connection: object) -> None:
    time.sleep(0.2)


def _together(ledger: Ledger, *calls: Callable[[], Any]) -> list[Any]:
    """What the calls come to, results or exceptions."""
    event.listen(ledger._engine, "commit", _linger)
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        return [future.exception() or future.result() for future in futures]


def test_questions_of_two_owners_in_either_order(slow: Ledger) -> None:
    request = {"network": NETWORK, "query": {}}
    ann, bob = (Submission(request, "highs", 9.0, 3, owner=owner, quota=Quota(queued=1)) for owner in ("ann", "bob"))
    found = _together(slow, lambda: slow.submissions.record([ann, bob]), lambda: slow.submissions.record([bob, ann]))
    assert sum(isinstance(each, QuotaError) for group in found for each in group) == 2
    assert sorted(job.owner for job in slow.jobs()) == ["ann", "bob"]


ANN = Principal("ann", "key", Scope.SUBMIT, Quota(batches=1))


def _ask(ledger: Ledger, key: str) -> BatchRecord:
    request = {"network": NETWORK, "dataset": "d" * 64, "name": "", "time_limit": 1.0, "total_limit": None}
    request |= {"epsilon": ["0.1"], "query": {}, "engine": "auto"}
    named = {"idempotency_key": key, "fingerprint": key}
    batch, _ = ledger.batches.submit(request, [(0, "0.1", 0)], queue="q", max_attempts=1, caller=ANN, **named)
    return batch


def test_batches_and_the_same_one_twice(slow: Ledger) -> None:
    one, other, again = _together(
        slow, lambda: _ask(slow, "one"), lambda: _ask(slow, "other"), lambda: _ask(slow, "one")
    )
    (made,) = slow.batches.newest()
    if isinstance(one, QuotaError):
        assert (other, type(again)) == (made, QuotaError)
    else:
        assert (one, type(other), again) == (made, QuotaError, made)


def test_a_batch_that_goes_on_counts_again(slow: Ledger) -> None:
    first = _ask(slow, "one")
    slow.batches.request_cancel(first.id)
    _ask(slow, "other")
    with pytest.raises(QuotaError, match="1 batches at work"):
        slow.batches.resume(first.id, caller=ANN)
    with pytest.raises(QuotaError, match="1 batches at work"):
        slow.batches.retry(first.id, caller=ANN)


def test_starts(slow: Ledger) -> None:
    first, second = (submit(slow, owner="ann", at_once=1).id for _ in range(2))
    started = _together(
        slow,
        lambda: slow.start(first, worker="one", lease_seconds=9),
        lambda: slow.start(second, worker="two", lease_seconds=9),
    )
    assert sum(job is not None for job in started) == 1
