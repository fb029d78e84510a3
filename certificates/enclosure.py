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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from certificates.maps import adjoint, rows, terms
from networks.evaluation import apply
from networks.graph import AffineNode, Identity, Network, ReluNode, Scale

__all__ = ["Boxes", "Cell", "choose", "default", "enclose", "lower_bounds", "supplied"]

Array = NDArray[np.float64]

_UNIT = 2.0**-52
_UNDERFLOW = 2.0**-1000
_FLOAT32_MAX = 2.0**127
# Entries of one matrix that are held at a time: 8 MiB.
_ENTRIES = 2**20


@dataclass(frozen=True, eq=False)
class Boxes:
    """B input boxes and what is known on each of them.

    Attributes:
        lower, upper: end points, shape ``(B, inputs)``.
        pre_lower, pre_upper: for each ReLU node, bounds of its pre-activations, shape ``(B, features)``.
        magnitude: for each node, bounds of ``|h|`` (for affine nodes of ``Σ|L||h| + |b|``), shape ``(B, features)``.
        float32: whether all of it holds for float32 inference.
    """

    lower: Array
    upper: Array
    float32: bool = False
    pre_lower: dict[int, Array] = field(default_factory=dict)
    pre_upper: dict[int, Array] = field(default_factory=dict)
    magnitude: list[Array] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Cell:
    """A part of a box where signs of some pre-activations are chosen, with the multipliers to use on it.

    Attributes:
        lower, upper: end points of the part, shape ``(inputs,)``, inside its box.
        phases: (ReLU node, neuron, sign): z ≥ 0 for sign +1, z ≤ 0 for −1.
        columns: for each ReLU node, the neurons that ``kind`` gives something for.
        kind: "none", "slopes" (``first`` α, ``second`` β) or "rows" (``first`` Λ).
        first, second: for each ReLU node, values at ``columns``.
    """

    lower: Array
    upper: Array
    phases: Sequence[tuple[int, int, int]] = ()
    columns: Mapping[int, NDArray[np.intp]] = field(default_factory=dict)
    kind: str = "none"
    first: Mapping[int, Array] = field(default_factory=dict)
    second: Mapping[int, Array] = field(default_factory=dict)


@np.errstate(all="ignore")
def enclose(network: Network, lower: Array, upper: Array, *, float32: bool = False) -> Boxes:
    """Pre-activation bounds on each of B boxes: intervals, then the formula for each neuron of open sign.

    Where intervals are exact, nothing is repeated.
    """
    bounds = Boxes(lower, upper, float32, {}, {}, [np.maximum(np.abs(lower), np.abs(upper))])
    values = [(lower, upper)]
    boxed = [True]  # intervals are exact there
    single = [True]  # each entry depends on one entry of the input
    for index, node in enumerate(network.nodes[1:], 1):
        if isinstance(node, ReluNode):
            low, high = values[node.parent]
            bounds.pre_lower[index], bounds.pre_upper[index] = low, high = low.copy(), high.copy()
            if not boxed[node.parent]:
                box, neuron = np.nonzero((low < 0) & (high > 0))
                least, most = _neuron_bounds(network, bounds, node.parent, box, neuron)
                low[box, neuron] = np.maximum(low[box, neuron], least)
                high[box, neuron] = np.minimum(high[box, neuron], most)
            values.append((np.maximum(low, 0), np.maximum(high, 0)))
            bounds.magnitude.append(values[-1][1])
            boxed.append(False)
            single.append(False)
        else:
            assert isinstance(node, AffineNode)
            values.append(_interval(node, values, bounds))
            boxed.append(len(node.terms) == 1 and single[node.parents[0]])
            single.append(boxed[-1] and isinstance(node.terms[0][1], Identity | Scale))
    return bounds


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
    gamma, tiny = _gamma(n) + _float32(n, bounds)[0], _UNDERFLOW + _float32(n, bounds)[1]
    radius = radius * (1 + _gamma(n)) + gamma * magnitude + tiny
    if bounds.float32:
        magnitude = magnitude * (1 + gamma) + tiny
        magnitude = np.where(magnitude < _FLOAT32_MAX, magnitude, np.inf)
        radius = np.where(magnitude < np.inf, radius, np.inf)
    bounds.magnitude.append(magnitude)
    low, high = center - radius, center + radius
    return np.where(np.isfinite(low), low, -np.inf), np.where(np.isfinite(high), high, np.inf)


def _neuron_bounds(
    network: Network, bounds: Boxes, index: int, box: NDArray[np.intp], neuron: NDArray[np.intp]
) -> tuple[Array, Array]:
    """The formula's lower and upper bounds of entry ``neuron[r]`` of node ``index`` on box ``box[r]``."""
    node = network.nodes[index]
    widest = max(n.features for n in network.nodes[: index + 1])
    step = max(1, _ENTRIES // widest // 2)
    least, most = np.empty(len(neuron)), np.empty(len(neuron))
    for begin in range(0, len(neuron), step):
        part = slice(begin, begin + step)
        which, where = np.tile(neuron[part], 2), np.tile(box[part], 2)
        signs = np.repeat([1.0, -1.0], len(neuron[part]))
        total, charge = np.zeros(len(which)), np.zeros(len(which))
        pending: dict[int, Array] = {}
        if isinstance(node, AffineNode):
            n = _summands(node)
            gamma32, tiny32 = _float32(n, bounds)
            total = signs * node.bias[which]
            charge = (_gamma(n) + gamma32) * bounds.magnitude[index][where, which] + tiny32
            for parent, linear in node.terms:
                A = signs[:, None] * rows(linear, which)
                pending[parent] = pending[parent] + A if parent in pending else A
        else:
            unit = np.zeros((len(which), node.features))
            unit[np.arange(len(which)), which] = signs
            pending[index] = unit
        value, _ = _backward(network, bounds, pending, where, total, charge)
        half = len(neuron[part])
        least[part], most[part] = value[:half], -value[half:]
    return least, most


@np.errstate(all="ignore")
def lower_bounds(
    network: Network, bounds: Boxes, C: Array, box: NDArray[np.intp], cells: Sequence[Cell]
) -> tuple[Array, Array]:
    """Rigorous lower bounds of ``C[r] · output`` on ``cells[r]``, which lies in box ``box[r]``; −∞ claims nothing.

    The second array says how much of each was given up to rounding: exact arithmetic gains at most twice that.
    """
    step = max(1, _ENTRIES // max(node.features for node in network.nodes))
    out = [(np.empty(0), np.empty(0))]
    for begin in range(0, len(C), step):
        part = slice(begin, begin + step)
        zero = np.zeros(len(C[part]))
        pending = {len(network.nodes) - 1: C[part]}
        out.append(_backward(network, bounds, pending, box[part], zero, zero, cells[part]))
    return np.concatenate([value for value, _ in out]), np.concatenate([charge for _, charge in out])


def _backward(
    network: Network,
    bounds: Boxes,
    pending: dict[int, Array],
    box: NDArray[np.intp],
    total: Array,
    charge: Array,
    cells: Sequence[Cell] = (),
) -> tuple[Array, Array]:
    """The formula from the coefficients ``pending``; ``total`` and ``charge`` are what has been collected so far."""
    sums = len(network.nodes) + 8
    last = max(pending, default=0)

    def dot(node: int, A: Array) -> Array:
        M = bounds.magnitude[node]
        total: Array = np.abs(A) @ M[0] if len(M) == 1 else (np.abs(A) * M[box]).sum(-1)
        return total

    def push(parent: int, A: Array) -> Array | float:
        """Adds A to what is pending at ``parent``; returns the charge for that addition."""
        if parent not in pending:
            pending[parent] = A
            return 0.0
        before = pending[parent]
        pending[parent] = before + A
        return _UNIT * (dot(parent, before) + dot(parent, A))

    for index in range(last, 0, -1):
        A = pending.pop(index, None)
        if A is None:
            continue
        node = network.nodes[index]
        if isinstance(node, AffineNode):
            n = max(_summands(node), node.features) + sums
            gamma32, tiny32 = _float32(_summands(node), bounds)
            total = total + A @ node.bias
            charge = charge + (_gamma(n) + gamma32) * dot(index, A) + tiny32 * np.abs(A).sum(-1)
            for parent, linear in node.terms:
                charge = charge + push(parent, adjoint(linear, A))
        else:
            assert isinstance(node, ReluNode)
            low, high = bounds.pre_lower[index][box], bounds.pre_upper[index][box]
            for r, cell in enumerate(cells):
                choose(low[r], high[r], cell, index)
            L = default(A, low, high)
            for r, cell in enumerate(cells):
                supplied(L[r], A[r], low[r], high[r], cell, index)
            value = np.minimum(A * np.maximum(low, 0) - L * low, A * np.maximum(high, 0) - L * high)
            value = np.where((low < 0) & (high > 0), np.minimum(value, 0), value)
            # There the inner minimum is exactly 0, and the products above cancel exactly.
            exact = ((low >= 0) & (L == A)) | ((high <= 0) & (L == 0))
            size = (np.abs(A) + np.abs(L)) * np.maximum(np.abs(low), np.abs(high))
            total = total + np.where(exact, 0, value).sum(-1)
            charge = charge + _gamma(node.features + sums) * np.where(exact, 0, size).sum(-1)
            charge = charge + push(node.parent, L)
    A = pending.pop(0, np.zeros((len(total), network.inputs)))
    charge = charge + _gamma(network.inputs + sums) * dot(0, A)
    everything = 1 + sum(M.sum() for M in bounds.magnitude[: last + 1])
    charge = charge * (1 + 2.0**-20) + _UNDERFLOW * everything
    low = np.stack([cell.lower for cell in cells]) if cells else bounds.lower[box]
    high = np.stack([cell.upper for cell in cells]) if cells else bounds.upper[box]
    value = total - charge + np.minimum(A * low, A * high).sum(-1)
    return np.where(np.isfinite(value), value, -np.inf), charge


def choose(low: Array, high: Array, cell: Cell, index: int) -> None:
    """Replaces l or u by 0 where the cell chooses a sign."""
    for node, neuron, sign in cell.phases:
        if node == index:
            if sign > 0:
                low[neuron] = max(low[neuron], 0.0)
            else:
                high[neuron] = min(high[neuron], 0.0)


def default(A: Array, low: Array, high: Array) -> Array:
    """The default Λ: A where l ≥ 0, 0 where u ≤ 0; else A·u/(u − l) where A < 0, and A or 0 where A > 0."""
    below = np.where(np.isfinite(high - low), high / (high - low), 0.0)
    open_slope = np.where(A > 0, (high > -low).astype(np.float64), below)
    return A * np.where(low >= 0, 1.0, np.where(high <= 0, 0.0, open_slope))


def supplied(L: Array, A: Array, low: Array, high: Array, cell: Cell, index: int) -> None:
    """Replaces the default Λ by what the certificate supplies at the cell's columns."""
    columns = cell.columns.get(index)
    if columns is None or cell.kind == "none":
        return
    if cell.kind == "rows":
        L[columns] = cell.first[index]
        return
    a, free = A[columns], L[columns]
    unstable = (low[columns] < 0) & (high[columns] > 0)
    free = np.where(unstable & (a > 0), a * cell.first[index], free)
    chosen = {neuron: sign for node, neuron, sign in cell.phases if node == index}
    signs = np.array([chosen.get(neuron, 0) for neuron in columns.tolist()])
    L[columns] = np.where(signs > 0, a - cell.second[index], np.where(signs < 0, cell.second[index], free))


def _summands(node: AffineNode) -> int:
    return sum(terms(linear) for _, linear in node.terms) + len(node.terms) + 1


def _gamma(n: int) -> float:
    return (n + 16) * _UNIT


def _float32(n: int, bounds: Boxes) -> tuple[float, float]:
    """Relative and absolute error of a sum of n products in float32, in any order, with or without fused products."""
    if not bounds.float32:
        return 0.0, 0.0
    part = (n + 4) * 2.0**-24
    return (part / (1 - part) if part < 0.5 else np.inf), (n + 4) * 2.0**-125
