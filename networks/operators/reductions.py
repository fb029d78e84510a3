"""Sums, means and extremes over axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from networks.graph import Conv
from networks.operators.arithmetic import reciprocal
from networks.operators.registry import Call, operator
from networks.operators.windows import tournament
from networks.tracing import Tensor, Trace, View

__all__: list[str] = []

_ATTRIBUTES = ("axes", "keepdims", "noop_with_empty_axes")


@operator("ReduceSum", *_ATTRIBUTES)
def _reduce_sum(trace: Trace, call: Call) -> Tensor:
    """Affine."""
    return _reduced(trace, call, mean=False)


@operator("ReduceMean", *_ATTRIBUTES)
def _reduce_mean(trace: Trace, call: Call) -> Tensor:
    """Affine; the reciprocal of the number of entries rounds to float64 unless it is a power of two."""
    return _reduced(trace, call, mean=True)


@operator("ReduceMax", *_ATTRIBUTES)
def _reduce_max(trace: Trace, call: Call) -> Tensor:
    """A tournament of ``b + relu(a - b)``: half as many pairs each round."""
    group = _Group.of(trace, call)
    return group.value if group.count == 1 else group.named(_largest(trace, group.moved, group.count))


@operator("ReduceMin", *_ATTRIBUTES)
def _reduce_min(trace: Trace, call: Call) -> Tensor:
    """Minus the largest of the negated entries."""
    group = _Group.of(trace, call)
    if group.count == 1:
        return group.value
    opposite = trace.affine([trace.negated(group.moved)], group.moved.shape)
    largest = _largest(trace, opposite, group.count)
    return group.named(trace.affine([trace.negated(largest)], largest.shape))


def _largest(trace: Trace, value: View, count: int) -> View:
    """The largest of every ``count`` entries that follow each other."""
    players = np.arange(value.features, dtype=np.int64).reshape(-1, count).T
    return tournament(trace, trace.plain(value), players, (1, players.shape[1]))


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """What a reduction reduces.

    Attributes:
        value: the reduced tensor, with the shape that the result would have if every group were one entry.
        moved: its entries with each group side by side, shape ``(groups * count,)``.
        count: entries of one group.
        shape: of the result.
    """

    value: View
    moved: View
    count: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, trace: Trace, call: Call) -> _Group:
        value = call.view(0)
        rank = len(value.shape)
        axes = call.integers(1, "axes")
        if not axes:
            axes = [] if call.attributes.get("noop_with_empty_axes", 0) else list(range(rank))
        if any(not -rank <= a < rank for a in axes):
            call.refuse(f"axes {axes} of a tensor with {rank} dimensions")
        gone = sorted({a % rank for a in axes})
        kept = [a for a in range(rank) if a not in gone]
        if call.attributes.get("keepdims", 1):
            shape = tuple(1 if a in gone else d for a, d in enumerate(value.shape))
        else:
            shape = tuple(value.shape[a] for a in kept)
        moved = trace.rearranged(value, lambda a: np.transpose(a, [*kept, *gone]).reshape(-1))
        count = math.prod(value.shape[a] for a in gone)
        return cls(trace.rearranged(value, lambda a: a.reshape(shape)) if count == 1 else value, moved, count, shape)

    def named(self, result: View) -> View:
        """The results of all groups, in the result's shape."""
        return View(result.node, self.shape, result.indices)


def _reduced(trace: Trace, call: Call, *, mean: bool) -> Tensor:
    """A convolution whose window is the group of entries that are added, after these were moved side by side."""
    group = _Group.of(trace, call)
    if group.count == 1:
        return group.value
    weight: NDArray[np.float64] = np.ones((1, 1, group.count))
    if mean:
        weight = reciprocal(trace, call, np.full((1, 1, group.count), float(group.count)))
    groups = group.moved.features // group.count
    linear = Conv(weight, (1, group.moved.features), (1, groups), (group.count,), ((0, 0),), (1,))
    return group.named(trace.affine([(trace.plain(group.moved), linear)], (groups,)))
