"""Reading the items of a batch from the ledger, page by page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Select, func, select

from service.batch_models import items
from service.states import ItemState

__all__ = ["BRIEF", "ItemFilter", "items_of"]

#: All of an item but its verdict, which may hold a whole input.
BRIEF = [column for column in items.c if column.name != "verdict"]


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which items of a batch: those that agree with everything that is not None."""

    state: ItemState | None = None
    outcome: str | None = None
    label: int | None = None
    epsilon: str | None = None
    input: int | None = None


def items_of(
    batch_id: str, chosen: ItemFilter, *, limit: int, after: tuple[Any, int] | None, sort: str, verdicts: bool
) -> Select[Any]:
    """A page of a batch's items in order; `service.batches.Batches.items` says what the arguments mean."""
    query: Select[Any] = select(*(items.c if verdicts else BRIEF)).where(items.c.batch == batch_id).limit(limit)
    for name, value in asdict(chosen).items():
        if value is not None:
            query = query.where(items.c[name] == value)
    if sort == "number":
        query = query.order_by(items.c.number)
        return query if after is None else query.where(items.c.number > after[1])
    key = -(items.c.sweep_seconds + items.c.search_seconds) if sort == "seconds" else _margin()
    query = query.order_by(key, items.c.number)
    if after is None:
        return query
    return query.where((key > after[0]) | ((key == after[0]) & (items.c.number > after[1])))


def _margin() -> Any:
    """Where the margin is known best: proven from below, else attained; what is unknown comes last."""
    return func.coalesce(items.c.lower, items.c.upper, 1e308)
