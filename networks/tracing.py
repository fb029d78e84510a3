"""The canonical network while it is being built from an ONNX graph.

Every tensor of the ONNX graph is either a constant (a NumPy array) or a `View`: the entries of one canonical node,
reordered. Flatten, Reshape, Transpose, Slice and their like only make another view, so they cost no node, and chains
of them compose exactly, being integer arithmetic. A view becomes a node of its own (a `Gather`) only when something
needs its entries in that order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from networks.errors import NetworkShapeError, NonFiniteWeightError
from networks.graph import (
    AffineNode,
    Conv,
    ConvTranspose,
    Dense,
    Gather,
    Identity,
    InputNode,
    LinearMap,
    Node,
    ReluNode,
    Scale,
)

__all__ = ["MAX_ENTRIES", "Constant", "Tensor", "Trace", "View", "check_size"]

MAX_ENTRIES = 2**24
"""Largest number of entries of all values together, weights not counted. A few bytes of ONNX can ask for any number."""

Constant: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A tensor that depends on the input.

    Attributes:
        node: index of the canonical node whose entries it shows.
        shape: its ONNX shape, with any batch dimension.
        indices: shape ``(prod(shape),)``, int64: which entry of the node each entry is, -1 for a zero; None for all
            entries in order.
    """

    node: int
    shape: tuple[int, ...]
    indices: NDArray[np.int64] | None = None

    @property
    def features(self) -> int:
        return math.prod(self.shape)


Tensor: TypeAlias = View | Constant


def check_size(shape: Sequence[int]) -> None:
    """Refuse a value of more than `MAX_ENTRIES` entries before it is allocated.

    Raises:
        NetworkShapeError: it is too large, or a dimension is negative.
    """
    if any(d < 0 for d in shape) or math.prod(int(d) for d in shape) > MAX_ENTRIES:
        msg = (
            f"a value of shape {tuple(int(d) for d in shape)} is too large: at most {MAX_ENTRIES} entries are supported"
        )
        raise NetworkShapeError(msg)


class Trace:
    """Canonical nodes in the making, and the notes about what was changed knowingly.

    ``name`` is the ONNX node that is being rewritten; canonical nodes take their names from it.
    """

    def __init__(self, shape: tuple[int, ...], name: str) -> None:
        """Start from an input of ONNX shape ``shape``."""
        self.nodes: list[Node] = [InputNode(without_batch(shape), name)]
        self.notes: list[str] = []
        self.name = ""
        self.input = View(0, shape)
        self._entries = 0

    def note(self, text: str) -> None:
        """Record what a user should know about the reading of the current ONNX node."""
        if text not in self.notes:
            self.notes.append(text)

    def affine(
        self, terms: Sequence[tuple[int, LinearMap]], shape: tuple[int, ...], bias: NDArray[np.float64] | float = 0.0
    ) -> View:
        """Append ``Σ L_i(h_i) + bias``; ``shape`` is its ONNX shape, to which ``bias`` broadcasts.

        Raises:
            NonFiniteWeightError: a weight or bias that was computed is not finite.
        """
        check_size(shape)
        offset = np.array(np.broadcast_to(bias, shape), np.float64).reshape(-1)
        stored = [w for _, linear in terms for w in _weights(linear)]
        if not all(np.isfinite(w).all() for w in (offset, *stored)):
            msg = f"a weight that is computed at node {self.name!r} overflows; scale the network's weights down"
            raise NonFiniteWeightError(msg)
        for parent, linear in terms:
            assert linear.in_features == self.nodes[parent].features
            assert linear.out_features == offset.size
        return View(self._append(AffineNode(tuple(terms), offset, without_batch(shape), self.name)), shape)

    def relu(self, value: View) -> View:
        """Append a ReLU. Its parent is always an affine node; a ReLU of a ReLU is the ReLU itself."""
        if value.indices is not None and self._permutes(value):
            inner = self.relu(View(value.node, (self.nodes[value.node].features,)))
            return View(inner.node, value.shape, value.indices)
        parent = self.plain(value)
        if isinstance(self.nodes[parent], ReluNode):
            return View(parent, value.shape)
        if parent == 0:
            parent = self.affine([(0, Identity(value.features))], value.shape).node
        shape = self.nodes[parent].shape
        return View(self._append(ReluNode(parent, shape, self.name)), value.shape)

    def scaled(self, value: View, factors: NDArray[np.float64] | float) -> View:
        """Append ``factors ⊙ value``; the factors broadcast to the value's shape."""
        flat = np.broadcast_to(factors, value.shape).astype(np.float64).reshape(-1)
        return self.affine([(self.plain(value), Scale(flat))], value.shape)

    def shifted(self, value: View, constant: NDArray[np.float64] | float) -> View:
        """``value + constant``, where the constant broadcasts to the value's shape.

        A node without bias takes the constant as its bias (MatMul followed by Add); its old form is pruned later unless
        something else uses it.
        """
        node = self.nodes[value.node]
        if value.indices is None and isinstance(node, AffineNode) and not node.bias.any():
            return self.affine(node.terms, value.shape, constant)
        return self.affine([self.term(value)], value.shape, constant)

    def multiplied(self, weight: NDArray[np.float64], value: View, shape: tuple[int, ...]) -> View:
        """``W h`` for the value's entries h, with ``weight`` W of shape ``(prod(shape), features)``."""
        if value.indices is None:
            return self.affine([(value.node, Dense(weight))], shape)
        source = self.nodes[value.node].features
        used = value.indices[value.indices >= 0]
        if np.unique(used).size == used.size and source <= 2 * value.features:
            # Moving columns is exact, and spares a node; repeated entries would need sums, which round.
            moved = np.zeros((weight.shape[0], source))
            moved[:, used] = weight[:, value.indices >= 0]
            return self.affine([(value.node, Dense(moved))], shape)
        return self.affine([(self.plain(value), Dense(weight))], shape)

    def maximum(self, a: View, b: View) -> View:
        """``max(a, b) = b + relu(a - b)`` for two values of the same shape."""
        excess = self.relu(self.affine([self.term(a), self.negated(b)], a.shape))
        return self.affine([self.term(b), self.term(excess)], a.shape)

    def term(self, value: View) -> tuple[int, LinearMap]:
        """The value as a term of an affine node: the node itself or a gather of it."""
        source = self.nodes[value.node].features
        return value.node, Identity(source) if value.indices is None else Gather(value.indices, source)

    def negated(self, value: View) -> tuple[int, LinearMap]:
        """Minus the value as a term of an affine node."""
        return self.plain(value), Scale(np.full(value.features, -1.0))

    def plain(self, value: View) -> int:
        """Index of a node whose entries are those of the value, in order."""
        if value.indices is None:
            return value.node
        return self.affine([self.term(value)], value.shape).node

    def rearranged(self, value: View, arrange: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> View:
        """The view that ``arrange`` makes of the value's entries, given as an array of indices in its ONNX shape."""
        features = self.nodes[value.node].features
        indices = value.indices if value.indices is not None else np.arange(features, dtype=np.int64)
        arranged = arrange(indices.reshape(value.shape))
        check_size(arranged.shape)
        flat = np.array(arranged, np.int64).reshape(-1)
        whole = flat.size == features and np.array_equal(flat, np.arange(features))
        return View(value.node, tuple(int(d) for d in arranged.shape), None if whole else flat)

    def _append(self, node: Node) -> int:
        self._entries += node.features
        if self._entries > MAX_ENTRIES:
            msg = f"the values up to node {self.name!r} have more than {MAX_ENTRIES} entries in all, which is too large"
            raise NetworkShapeError(msg)
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _permutes(self, value: View) -> bool:
        if value.indices is None or value.features != self.nodes[value.node].features:
            return False
        return bool(np.array_equal(np.sort(value.indices), np.arange(value.features)))


def _weights(linear: LinearMap) -> tuple[NDArray[np.float64], ...]:
    match linear:
        case Dense() | Conv() | ConvTranspose():
            return (linear.weight,)
        case Scale():
            return (linear.factors,)
        case _:
            return ()


def without_batch(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that is shown to users: without a leading 1, unless that is all there is."""
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
