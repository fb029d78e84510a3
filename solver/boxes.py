"""Boxes that input splits have still to close, and the pool that holds them."""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solver import policy
from solver.certify import Branch

__all__ = ["Box", "Pool"]


@dataclass(frozen=True, eq=False)
class Box:
    """A box: its end points, the clauses open on it, what is known of the ReLUs, and its cell in the record.

    ``phases`` has one entry for each ReLU, node after node: 1 where it is active on the whole box, -1 where inactive, 0
    where nothing is known. Signs that a box has inherited need no bounds of their own, and cost a byte where bounds
    would cost sixteen. ``score`` says how much the linear bounds of the open rows vary along each input.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    open: NDArray[np.bool_]
    phases: NDArray[np.int8]
    score: NDArray[np.float64]
    bound: float = -math.inf
    branch: Branch | None = None

    def half(self, entry: int, *, high: bool) -> Box:
        """One of the halves along an input, with nothing more known about it."""
        middle = self.lower[entry] + (self.upper[entry] - self.lower[entry]) / 2
        end = (self.lower if high else self.upper).copy()
        end[entry] = middle
        low, high_end = (end, self.upper) if high else (self.lower, end)
        return replace(self, lower=low, upper=high_end, branch=None)

    def at(self, branch: Branch | None) -> Box:
        """The box with its cell in a record."""
        return replace(self, branch=branch)


class Pool:
    """Open boxes, the weakest bound first; depth first once there are too many."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Box]] = []
        self._ticket = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def weakest(self) -> float:
        return self._heap[0][0] if self._heap else math.inf

    def put(self, box: Box) -> None:
        heapq.heappush(self._heap, (box.bound, next(self._ticket), box))

    def take(self, count: int) -> list[Box]:
        many = len(self._heap) > policy.BOX_POOL
        # The last entry of a heap is a leaf, so popping it keeps the heap in order.
        return [
            (self._heap.pop() if many else heapq.heappop(self._heap))[2] for _ in range(min(count, len(self._heap)))
        ]
