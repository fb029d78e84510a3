"""Sums and means over axes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from networks.graph import Conv
from networks.operators.arithmetic import reciprocal
from networks.operators.registry import Call, operator
from networks.tracing import Tensor, Trace, View

__all__: list[str] = []

_ATTRIBUTES = ("axes", "keepdims", "noop_with_empty_axes")


@operator("ReduceSum", *_ATTRIBUTES)
def _reduce_sum(trace: Trace, call: Call) -> Tensor:
    return _reduced(trace, call, mean=False)


@operator("ReduceMean", *_ATTRIBUTES)
def _reduce_mean(trace: Trace, call: Call) -> Tensor:
    return _reduced(trace, call, mean=True)


def _reduced(trace: Trace, call: Call, *, mean: bool) -> Tensor:
    """A convolution whose window is the group of entries that are added, after these were moved side by side."""
    value = call.view(0)
    rank = len(value.shape)
    axes = call.integers(1, "axes")
    if not axes:
        if call.attributes.get("noop_with_empty_axes", 0):
            return value
        axes = list(range(rank))
    gone = sorted({a % rank for a in axes})
    kept = [a for a in range(rank) if a not in gone]
    count = math.prod(value.shape[a] for a in gone)
    groups = math.prod(value.shape[a] for a in kept)
    if call.attributes.get("keepdims", 1):
        shape = tuple(1 if a in gone else d for a, d in enumerate(value.shape))
    else:
        shape = tuple(value.shape[a] for a in kept)
    weight: NDArray[np.float64] = np.ones((1, 1, count))
    if mean:
        weight = reciprocal(trace, call, np.full((1, 1, count), float(count)))
    moved = trace.rearranged(value, lambda a: np.transpose(a, [*kept, *gone]))
    linear = Conv(weight, (1, groups * count), (1, groups), (count,), ((0, 0),), (1,))
    reduced = trace.affine([(trace.plain(moved), linear)], (groups,))
    return View(reduced.node, shape)
