"""What is open and what is known in a search that bounds all neurons anew, and how parts of it travel to helpers and
back.

Such a search has trees below trees (`solver.deep_split`): a cell is split with what is known at the root of its tree,
which is the region or a cell around it. So cells travel with the roots that they are below: bounds of all neurons, and
the slopes that these were found with. Whoever goes on with them finds the same trees.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.recomputed import Recomputed
from networks.graph import Network
from networks.property import Clause, Property, Query
from networks.region import Region
from solver.answers import answer, grafted
from solver.certify import Branch, Record
from solver.helpers import Part
from solver.parcel import Parcel, ParcelError
from solver.travelling import root, root_arrays

__all__ = ["DeepCell", "DeepFrontier", "DeepTree", "Held"]


@dataclass(frozen=True, eq=False)
class DeepCell:
    """An open cell.

    Attributes:
        low, high, phases: of its columns, shape ``(K,)``.
        theta: slopes and multipliers of each row, float32, shape ``(R, K)``.
        bound: proven lower bounds of the clauses' margins, shape ``(clauses,)``.
        open: which clauses are open there, shape ``(clauses,)``.
        column: the column to split.
        branch: its cell in the record.
    """

    low: Tensor
    high: Tensor
    phases: Tensor
    theta: Tensor
    bound: Tensor
    open: Tensor
    column: int
    branch: Branch | None

    @property
    def weakest(self) -> float:
        """The bound of the weakest clause that is open."""
        return float(self.bound[self.open].min())


@dataclass(eq=False)
class DeepTree:
    """The open cells below one root, weakest first; how many were bounded there, and how many roots it is below."""

    cells: Recomputed
    depth: int = 0
    nodes: int = 0
    heap: list[tuple[float, int, DeepCell]] = field(default_factory=list)


#: Cells that went out, and their tree.
Held: TypeAlias = tuple[DeepTree, Sequence[DeepCell]]


class DeepFrontier:
    """The open cells of a search, and for each clause the weakest bounds of those that are not open any more.

    Attributes:
        trees: by their depths.
        nodes: cells bounded, by helpers too.
        upper: the smallest margin replayed.
        closed: for each clause the weakest bound among cells where it is proven, shape ``(clauses,)``.
        stuck: the same for cells that leave it undecided for good.
    """

    def __init__(self, root: Recomputed, clauses: Sequence[Clause], record: Record | None) -> None:
        device = root.root.low.device
        self.record = record
        self.trees: list[DeepTree] = []
        self.nodes = 0
        self.upper = math.inf
        self.closed = torch.full((len(clauses),), torch.inf, dtype=torch.float64, device=device)
        self.stuck = torch.full_like(self.closed, torch.inf)
        self._root = root
        self._clauses = clauses
        each = torch.as_tensor([len(clause.rows) for clause in clauses], device=device)
        #: The clause of each of the R rows.
        self.clause = torch.arange(len(clauses), device=device).repeat_interleave(each)
        self._ticks = itertools.count()
        self._adopted: tuple[DeepTree, list[Branch]] | None = None

    @property
    def cells(self) -> int:
        """How many are open here."""
        return sum(len(tree.heap) for tree in self.trees)

    @property
    def lower(self) -> float:
        """What is proven of all cells that are here."""
        weakest = min((tree.heap[0][0] for tree in self.trees if tree.heap), default=math.inf)
        return min(weakest, float(self.closed.min()), float(self.stuck.min()))

    def known(self, out: Iterable[Held]) -> tuple[Tensor, Tensor]:
        """For each clause its proven lower bound, and whether it is undecided somewhere: here, or on cells ``out``."""
        lower, left = torch.minimum(self.closed, self.stuck), self.stuck < torch.inf
        here = [cell for tree in self.trees for _, _, cell in tree.heap]
        for cell in [*here, *(cell for _, cells in out for cell in cells)]:
            lower = torch.minimum(lower, cell.bound)
            left = left | cell.open
        return lower, left

    def plant(self, cells: Recomputed, depth: int) -> DeepTree:
        """A new tree without cells."""
        tree = DeepTree(cells, depth)
        self._stand(tree)
        return tree

    def top(self) -> DeepTree | None:
        """The deepest tree with an open cell; deeper ones are done with."""
        while self.trees and not self.trees[-1].heap:
            self.trees.pop()
        return self.trees[-1] if self.trees else None

    def put(self, tree: DeepTree, cells: Iterable[DeepCell]) -> None:
        """Adds open cells to a tree."""
        for cell in cells:
            heapq.heappush(tree.heap, (cell.weakest, next(self._ticks), cell))
        if tree not in self.trees:
            self._stand(tree)

    def take(self, tree: DeepTree, count: int) -> list[DeepCell]:
        """Removes the weakest cells of a tree."""
        return [heapq.heappop(tree.heap)[2] for _ in range(min(count, len(tree.heap)))]

    def _stand(self, tree: DeepTree) -> None:
        bisect.insort(self.trees, tree, key=lambda each: each.depth)

    # -- to helpers and back ---------------------------------------------------------------------------------------

    def deal(self, trees: Iterable[DeepTree], hands: int, each: int) -> list[Part[Held]]:
        """Hands of about equal strength from the weakest cells of ``trees``, each below one root; the first trees give
        first, and keep one more such hand.
        """
        parts: list[Part[Held]] = []
        for tree in trees:
            want = hands - len(parts)
            taken = self.take(tree, (want + 1) * each) if want else []
            *others, mine = (taken[hand :: want + 1] for hand in range(want + 1))
            self.put(tree, mine)
            for cells in filter(None, others):
                held = (tree, cells)
                parts.append(Part(self._arrays([held]), held, min(cell.weakest for cell in cells), len(cells)))
        return parts

    def adopt(self, network: Network, region: Region, piece: Parcel) -> None:
        """Begins with cells of another process's search, with a record of their own each.

        Raises:
            ParcelError: they are not of such a search.
        """
        ((tree, cells),) = self._read(network, region, piece, None)
        branches = [Branch() for _ in cells]
        self._adopted = tree, branches
        self.put(tree, [replace(cell, branch=branch) for cell, branch in zip(cells, branches, strict=True)])

    def harvest(self, given: int, network: Network, region: Region) -> Parcel:
        """What became of ``given`` cells that were adopted, but for the names that an answer has."""
        assert self._adopted is not None
        first, adopted = self._adopted
        trees = [first, *(tree for tree in self.trees if tree is not first and tree.heap)]
        left = [(tree, self.take(tree, len(tree.heap))) for tree in trees]
        known = torch.stack([self.closed, self.stuck]).numpy(force=True)
        arrays = self._arrays(left) | {"known": known, "upper": np.array([self.upper])}
        still = (cell.branch for _, cells in left for cell in cells if cell.branch is not None)
        query = Query.single(region, Property(tuple(self._clauses)))
        return answer(given, self.nodes, arrays, self.record, adopted, still, (network, query))

    def merge(self, network: Network, region: Region, held: Held, said: Parcel) -> None:
        """Takes in what became of cells.

        Raises:
            ParcelError, CertificateError: the answer does not fit, and nothing of it was taken in.
        """
        left = self._read(network, region, said, held[0])
        known = torch.as_tensor(said.array("known", np.float64, (2, len(self._clauses)))).to(self.closed)
        (upper,) = said.array("upper", np.float64, (1,)).tolist()
        if known.isnan().any() or (known[0] < 0).any() or math.isnan(upper):
            msg = f"an answer must tell bounds of closed cells that are not negative, got {known.tolist(), upper}"
            raise ParcelError(msg)
        nodes = said.number("nodes")
        roots = (cell.branch for cell in held[1] if cell.branch is not None)
        grown = grafted(self.record, roots, said, sum(len(cells) for _, cells in left))
        branches = iter(grown) if grown is not None else itertools.repeat(None)
        self.closed, self.stuck = torch.minimum(self.closed, known[0]), torch.minimum(self.stuck, known[1])
        self.upper = min(self.upper, upper)
        self.nodes += nodes
        for tree, cells in left:
            self.put(tree, [replace(cell, branch=next(branches)) for cell in cells])

    def _arrays(self, given: Sequence[Held]) -> dict[str, NDArray[Any]]:
        """Cells without their branches, and the roots of their trees, but for those that the other side knows: the
        region, and in an answer the one that the piece's cells are below.
        """
        K, R, C = self._root.layout.count, len(self.clause), len(self._clauses)
        cells = [cell for _, some in given for cell in some]

        def stacked(name: str, width: tuple[int, ...], dtype: type[Any]) -> NDArray[Any]:
            values = [np.asarray(getattr(cell, name).numpy(force=True), dtype) for cell in cells]
            return np.stack(values) if values else np.zeros((0, *width), dtype)

        arrays = {
            "trees": np.array([(tree.depth, tree.nodes, len(some)) for tree, some in given], np.int64),
            "bound": np.array([cell.weakest for cell in cells], np.float64),
            "bounds": stacked("bound", (C,), np.float64),
            "open": stacked("open", (C,), np.bool_),
            "low": stacked("low", (K,), np.float64),
            "high": stacked("high", (K,), np.float64),
            "phases": stacked("phases", (K,), np.int8),
            "theta": stacked("theta", (R, K), np.float32),
            "column": np.array([cell.column for cell in cells], np.int64),
        }
        # Rows of clauses that are proven there need no slopes any more.
        arrays["theta"][~arrays["open"][:, self.clause.numpy(force=True)]] = 0
        for t, (tree, _) in enumerate(given):
            if tree.cells is not self._root and (self._adopted is None or tree is not self._adopted[0]):
                arrays |= root_arrays(tree.cells, f"{t}.")
        return arrays

    def _read(
        self, network: Network, region: Region, parcel: Parcel, first: DeepTree | None
    ) -> list[tuple[DeepTree, list[DeepCell]]]:
        """Cells by their trees; the first tree is ``first`` in an answer.

        Raises:
            ParcelError: they are not of such a search.
        """
        K, R, C = self._root.layout.count, len(self.clause), len(self._clauses)
        device = self.closed.device
        trees = parcel.array("trees", np.int64, (None, 3))
        count = int(trees[:, 2].sum())
        column = parcel.array("column", np.int64, (count,))
        if not len(trees) or (trees < 0).any() or (column < 0).any() or (column >= K).any():
            msg = f"the document's cells are not below its {len(trees)} roots, or not to be split at one of {K} columns"
            raise ParcelError(msg)
        low, high, phases, theta, bound, open_ = (
            torch.as_tensor(parcel.array(name, dtype, (count, *width)), device=device)
            for name, dtype, width in (
                ("low", np.float64, (K,)),
                ("high", np.float64, (K,)),
                ("phases", np.int8, (K,)),
                ("theta", np.float32, (R, K)),
                ("bounds", np.float64, (C,)),
                ("open", np.bool_, (C,)),
            )
        )
        if not open_.any(1).all():
            msg = "the document has cells where no clause is open"
            raise ParcelError(msg)
        cells = [
            DeepCell(low[i], high[i], phases[i], theta[i], bound[i], open_[i], int(column[i]), None)
            for i in range(count)
        ]
        end = np.cumsum(trees[:, 2]).tolist()
        found = []
        for t, (depth, nodes, size) in enumerate(trees.tolist()):
            tree = first if t == 0 else None
            if tree is None:
                known = f"{t}.phases" not in parcel.arrays
                base = self._root if known else root(network, region, parcel, f"{t}.", around=self._root)
                tree = DeepTree(base, depth, nodes)
            found.append((tree, cells[end[t] - size : end[t]]))
        return found
