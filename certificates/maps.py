"""Row vectors on the values of nodes, and what linear maps make of them, with NumPy alone.

A row vector on a feature map of a convolutional network is often zero outside a small window: that of one neuron is a
single entry, and each convolution that it passes widens the window by its kernel. `Rows` keeps only the window, so one
matrix product serves every neuron of a layer, wherever its window lies. Numbers are float64, or integers in arrays
of objects: the same code serves `certificates.enclosure` and `certificates.exact`.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.evaluation import apply
from networks.graph import AffineNode, Conv, ConvTranspose, Dense, Gather, Identity, LinearMap, Network, ReluNode, Scale

__all__ = ["Rows", "Window", "adjoint", "terms", "widest"]

Array = NDArray[Any]
Indices = NDArray[np.intp]

# What share of columns in use makes leaving the others out worth while.
_MANY = 0.8


@dataclass(frozen=True, eq=False)
class Window:
    """The windows of a feature map that row vectors live on, one for each.

    Attributes:
        shape: of the map, ``(C, *spatial)``.
        size: of every window, without channels.
        origin: first spatial entry of each window, shape ``(B, R, len(size))``; windows may reach beyond the map.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    origin: Indices

    @cached_property
    def index(self) -> Indices:
        """The entry of the map that each of a window's entries is, shape ``(B, R, C·prod(size))``; beyond the map, one
        more than it has.
        """
        rows, rank = self.origin.shape[:2], len(self.size)
        place, inside = np.zeros(rows + (1,) * rank, np.intp), np.ones(rows + (1,) * rank, bool)
        for axis, (size, length) in enumerate(zip(self.size, self.shape[1:], strict=True)):
            along = self.origin[..., axis, None] + np.arange(size)
            along = along.reshape(*rows, *(size if a == axis else 1 for a in range(rank)))
            place = place * length + along
            inside = inside & (along >= 0) & (along < length)
        features = math.prod(self.shape)
        channels = np.arange(self.shape[0]) * math.prod(self.shape[1:])
        index = np.where(inside, place, features)[:, :, None] + channels.reshape(-1, *(1,) * rank)
        return np.minimum(index, features, out=index).reshape(*rows, -1)


@dataclass(frozen=True, eq=False)
class Rows:
    """R row vectors for each of B boxes, on the value of a node.

    Attributes:
        values: shape ``(B, R, features)``, or with windows ``(B, R, C·prod(size))``.
        window: where the entries lie; None for all entries of the value.
    """

    values: Array
    window: Window | None = None

    @classmethod
    def unit(cls, node: AffineNode, neuron: Indices, dtype: Any = np.float64) -> Rows:
        """``e_j`` for each ``neuron`` j of a node, shape ``(B, R)``; with windows if a convolution makes the node."""
        shape = next((linear.output_shape for _, linear in node.terms if isinstance(linear, Conv)), (node.features,))
        channel, *place = np.unravel_index(neuron, shape)
        values = np.zeros((*neuron.shape, shape[0]), dtype)
        np.put_along_axis(values, channel[..., None], 1, -1)
        return cls(values, Window(shape, (1,) * len(place), np.stack(place, -1)) if place else None)

    def __abs__(self) -> Rows:
        return replace(self, values=np.abs(self.values))

    def both_signs(self) -> Rows:
        """For each box these rows, then their negatives."""
        window = self.window and replace(self.window, origin=np.concatenate([self.window.origin] * 2, 1))
        return Rows(np.concatenate([self.values, -self.values], 1), window)

    def at(self, values: Array) -> Array:
        """What ``values``, of shape ``(B, features)`` or ``(features,)``, are at the rows' entries: broadcasts to the
        rows' shape.
        """
        values = np.atleast_2d(values)
        if self.window is None:
            return values[:, None]
        beyond = np.concatenate([values, np.zeros((len(values), 1), values.dtype)], 1)
        index = self.window.index
        if len(values) > 1:
            index = index + np.arange(len(values))[:, None, None] * beyond.shape[1]
        return np.asarray(np.take(beyond, index))

    def dot(self, values: Array) -> Array:
        """The products with ``values`` of shape ``(B, features)`` or ``(features,)``: shape ``(B, R)``."""
        if self.window is None and values.dtype != object:
            return np.asarray(np.matmul(self.values, np.atleast_2d(values)[..., None])[..., 0])
        return np.asarray((self.values * self.at(values)).sum(-1), self.values.dtype)

    def whole(self, features: int) -> Rows:
        """The same rows without windows."""
        if self.window is None:
            return self
        values = np.zeros((*self.values.shape[:2], features + 1), self.values.dtype)
        np.put_along_axis(values, self.window.index, self.values, -1)
        return Rows(values[..., :-1])

    def plus(self, other: Rows, features: int) -> Rows:
        """The sum: on windows that hold both where these can be equally large, else without."""
        a, b = self.window, other.window
        if a is not None and b is not None and a.shape == b.shape:
            origin = np.minimum(a.origin, b.origin)
            ahead = [(w.origin - origin).reshape(-1, len(w.size)) for w in (a, b)]
            if all((shift == shift[:1]).all() for shift in ahead):
                starts = [shift[0].tolist() for shift in ahead]
                ends = np.array([np.add(start, w.size) for start, w in zip(starts, (a, b), strict=True)])
                size = tuple(ends.max(0).tolist())
                out = np.zeros((*origin.shape[:2], a.shape[0], *size), self.values.dtype)
                for start, w, values in zip(starts, (a, b), (self.values, other.values), strict=True):
                    place = tuple(slice(first, first + n) for first, n in zip(start, w.size, strict=True))
                    out[:, :, :, *place] += values.reshape(*origin.shape[:2], a.shape[0], *w.size)
                return Rows(out.reshape(*origin.shape[:2], -1), Window(a.shape, size, origin))
        return Rows(self.whole(features).values + other.whole(features).values)


def adjoint(linear: LinearMap, rows: Rows) -> Rows:
    """``A L`` for each of the rows A."""
    match linear:
        case Identity():
            return rows
        case Scale():
            return replace(rows, values=rows.values * rows.at(linear.factors))
        case Conv():
            return _adjoint_convolution(linear, rows)
    A = rows.whole(linear.out_features).values
    flat = A.reshape(-1, linear.out_features)
    match linear:
        case Dense():
            flat = _dense(flat, linear.weight)
        case Gather():
            flat = _scatter(linear, flat)
        case ConvTranspose():
            sizes = (linear.output_shape, linear.input_shape, linear.stride, linear.padding, linear.dilation)
            flat = apply(Conv(linear.weight, *sizes, linear.groups), flat)
    return Rows(flat.reshape(*A.shape[:2], -1))


def _dense(A: Array, weight: Array) -> Array:
    """A times the weight, without the columns that are zero throughout if they are many, as behind ReLUs."""
    used = A.any(0)
    if used.mean() > _MANY:
        return product(A, weight)
    return product(A[:, used], weight[used])


def product(A: Array, B: Array) -> Array:
    """The matrix product."""
    if A.dtype == object:
        from certificates import integers  # python-flint is imported only where it is used

        return integers.product(A, B)
    return np.asarray(A @ B)


@functools.lru_cache(maxsize=64)
def widest(network: Network, index: int) -> int:
    """How many entries rows from single neurons of a node have on their way to the input, about: one is sent."""
    node = network.nodes[index]
    assert isinstance(node, AffineNode)
    pending = {index: Rows.unit(node, np.array([[node.features // 2]]))}
    most = 1
    for k in range(index, 0, -1):
        if k not in pending:
            continue
        A, node = pending.pop(k), network.nodes[k]
        most = max(most, A.values.shape[-1])
        if isinstance(node, ReluNode):
            sent = [(node.parent, A)]
        else:
            assert isinstance(node, AffineNode)
            sent = [(parent, adjoint(linear, A)) for parent, linear in node.terms]
        for parent, B in sent:
            features = network.nodes[parent].features
            pending[parent] = pending[parent].plus(B, features) if parent in pending else B
    return most


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


def _adjoint_convolution(linear: Conv, rows: Rows) -> Rows:
    """Every entry of a window stamps the kernel, scaled, onto a larger window of the convolution's input."""
    boxes, count = rows.values.shape[:2]
    window = rows.window
    if window is None or window.shape != linear.output_shape:
        rows = rows.whole(linear.out_features)
        origin = np.zeros((boxes, count, len(linear.stride)), np.intp)
        window = Window(linear.output_shape, linear.output_shape[1:], origin)
    kernel = linear.weight.shape[2:]
    size = tuple(
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(window.size, linear.stride, kernel, linear.dilation, strict=True)
    )
    A = rows.values.reshape(boxes * count, linear.groups, -1, math.prod(window.size))
    weight = linear.weight.reshape(linear.groups, A.shape[2], -1)
    out = np.zeros((*linear.input_shape[:1], boxes * count, *size), A.dtype)
    for g, piece in enumerate(np.split(out, linear.groups)):
        stamps = product(weight[g].T, A[:, g].swapaxes(0, 1).reshape(A.shape[2], -1))
        stamps = stamps.reshape(len(piece), -1, boxes * count, *window.size)
        for number, offset in enumerate(itertools.product(*map(range, kernel))):
            place = [
                slice(o * d, o * d + (n - 1) * s + 1, s)
                for o, d, n, s in zip(offset, linear.dilation, window.size, linear.stride, strict=True)
            ]
            piece[:, :, *place] += stamps[:, number]
    values = out.swapaxes(0, 1).reshape(boxes, count, -1)
    before = np.array([b for b, _ in linear.padding], np.intp)
    wider = Window(linear.input_shape, size, window.origin * linear.stride - before)
    if math.prod(size) >= math.prod(linear.input_shape[1:]):
        return Rows(values, wider).whole(linear.in_features)
    values[wider.index == linear.in_features] = 0  # only what lies on the map counts
    return Rows(values, wider)


def _scatter(linear: Gather, A: Array) -> Array:
    out = np.zeros((len(A), linear.in_features), dtype=A.dtype)
    left = np.flatnonzero(linear.indices >= 0)
    while len(left):
        # Each round adds one occurrence of every index that is left, so that none is written twice at once.
        target, first = np.unique(linear.indices[left], return_index=True)
        out[:, target] += A[:, left[first]]
        left = np.delete(left, first)
    return out
