"""The open cells of a ReLU-split search: arrays of slots, and a heap that knows the weakest."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from solver.parcel import Parcel

__all__ = ["Batch", "CellPool"]

_FIRST_SLOTS = 256


@dataclass(frozen=True, eq=False)
class Batch:
    """B cells.

    Attributes:
        bound: proven lower bounds, float64 ``(B,)``.
        low, high: bounds of their K pre-activations, float64 ``(B, K)``.
        theta: the parameters that their bounds were found with, float32 ``(B, rows, K)``; None for the default.
        branch: their numbers in the search's record, int64 ``(B,)``.
    """

    bound: Tensor
    low: Tensor
    high: Tensor
    theta: Tensor | None
    branch: Tensor

    def __len__(self) -> int:
        return len(self.bound)

    def select(self, which: Tensor) -> Batch:
        """Some of them, by index or mask."""
        theta = self.theta[which] if self.theta is not None else None
        return Batch(self.bound[which], self.low[which], self.high[which], theta, self.branch[which])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The cells without their branches, as `CellPool` keeps them."""
        low, high = _outward(self.low, self.high)
        arrays = {"bound": self.bound.numpy(), "low": low.numpy(), "high": high.numpy()}
        return arrays if self.theta is None else arrays | {"theta": _half(self.theta).numpy()}

    @classmethod
    def of(cls, parcel: Parcel, root: tuple[Tensor, Tensor], rows: int) -> Self:
        """The cells that `arrays` wrote, their branches numbered from 0.

        Args:
            parcel: the document.
            root: bounds of the pre-activations that hold on all cells, ``(K,)`` each.
            rows: lines of parameters that each cell has, none if it is 0.

        Raises:
            ParcelError: the cells are not of such a search.
        """
        columns = len(root[0])
        bound = torch.as_tensor(parcel.array("bound", np.float64, (None,)))
        low, high = (
            torch.as_tensor(parcel.array(name, np.float32, (len(bound), columns))).double() for name in ("low", "high")
        )
        theta = (
            torch.as_tensor(parcel.array("theta", np.float16, (len(bound), rows, columns))).float() if rows else None
        )
        low, high = torch.maximum(low, root[0]), torch.minimum(high, root[1])
        return cls(bound, low, high, theta, torch.arange(len(bound)))


def _outward(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds in float32, rounded outward."""
    infinity = torch.tensor(torch.inf)
    down, up = low.to(torch.float32), high.to(torch.float32)
    return (
        torch.where(down > low, torch.nextafter(down, -infinity), down),
        torch.where(up < high, torch.nextafter(up, infinity), up),
    )


def _half(theta: Tensor) -> Tensor:
    return theta.clamp(-60000, 60000).to(torch.float16)


class CellPool:
    """Open cells by their bounds.

    Bounds of pre-activations are kept in float32, rounded outward, and parameters in float16: they are only what a
    cell's children start from.
    """

    def __init__(self, low: Tensor, high: Tensor, rows: int, memory: int) -> None:
        """``low``, ``high``: bounds of the pre-activations that hold on all cells, ``(K,)``; ``rows``: lines of
        parameters to keep with each, none if it is 0; ``memory``: bytes to fill before other cells than the weakest
        are taken.
        """
        columns = len(low)
        self._root = low, high
        self._bound = torch.empty(_FIRST_SLOTS, dtype=torch.float64)
        self._low, self._high = (torch.empty((_FIRST_SLOTS, columns), dtype=torch.float32) for _ in range(2))
        self._theta = torch.empty((_FIRST_SLOTS, rows, columns), dtype=torch.float16)
        self._branch = torch.empty(_FIRST_SLOTS, dtype=torch.int64)
        self._free = list(range(_FIRST_SLOTS))
        self._heap: list[tuple[float, int]] = []
        self._most = max(1, memory // (1 + columns * (8 + 2 * rows)))

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def lower(self) -> float:
        """The weakest bound, +inf without cells."""
        return self._heap[0][0] if self._heap else math.inf

    def put(self, batch: Batch) -> None:
        """Adds cells."""
        while len(self._free) < len(batch):
            self._grow()
        slots = [self._free.pop() for _ in range(len(batch))]
        at = torch.as_tensor(slots, dtype=torch.int64)
        self._bound[at] = batch.bound
        self._low[at], self._high[at] = _outward(batch.low, batch.high)
        self._branch[at] = batch.branch
        if self._theta.shape[1]:
            assert batch.theta is not None
            self._theta[at] = _half(batch.theta)
        for entry in zip(batch.bound.tolist(), slots, strict=True):
            heapq.heappush(self._heap, entry)

    def take(self, count: int, *, deep: bool = True) -> Batch:
        """Removes the weakest cells; where memory runs out, with ``deep``, others than the weakest, which stay."""
        # The last entry of a heap is a leaf, so popping it keeps the heap in order.
        deep = deep and len(self._heap) > self._most
        slots = [
            (self._heap.pop() if deep else heapq.heappop(self._heap))[1] for _ in range(min(count, len(self._heap)))
        ]
        at = torch.as_tensor(slots, dtype=torch.int64)
        theta = self._theta[at].to(torch.float32) if self._theta.shape[1] else None
        low = torch.maximum(self._low[at].double(), self._root[0])
        high = torch.minimum(self._high[at].double(), self._root[1])
        batch = Batch(self._bound[at], low, high, theta, self._branch[at])
        self._free.extend(slots)
        return batch

    def _grow(self) -> None:
        slots = len(self._bound)
        self._bound = torch.cat([self._bound, torch.empty_like(self._bound)])
        self._low = torch.cat([self._low, torch.empty_like(self._low)])
        self._high = torch.cat([self._high, torch.empty_like(self._high)])
        self._theta = torch.cat([self._theta, torch.empty_like(self._theta)])
        self._branch = torch.cat([self._branch, torch.empty_like(self._branch)])
        self._free.extend(range(slots, 2 * slots))
