"""The formula of `certificates.enclosure` in exact arithmetic, neuron bounds included: nothing is rounded or charged.

Weights and multipliers are binary floats, so all that is computed from them is an integer times a power of two: arrays
of integers with one exponent hold it, whatever its size. A region's ends may be other rationals, such as 1/10.
The network is then evaluated for the input times their common denominator D: since ReLUs are positively homogeneous,
that is the same network with biases times D, and every bound is D times as large.

The default slope u/(u − l) is rounded to a multiple of 2⁻⁶⁴, which costs no exactness: any Λ gives a bound. Matrix
products run on python-flint where it is installed, which is several times as fast.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certificates.dyadic import Ends, Numbers
from certificates.enclosure import Cell, Phases, boxed
from certificates.exact_balls import ExactLimits, denominators
from certificates.integers import integers as integers_of
from certificates.integers import power
from certificates.maps import Rows, adjoint
from certificates.slopes import NeuronSlopes
from networks.graph import AffineNode, Conv, ConvTranspose, Dense, LinearMap, Network, ReluNode, Scale
from networks.region import Region

__all__ = ["ExactBox", "enclose", "lower_bound", "manageable"]

Mask = NDArray[np.bool_]

_SLOPE_BITS = 64
# Bits that the region's different denominators may have together, factors of 2 aside.
_DENOMINATOR_BITS = 2**14
# What is rounded for that is a multiple of 2 to minus this.
_BOUND_BITS = 1100
# Entries of one matrix that are held at a time.
_ENTRIES = 2**17


@dataclass(frozen=True, eq=False)
class ExactBox:
    """A box and what is known on it, all of it times ``scale``.

    Attributes:
        network: with integers for weights, and by how much each linear map's are shifted.
        ends: for each node, between what its values lie.
        before: for each ReLU node, the same of its pre-activations.
        above: for each ReLU node, the slopes u/(u − l) times 2⁶⁴, shape ``(1, features)``.
        below: for each ReLU node, whether the slope of an unstable neuron is 1 where A > 0, same shape.
        limits: what limits the region beyond the box.
        supplied: lower slopes for the bounds of neurons, in place of default ones.
    """

    network: _Integers
    scale: int
    ends: list[Ends]
    limits: ExactLimits | None = None
    supplied: NeuronSlopes | None = None
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
    region: Region | None = None,
    supplied: NeuronSlopes | None = None,
) -> ExactBox:
    """Pre-activation bounds on one box under phases, as `certificates.enclosure.enclose` finds them.

    ``region``: what the box is a part of, where that is more than a box.
    """
    limiting = [] if region is None else denominators(region)
    scale = math.lcm(*map(_odd, {value.denominator for value in (*lower, *upper)}), *map(_odd, limiting))
    integers = _Integers(network, scale)
    limits = None if region is None else ExactLimits.of(region, scale)
    box = ExactBox(integers, scale, [Ends.of_fractions(lower, upper, scale)], limits, supplied)
    known = [limits is None and each for each in boxed(network)]
    for index, node in enumerate(network.nodes[1:], 1):
        if isinstance(node, AffineNode):
            box.ends.append(_interval(box, index))
            continue
        assert isinstance(node, ReluNode)
        if around is not None:
            box.ends[node.parent] = _both(box.ends[node.parent], around.before[index])
        z = box.ends[node.parent] if known[node.parent] else _refined(box, index)
        z = box.before[index] = _chosen(z, phases, index)
        box.ends.append(Ends(np.maximum(z.low, 0), np.maximum(z.high, 0), z.shift))
        box.below[index] = z.high > -z.low if around is None or not phases else around.below[index]
        box.above[index] = _slopes(z)
    return box


@functools.lru_cache(maxsize=1)
def manageable(region: Region) -> Region:
    """The region, or one around it whose numbers are binary, should their common denominator be out of hand."""
    ends = {value.denominator for value in (*region.exact_lower, *region.exact_upper)}
    if sum(_odd(each).bit_length() for each in {*ends, *denominators(region)}) <= _DENOMINATOR_BITS:
        return region
    ball = region.ball and replace(region.ball, radius=_above(region.ball.radius))
    constraints = tuple(replace(each, bound=_above(each.bound)) for each in region.constraints)
    lower, upper = (tuple(map(Fraction, ends.tolist())) for ends in (region.lower, region.upper))
    return Region(lower, upper, ball=ball, constraints=constraints)


def _odd(denominator: int) -> int:
    return denominator // (denominator & -denominator)


def _above(value: Fraction) -> Fraction:
    return Fraction(math.ceil(value * 2**_BOUND_BITS), 2**_BOUND_BITS)


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


def _refined(box: ExactBox, relu: int) -> Ends:
    """The better of interval bounds of a ReLU's pre-activations and the formula, where the sign is open."""
    node = box.network.nodes[relu]
    assert isinstance(node, ReluNode)
    index = node.parent
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
        total = Numbers(np.concatenate([bias.integers, -bias.integers], 1), bias.shift)
        slopes = None if box.supplied is None else functools.partial(box.supplied.at, relu, part[None])
        both = _backward(box, pending, total, box.ends[0], slopes=slopes)
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
    slopes: Callable[[int, NDArray[np.float64]], NDArray[np.float64]] | None = None,
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
            A, shift, minimum = _relax(box, index, A, shift, cell, slopes)
            total = total + minimum
            _push(box, pending, node.parent, A, shift)
    if 0 in pending:
        total = total + (_least if box.limits is None else box.limits.least)(*pending[0], region)
    return total


def _least(A: Rows, shift: int, ends: Ends) -> Numbers:
    """The minimum of ``A·x`` between ends, as `certificates.enclosure.least`."""
    return Numbers(np.minimum(A.values * A.at(ends.low), A.values * A.at(ends.high)).sum(-1), shift + ends.shift)


def _relax(
    box: ExactBox,
    index: int,
    A: Rows,
    shift: int,
    cell: Cell | None,
    slopes: Callable[[int, NDArray[np.float64]], NDArray[np.float64]] | None,
) -> tuple[Rows, int, Numbers]:
    """Λ, its shift, and the sum of the inner minima."""
    z, above, below = box.before[index], box.above[index], box.below[index]
    if cell is not None:
        A, z = A.whole(z.low.shape[1]), _chosen(_known(box, z, cell, index), cell.phases, index)
        above = _slopes(z) if index in cell.known else above
        below = z.high > -z.low
    lower = None
    if slopes is not None:
        A = A.whole(z.low.shape[1])
        scaled = slopes(index, below.astype(np.float64)) * 2.0**_SLOPE_BITS
        lower = integers_of(np.asarray(np.frompyfunc(int, 1, 1)(scaled), object))
    low, high, above, below, a = A.at(z.low), A.at(z.high), A.at(above), A.at(below), A.values
    one = power(_SLOPE_BITS)
    sloped = np.where(a < 0, a * above, np.where(below, a * one, 0) if lower is None else a * lower)
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
