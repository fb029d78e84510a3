"""The ledger's part about drawings of a batch: its decided items as a few plain numbers each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, func, select

from service.batch_models import items
from service.states import ItemState
from solver.verdict import Outcome

__all__ = ["BatchFigures", "Broken", "Decided"]

#: Of a larger batch, so many items are drawn, evenly chosen.
_MOST = 20_000


@dataclass(frozen=True, slots=True)
class Decided:
    """What drawings need of an item that is done."""

    epsilon: str
    outcome: str
    lower: float | None
    upper: float | None
    seconds: float
    cached: bool
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class Broken:
    """An input with a counterexample: the item of its counterexample at the first epsilon that has one, and all states.

    Attributes:
        input: index in the data set.
        label: of the input.
        items: number, epsilon as it was written, and outcome (None while undecided) of each of its items.
    """

    input: int
    label: int
    items: tuple[tuple[int, str, str | None], ...]


class BatchFigures:
    """Reads what drawings of batches are made of; a part of `service.ledger.Ledger`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def decided(self, batch_id: str, *, most: int = _MOST) -> tuple[list[Decided], float]:
        """Items that are done, in the order in which they ended, and which share of them that is.

        Args:
            batch_id: of the batch.
            most: items to read; of more, every so-manieth is taken.
        """
        done = (items.c.batch == batch_id) & (items.c.state == ItemState.DONE)
        columns = (
            items.c.epsilon,
            items.c.outcome,
            items.c.lower,
            items.c.upper,
            items.c.sweep_seconds + items.c.search_seconds,
            items.c.cached,
            items.c.finished_at,
        )
        query = select(*columns).where(done).order_by(items.c.finished_at)
        with self._engine.connect() as connection:
            count = int(connection.execute(select(func.count()).where(done)).scalar_one())
            every = -(-count // most)
            if every > 1:
                query = query.where(items.c.number % every == 0)
            found = [
                Decided(epsilon, outcome, lower, upper, float(seconds), bool(cached), ended)
                for epsilon, outcome, lower, upper, seconds, cached, ended in connection.execute(query)
            ]
        return found, len(found) / count if count else 1.0

    def distances(self, batch_id: str, *, most: int = _MOST) -> list[tuple[float | None, float | None]]:
        """Proven and attained distances of the items of a batch that asks for them."""
        ends = [items.c.verdict["distance"][i].as_float() for i in (0, 1)]
        done = (items.c.batch == batch_id) & (items.c.state == ItemState.DONE) & items.c.verdict.is_not(None)
        with self._engine.connect() as connection:
            return [(low, high) for low, high in connection.execute(select(*ends).where(done).limit(most))]

    def distances_of(self, batch_id: str, numbers: Collection[int]) -> dict[int, tuple[float | None, float | None]]:
        """Proven and attained distances of these items, by number; of those that are done."""
        ends = [items.c.verdict["distance"][i].as_float() for i in (0, 1)]
        these = (items.c.batch == batch_id) & items.c.number.in_(numbers) & (items.c.state == ItemState.DONE)
        with self._engine.connect() as connection:
            rows = connection.execute(select(items.c.number, *ends).where(these, items.c.verdict.is_not(None)))
            return {number: (low, high) for number, low, high in rows}

    def broken(self, batch_id: str, *, limit: int, after: int = -1) -> list[Broken]:
        """The first inputs beyond ``after`` that have a counterexample, with what is known at every epsilon."""
        mine = items.c.batch == batch_id
        found = (items.c.outcome == Outcome.COUNTEREXAMPLE) & (items.c.state == ItemState.DONE)
        chosen = select(items.c.input).where(mine, found, items.c.input > after)
        chosen = chosen.distinct().order_by(items.c.input).limit(limit)
        with self._engine.connect() as connection:
            inputs = list(connection.execute(chosen).scalars())
            columns = (items.c.input, items.c.label, items.c.number, items.c.epsilon, items.c.outcome)
            rows = select(*columns).where(mine, items.c.input.in_(inputs)).order_by(items.c.number)
            known: dict[int, list[Any]] = {each: [] for each in inputs}
            labels: dict[int, int] = {}
            for index, label, number, epsilon, outcome in connection.execute(rows):
                labels[index] = label
                known[index].append((number, epsilon, outcome))
        return [Broken(index, labels[index], tuple(each)) for index, each in known.items()]
