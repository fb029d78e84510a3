"""How a batch is worked off: which jobs it needs next, and where its items go when a job ends.

All functions run inside a transaction of the caller. `advance` locks the batch's row first, so that two processes that
notice the end of two jobs make the next ones one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, exists, func, insert, select, update

from networks.exact import exact
from service.answers import Answers
from service.batch_models import BatchRecord, batches, items
from service.context import origin
from service.identifiers import new_id
from service.models import JobRecord, jobs, queued_job
from service.retention import evidence_of, spared
from service.reuse import Asked, passes_on, served
from service.states import BATCH_TRANSITIONS, TERMINAL, BatchState, ItemState, JobState, item_sources
from solver.options import Engine
from solver.verdict import Outcome, Reason

__all__ = ["LIVE", "SWEEP_SECONDS", "Found", "advance", "labelled", "record", "settle", "sweeps"]

#: States of jobs that are still to end.
LIVE = tuple(state for state in JobState if state not in TERMINAL)

#: A sweep job takes no further item after so many seconds: a worker that is lost then costs little.
SWEEP_SECONDS = 10.0
#: Jobs of one batch that are queued or running at the same time: enough for as many workers, and few enough that
#: batches which run together share them.
_WINDOW = 64
#: Inputs of a batch's first sweep jobs, before it is known what one costs, and the most of any.
_FIRST_CHUNK = 16
_LARGEST_CHUNK = 256
#: A sweep job is to take about so long.
_CHUNK_SECONDS = 4.0
#: Members of a batch's request that its jobs have, too.
_SHARED = ("network", "dataset", "query", "engine", "backend", "seed", "certificate", "reuse", "priority")


#: Members of a query for which a network is built around the one that is asked about.
_PRODUCTS = frozenset({"equivalent_to", "monotone"})
#: Members that state a property, beside which a label would state a second one.
_PROPERTIES = _PRODUCTS | {"output_range", "violations"}


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a sweep came to for one item.

    Attributes:
        number: of the item.
        verdict: as `solver.verdict.Verdict.to_json` writes it; None with an ``error``.
        error: ``{"code", "message"}`` where the input cannot be asked about.
        final: whether ``unknown`` is its last word, because the engine that was named can do no more.
        asked: the question, where the answer may serve others.
    """

    number: int
    verdict: dict[str, Any] | None
    error: dict[str, Any] | None = None
    final: bool = False
    asked: Asked | None = None


def sweeps(request: dict[str, Any]) -> bool:
    """Whether a batch begins with a sweep.

    Engines that prove everything themselves do without, and so do intervals and networks that are built for a question.
    """
    query = request["query"]
    return request["engine"] in {Engine.AUTO, Engine.BOUNDS} and _decides(query) and not _PRODUCTS & query.keys()


def labelled(query: dict[str, Any], label: int) -> dict[str, int]:
    """The label as a member of a query, where that asks for a class and states no other property."""
    return {} if _PROPERTIES & query.keys() else {"label": label}


def _decides(query: dict[str, Any]) -> bool:
    """Whether the question is one whose answers serve other epsilons; an interval is as wide as its ball asks."""
    return bool(query.get("kind", "decide") == "decide")


def advance(connection: Connection, batch_id: str, moment: datetime) -> list[JobRecord]:
    """Make the jobs that the batch needs next, up to its window, or change its state where nothing is left to do.

    Returns:
        The new jobs.
    """
    going = batches.c.state.in_([BatchState.RUNNING, BatchState.CANCELLING])
    lock = update(batches).where(batches.c.id == batch_id, going).values(revision=batches.c.revision + 1)
    if connection.execute(lock).rowcount == 0:
        return []
    batch = BatchRecord.of(connection.execute(select(batches).where(batches.c.id == batch_id)).mappings().one())
    _reclaim(connection, batch_id)
    counted = select(items.c.state, func.count()).where(items.c.batch == batch_id).group_by(items.c.state)
    counts: dict[str, int] = {str(state): int(number) for state, number in connection.execute(counted)}
    live = select(func.count()).where(jobs.c.batch == batch_id, jobs.c.state.in_(LIVE))
    window = _WINDOW if batch.at_once is None else min(_WINDOW, batch.at_once + 1)
    at_work = int(connection.execute(live).scalar_one())
    room = max(0, window - at_work)
    idle = at_work == 0
    if not any(counts.get(state) for state in ItemState if state not in {ItemState.DONE, ItemState.FAILED}):
        if idle:
            _end(connection, batch, BatchState.FINISHED, moment)
        return []
    if batch.state is BatchState.CANCELLING:
        if idle:
            _end(connection, batch, BatchState.CANCELLED, moment)
        return []
    left = _budget(connection, batch)
    if left <= 0:
        if idle:
            _end(connection, batch, BatchState.EXHAUSTED, moment)
        return []
    made = _sweep_jobs(connection, batch, room, left, moment) if counts.get(ItemState.PENDING) else []
    if counts.get(ItemState.OPEN) and len(made) < room:
        made += _exact_jobs(connection, batch, room - len(made), left, moment)
    return made


def record(connection: Connection, job: JobRecord, found: Sequence[Found], answers: Answers, moment: datetime) -> bool:
    """Write down what the current attempt of a sweep job found; False, and nothing, from any other attempt."""
    current = exists().where(jobs.c.id == job.id, jobs.c.attempt == job.attempt, jobs.c.state.in_(LIVE))
    for each in found:
        mine = (items.c.batch == job.batch) & (items.c.number == each.number) & (items.c.job == job.id)
        values = _swept(each, moment)
        after = ItemState(values["state"])
        query = update(items).where(mine, items.c.state.in_(sorted(item_sources(after))), current).values(values)
        if connection.execute(query).rowcount == 0:
            return False
        spared(connection, "artifact", evidence_of(each.verdict))
        if each.asked is not None and each.verdict is not None:
            answers.add(connection, each.asked, each.verdict, owner=job.owner, batch=job.batch, item=each.number)
    return True


def settle(connection: Connection, job: JobRecord, moment: datetime) -> None:
    """Bring the items of a job that has just ended to where they belong.

    What a sweep job left goes back where its end was its own choice; where it failed or was killed, each of them gets a
    job of its own, so that one that is at fault harms no other.
    """
    mine = (items.c.batch == job.batch) & (items.c.job == job.id)
    if "sweep" in job.request:
        chosen = job.state is JobState.CANCELLED or (job.state is JobState.SUCCEEDED and job.verdict is None)
        values = {"state": ItemState.PENDING} if chosen else {"state": ItemState.OPEN, "swept": True}
        left = update(items).where(mine, items.c.state == ItemState.SWEEPING)
        connection.execute(left.values(job=None, **values))
        return
    row = connection.execute(select(items).where(mine, items.c.state == ItemState.SEARCHING)).mappings().first()
    if row is None:
        return
    verdict = _merged(row, job.verdict)
    values = _ending(job, verdict, moment)
    if verdict is not None:
        values |= _facts(verdict)
        if not verdict.get("cached_from"):
            values["search_seconds"] = row["search_seconds"] + float((job.verdict or {}).get("seconds", 0.0))
    connection.execute(update(items).where(mine, items.c.state == ItemState.SEARCHING).values(values))
    if verdict is not None and values["state"] is ItemState.DONE and _decides(job.request["query"]):
        _infer(connection, row, verdict, moment)


def _swept(found: Found, moment: datetime) -> dict[str, Any]:
    """The columns of an item that a sweep has looked at."""
    if found.verdict is None:
        return {"state": ItemState.FAILED, "error": found.error, "swept": True, "finished_at": moment}
    values: dict[str, Any] = {"swept": True, "sweep_seconds": float(found.verdict["seconds"]), **_facts(found.verdict)}
    if found.verdict["verdict"] == Outcome.UNKNOWN and not found.final:
        return values | {"state": ItemState.OPEN, "job": None, "outcome": None, "decided_by": None}
    return values | {"state": ItemState.DONE, "verdict": found.verdict, "finished_at": moment}


def _facts(verdict: dict[str, Any]) -> dict[str, Any]:
    """What lists and counts need of a verdict."""
    lower, upper = verdict["margin"]
    return {
        "outcome": str(verdict["verdict"]),
        "trust": verdict.get("trust"),
        "decided_by": (verdict.get("decided_by") or None),
        "lower": lower,
        "upper": upper,
        "cached_from": verdict.get("cached_from"),
        "cached": bool(verdict.get("cached_from")),
    }


def _ending(job: JobRecord, verdict: dict[str, Any] | None, moment: datetime) -> dict[str, Any]:
    """Where the item of an exact job goes; one that was cancelled keeps its bounds and waits for another job."""
    if job.state is JobState.FAILED:
        return {"state": ItemState.FAILED, "error": job.error, "finished_at": moment}
    unfinished = verdict is None or verdict.get("reason") == Reason.CANCELLED
    if job.state is JobState.CANCELLED and unfinished:
        return {"state": ItemState.OPEN, "job": None}
    return {"state": ItemState.DONE, "verdict": verdict, "finished_at": moment}


def _merged(row: Any, verdict: dict[str, Any] | None) -> dict[str, Any] | None:
    """A verdict with the bounds that the item had before, and the seconds of the sweep; its job keeps the history."""
    if verdict is None:
        return None
    verdict = {key: value for key, value in verdict.items() if key != "history"}
    lower, upper = verdict["margin"]
    lowers = [value for value in (lower, row["lower"]) if value is not None]
    uppers = [value for value in (upper, row["upper"]) if value is not None]
    margin = [max(lowers, default=None), min(uppers, default=None)]
    return {**verdict, "margin": margin, "seconds": float(verdict["seconds"]) + row["sweep_seconds"]}


def _infer(connection: Connection, row: Any, verdict: dict[str, Any], moment: datetime) -> None:
    """What the verdict of one item says of the same input at other epsilons, see `service.reuse`."""
    if not passes_on(verdict):
        return
    found = exact(row["epsilon"])
    waiting = items.c.state.in_([ItemState.PENDING, ItemState.OPEN])
    others = select(items.c.number, items.c.epsilon).where(
        items.c.batch == row["batch"], items.c.input == row["input"], waiting
    )
    source = {"batch": row["batch"], "item": row["number"]}
    for number, text in connection.execute(others).all():
        epsilon = exact(text)
        if epsilon < found if verdict["verdict"] == Outcome.ROBUST else epsilon > found:
            implied = served(verdict, found, epsilon, source)
            values = {"state": ItemState.DONE, "verdict": implied, "finished_at": moment, **_facts(implied)}
            mine = (items.c.batch == row["batch"]) & (items.c.number == number)
            connection.execute(update(items).where(mine, waiting).values(values))


def _reclaim(connection: Connection, batch_id: str) -> None:
    """Take back items whose jobs were cancelled before they began."""
    live = select(jobs.c.id).where(jobs.c.batch == batch_id, jobs.c.state.in_(LIVE))
    for before, after in ((ItemState.SWEEPING, ItemState.PENDING), (ItemState.SEARCHING, ItemState.OPEN)):
        lost = (items.c.batch == batch_id) & (items.c.state == before) & items.c.job.not_in(live)
        connection.execute(update(items).where(lost).values(state=after, job=None))


def _end(connection: Connection, batch: BatchRecord, state: BatchState, moment: datetime) -> None:
    assert state in BATCH_TRANSITIONS[batch.state]
    values = {"state": state, "changed_at": moment, "finished_at": moment}
    connection.execute(update(batches).where(batches.c.id == batch.id).values(values))


def _budget(connection: Connection, batch: BatchRecord) -> float:
    """Seconds of solving that the batch may still take."""
    if batch.total_limit is None:
        return math.inf
    spent = select(func.sum(items.c.sweep_seconds + items.c.search_seconds)).where(items.c.batch == batch.id)
    return batch.total_limit - float(connection.execute(spent).scalar() or 0.0)


def _sweep_jobs(
    connection: Connection, batch: BatchRecord, room: int, left: float, moment: datetime
) -> list[JobRecord]:
    query = select(items.c.number, items.c.input).where(items.c.batch == batch.id, items.c.state == ItemState.PENDING)
    made: list[JobRecord] = []
    size = _chunk_size(connection, batch)
    waiting = connection.execute(query.order_by(items.c.number).limit(room * size * len(batch.request["epsilon"])))
    by_input: dict[int, list[int]] = {}
    for number, index in waiting.all():
        by_input.setdefault(index, []).append(number)
    inputs = list(by_input.values())
    for start in range(0, len(inputs), size):
        numbers = [number for each in inputs[start : start + size] for number in each]
        limit = min(SWEEP_SECONDS + batch.time_limit, left + batch.time_limit)
        request = {key: batch.request[key] for key in _SHARED} | {"sweep": len(numbers), "time_limit": batch.time_limit}
        made.append(_add_job(connection, batch, request, limit, moment))
        chosen = (items.c.batch == batch.id) & items.c.number.in_(numbers) & (items.c.state == ItemState.PENDING)
        connection.execute(update(items).where(chosen).values(state=ItemState.SWEEPING, job=made[-1].id))
        if len(made) == room:
            break
    return made


def _chunk_size(connection: Connection, batch: BatchRecord) -> int:
    """Inputs of the next sweep jobs, by what inputs have cost so far."""
    swept = select(func.count(), func.sum(items.c.sweep_seconds)).where(items.c.batch == batch.id, items.c.swept)
    count, seconds = connection.execute(swept).one()
    if not count or not seconds:
        return _FIRST_CHUNK
    each = float(seconds) / int(count) * len(batch.request["epsilon"])
    return max(1, min(_LARGEST_CHUNK, round(_CHUNK_SECONDS / each)))


def _exact_jobs(
    connection: Connection, batch: BatchRecord, room: int, left: float, moment: datetime
) -> list[JobRecord]:
    """Jobs for open items, those whose proven bound is nearest to zero first: the hard ones come last."""
    waiting = select(items.c.number, items.c.input, items.c.epsilon, items.c.label).where(
        items.c.batch == batch.id, items.c.state == ItemState.OPEN
    )
    order = (items.c.lower.is_(None), items.c.lower.desc(), items.c.number)
    made: list[JobRecord] = []
    for number, index, epsilon, label in connection.execute(waiting.order_by(*order).limit(room)).all():
        limit = min(batch.time_limit, left)
        query = {**batch.request["query"], "dataset": batch.dataset, "index": index}
        query |= labelled(query, label)
        request = {key: batch.request[key] for key in _SHARED if key != "query"}
        request |= {"query": query | ({"epsilon": epsilon} if epsilon else {}), "item": number, "time_limit": limit}
        made.append(_add_job(connection, batch, request, limit, moment))
        mine = (items.c.batch == batch.id) & (items.c.number == number) & (items.c.state == ItemState.OPEN)
        connection.execute(update(items).where(mine).values(state=ItemState.SEARCHING, job=made[-1].id))
    return made


def _add_job(
    connection: Connection, batch: BatchRecord, request: dict[str, Any], limit: float, moment: datetime
) -> JobRecord:
    values = queued_job(
        new_id(int(moment.timestamp() * 1000)),
        batch.network,
        request,
        batch.queue,
        limit,
        batch.max_attempts,
        moment,
        owner=batch.owner,
        at_once=batch.at_once,
        origin=origin(),
    )
    connection.execute(insert(jobs).values(**values, batch=batch.id))
    return JobRecord.of(connection.execute(select(jobs).where(jobs.c.id == values["id"])).mappings().one())
