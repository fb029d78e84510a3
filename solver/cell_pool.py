"""The open cells of a ReLU-split search: arrays of slots, and a heap that knows the weakest."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from solver import policy

__all__ = ["Batch", "CellPool"]

_FIRST_SLOTS = 256


@dataclass(frozen=True, eq=False)
class Batch:
    """B cells.

    Attributes:
        bound: proven lower bounds, float64 ``(B,)``.
        phases: int8 ``(B, K)``.
        theta: the parameters that their bounds were found with, float32 ``(B, rows, K)``; None for the default.
        branch: their numbers in the search's record, int64 ``(B,)``.
    """

    bound: Tensor
    phases: Tensor
    theta: Tensor | None
    branch: Tensor

    def select(self, which: Tensor) -> Batch:
        """Some of them, by index or mask."""
        theta = self.theta[which] if self.theta is not None else None
        return Batch(self.bound[which], self.phases[which], theta, self.branch[which])


class CellPool:
    """Open cells by their bounds; ``rows`` lines of parameters are kept with each, none if it is 0.

    Parameters are kept in float16: they are only what a cell's children start from.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self._bound = torch.empty(_FIRST_SLOTS, dtype=torch.float64)
        self._phases = torch.empty((_FIRST_SLOTS, columns), dtype=torch.int8)
        self._theta = torch.empty((_FIRST_SLOTS, rows, columns), dtype=torch.float16)
        self._branch = torch.empty(_FIRST_SLOTS, dtype=torch.int64)
        self._free = list(range(_FIRST_SLOTS))
        self._heap: list[tuple[float, int]] = []
        self._most = max(1, policy.BAB_MEMORY // (1 + columns * (1 + 2 * rows)))

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def lower(self) -> float:
        """The weakest bound, +inf without cells."""
        return self._heap[0][0] if self._heap else math.inf

    def put(self, bound: Tensor, phases: Tensor, theta: Tensor, branch: Tensor) -> None:
        """Adds cells; see `Batch` for the shapes."""
        while len(self._free) < len(bound):
            self._grow()
        slots = [self._free.pop() for _ in range(len(bound))]
        at = torch.as_tensor(slots, dtype=torch.int64)
        self._bound[at] = bound
        self._phases[at] = phases
        self._branch[at] = branch
        if self._theta.shape[1]:
            self._theta[at] = theta.clamp(-60000, 60000).to(torch.float16)
        for entry in zip(bound.tolist(), slots, strict=True):
            heapq.heappush(self._heap, entry)

    def take(self, count: int) -> Batch:
        """Removes the weakest cells; where memory runs out, other cells than the weakest, which stay."""
        # The last entry of a heap is a leaf, so popping it keeps the heap in order.
        deep = len(self._heap) > self._most
        slots = [
            (self._heap.pop() if deep else heapq.heappop(self._heap))[1] for _ in range(min(count, len(self._heap)))
        ]
        at = torch.as_tensor(slots, dtype=torch.int64)
        theta = self._theta[at].to(torch.float32) if self._theta.shape[1] else None
        batch = Batch(self._bound[at], self._phases[at], theta, self._branch[at])
        self._free.extend(slots)
        return batch

    def _grow(self) -> None:
        slots = len(self._phases)
        self._bound = torch.cat([self._bound, torch.empty_like(self._bound)])
        self._phases = torch.cat([self._phases, torch.empty_like(self._phases)])
        self._theta = torch.cat([self._theta, torch.empty_like(self._theta)])
        self._branch = torch.cat([self._branch, torch.empty_like(self._branch)])
        self._free.extend(range(slots, 2 * slots))
