"""Activation patterns as cells of the input space, on each of which a network is affine.

A pattern says for every ReLU whether it passes its input on. Its cell is the polyhedron of inputs where the
pre-activations of the ReLUs that do are at least 0, and the others at most 0. The network equals one affine map there,
so the least of anything convex over the cell is a convex program (`solver.programs`).

Nothing here proves anything: coefficients are rounded, and points count only after a replay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bounds.enclosure import Enclosure
from bounds.encoding import encode, encode_rows
from networks.evaluation import apply, values
from networks.graph import AffineNode, Network, ReluNode

__all__ = ["Cell", "Neuron"]

Array: TypeAlias = NDArray[np.float64]

Neuron: TypeAlias = tuple[int, int]
"""A ReLU node and the index of a neuron there."""

# A neuron is on the wrong side of its hyperplane by more than this share of its layer's largest value.
_WRONG = 1e-9


@dataclass(frozen=True, eq=False)
class Cell:
    """The cell of one activation pattern.

    Attributes:
        network: the network.
        active: for each ReLU node which of its neurons pass their input on, shape ``(features,)``.
    """

    network: Network
    active: Mapping[int, NDArray[np.bool_]]

    @classmethod
    def of(cls, network: Network, x: Array) -> Self:
        """A cell that contains ``x``, shape ``(inputs,)``."""
        found = values(network, x[None])
        return cls(network, {k: found[_parent(network, k)][0] > 0 for k in network.relu_nodes})

    def flipped(self, neurons: Iterable[Neuron]) -> Self:
        """The cell across the hyperplanes of these neurons."""
        active = {k: pattern.copy() for k, pattern in self.active.items()}
        for node, j in neurons:
            active[node][j] = not active[node][j]
        return type(self)(self.network, active)

    @cached_property
    def _phases(self) -> Enclosure:
        """Bounds that say nothing but the phases; what `bounds.encoding` makes of them has no unstable ReLU."""
        return Enclosure(
            {k: np.where(pattern, 0.0, -1.0) for k, pattern in self.active.items()},
            {k: np.where(pattern, 1.0, 0.0) for k, pattern in self.active.items()},
        )

    def outputs(self, C: Array) -> tuple[Array, Array]:
        """``C y`` on the cell as ``G x + m``: G of shape ``(rows, inputs)``, m of shape ``(rows,)``."""
        found = encode(self.network, self._phases, C)
        return found.inputs, found.constant

    def sides(self, neurons: Sequence[Neuron]) -> tuple[Array, Array]:
        """The halfspaces ``G x ≤ b`` that keep these neurons in their phases: shapes ``(k, inputs)`` and ``(k,)``."""
        G, b = np.zeros((len(neurons), self.network.inputs)), np.zeros(len(neurons))
        nodes = np.array([node for node, _ in neurons])
        for node in np.unique(nodes).tolist():
            at = np.flatnonzero(nodes == node)
            j = np.array([neurons[i][1] for i in at.tolist()])
            found = encode_rows(self.network, self._phases, _parent(self.network, node), j)
            sign = np.where(self.active[node][j], -1.0, 1.0)
            G[at], b[at] = sign[:, None] * found.inputs, -sign * found.constant
        return G, b

    def broken(self, x: Array, most: int) -> list[Neuron]:
        """The neurons whose halfspaces do not contain ``x``, at most so many, the worst of each layer first."""
        worst: list[tuple[float, Neuron]] = []
        found: list[Array] = [x[None]]
        for k, node in enumerate(self.network.nodes[1:], 1):
            if isinstance(node, ReluNode):
                z, active = found[node.parent][0], self.active[k]
                wrong = np.where(active, -z, z)
                scale = max(float(np.abs(z).max(initial=0.0)), 1e-30)
                order = np.argsort(-wrong)[:most]
                worst += [(float(wrong[j]) / scale, (k, int(j))) for j in order if wrong[j] > _WRONG * scale]
                found.append(np.where(active, found[node.parent], 0.0))
            else:
                assert isinstance(node, AffineNode)
                found.append(sum((apply(linear, found[parent]) for parent, linear in node.terms), start=node.bias))
        return [neuron for _, neuron in sorted(worst, reverse=True)[:most]]


def _parent(network: Network, relu: int) -> int:
    """The node with the pre-activations of a ReLU node."""
    node = network.nodes[relu]
    assert isinstance(node, ReluNode)
    return node.parent
