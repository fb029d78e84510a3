"""The adjoint of the linear maps of `networks.graph`, with NumPy alone, and how many products their sums have.

Forward and absolute maps are `networks.evaluation.apply`. Convolutions and transposed convolutions are each other's
adjoint with the same stored weights, so one routine serves both.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from networks.evaluation import apply
from networks.graph import Conv, ConvTranspose, Dense, Gather, Identity, LinearMap, Scale

__all__ = ["adjoint", "rows", "terms"]

Array = NDArray[np.float64]


def adjoint(linear: LinearMap, A: Array) -> Array:
    """``A L`` for each row of ``A``: ``(R, out_features)`` to ``(R, in_features)``."""
    match linear:
        case Dense():
            return A @ linear.weight
        case Gather():
            return _scatter(linear, A)
        case Conv():
            return apply(_transposed_convolution(linear), A)
        case ConvTranspose():
            return apply(_convolution(linear), A)
    return apply(linear, A)


def rows(linear: LinearMap, indices: NDArray[np.intp]) -> Array:
    """The rows ``e_i L`` for ``i`` in ``indices``, exact: shape ``(len(indices), in_features)``."""
    if isinstance(linear, Dense):
        return linear.weight[indices]
    unit = np.zeros((len(indices), linear.out_features))
    unit[np.arange(len(indices)), indices] = 1
    return adjoint(linear, unit)


def terms(linear: LinearMap) -> int:
    """At least the number of products that are summed into one entry, forward or adjoint."""
    match linear:
        case Identity() | Scale():
            return 1
        case Dense():
            return max(linear.in_features, linear.out_features)
        case Gather():
            return int(np.bincount(linear.indices + 1).max(initial=1))
    return int(max(linear.weight.shape[:2]) * math.prod(linear.weight.shape[2:]))


def _scatter(linear: Gather, A: Array) -> Array:
    out = np.zeros((len(A), linear.in_features), dtype=A.dtype)
    left = np.flatnonzero(linear.indices >= 0)
    while len(left):
        # Each round adds one occurrence of every index that is left, so that none is written twice at once.
        target, first = np.unique(linear.indices[left], return_index=True)
        out[:, target] += A[:, left[first]]
        left = np.delete(left, first)
    return out


def _transposed_convolution(c: Conv) -> ConvTranspose:
    unread = tuple(0 for _ in c.stride)  # evaluation pads with zeros to the output's shape, whatever the stride left
    return ConvTranspose(c.weight, c.output_shape, c.input_shape, c.stride, c.padding, unread, c.dilation, c.groups)


def _convolution(c: ConvTranspose) -> Conv:
    return Conv(c.weight, c.output_shape, c.input_shape, c.stride, c.padding, c.dilation, c.groups)
