"""What is open and what is known in a ReLU-split search, and how parts of it travel to helpers and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from certificates import PhaseSplit
from networks.graph import Network
from networks.property import Query
from solver.answers import answer, grafted, known
from solver.cell_pool import Batch, CellPool
from solver.certify import Branch, Record
from solver.helpers import Part
from solver.parcel import Parcel

__all__ = ["CellFrontier"]


class CellFrontier:
    """The open cells of a search for one clause, and the weakest bounds of those that are not open any more.

    Attributes:
        cells: what is open at home.
        branches: cells of the record; an open cell knows its own by its number here.
        nodes: cells bounded, by helpers too.
        upper: the smallest margin replayed.
        proven: the weakest bound among closed cells.
        stuck: the weakest bound among leaves that nothing decides.
    """

    def __init__(self, cells: CellPool, record: Record | None) -> None:
        self.cells = cells
        self.record = record
        self.branches: list[Branch] = [] if record is None else [record.root]
        self.nodes = 0
        self.upper = self.proven = self.stuck = math.inf

    @property
    def lower(self) -> float:
        """What is proven of all cells that are here."""
        return min(self.cells.lower, self.proven, self.stuck)

    def grow(self, parents: Tensor, splits: Sequence[PhaseSplit]) -> Tensor:
        """Splits cells of the record; the numbers of their children, phase +1 first."""
        assert self.record is not None
        first = len(self.branches)
        for parent, split in zip(parents.tolist(), splits, strict=True):
            self.branches.extend(self.record.split(self.branches[parent], split))
        return torch.arange(first, len(self.branches))

    def adopt(self, cells: Batch) -> None:
        """Begins with cells of another process's search, with a record of their own each."""
        self.branches = [Branch() for _ in range(len(cells))]
        self.cells.put(cells)

    def deal(self, hands: int, each: int) -> list[Part[Batch]]:
        """Hands of about equal strength from the weakest cells; one more such hand stays."""
        taken = self.cells.take((hands + 1) * each)
        mine, *others = (taken.select(torch.arange(hand, len(taken), hands + 1)) for hand in range(hands + 1))
        self.cells.put(mine)
        return [Part(batch.arrays(), batch, float(batch.bound.min()), len(batch)) for batch in others if len(batch)]

    def harvest(self, given: int, network: Network, query: Query) -> Parcel:
        """What became of ``given`` cells that were adopted, but for the names that an answer has."""
        left = self.cells.take(len(self.cells), deep=False)
        arrays: dict[str, NDArray[Any]] = left.arrays()
        arrays["known"] = np.array([self.proven, self.stuck, self.upper])
        still = (self.branches[b] for b in left.branch.tolist())
        return answer(given, self.nodes, arrays, self.record, self.branches[:given], still, (network, query))

    def merge(self, held: Batch, said: Parcel, root: tuple[Tensor, Tensor], rows: int) -> None:
        """Takes in what became of cells.

        Raises:
            ParcelError, CertificateError: the answer does not fit, and nothing of it was taken in.
        """
        left = Batch.of(said, root, rows)
        proven, stuck, upper = known(said)
        nodes = said.number("nodes")
        branch = torch.zeros(len(left), dtype=torch.int64)
        grown = grafted(self.record, (self.branches[b] for b in held.branch.tolist()), said, len(left))
        if grown is not None:
            branch = torch.arange(len(self.branches), len(self.branches) + len(grown))
            self.branches.extend(grown)
        self.proven, self.stuck = min(self.proven, proven), min(self.stuck, stuck)
        self.upper = min(self.upper, upper)
        self.nodes += nodes
        self.cells.put(Batch(left.bound, left.low, left.high, left.theta, branch))
