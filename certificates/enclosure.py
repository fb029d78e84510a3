"""Rigorous lower bounds in float64: the checker's arithmetic, with NumPy alone.

Symbols. Node k of the network has the value h_k; a ReLU has the pre-activation z with l ≤ z ≤ u. For a row vector C on
the value of some node, and for **any** row vectors Λ on the pre-activations,

    C·h  ≥  Σ_affine A·b + Σ_relu Σ_j min{ A_j·relu(z) − Λ_j·z : z ∈ {l_j, u_j, 0 if l_j < 0 < u_j} } + min_{x} A_0·x

where A is the row vector that has arrived at the node: an affine node passes ``A L_i`` on to its parents, a ReLU passes
Λ. The inner minimum is that of a piecewise linear function on [l, u], so the inequality needs nothing of Λ.

Soundness. What rounds is A L_i, the products at vertices and the sums. An entry of fl(A L) is off by at most
γ_n |A||L|, so by at most γ_n |A|·(|L| M) in the bound, where M bounds the magnitude of the parents' values; the sums
are charged likewise. γ_n = (n + 16)·2⁻⁵² is twice what round-to-nearest needs, for any order of summation. NaN and
overflow become −∞, which claims nothing. Trusted: NumPy's matrix products are sums of products in IEEE float64.

Float32 inference. With ``float32`` the bounds hold for what float32 arithmetic computes, in any order of summation:
there z = W h + b + e with |e| ≤ γ³²_n (|W||h| + |b|) + n·2⁻¹²⁵, and Λ·e is charged with everything else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from certificates.balls import Limits
from certificates.maps import Rows, adjoint, terms, widest
from certificates.slopes import NeuronSlopes
from networks.evaluation import apply
from networks.graph import AffineNode, Dense, Identity, Network, ReluNode, Scale

__all__ = [
    "UNIT",
    "Boxes",
    "Cell",
    "LinearBound",
    "Phases",
    "batch",
    "boxed",
    "choose",
    "enclose",
    "gamma",
    "linear_bounds",
    "lower_bounds",
    "neuron_forms",
]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
#: Signs that are chosen: (ReLU node, neuron, sign), z ≥ 0 for sign +1 and z ≤ 0 for −1.
Phases: TypeAlias = tuple[tuple[int, int, int], ...]

#: Twice the unit of rounding.
UNIT = 2.0**-52
_UNDERFLOW = 2.0**-1000
_FLOAT32_MAX = 2.0**127
# Entries of one matrix that are held at a time: what fits in the cache.
_ENTRIES = 2**16
_BOXES = 16


@dataclass(frozen=True, eq=False)
class Slopes:
    """The default Λ at a ReLU node, each of shape ``(B, features)``.

    Attributes:
        above: Λ/A where A < 0.
        below: Λ/A where A > 0; 0 or 1.
        height: the inner minimum is A·height where A < 0, and 0 where A > 0.
        width: bounds what was rounded for that: the larger of −l and u, 0 where the sign is known.
    """

    above: Array
    below: Array
    height: Array
    width: Array

    @classmethod
    @np.errstate(all="ignore")
    def of(cls, low: Array, high: Array, below: Array | None = None) -> Slopes:
        """``below``: of unstable neurons; by default 1 where u > −l."""
        unstable = (low < 0) & (high > 0)
        known = (low >= 0).astype(np.float64)
        above = np.where(unstable, np.where(np.isfinite(high - low), high / (high - low), 0.0), known)
        below = np.where(unstable, high > -low if below is None else below, known)
        height = np.where(unstable, np.maximum(-low * above, high * (1 - above)), 0)
        return cls(above, below, height, np.where(unstable, np.maximum(-low, high), 0))


@dataclass(frozen=True, eq=False)
class Boxes:
    """B input boxes and what is known on each of them.

    Attributes:
        lower, upper: end points, shape ``(B, inputs)``.
        phases: for each box, the signs under which its neurons are bounded; () for none at all.
        float32: whether all of it holds for float32 inference.
        unit: twice the unit of rounding that is charged; 0 to see what charging costs, which proves nothing.
        pre_lower, pre_upper: for each ReLU node, bounds of its pre-activations, shape ``(B, features)``.
        slopes: for each ReLU node, the default Λ that they give.
        magnitude: for each node, bounds of ``|h|`` (for affine nodes of ``Σ|L||h| + |b|``), shape ``(B, features)``.
        limits: what limits the region, and so what counts of each box, beyond its ends.
        supplied: lower slopes for the bounds of neurons, in place of default ones.
    """

    lower: Array
    upper: Array
    phases: Sequence[Phases] = ()
    float32: bool = False
    unit: float = UNIT
    pre_lower: dict[int, Array] = field(default_factory=dict)
    pre_upper: dict[int, Array] = field(default_factory=dict)
    slopes: dict[int, Slopes] = field(default_factory=dict)
    magnitude: list[Array] = field(default_factory=list)
    limits: Limits | None = None
    supplied: NeuronSlopes | None = None

    def take(self, box: Indices) -> Boxes:
        """The boxes with these numbers, which may repeat."""
        if len(self.lower) == 1:
            return self
        low, high = ({k: z[box] for k, z in known.items()} for known in (self.pre_lower, self.pre_upper))
        slopes = {k: Slopes(*(each[box] for each in astuple(slopes))) for k, slopes in self.slopes.items()}
        magnitude = [M[box] for M in self.magnitude]
        phases = [self.phases[b] for b in box.tolist()] if self.phases else ()
        ends = self.lower[box], self.upper[box]
        given = self.limits, self.supplied
        return Boxes(*ends, phases, self.float32, self.unit, low, high, slopes, magnitude, *given)


@dataclass(frozen=True, eq=False)
class Cell:
    """A part of a box where signs of some pre-activations are chosen, with the multipliers to use on it.

    Attributes:
        lower, upper: end points of the part, shape ``(inputs,)``, inside its box.
        phases: the signs that are chosen on it.
        columns: for each ReLU node, the neurons that ``kind`` gives something for.
        kind: "none", "slopes" (``first`` α, ``second`` β) or "rows" (``first`` Λ).
        first, second: for each ReLU node, values at ``columns``.
        known: for some ReLU nodes, bounds of the pre-activations that hold on the part, in place of its box's.
    """

    lower: Array
    upper: Array
    phases: Phases = ()
    columns: Mapping[int, Indices] = field(default_factory=dict)
    kind: str = "none"
    first: Mapping[int, NDArray[np.floating]] = field(default_factory=dict)
    second: Mapping[int, NDArray[np.floating]] = field(default_factory=dict)
    known: Mapping[int, tuple[Array, Array]] = field(default_factory=dict)


@np.errstate(all="ignore")
def enclose(
    network: Network,
    lower: Array,
    upper: Array,
    phases: Sequence[Phases] = (),
    *,
    float32: bool = False,
    unit: float = UNIT,
    around: Boxes | None = None,
    limits: Limits | None = None,
    supplied: NeuronSlopes | None = None,
) -> Boxes:
    """Pre-activation bounds on each of B boxes: intervals, then the formula for each neuron of open sign.

    Where intervals are exact, as they are for some nodes unless ``limits`` say more, nothing is repeated. With
    ``phases`` they hold where the box's signs are as chosen; ``around`` are the bounds of the same box, or boxes,
    without them, or without what is ``supplied``: they hold there as well. With phases, what is a slope below there
    stays that (chosen anew, slopes would jump from cell to cell, and bounds with them).
    """
    magnitude = [np.maximum(np.abs(lower), np.abs(upper))]
    bounds = Boxes(lower, upper, phases, float32, unit, magnitude=magnitude, limits=limits, supplied=supplied)
    kept = around.slopes if around is not None and any(phases) else None
    values = [(lower, upper)]
    known = [limits is None and each for each in boxed(network)]
    for index, node in enumerate(network.nodes[1:], 1):
        if isinstance(node, ReluNode):
            low, high = values[node.parent]
            low, high = low.copy(), high.copy()
            if around is not None:
                np.maximum(low, around.pre_lower[index], out=low)
                np.minimum(high, around.pre_upper[index], out=high)
            bounds.pre_lower[index], bounds.pre_upper[index] = low, high
            still_open = (low < 0) & (high > 0)
            if still_open.any() and not known[node.parent]:
                # The same number of neurons in every box: where fewer are open, some are bounded for nothing.
                neuron = np.argsort(~still_open, axis=1, kind="stable")[:, : still_open.sum(1).max()]
                least, most = np.full_like(low, -np.inf), np.full_like(high, np.inf)
                for ends, found in zip((least, most), _neuron_bounds(network, bounds, index, neuron), strict=True):
                    np.put_along_axis(ends, neuron, found, 1)
                np.maximum(low, least, out=low, where=still_open)
                np.minimum(high, most, out=high, where=still_open)
            choose(low, high, phases, index)
            bounds.slopes[index] = Slopes.of(low, high, None if kept is None else kept[index].below)
            values.append((np.maximum(low, 0), np.maximum(high, 0)))
            bounds.magnitude.append(values[-1][1])
        else:
            assert isinstance(node, AffineNode)
            values.append(_interval(node, values, bounds))
    return bounds


def batch(network: Network) -> int:
    """How many boxes are best enclosed together: as many as fit in the cache."""
    return max(1, min(_BOXES, _ENTRIES // max(node.features for node in network.nodes) ** 2))


def boxed(network: Network) -> list[bool]:
    """For each node, whether intervals are exact there: affine maps of independent entries of the input."""
    exact, single = [True], [True]  # single: each entry depends on one entry of the input
    for node in network.nodes[1:]:
        affine = isinstance(node, AffineNode) and len(node.terms) == 1 and single[node.parents[0]]
        exact.append(affine)
        single.append(affine and isinstance(node, AffineNode) and isinstance(node.terms[0][1], Identity | Scale))
    return exact


def _interval(node: AffineNode, values: list[tuple[Array, Array]], bounds: Boxes) -> tuple[Array, Array]:
    """Bounds of an affine node from its parents'; its magnitude is appended to ``bounds``."""
    center, radius, magnitude = node.bias, np.zeros_like(node.bias), np.abs(node.bias)
    for parent, linear in node.terms:
        low, high = values[parent]
        center = center + apply(linear, low / 2 + high / 2)
        radius = radius + apply(linear, high / 2 - low / 2, absolute=True)
        magnitude = magnitude + apply(linear, bounds.magnitude[parent], absolute=True)
    n = _summands(node)
    magnitude = magnitude * (1 + 1e-9) + _UNDERFLOW
    relative, tiny = gamma(n, bounds) + _float32(n, bounds)[0], _UNDERFLOW + _float32(n, bounds)[1]
    radius = radius * (1 + gamma(n, bounds)) + relative * magnitude + tiny
    if bounds.float32:
        magnitude = magnitude * (1 + relative) + tiny
        magnitude = np.where(magnitude < _FLOAT32_MAX, magnitude, np.inf)
        radius = np.where(magnitude < np.inf, radius, np.inf)
    bounds.magnitude.append(magnitude)
    low, high = center - radius, center + radius
    return np.where(np.isfinite(low), low, -np.inf), np.where(np.isfinite(high), high, np.inf)


def _neuron_bounds(network: Network, bounds: Boxes, relu: int, neuron: Indices) -> tuple[Array, Array]:
    """The formula's lower and upper bounds of ``neuron``, shape ``(B, R)``, of a ReLU node on each box."""
    node = network.nodes[relu]
    assert isinstance(node, ReluNode)
    found = neuron_forms(network, bounds, node.parent, neuron, relu)
    forms = [form.least(bounds.lower, bounds.upper, bounds) for form in found]
    both = np.concatenate([form.reshape(len(form), 2, -1) for form in forms], -1)
    return both[:, 0], -both[:, 1]


def neuron_forms(
    network: Network, bounds: Boxes, index: int, neuron: Indices, relu: int | None = None
) -> Iterator[LinearBound]:
    """Linear bounds of entries ``neuron``, ``(B, R)``, of node ``index``, then of their negatives, some at a time.

    As pre-activations of the node ``relu`` they have the slopes that are supplied for it.
    """
    node = network.nodes[index]
    assert isinstance(node, AffineNode)
    n = _summands(node)
    gamma32, tiny32 = _float32(n, bounds)
    magnitude = bounds.magnitude[index]
    for part in _parts(neuron, widest(network, index)):
        start = Rows.unit(node, part)
        pending: dict[int, Rows] = {}
        for parent, linear in node.terms:
            A = Rows(linear.weight[part]) if isinstance(linear, Dense) else adjoint(linear, start)
            pending[parent] = A if parent not in pending else pending[parent].plus(A, linear.in_features)
        pending = {parent: A.both_signs() for parent, A in pending.items()}
        charge = (gamma(n, bounds) + gamma32) * np.take_along_axis(magnitude, part, 1) + tiny32
        total = np.concatenate([node.bias[part], -node.bias[part]], 1)
        rows = None if bounds.supplied is None or relu is None else functools.partial(bounds.supplied.at, relu, part)
        yield _backward(network, bounds, pending, total, np.tile(charge, 2), slopes=rows)


@dataclass(frozen=True, eq=False)
class LinearBound:
    """``A·x + constant`` is at most what was bounded, for every x of the cell.

    Attributes:
        A: for B boxes R rows each.
        constant: with everything charged that evaluating the bound rounds, shape ``(B, R)``.
        empty: whether the bounds of some neuron cross: the cell has no points, shape ``(B, R)``.
        arrived: for each ReLU node that was relaxed on cells, its coefficients, ``(B·R, features)``.
    """

    A: Rows
    constant: Array
    empty: Array
    arrived: dict[int, Array]

    def least(self, lower: Array, upper: Array, bounds: Boxes) -> Array:
        """The least value over a part of the region, shape ``(B, R)``; −∞ claims nothing.

        The part lies between ends of shape ``(B, inputs)``, or ``(B, R, inputs)`` for a part of its own for each row.
        This is all that knows what kind of region it is.
        """
        if bounds.limits is not None:
            value = self.constant + bounds.limits.least(self.A, lower, upper, bounds.unit)
            return np.where(self.empty, np.inf, np.where(np.isfinite(value), value, -np.inf))
        A = self.A if lower.ndim == 2 else self.A.whole(lower.shape[-1])
        low, high = (A.at(lower), A.at(upper)) if lower.ndim == 2 else (lower, upper)
        value = self.constant + np.minimum(A.values * low, A.values * high).sum(-1)
        return np.where(self.empty, np.inf, np.where(np.isfinite(value), value, -np.inf))


@np.errstate(all="ignore")
def lower_bounds(network: Network, bounds: Boxes, C: Array, box: Indices, cells: Sequence[Cell]) -> Array:
    """Rigorous lower bounds of ``C[r] · output`` on ``cells[r]``, which lies in box ``box[r]``; −∞ claims nothing."""
    out = [np.empty(0)]
    for found, some in linear_bounds(network, bounds, C, box, cells):
        low, high = (np.stack([getattr(cell, end) for cell in some]) for end in ("lower", "upper"))
        low, high = (end.reshape(*found.constant.shape, -1) for end in (low, high))
        out.append(found.least(low, high, bounds).reshape(-1))
    return np.concatenate(out)


def linear_bounds(
    network: Network, bounds: Boxes, C: Array, box: Indices, cells: Sequence[Cell]
) -> Iterator[tuple[LinearBound, list[Cell]]]:
    """The linear bounds that these come from, some cells at a time."""
    every = np.arange(len(C))[None]
    for (part,) in _parts(every, max(node.features for node in network.nodes)):
        there = bounds.take(box[part])
        A = C[part][None] if there is bounds else C[part][:, None]
        some, zero = [cells[r] for r in part.tolist()], np.zeros(A.shape[:2])
        with np.errstate(all="ignore"):
            yield _backward(network, there, {len(network.nodes) - 1: Rows(A)}, zero, zero, some), some


def _parts(rows: Indices, entries: int) -> list[Indices]:
    """``rows`` of shape ``(B, R)``, with so many ``entries`` each, in parts whose matrices fit in the cache."""
    step = max(1, _ENTRIES // len(rows) // entries)
    return np.split(rows, range(step, rows.shape[1], step), 1)


def _backward(
    network: Network,
    bounds: Boxes,
    pending: dict[int, Rows],
    total: Array,
    charge: Array,
    cells: Sequence[Cell] = (),
    slopes: Callable[[int, Array], Array] | None = None,
) -> LinearBound:
    """The formula from the coefficients ``pending`` to the input.

    ``total`` and ``charge``, shape ``(B, R)``, are what has been collected so far; ``cells`` the B·R cells if they have
    phases or multipliers of their own; ``slopes`` tells the rows' lower slopes from a node and its default ones.
    """
    sums = len(network.nodes) + 8
    last = max(pending, default=0)
    chosen = any(cell.phases or cell.known or cell.kind != "none" for cell in cells)
    empty, arrived = np.zeros(total.shape, bool), {}

    def push(parent: int, A: Rows) -> Array | float:
        """Adds A to what is pending at ``parent``; returns the charge for that addition."""
        if parent not in pending:
            pending[parent] = A
            return 0.0
        before = pending[parent]
        pending[parent] = before.plus(A, network.nodes[parent].features)
        return bounds.unit * (abs(before).dot(bounds.magnitude[parent]) + abs(A).dot(bounds.magnitude[parent]))

    for index in range(last, 0, -1):
        A = pending.pop(index, None)
        if A is None:
            continue
        node = network.nodes[index]
        if isinstance(node, AffineNode):
            n = max(_summands(node), node.features) + sums
            gamma32, tiny32 = _float32(_summands(node), bounds)
            total = total + A.dot(node.bias)
            charge = charge + (gamma(n, bounds) + gamma32) * abs(A).dot(bounds.magnitude[index])
            if tiny32:
                charge = charge + tiny32 * abs(A).values.sum(-1)
            for parent, linear in node.terms:
                charge = charge + push(parent, adjoint(linear, A))
        else:
            assert isinstance(node, ReluNode)
            if chosen:
                L, minimum, size, nowhere, arrived[index] = _relax_cells(A, bounds, index, cells)
                empty |= nowhere
            else:
                own = bounds.slopes[index]
                L, minimum, size = _relax(A, own, slopes and slopes(index, own.below))
            total = total + minimum
            charge = charge + gamma(node.features + sums, bounds) * size
            charge = charge + push(node.parent, L)
    A = pending.pop(0, Rows(np.zeros((*total.shape, network.inputs))))
    charge = charge + gamma(network.inputs + sums, bounds) * abs(A).dot(bounds.magnitude[0])
    everything = 1 + sum(M.sum() for M in bounds.magnitude[: last + 1])
    constant = total - (charge * (1 + 2.0**-20) + _UNDERFLOW * everything)
    return LinearBound(A, constant, empty, arrived)


def _relax(A: Rows, slopes: Slopes, lower: Array | None = None) -> tuple[Rows, Array, Array]:
    """Λ with the default slopes, the sum of the inner minima, and the size of what was rounded for it.

    Where A > 0 the minimum is 0, for Λ/A is 0 or 1, or one of the ``lower`` slopes, of shape ``(B, R, features)``, that
    take their place at unstable neurons. Where A < 0 it is A·max{−s l, (1 − s) u} for the slope s = Λ/A.
    """
    if lower is not None:
        A = A.whole(lower.shape[-1])
        lower = np.where(slopes.width[:, None] > 0, lower, slopes.below[:, None])
    negative = replace(A, values=np.minimum(A.values, 0))
    positive = A.values - negative.values
    positive *= A.at(slopes.below) if lower is None else lower
    positive += negative.values * A.at(slopes.above)
    return replace(A, values=positive), negative.dot(slopes.height), -negative.dot(slopes.width)


def _relax_cells(
    A: Rows, bounds: Boxes, index: int, cells: Sequence[Cell]
) -> tuple[Rows, Array, Array, NDArray[np.bool_], Array]:
    """The same on cells with phases or multipliers of their own; then where bounds cross, and A."""
    low, high = bounds.pre_lower[index], bounds.pre_upper[index]
    arrived = A.whole(low.shape[1]).values
    low, high = (np.broadcast_to(z[:, None], arrived.shape).copy().reshape(len(cells), -1) for z in (low, high))
    a = arrived.reshape(len(cells), -1)
    for r, cell in enumerate(cells):
        if index in cell.known:
            low[r], high[r] = cell.known[index]
    choose(low, high, [cell.phases for cell in cells], index)
    L = default(a, low, high)
    for kind in ("slopes", "rows"):
        supplied(L, a, low, high, kind, cells, index)
    value = np.minimum(a * np.maximum(low, 0) - L * low, a * np.maximum(high, 0) - L * high)
    value = np.where((low < 0) & (high > 0), np.minimum(value, 0), value)
    # There the inner minimum is exactly 0, and the products above cancel exactly.
    exact = ((low >= 0) & (a == L)) | ((high <= 0) & (L == 0))
    size = (np.abs(a) + np.abs(L)) * np.maximum(np.abs(low), np.abs(high))
    sums = (np.where(exact, 0, x).sum(-1).reshape(arrived.shape[:2]) for x in (value, size))
    return Rows(L.reshape(arrived.shape)), *sums, (low > high).any(-1).reshape(arrived.shape[:2]), a


def choose(low: Array, high: Array, phases: Sequence[Phases], index: int) -> None:
    """Replaces l or u by 0 where a sign is chosen, in row r by ``phases[r]``."""
    places = [(r, neuron, sign) for r, some in enumerate(phases) for node, neuron, sign in some if node == index]
    r, neuron, sign = np.array(places, np.intp).reshape(-1, 3).T
    on, off = (r[sign > 0], neuron[sign > 0]), (r[sign < 0], neuron[sign < 0])
    low[on] = np.maximum(low[on], 0)
    high[off] = np.minimum(high[off], 0)


def default(A: Array, low: Array, high: Array) -> Array:
    """The default Λ: A where l ≥ 0, 0 where u ≤ 0; else A·u/(u − l) where A < 0, and A or 0 where A > 0."""
    below = np.where(np.isfinite(high - low), high / (high - low), 0.0)
    open_slope = np.where(A > 0, (high > -low).astype(np.float64), below)
    return A * np.where(low >= 0, 1.0, np.where(high <= 0, 0.0, open_slope))


def supplied(L: Array, A: Array, low: Array, high: Array, kind: str, cells: Sequence[Cell], index: int) -> None:
    """Replaces the default Λ by what the certificate supplies, at the columns of the cells with that kind of it."""
    some = [r for r, cell in enumerate(cells) if cell.kind == kind and index in cell.columns]
    if not some:
        return
    columns = [cells[r].columns[index] for r in some]
    at = np.repeat(some, [len(each) for each in columns]), np.concatenate(columns)
    first = np.concatenate([cells[r].first[index] for r in some]).astype(np.float64)
    if kind == "rows":
        L[at] = first
        return
    beta = np.concatenate([cells[r].second[index] for r in some])
    a = A[at]
    L[at] = np.where(low[at] >= 0, a - beta, np.where(high[at] <= 0, beta, np.where(a > 0, a * first, L[at])))


def _summands(node: AffineNode) -> int:
    return sum(terms(linear) for _, linear in node.terms) + len(node.terms) + 1


def gamma(n: int, bounds: Boxes) -> float:
    """Relative error of a sum of n products."""
    return (n + 16) * bounds.unit


def _float32(n: int, bounds: Boxes) -> tuple[float, float]:
    """Relative and absolute error of a sum of n products in float32, in any order, with or without fused products."""
    if not bounds.float32:
        return 0.0, 0.0
    part = (n + 4) * 2.0**-24
    return (part / (1 - part) if part < 0.5 else np.inf), (n + 4) * 2.0**-125
