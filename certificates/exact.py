"""The formula of `certificates.enclosure` in exact arithmetic, neuron bounds included: nothing is rounded or charged.

Weights and multipliers are binary floats, so all that is computed from them is an integer times a power of two: arrays
of integers with one exponent hold it, whatever its size. A region's ends may be other rationals, such as 1/10.
The network is then evaluated for the input times their common denominator D: since ReLUs are positively homogeneous,
that is the same network with biases times D, and every bound is D times as large.

The default slope u/(u − l) is rounded to a multiple of 2⁻⁶⁴, which costs no exactness: any Λ gives a bound. Matrix
products run on python-flint where it is installed, which is several times as fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certificates.enclosure import Cell, Phases, boxed
from certificates.integers import integers as integers_of
from certificates.integers import power
from certificates.maps import Rows, adjoint
from networks.graph import AffineNode, Conv, ConvTranspose, Dense, LinearMap, Network, ReluNode, Scale

__all__ = ["Ends", "ExactBox", "Numbers", "enclose", "lower_bound"]

Mask = NDArray[np.bool_]

_SLOPE_BITS = 64
# Entries of one matrix that are held at a time.
_ENTRIES = 2**17


@dataclass(frozen=True, eq=False)
class Numbers:
    """``integers · 2^-shift``, an array of integers with one exponent."""

    integers: NDArray[Any]
    shift: int

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> Numbers:
        """Finite floats, exactly."""
        mantissa, exponent = np.frexp(np.asarray(values, np.float64))
        integers = (mantissa * 2.0**53).astype(np.int64).astype(object)
        low = int(exponent[values != 0].min(initial=2000))
        up = np.where(values != 0, exponent - low, 0).astype(object)
        return cls(integers_of(np.left_shift(integers, up)), 53 - low)

    @classmethod
    def of_fractions(cls, values: Sequence[Fraction]) -> Numbers:
        """Integers over powers of two."""
        shift = max((value.denominator.bit_length() - 1 for value in values), default=0)
        integers = np.empty(len(values), object)
        integers[:] = [int(value * 2**shift) for value in values]
        return cls(integers_of(integers), shift)

    def to(self, shift: int) -> NDArray[Any]:
        """The integers for a shift that is at least as great."""
        integers: NDArray[Any] = self.integers * power(shift - self.shift) if shift != self.shift else self.integers
        return integers

    def take(self, part: NDArray[np.intp]) -> Numbers:
        """Some entries of a vector, as one row."""
        return Numbers(self.integers[None, part], self.shift)

    def __add__(self, other: Numbers) -> Numbers:
        shift = max(self.shift, other.shift)
        return Numbers(self.to(shift) + other.to(shift), shift)

    def __neg__(self) -> Numbers:
        return Numbers(-self.integers, self.shift)


@dataclass(frozen=True, eq=False)
class Ends:
    """Intervals: ``low`` and ``high`` of shape ``(1, features)``, times 2^-shift."""

    low: NDArray[Any]
    high: NDArray[Any]
    shift: int

    @classmethod
    def of(cls, low: Numbers, high: Numbers) -> Ends:
        shift = max(low.shift, high.shift)
        return cls(low.to(shift), high.to(shift), shift)

    @classmethod
    def of_fractions(cls, low: Sequence[Fraction], high: Sequence[Fraction], scale: int) -> Ends:
        """The intervals times ``scale``, which makes their ends integers over powers of two."""
        both = Numbers.of_fractions([value * scale for value in (*low, *high)])
        return cls(both.integers[None, : len(low)], both.integers[None, len(low) :], both.shift)


@dataclass(frozen=True, eq=False)
class ExactBox:
    """A box and what is known on it, all of it times ``scale``.

    Attributes:
        network: with integers for weights, and by how much each linear map's are shifted.
        ends: for each node, between what its values lie.
        before: for each ReLU node, the same of its pre-activations.
        above: for each ReLU node, the slopes u/(u − l) times 2⁶⁴, shape ``(1, features)``.
        below: for each ReLU node, whether the slope of an unstable neuron is 1 where A > 0, same shape.
    """

    network: _Integers
    scale: int
    ends: list[Ends]
    before: dict[int, Ends] = field(default_factory=dict)
    above: dict[int, NDArray[Any]] = field(default_factory=dict)
    below: dict[int, Mask] = field(default_factory=dict)


class _Integers:
    """A network's weights as integers."""

    def __init__(self, network: Network, scale: int) -> None:
        self.nodes = network.nodes
        self.bias: dict[int, Numbers] = {}
        self.terms: dict[int, list[tuple[int, LinearMap, int]]] = {}
        for index, node in enumerate(network.nodes):
            if isinstance(node, AffineNode):
                bias = Numbers.of(node.bias)
                self.bias[index] = Numbers(bias.integers * scale, bias.shift)
                self.terms[index] = [(parent, *self._map(linear)) for parent, linear in node.terms]

    @staticmethod
    def _map(linear: LinearMap) -> tuple[LinearMap, int]:
        if isinstance(linear, Dense | Conv | ConvTranspose):
            weight = Numbers.of(linear.weight)
            return replace(linear, weight=weight.integers), weight.shift
        if isinstance(linear, Scale):
            factors = Numbers.of(linear.factors)
            return Scale(factors.integers), factors.shift
        return linear, 0


def enclose(
    network: Network,
    lower: Sequence[Fraction],
    upper: Sequence[Fraction],
    phases: Phases = (),
    around: ExactBox | None = None,
) -> ExactBox:
    """Pre-activation bounds on one box under phases, as `certificates.enclosure.enclose` finds them."""
    scale = math.lcm(*(value.denominator // (value.denominator & -value.denominator) for value in (*lower, *upper)))
    integers = _Integers(network, scale)
    box = ExactBox(integers, scale, [Ends.of_fractions(lower, upper, scale)])
    known = boxed(network)
    for index, node in enumerate(network.nodes[1:], 1):
        if isinstance(node, AffineNode):
            box.ends.append(_interval(box, index))
            continue
        assert isinstance(node, ReluNode)
        if around is not None:
            box.ends[node.parent] = _both(box.ends[node.parent], around.before[index])
        z = box.ends[node.parent] if known[node.parent] else _refined(box, node.parent)
        z = box.before[index] = _chosen(z, phases, index)
        box.ends.append(Ends(np.maximum(z.low, 0), np.maximum(z.high, 0), z.shift))
        box.below[index] = z.high > -z.low if around is None else around.below[index]
        box.above[index] = _slopes(z)
    return box


def _both(a: Ends, b: Ends) -> Ends:
    """What lies in both."""
    shift = max(a.shift, b.shift)
    (low, high), (least, most) = ((z.low * power(shift - z.shift), z.high * power(shift - z.shift)) for z in (a, b))
    return Ends(np.maximum(low, least), np.minimum(high, most), shift)


def _parts(neurons: NDArray[np.intp], features: int) -> list[NDArray[np.intp]]:
    step = max(1, _ENTRIES // features)
    return np.split(neurons, range(step, len(neurons), step))


def _first(box: ExactBox, index: int, neurons: NDArray[np.intp]) -> list[tuple[int, Rows, int]]:
    """Rows ``neurons`` of each term of an affine node: parent, rows and shift."""
    node = box.network.nodes[index]
    assert isinstance(node, AffineNode)
    start = Rows.unit(node, neurons[None], object)
    return [(parent, adjoint(linear, start), shift) for parent, linear, shift in box.network.terms[index]]


def _interval(box: ExactBox, index: int) -> Ends:
    """Ends of an affine node from its parents'."""
    features = box.network.nodes[index].features
    lows, highs = [], []
    for part in _parts(np.arange(features), max(node.features for node in box.network.nodes[: index + 1])):
        low = high = box.network.bias[index].take(part)
        for parent, A, shift in _first(box, index, part):
            low = low + _least(A, shift, box.ends[parent])
            high = high + -_least(replace(A, values=-A.values), shift, box.ends[parent])
        lows.append(low)
        highs.append(high)
    return Ends.of(_joined(lows), _joined(highs))


def _joined(numbers: list[Numbers]) -> Numbers:
    shift = max(number.shift for number in numbers)
    return Numbers(np.concatenate([number.to(shift) for number in numbers], -1), shift)


def _refined(box: ExactBox, index: int) -> Ends:
    """The better of interval bounds and the formula, where the sign is open."""
    ends = box.ends[index]
    neurons = np.flatnonzero(((ends.low < 0) & (ends.high > 0))[0])
    if not len(neurons):
        return ends
    least, most = [], []
    for part in _parts(neurons, max(node.features for node in box.network.nodes[: index + 1])):
        bias = box.network.bias[index].take(part)
        pending: dict[int, tuple[Rows, int]] = {}
        for parent, A, shift in _first(box, index, part):
            _push(box, pending, parent, A.both_signs(), shift)
        both = _backward(
            box, pending, Numbers(np.concatenate([bias.integers, -bias.integers], 1), bias.shift), box.ends[0]
        )
        least.append(Numbers(both.integers[:, : len(part)], both.shift))
        most.append(Numbers(-both.integers[:, len(part) :], both.shift))
    found = Ends.of(_joined(least), _joined(most))
    shift = max(found.shift, ends.shift)
    low, high = ends.low * power(shift - ends.shift), ends.high * power(shift - ends.shift)
    low[:, neurons] = np.maximum(low[:, neurons], found.low * power(shift - found.shift))
    high[:, neurons] = np.minimum(high[:, neurons], found.high * power(shift - found.shift))
    return Ends(low, high, shift)


class _EmptyCellError(Exception):
    """Bounds of a neuron cross."""


def lower_bound(
    box: ExactBox, C: Sequence[Fraction], cell: Cell, ends: tuple[Sequence[Fraction], ...]
) -> Fraction | None:
    """The formula's exact value for ``C · output`` on a cell, whose part of the input lies between ``ends``.

    None where bounds of a neuron cross, so that the cell has no points.
    """
    row = Numbers.of_fractions(C)
    pending = {len(box.network.nodes) - 1: (Rows(row.integers[None, None]), row.shift)}
    zero = Numbers.of(np.zeros((1, 1)))
    try:
        found = _backward(box, pending, zero, Ends.of_fractions(ends[0], ends[1], box.scale), cell)
    except _EmptyCellError:
        return None
    return Fraction(int(found.integers[0, 0]), box.scale) / Fraction(2) ** found.shift


def _push(box: ExactBox, pending: dict[int, tuple[Rows, int]], parent: int, A: Rows, shift: int) -> None:
    if parent in pending:
        before, old = pending[parent]
        top = max(old, shift)
        before, A = (replace(a, values=a.values * power(top - s)) for a, s in ((before, old), (A, shift)))
        A, shift = before.plus(A, box.network.nodes[parent].features), top
    pending[parent] = A, shift


def _backward(
    box: ExactBox,
    pending: dict[int, tuple[Rows, int]],
    total: Numbers,
    region: Ends,
    cell: Cell | None = None,
) -> Numbers:
    """The formula from the coefficients ``pending``: as in `certificates.enclosure`."""
    for index in range(max(pending, default=0), 0, -1):
        if index not in pending:
            continue
        A, shift = pending.pop(index)
        node = box.network.nodes[index]
        if isinstance(node, AffineNode):
            bias = box.network.bias[index]
            total = total + Numbers(A.dot(bias.integers), shift + bias.shift)
            for parent, linear, by in box.network.terms[index]:
                _push(box, pending, parent, adjoint(linear, A), shift + by)
        else:
            assert isinstance(node, ReluNode)
            A, shift, minimum = _relax(box, index, A, shift, cell)
            total = total + minimum
            _push(box, pending, node.parent, A, shift)
    if 0 in pending:
        total = total + _least(*pending[0], region)
    return total


def _least(A: Rows, shift: int, ends: Ends) -> Numbers:
    """The minimum of ``A·x`` between ends, as `certificates.enclosure.least`."""
    return Numbers(np.minimum(A.values * A.at(ends.low), A.values * A.at(ends.high)).sum(-1), shift + ends.shift)


def _relax(box: ExactBox, index: int, A: Rows, shift: int, cell: Cell | None) -> tuple[Rows, int, Numbers]:
    """Λ, its shift, and the sum of the inner minima."""
    z, above, below = box.before[index], box.above[index], box.below[index]
    if cell is not None:
        A, z = A.whole(z.low.shape[1]), _chosen(_known(box, z, cell, index), cell.phases, index)
        above = _slopes(z) if index in cell.known else above
        below = z.high > -z.low
    low, high, above, below, a = A.at(z.low), A.at(z.high), A.at(above), A.at(below), A.values
    one = power(_SLOPE_BITS)
    sloped = np.where(a < 0, a * above, np.where(below, a * one, 0))
    L = Numbers(np.where(low >= 0, a * one, np.where(high <= 0, 0, sloped)), shift + _SLOPE_BITS)
    unstable = (low < 0) & (high > 0)
    if cell is not None:
        if (low > high).any():
            raise _EmptyCellError
        L = _supplied(L, Numbers(a, shift), low >= 0, unstable, cell, index)
    a = a * power(L.shift - shift)
    least = np.minimum(a * np.maximum(low, 0) - L.integers * low, a * np.maximum(high, 0) - L.integers * high)
    least = np.where(unstable, np.minimum(least, 0), least)
    return replace(A, values=L.integers), L.shift, Numbers(least.sum(-1), L.shift + z.shift)


def _slopes(z: Ends) -> NDArray[Any]:
    """u/(u − l) times 2⁶⁴, rounded, where l < 0 < u; else 0."""
    unstable = (z.low < 0) & (z.high > 0)
    return np.where(unstable, z.high * power(_SLOPE_BITS) // np.where(unstable, z.high - z.low, 1), 0)


def _known(box: ExactBox, z: Ends, cell: Cell, index: int) -> Ends:
    """Ends no wider than the floats that are known to hold on the cell."""
    if index not in cell.known:
        return z
    known = np.stack(cell.known[index])
    finite = np.isfinite(known)
    floats = Numbers.of(np.where(finite, known, 0))
    shift = max(z.shift, floats.shift)
    ends = np.concatenate([z.low, z.high]) * power(shift - z.shift)
    low, high = np.where(finite, floats.to(shift) * box.scale, ends)
    return Ends(np.maximum(ends[:1], low), np.minimum(ends[1:], high), shift)


def _chosen(z: Ends, phases: Phases, index: int) -> Ends:
    """Ends with 0 in place of those that phases exclude."""
    low, high = z.low.copy(), z.high.copy()
    for node, neuron, sign in phases:
        if node == index and sign > 0:
            low[0, neuron] = max(low[0, neuron], 0)
        elif node == index:
            high[0, neuron] = min(high[0, neuron], 0)
    return Ends(low, high, z.shift)


def _supplied(L: Numbers, A: Numbers, on: Mask, unstable: Mask, cell: Cell, index: int) -> Numbers:
    """Λ with what the certificate supplies at the cell's columns; one row."""
    columns = cell.columns.get(index)
    if columns is None or cell.kind == "none":
        return L
    new = Numbers.of(cell.first[index])
    if cell.kind == "slopes":
        beta = Numbers.of(cell.second[index])
        a, free = (Numbers(n.integers[0, 0, columns], n.shift) for n in (A, L))
        alpha = Numbers(a.integers * new.integers, a.shift + new.shift)
        shift = max(n.shift for n in (a, free, alpha, beta))
        sloped = np.where(a.integers > 0, alpha.to(shift), free.to(shift))
        known = np.where(on[0, 0, columns], a.to(shift) - beta.to(shift), beta.to(shift))
        new = Numbers(np.where(unstable[0, 0, columns], sloped, known), shift)
    shift = max(L.shift, new.shift)
    out = L.to(shift).copy()
    out[0, 0, columns] = new.to(shift)
    return Numbers(out, shift)
