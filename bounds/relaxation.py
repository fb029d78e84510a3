"""The linear relaxation of everything before one node of a network, as plain arrays.

Symbols. x is the input. ẑ_j and h_j = relu(ẑ_j) belong to the k unstable ReLUs before the node, l_j < 0 < u_j are
their bounds; stable ReLUs are substituted away (`bounds.encoding`), so that every ẑ_j is one affine form of x and of
earlier h:

    ẑ_j = E_j·x + F_j·h + c_j

Variables. All lie between −1 and 1, which keeps a solver's absolute tolerances meaningful whatever the weights are:

* t, one for each input that varies: x = center + radius ⊙ t, −1 ≤ t ≤ 1;
* p_j and q_j, the positive and the negative part of ẑ_j in units of its bounds: h_j = u_j p_j, ẑ_j = u_j p_j + l_j q_j,
  0 ≤ p_j, q_j ≤ 1.

Rows. The *defining* row of neuron j is divided by s_j, a power of two near max(u_j, −l_j), or near a millionth of the
row's largest coefficient where that is more, as for a neuron that is open by a rounding error only:

    above_j p_j − below_j q_j − G_j·(t, p) = rhs_j          above = u/s, below = −l/s, G = (E·radius, F·u)/s

and the triangle (the convex hull of the ReLU on [l, u]) is the *face* row p_j + q_j ≤ 1. With binary a_j, p_j ≤ a_j
and q_j ≤ 1 − a_j it becomes big-M with asymmetric bounds, and exact.

This module needs NumPy only when it is imported: worker processes load it without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from bounds.enclosure import Enclosure
    from bounds.encoding import Encoding
    from networks.graph import Network
    from networks.region import Region

__all__ = ["SMALLEST", "Relaxation", "RelaxationTooLargeError", "Vertex", "objectives", "relax"]

Array: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]

#: Coefficients of unit-box columns below this may be left out, as HiGHS does if it is told so; their sum goes into
#: ``dropped``.
SMALLEST = 1e-11
# Coefficients of G are at most this: where a neuron is open by a rounding error, its bounds are no measure of its row.
_LARGEST = 2.0**20
# A model of this many coefficients takes HiGHS minutes for a single LP.
_LARGEST_MODEL = 20_000_000
# Rows that are encoded at once: bounds the dense matrices in between.
_CHUNK = 256


class RelaxationTooLargeError(Exception):
    """The relaxation has more coefficients than an LP can sensibly have; carries the message for the report."""


@dataclass(frozen=True, slots=True, eq=False)
class Vertex:
    """A starting basis: which columns are basic, and where the others rest.

    Attributes:
        at_upper: shape ``(m,)``: t rests at 1 (else at −1).
        face: shape ``(k,)``: the neuron lies on the triangle's upper face, with p and q basic.
        positive: shape ``(k,)``: off the face, p is basic and q rests at 0 (else the reverse).
    """

    at_upper: NDArray[np.bool_]
    face: NDArray[np.bool_]
    positive: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Relaxation:
    """See the module's docstring for the symbols. m inputs vary and k ReLUs are unstable.

    Attributes:
        kept: the inputs that vary, shape ``(m,)``, int64.
        middle: an input with the fixed entries at their value, shape ``(inputs,)``.
        radius: shape ``(m,)``.
        nodes: the ReLU nodes with unstable neurons, in topological order.
        neurons: for each of them the unstable neurons, int64; rows follow this order.
        offsets: where each node's neurons begin among the k rows; one more entry closes the last.
        scale, above, below, rhs: s, u/s, −l/s and the right-hand sides, shape ``(k,)``.
        start, index, value: G in compressed rows over the ``m + k`` columns (t, p).
        dropped: for each row an upper bound on what rounding and omitted coefficients change in it, shape ``(k,)``;
            omitted are those below `SMALLEST`, of p_j and q_j only by whoever reads the rows.
    """

    kept: Indices
    middle: Array
    radius: Array
    nodes: tuple[int, ...]
    neurons: tuple[Indices, ...]
    offsets: tuple[int, ...]
    scale: Array
    above: Array
    below: Array
    rhs: Array
    start: Indices
    index: Indices
    value: Array
    dropped: Array

    @property
    def m(self) -> int:
        """Number of inputs that vary."""
        return len(self.kept)

    @property
    def k(self) -> int:
        """Number of unstable ReLUs."""
        return len(self.scale)

    def point(self, t: Array) -> Array:
        """The network input of ``t``, shape ``(inputs,)``; t is clipped to [−1, 1]."""
        x = self.middle.copy()
        x[self.kept] += self.radius * np.clip(t, -1.0, 1.0)
        return x

    def multipliers(self, duals: Array, features: dict[int, int]) -> dict[int, Array]:
        """Λ for `bounds.lower_bounds` from the duals of the defining rows.

        Args:
            duals: shape ``(R, k)``, of the rows ẑ_j − E_j x − F_j h = c_j before scaling: how the minimum changes with
                c_j.
            features: number of ReLUs of each node.

        Returns:
            For each ReLU node of the relaxation an array ``(R, features)``, zero at stable neurons.
        """
        out = {}
        for position, (node, chosen) in enumerate(zip(self.nodes, self.neurons, strict=True)):
            rows = np.zeros((len(duals), features[node]))
            rows[:, chosen] = duals[:, self.offsets[position] : self.offsets[position + 1]]
            out[node] = rows
        return out

    def vertex(self, cost: Array) -> Vertex:
        """A dual simplex start for minimising ``cost · (t, p)``, by one backward and one forward pass.

        Backwards with the slopes of backward linear bounds, the cost reaches the inputs and picks the corner t; from
        there forwards, a neuron whose coefficient is negative goes to the triangle's upper face and every other one
        to relu(ẑ).
        """
        m, k = self.m, self.k
        total = cost.copy()
        face = np.zeros(k, dtype=bool)
        for first, last, entries in self._blocks(reverse=True):
            slope = total[m + first : m + last] / self.above[first:last]
            above, below = self.above[first:last], self.below[first:last]
            face[first:last] = slope < 0
            passed = slope * np.where(slope < 0, above / (above + below), above > below)
            weights = self.value[entries] * np.repeat(passed, np.diff(self.start[first : last + 1]))
            total += np.bincount(self.index[entries], weights, m + k)
        at_upper = total[:m] <= 0
        point = np.concatenate([np.where(at_upper, 1.0, -1.0), np.zeros(k)])
        positive = np.zeros(k, dtype=bool)
        for first, last, entries in self._blocks():
            rows = np.repeat(np.arange(last - first), np.diff(self.start[first : last + 1]))
            z = self.rhs[first:last] + np.bincount(rows, self.value[entries] * point[self.index[entries]], last - first)
            above, below = self.above[first:last], self.below[first:last]
            positive[first:last] = z >= 0
            on_face = (z + below) / (above + below)
            point[m + first : m + last] = np.where(face[first:last], on_face, np.maximum(z, 0) / above)
        return Vertex(at_upper, face, positive)

    def leak(self, tolerance: float) -> Array:
        """How far a point that meets every row, bound and binary only within ``tolerance`` can be from the network.

        Returns:
            For each column (t, p) a bound on the difference to a point that meets them exactly with its t in [−1, 1],
            shape ``(m + k,)``: the worst case, accumulated forwards with absolute values. Where p and q are both
            nonzero because a binary is not quite one, relu(ẑ) is missed by at most twice the tolerance (in units of s).
        """
        m, k = self.m, self.k
        error = np.concatenate([np.full(m, tolerance), np.zeros(k)])
        for first, last, entries in self._blocks():
            rows = np.repeat(np.arange(last - first), np.diff(self.start[first : last + 1]))
            carried = np.abs(self.value[entries]) * error[self.index[entries]]
            z = self.dropped[first:last] + tolerance + np.bincount(rows, carried, last - first)
            error[m + first : m + last] = (z + 4 * tolerance) / self.above[first:last]
        return error

    def _blocks(self, *, reverse: bool = False) -> list[tuple[int, int, slice]]:
        """(first row, last row, entries of G) of each node's rows."""
        pairs = list(zip(self.offsets[:-1], self.offsets[1:], strict=True))
        if reverse:
            pairs.reverse()
        return [(first, last, slice(int(self.start[first]), int(self.start[last]))) for first, last in pairs]


def relax(network: Network, region: Region, enclosure: Enclosure, node: int) -> Relaxation:
    """The relaxation of everything that ``node`` depends on.

    Raises:
        RelaxationTooLargeError: the model would have more than 20 million coefficients.
    """
    from bounds.encoding import encode_rows  # loads torch, which workers do without
    from networks.graph import ReluNode

    middle = region.lower + (region.upper - region.lower) / 2
    radius = np.maximum(region.upper - middle, middle - region.lower)
    # An end point like 0.1 is rounded outward: an input as narrow as that is fixed, within the rounding charged.
    kept = np.flatnonzero(radius > 2.0**-51 * np.abs(middle))
    nodes = [r for r in _relus_before(network, node) if enclosure.unstable(r).any()]
    neurons = [np.flatnonzero(enclosure.unstable(r)) for r in nodes]
    offsets = np.concatenate([[0], np.cumsum([len(chosen) for chosen in neurons], dtype=np.int64)])
    frame = _Frame(kept, middle, radius[kept], tuple(nodes), tuple(int(o) for o in offsets), _uppers(enclosure, nodes))
    columns: list[NDArray[np.int64]] = []
    values: list[Array] = []
    counts: list[NDArray[np.int64]] = []
    parts: dict[str, list[Array]] = {"scale": [], "above": [], "below": [], "rhs": [], "dropped": []}
    entries = 0
    for r, chosen in zip(nodes, neurons, strict=True):
        relu = network.nodes[r]
        assert isinstance(relu, ReluNode)
        for begin in range(0, len(chosen), _CHUNK):
            some = chosen[begin : begin + _CHUNK]
            low, high = enclosure.lower[r][some], enclosure.upper[r][some]
            dense, constant, rounding = frame.dense(encode_rows(network, enclosure, relu.parent, some))
            # ldexp of frexp's exponent: the power of two just above the magnitude.
            least = np.abs(dense).max(1, initial=0.0) / _LARGEST
            scale = np.ldexp(1.0, np.frexp(np.maximum(np.maximum(high, -low), least))[1])
            dense /= scale[:, None]
            small = np.abs(dense) < SMALLEST
            ends = np.stack([high, -low], axis=1) / scale[:, None]
            lost = np.where(small, np.abs(dense), 0).sum(1) + np.where(ends < SMALLEST, ends, 0).sum(1)
            parts["dropped"].append(lost + rounding / scale)
            dense[small] = 0
            rows, cols = np.nonzero(dense)
            entries += len(cols)
            if entries > _LARGEST_MODEL:
                msg = f"the relaxation before node {node} has over {_LARGEST_MODEL} coefficients"
                raise RelaxationTooLargeError(msg)
            columns.append(cols)
            values.append(dense[rows, cols])
            counts.append(np.bincount(rows, minlength=len(some)))
            for key, part in (("scale", scale), ("above", ends[:, 0]), ("below", ends[:, 1])):
                parts[key].append(part)
            parts["rhs"].append(constant / scale)
    joined = {key: np.concatenate([*value, np.zeros(0)]) for key, value in parts.items()}
    empty = np.zeros(0, dtype=np.int64)
    return Relaxation(
        kept=kept,
        middle=middle,
        radius=radius[kept],
        nodes=tuple(nodes),
        neurons=tuple(neurons),
        offsets=frame.offsets,
        start=np.concatenate([[0], np.cumsum(np.concatenate([*counts, empty]))]).astype(np.int64),
        index=np.concatenate([*columns, empty]),
        value=np.concatenate([*values, np.zeros(0)]),
        **joined,
    )


def objectives(
    network: Network, enclosure: Enclosure, relaxation: Relaxation, node: int, indices: Indices
) -> tuple[Array, Array]:
    """The entries ``indices`` of the value of ``node`` as ``cost · (t, p) + constant``.

    ``relaxation`` must come from the same ``enclosure`` and a node at or after ``node``.

    Returns:
        Costs of shape ``(R, m + k)`` and constants of shape ``(R,)``.
    """
    from bounds.encoding import encode_rows  # loads torch, which workers do without

    uppers = _uppers(enclosure, list(relaxation.nodes))
    r = relaxation
    frame = _Frame(r.kept, r.middle, r.radius, r.nodes, r.offsets, uppers)
    costs, constant, _ = frame.dense(encode_rows(network, enclosure, node, indices))
    return costs, constant


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """How linear forms over (x, h) become forms over (t, p)."""

    kept: Indices
    middle: Array
    radius: Array
    nodes: tuple[int, ...]
    offsets: tuple[int, ...]
    uppers: tuple[Array, ...]

    def dense(self, encoding: Encoding) -> tuple[Array, Array, Array]:
        """Coefficients ``(R, m + k)``, constants ``(R,)`` and a bound on their rounding errors ``(R,)``."""
        m = len(self.kept)
        out = np.zeros((len(encoding.constant), m + self.offsets[-1]))
        out[:, :m] = encoding.inputs[:, self.kept] * self.radius
        constant = encoding.constant + encoding.inputs @ self.middle
        magnitude = np.abs(encoding.constant) + np.abs(encoding.inputs) @ np.abs(self.middle)
        for position, node in enumerate(self.nodes):
            if node in encoding.relus:
                block = slice(m + self.offsets[position], m + self.offsets[position + 1])
                out[:, block] = encoding.relus[node] * self.uppers[position]
        magnitude += np.abs(out).sum(1)
        return out, constant, magnitude * (out.shape[1] + len(self.middle)) * 2.0**-52


def _uppers(enclosure: Enclosure, nodes: list[int]) -> tuple[Array, ...]:
    return tuple(enclosure.upper[r][enclosure.unstable(r)] for r in nodes)


def _relus_before(network: Network, node: int) -> list[int]:
    """ReLU nodes that the value of ``node`` depends on, in topological order."""
    from networks.graph import InputNode

    last = node % len(network.nodes)
    needed = {last}
    for k in range(last, 0, -1):
        step = network.nodes[k]
        if k in needed and not isinstance(step, InputNode):
            needed.update(step.parents)
    return sorted((needed - {last}) & set(network.relu_nodes))
