"""Batches in the ledger: which jobs are made, where items go, and that nothing is lost or decided twice."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from service.batch_models import BatchRecord, ItemRecord
from service.batch_work import Found
from service.errors import IdempotencyError, NotFoundError, StateChangeError
from service.item_rows import ItemFilter
from service.ledger import Ledger
from service.models import JobRecord
from service.states import (
    BATCH_TRANSITIONS,
    ITEM_TRANSITIONS,
    BatchState,
    ItemState,
    JobState,
    batch_sources,
    item_sources,
)
from tests.service.records import NETWORK, add_network

DATASET = "d" * 64


def ask(ledger: Ledger, inputs: int = 3, epsilons: tuple[str, ...] = ("0.1",), **changes: Any) -> BatchRecord:
    """A batch of that many inputs; the label of input i is i % 10."""
    add_network(ledger)
    ledger.datasets.add(DATASET, artifact="e" * 64, size=1, name="d.npz", summary={"count": inputs})
    request = {
        "network": NETWORK,
        "dataset": DATASET,
        "name": "",
        "query": {"norm": "linf"},
        "epsilon": list(epsilons),
        "engine": "auto",
        "backend": "auto",
        "seed": 0,
        "certificate": False,
        "reuse": True,
        "priority": "low",
        "time_limit": 30.0,
        "total_limit": None,
    } | changes
    wanted = [(index, epsilon, index % 10) for index in range(inputs) for epsilon in epsilons]
    batch, _ = ledger.batches.submit(request, wanted, queue="highs-low", max_attempts=3)
    return batch


def verdict(
    outcome: str = "robust", *, lower: float | None = 0.5, seconds: float = 0.25, **more: Any
) -> dict[str, Any]:
    return {
        "verdict": outcome,
        "trust": {"robust": "solver", "counterexample": "replayed"}.get(outcome),
        "margin": [lower, None],
        "seconds": seconds,
        "decided_by": "bounds" if outcome == "robust" else "",
        "reason": "timeout" if outcome == "unknown" else None,
    } | more


def begin(ledger: Ledger, job: JobRecord) -> JobRecord:
    started = ledger.start(job.id, worker="w", lease_seconds=60)
    assert started is not None
    return started


def numbers(items: list[ItemRecord]) -> list[int]:
    return [item.number for item in items]


def states(ledger: Ledger, batch: BatchRecord) -> list[ItemState]:
    return [item.state for item in ledger.batches.items(batch.id)]


@pytest.mark.parametrize("after", BatchState)
def test_every_state_of_a_batch_but_the_first_can_be_reached(after: BatchState) -> None:
    assert batch_sources(after) == {before for before in BatchState if after in BATCH_TRANSITIONS[before]}
    assert batch_sources(after)


@pytest.mark.parametrize("after", ItemState)
def test_every_state_of_an_item_can_be_reached(after: ItemState) -> None:
    assert item_sources(after) == {before for before in ItemState if after in ITEM_TRANSITIONS[before]}
    assert item_sources(after)


def test_a_sweep_comes_first_in_chunks_and_open_items_get_jobs_of_their_own(ledger: Ledger) -> None:
    batch = ask(ledger, 40)
    jobs = ledger.batches.advance(batch.id)
    assert [job.request["sweep"] for job in jobs] == [16, 16, 8]
    assert all(job.batch == batch.id and job.queue == "highs-low" for job in jobs)
    assert ledger.batches.advance(batch.id) == []
    job = begin(ledger, jobs[2])
    chunk = ledger.batches.chunk(job)
    assert [item.input for item in chunk] == list(range(32, 40))
    found = [Found(n, verdict()) for n in numbers(chunk[:5])]
    found += [
        Found(n, verdict("unknown", lower=low)) for n, low in zip(numbers(chunk[5:]), (-2.0, -0.5, -1.0), strict=True)
    ]
    assert ledger.batches.record(job, found)
    assert ledger.batches.chunk(job) == []
    assert ledger.finish(job.id, job.attempt, JobState.SUCCEEDED)
    exact = ledger.batches.advance(batch.id)
    assert [made.request["query"]["index"] for made in exact] == [38, 39, 37], "nearest to zero first"
    assert exact[0].request["query"] == {"norm": "linf", "dataset": DATASET, "index": 38, "label": 8, "epsilon": "0.1"}


def test_an_exact_verdict_keeps_the_better_bounds_and_adds_up_seconds(ledger: Ledger) -> None:
    batch = ask(ledger, 1)
    sweep = begin(ledger, *ledger.batches.advance(batch.id))
    ledger.batches.record(sweep, [Found(0, verdict("unknown", lower=-0.25))])
    ledger.finish(sweep.id, 1, JobState.SUCCEEDED)
    exact = begin(ledger, *ledger.batches.advance(batch.id))
    ledger.finish(exact.id, 1, JobState.SUCCEEDED, verdict=verdict("unknown", lower=-0.75, seconds=2.0))
    item = ledger.batches.item(batch.id, 0)
    assert (item.state, item.outcome, item.lower, item.seconds) == (ItemState.DONE, "unknown", -0.25, 2.25)
    assert item.verdict is not None
    assert (item.verdict["margin"], item.verdict["seconds"]) == ([-0.25, None], 2.25)
    ledger.batches.advance(batch.id)
    assert ledger.batches.get(batch.id).state is BatchState.FINISHED


def test_an_attempt_that_was_replaced_writes_nothing(ledger: Ledger) -> None:
    batch = ask(ledger, 2)
    (job,) = ledger.batches.advance(batch.id)
    old = begin(ledger, job)
    assert ledger.batches.record(old, [Found(0, verdict())])
    assert ledger.requeue(job.id, 1, reason="lost", lost=True)
    new = begin(ledger, job)
    assert numbers(ledger.batches.chunk(new)) == [1], "what was decided is not decided again"
    assert not ledger.batches.record(old, [Found(1, verdict("counterexample"))])
    assert ledger.batches.record(new, [Found(1, verdict())])
    assert [item.outcome for item in ledger.batches.items(batch.id)] == ["robust", "robust"]


def test_what_a_sweep_did_not_come_to_goes_back_and_what_one_died_of_is_isolated(ledger: Ledger) -> None:
    batch = ask(ledger, 3)
    job = begin(ledger, *ledger.batches.advance(batch.id))
    ledger.batches.record(job, [Found(0, verdict())])
    ledger.finish(job.id, 1, JobState.SUCCEEDED)
    assert states(ledger, batch) == [ItemState.DONE, ItemState.PENDING, ItemState.PENDING]
    job = begin(ledger, *ledger.batches.advance(batch.id))
    ledger.finish(job.id, 1, JobState.FAILED, error={"code": "crashed", "message": "it crashed"})
    assert states(ledger, batch) == [ItemState.DONE, ItemState.OPEN, ItemState.OPEN]
    first, second = ledger.batches.advance(batch.id)
    begin(ledger, first)
    ledger.finish(first.id, 1, JobState.FAILED, error={"code": "crashed", "message": "it crashed"})
    begin(ledger, second)
    ledger.finish(second.id, 1, JobState.SUCCEEDED, verdict=verdict())
    assert states(ledger, batch) == [ItemState.DONE, ItemState.FAILED, ItemState.DONE]
    assert ledger.batches.item(batch.id, 1).error == {"code": "crashed", "message": "it crashed"}


def test_an_engine_that_is_named_does_without_a_sweep(ledger: Ledger) -> None:
    batch = ask(ledger, 2, engine="bab")
    jobs = ledger.batches.advance(batch.id)
    assert [job.request["item"] for job in jobs] == [0, 1]


def test_a_batch_has_a_limited_number_of_jobs_at_a_time(ledger: Ledger) -> None:
    batch = ask(ledger, 100, engine="bab")
    jobs = ledger.batches.advance(batch.id)
    assert len(jobs) == 64
    begin(ledger, jobs[0])
    ledger.finish(jobs[0].id, 1, JobState.SUCCEEDED, verdict=verdict())
    assert len(ledger.batches.advance(batch.id)) == 1


def test_verdicts_pass_to_other_epsilons_in_the_direction_that_is_sound(ledger: Ledger) -> None:
    batch = ask(ledger, 1, ("0.1", "0.2", "0.3", "2/5"), engine="bab")
    jobs = {job.request["query"]["epsilon"]: begin(ledger, job) for job in ledger.batches.advance(batch.id)}
    # exact jobs for all are at work; take three back, as a cancelled worker would
    for epsilon in ("0.1", "0.3", "2/5"):
        ledger.request_cancel(jobs[epsilon].id)
        ledger.finish(jobs[epsilon].id, 1, JobState.CANCELLED)
    ledger.finish(jobs["0.2"].id, 1, JobState.SUCCEEDED, verdict=verdict("robust", lower=0.5))
    found = {item.epsilon: item for item in ledger.batches.items(batch.id)}
    assert [found[epsilon].outcome for epsilon in ("0.1", "0.2", "0.3", "2/5")] == ["robust", "robust", None, None]
    assert found["0.1"].lower == 0.5
    assert found["0.1"].cached_from == {"batch": batch.id, "item": 1, "seconds": 0.25, "epsilon": "0.2"}
    (again, _) = ledger.batches.advance(batch.id)
    assert again.request["query"]["epsilon"] == "0.3"
    begin(ledger, again)
    other = next(job for job in ledger.jobs(batch=batch.id) if job.state is JobState.QUEUED)
    ledger.request_cancel(other.id)
    ledger.finish(again.id, 1, JobState.SUCCEEDED, verdict=verdict("counterexample", lower=None))
    assert ledger.batches.item(batch.id, 3).outcome == "counterexample"
    ledger.batches.advance(batch.id)
    assert ledger.batches.get(batch.id).state is BatchState.FINISHED


def test_cancel_keeps_what_is_finished_and_resume_goes_on(ledger: Ledger) -> None:
    batch = ask(ledger, 20)
    running, queued = ledger.batches.advance(batch.id)
    running = begin(ledger, running)
    ledger.batches.record(running, [Found(0, verdict())])
    assert ledger.batches.request_cancel(batch.id).state is BatchState.CANCELLING
    assert ledger.job(running.id).state is JobState.CANCELLING
    assert ledger.job(queued.id).state is JobState.CANCELLED
    assert ledger.batches.request_cancel(batch.id).state is BatchState.CANCELLING
    ledger.finish(running.id, 1, JobState.CANCELLED)
    ledger.batches.advance(batch.id)
    assert ledger.batches.get(batch.id).state is BatchState.CANCELLED
    assert states(ledger, batch) == [ItemState.DONE] + 19 * [ItemState.PENDING]
    assert ledger.batches.advance(batch.id) == []
    assert ledger.batches.resume(batch.id).state is BatchState.RUNNING
    assert sum(job.request["sweep"] for job in ledger.batches.advance(batch.id)) == 19


def test_a_batch_without_running_jobs_is_cancelled_at_once(ledger: Ledger) -> None:
    batch = ask(ledger)
    ledger.batches.advance(batch.id)
    assert ledger.batches.request_cancel(batch.id).state is BatchState.CANCELLED
    assert ledger.batches.request_cancel(batch.id).state is BatchState.CANCELLED
    with pytest.raises(NotFoundError):
        ledger.batches.request_cancel("0" * 26)


def test_a_budget_ends_a_batch_and_a_larger_one_goes_on(ledger: Ledger) -> None:
    batch = ask(ledger, 2, engine="bab", total_limit=1.0)
    first, second = ledger.batches.advance(batch.id)
    begin(ledger, first)
    ledger.finish(first.id, 1, JobState.SUCCEEDED, verdict=verdict(seconds=1.5))
    ledger.request_cancel(second.id)
    assert ledger.batches.advance(batch.id) == []
    assert ledger.batches.get(batch.id).state is BatchState.EXHAUSTED
    assert states(ledger, batch) == [ItemState.DONE, ItemState.OPEN]
    ledger.batches.resume(batch.id, total_limit=4.0)
    (job,) = ledger.batches.advance(batch.id)
    assert job.time_limit == 2.5, "no job gets more than what is left"


def test_retry_opens_what_failed_or_is_unknown_and_nothing_else(ledger: Ledger) -> None:
    batch = ask(ledger, 3, engine="bab")
    ends = {0: {"verdict": verdict()}, 1: {"verdict": verdict("unknown")}, 2: {"error": {"code": "x", "message": "y"}}}
    for job in ledger.batches.advance(batch.id):
        begin(ledger, job)
        how = ends[job.request["item"]]
        ledger.finish(job.id, 1, JobState.SUCCEEDED if "verdict" in how else JobState.FAILED, **how)
    ledger.batches.advance(batch.id)
    with pytest.raises(StateChangeError, match=f"batch {batch.id} is finished"):
        ledger.batches.request_cancel(batch.id)
    with pytest.raises(StateChangeError):
        ledger.batches.resume(batch.id)
    again, opened = ledger.batches.retry(batch.id, time_limit=99.0)
    assert (again.state, again.time_limit, opened) == (BatchState.RUNNING, 99.0, 2)
    jobs = ledger.batches.advance(batch.id)
    assert sorted(job.request["item"] for job in jobs) == [1, 2]
    assert {job.time_limit for job in jobs} == {99.0}
    with pytest.raises(StateChangeError):
        ledger.batches.retry(batch.id)


def test_items_come_in_pages_filtered_and_sorted(ledger: Ledger) -> None:
    batch = ask(ledger, 7, engine="bab")
    for job in ledger.batches.advance(batch.id)[:5]:
        begin(ledger, job)
        n = job.request["item"]
        outcome = "robust" if n % 2 else "counterexample"
        ledger.finish(job.id, 1, JobState.SUCCEEDED, verdict=verdict(outcome, lower=-n, seconds=10 - n))

    def walk(sort: str) -> list[int]:
        out: list[int] = []
        after = None
        while page := ledger.batches.items(batch.id, limit=2, after=after, sort=sort):
            out += numbers(page)
            last = page[-1]
            key = -last.seconds if sort == "seconds" else last.lower if last.lower is not None else 1e308
            after = (key, last.number)
        return out

    assert walk("number") == list(range(7))
    assert walk("seconds") == list(range(7))
    assert walk("margin") == [4, 3, 2, 1, 0, 5, 6]
    robust = ledger.batches.items(batch.id, ItemFilter(outcome="robust"))
    assert numbers(robust) == [1, 3]
    assert numbers(ledger.batches.items(batch.id, ItemFilter(label=4))) == [4]
    assert numbers(ledger.batches.items(batch.id, ItemFilter(state=ItemState.SEARCHING))) == [5, 6]
    assert robust[0].verdict is None
    assert ledger.batches.items(batch.id, ItemFilter(outcome="robust"), verdicts=True)[0].verdict is not None


def test_an_idempotency_key_gives_the_same_batch(ledger: Ledger) -> None:
    first = ask(ledger)
    request, wanted = first.request, [(0, "0.1", 0)]
    made = [
        ledger.batches.submit(request, wanted, queue="q", max_attempts=1, idempotency_key="k", fingerprint="f")
        for _ in range(2)
    ]
    assert made[0][0].id == made[1][0].id
    assert [new for _, new in made] == [True, False]
    with pytest.raises(IdempotencyError, match=f"belongs to batch {made[0][0].id}"):
        ledger.batches.submit(request, wanted, queue="q", max_attempts=1, idempotency_key="k", fingerprint="g")


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_every_item_ends_once(ledger: Ledger, seed: int) -> None:
    """Workers that come, die, come back late, fail and are cancelled in random order: no item is lost or changed."""
    chance = random.Random(seed)
    batch = ask(ledger, chance.randint(5, 30), ("0.1", "0.2")[: chance.randint(1, 2)])
    late: list[JobRecord] = []
    ended: dict[int, tuple[str | None, object]] = {}
    for _ in range(5000):
        if ledger.batches.get(batch.id).state is BatchState.FINISHED:
            break
        _disturb(ledger, batch, chance, late)
        for item in ledger.batches.items(batch.id):
            if item.state in {ItemState.DONE, ItemState.FAILED}:
                assert ended.setdefault(item.number, (item.outcome, item.finished_at)) == (
                    item.outcome,
                    item.finished_at,
                )
            else:
                assert item.number not in ended
    assert ledger.batches.get(batch.id).state is BatchState.FINISHED
    assert len(ended) == batch.items
    assert not [job for job in ledger.jobs(batch=batch.id, limit=1000) if not job.terminal]
    assert sum(group.count for group in ledger.batches.groups(batch.id)) == batch.items


def _disturb(ledger: Ledger, batch: BatchRecord, chance: random.Random, late: list[JobRecord]) -> None:
    ledger.batches.advance(batch.id)
    if chance.random() < 0.05 and ledger.batches.get(batch.id).state is BatchState.RUNNING:
        ledger.batches.request_cancel(batch.id)
    if ledger.batches.get(batch.id).state is BatchState.CANCELLED:
        ledger.batches.resume(batch.id)
    jobs = [job for job in ledger.jobs(batch=batch.id, limit=1000) if not job.terminal]
    if not jobs:
        return
    job = chance.choice(jobs)
    if job.state is JobState.QUEUED:
        begin(ledger, job)
        return
    if chance.random() < 0.2:
        late.append(job)
        ledger.requeue(job.id, job.attempt, reason="lost", lost=False)
        return
    for each in (job, *late[-2:]):  # attempts that were declared lost write, too
        _work(ledger, each, chance)


def _work(ledger: Ledger, job: JobRecord, chance: random.Random) -> None:
    outcome = chance.choice(["robust", "unknown", "unknown", "counterexample"])
    if "sweep" in job.request:
        chunk = ledger.batches.chunk(job)[: chance.randint(0, 9)]
        found = [Found(n, verdict(outcome, lower=-math.e)) for n in numbers(chunk)]
        ledger.batches.record(job, found)
        if chance.random() < 0.5:
            return
    state = JobState.CANCELLED if ledger.job(job.id).state is JobState.CANCELLING else JobState.SUCCEEDED
    if chance.random() < 0.1 and state is JobState.SUCCEEDED:
        ledger.finish(job.id, job.attempt, JobState.FAILED, error={"code": "x", "message": "y"})
    elif "sweep" in job.request:
        ledger.finish(job.id, job.attempt, state)
    else:
        reason = {"reason": "cancelled"} if state is JobState.CANCELLED else {}
        ledger.finish(job.id, job.attempt, state, verdict=verdict(outcome) | reason)
