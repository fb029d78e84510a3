"""The cells of a certificate's trees: what is claimed where, and whether the cells cover the region.

Soundness. Children share the face that splits them, so they cover their parent; `covered` accepts a clause only where
every path from the root meets a claim of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from certificates.document import BoxSplit, Claim, PhaseSplit, Tree
from certificates.enclosure import Cell, Phases
from certificates.errors import CertificateError
from networks.graph import Network, ReluNode
from networks.region import Region

__all__ = ["MAX_DEPTH", "Clip", "Frame", "covered", "frames"]

#: Splits on the way to a cell. Every cell knows all of them, so a chain of n takes n² memory, however small its file.
MAX_DEPTH = 2048

Array = NDArray[np.float64]


@dataclass(eq=False)
class Clip:
    """A clip and its cell, on which the clips before it hold, ``depth`` of them; ``known`` is what it tells, from when
    it is evaluated until what rests on it is.
    """

    claim: Claim
    cell: Cell
    depth: int
    known: dict[int, tuple[Array, Array]] = field(default_factory=dict)


@dataclass(eq=False)
class Frame:
    """What neurons are bounded on: a box, and the signs that phases choose.

    Attributes:
        lower, upper: the box, shape ``(inputs,)``.
        phases: (ReLU node, neuron, sign), as in `Cell`.
        clips: what tightens them on cells, parents before children.
        tasks: the claims that rest on those bounds, each with the number of its node, its cell and how many clips hold
            there.
        open: how many cells may still add claims.
    """

    lower: Array
    upper: Array
    phases: Phases = ()
    clips: list[Clip] = field(default_factory=list)
    tasks: list[tuple[int, Claim, Cell, int]] = field(default_factory=list)
    open: int = 0


def frames(tree: Tree, name: str, network: Network, region: Region) -> Iterator[Frame]:
    """Walks the tree in preorder; yields each frame that has claims once all of them are known."""
    supplied = _Supplied(tree, network, name)
    root = Frame(region.lower, region.upper, open=1)
    # Cells still to come, the next one last: box, frame, and from the way there the signs chosen, the last clip of each
    # clause and the number of splits.
    pending: list[tuple[Array, Array, Frame, Phases, dict[int, Clip], int]] = [
        (root.lower, root.upper, root, (), {}, 0)
    ]
    for i, node in enumerate(tree.nodes):
        if not pending:
            msg = f"{name} has nodes after its last leaf"
            raise CertificateError(msg)
        lower, upper, frame, phases, clipped, depth = pending.pop()
        if depth > MAX_DEPTH:
            msg = f"{name} has more than {MAX_DEPTH} splits on the way to a cell, more than are read"
            raise CertificateError(msg)
        frame.open -= 1
        for claim in node.clips:
            last = clipped.get(claim.clause)
            cell = supplied.cell(lower, upper, phases, claim, last)
            clip = Clip(claim, cell, _depth(last))
            clipped = clipped | {claim.clause: clip}
            frame.clips.append(clip)
        for claim in node.claims:
            last = clipped.get(claim.clause)
            frame.tasks.append((i, claim, supplied.cell(lower, upper, phases, claim, last), _depth(last)))
        split = node.split
        if isinstance(split, PhaseSplit):
            relu = network.nodes[split.node] if split.node < len(network.nodes) else None
            if not isinstance(relu, ReluNode) or split.neuron >= relu.features:
                msg = f"{name} splits neuron {split.neuron} of node {split.node}, which is no ReLU of the network"
                raise CertificateError(msg)
            for sign in (-1, 1):
                chosen = (*phases, (split.node, split.neuron, sign))
                child = frame if split.keep else Frame(lower, upper, chosen)
                child.open += 1
                pending.append((lower, upper, child, chosen, clipped if split.keep else {}, depth + 1))
        elif isinstance(split, BoxSplit):
            j = split.entry
            if j >= network.inputs or not lower[j] <= split.at <= upper[j]:
                msg = f"{name} splits input {j} at {split.at!r}, outside the box that is split"
                raise CertificateError(msg)
            below, above = upper.copy(), lower.copy()
            below[j] = above[j] = split.at
            for low, high in ((above, upper), (lower, below)):
                child = frame if split.keep else Frame(low, high, phases)
                child.open += 1
                pending.append((low, high, child, phases, clipped if split.keep else {}, depth + 1))
        if not frame.open and frame.tasks:
            yield frame
    if pending:
        msg = f"{name} ends before its last leaf"
        raise CertificateError(msg)


def _depth(last: Clip | None) -> int:
    """How many clips hold after this one."""
    return last.depth + 1 if last is not None else 0


class _Supplied:
    """A tree's multipliers by ReLU node; cells keep views of them."""

    def __init__(self, tree: Tree, network: Network, name: str) -> None:
        self._tree = tree
        self._places: dict[int, slice | NDArray[np.intp]] = {}
        self._neurons: dict[int, NDArray[np.intp]] = {}
        for index in np.unique(tree.columns[:, 0]).tolist():
            node = network.nodes[index] if 0 <= index < len(network.nodes) else None
            places = np.flatnonzero(tree.columns[:, 0] == index)
            neurons = tree.columns[places, 1].astype(np.intp)
            if not isinstance(node, ReluNode) or neurons.min() < 0 or neurons.max() >= node.features:
                msg = f"{name} has multipliers for neurons of node {index} that the network does not have"
                raise CertificateError(msg)
            first, last = int(places[0]), int(places[-1]) + 1
            self._places[index] = slice(first, last) if last - first == len(places) else places
            self._neurons[index] = neurons

    def cell(self, lower: Array, upper: Array, phases: Phases, claim: Claim, last: Clip | None) -> Cell:
        """The cell of a claim, with the multipliers that the claim names and what the last clip tells."""
        known = last.known if last is not None else {}
        if claim.multipliers is None:
            return Cell(lower, upper, phases, known=known)
        kind, line = claim.multipliers
        if kind == "rows":
            return Cell(lower, upper, phases, self._neurons, kind, self._by_node(self._tree.rows[line]), known=known)
        alpha, beta = map(self._by_node, self._tree.slopes[line])
        return Cell(lower, upper, phases, self._neurons, kind, alpha, beta, known)

    def _by_node(self, values: NDArray[np.floating]) -> dict[int, NDArray[np.floating]]:
        return {index: values[places] for index, places in self._places.items()}


def covered(tree: Tree) -> set[int]:
    """The clauses that every cell of the tree claims, or is split into two cells that prove."""
    stack: list[frozenset[int]] = []
    for node in reversed(tree.nodes):
        claimed = frozenset(claim.clause for claim in node.claims)
        if node.split is not None:
            first, second = stack.pop(), stack.pop()
            claimed |= first & second
        stack.append(claimed)
    return set(stack.pop()) if stack else set()
