"""What is open and what is known in a search over boxes, and how parts of it travel to helpers and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.graph import Network
from networks.property import Query
from solver.answers import answer, grafted, known
from solver.boxes import Box, Pool
from solver.certify import Branch, Record
from solver.helpers import Part
from solver.parcel import Parcel
from solver.pseudocosts import Pseudocosts

__all__ = ["BoxFrontier"]


class BoxFrontier:
    """The open boxes of a search, and the weakest bounds of those that are not open any more.

    Attributes:
        pool: what is open at home.
        cuts: what was learnt of where to cut.
        boxes: boxes bounded, by helpers too.
        upper: the smallest margin replayed.
        proven: the weakest bound among closed boxes.
        stuck: the weakest bound among boxes that are too small to halve.
    """

    def __init__(self, inputs: int, clauses: int, relus: int, record: Record | None) -> None:
        self.pool = Pool()
        self.cuts = Pseudocosts(inputs)
        self.boxes = 0
        self.upper = self.proven = self.stuck = math.inf
        self._sizes = inputs, clauses, relus
        self._record = record
        self._adopted: list[Branch] = []

    @property
    def lower(self) -> float:
        """What is proven of all boxes that are here."""
        return min(self.pool.weakest, self.proven, self.stuck)

    def put_back(self, boxes: list[Box]) -> None:
        """Boxes come home as they went."""
        for box in boxes:
            self.pool.put(box)

    def deal(self, hands: int, each: int) -> list[Part[list[Box]]]:
        """Hands of about equal strength from the weakest boxes; one more such hand stays."""
        taken = self.pool.take((hands + 1) * each)
        mine, *others = (taken[hand :: hands + 1] for hand in range(hands + 1))
        self.put_back(mine)
        learnt = self.cuts.arrays()
        return [
            Part(_arrays(boxes, self._sizes) | learnt, boxes, min(box.bound for box in boxes), len(boxes))
            for boxes in others
            if boxes
        ]

    def adopt(self, piece: Parcel) -> None:
        """Begins with boxes of another process's search, with a record of their own each.

        Raises:
            ParcelError: they are not of such a search.
        """
        boxes = self._boxes(piece)
        self.cuts.learn(piece)
        self._adopted = [Branch() for _ in boxes]
        self.put_back([box.at(branch) for box, branch in zip(boxes, self._adopted, strict=True)])

    def harvest(self, given: int, network: Network, query: Query) -> Parcel:
        """What became of ``given`` boxes that were adopted, but for the names that an answer has."""
        left = self.pool.take(len(self.pool))
        arrays = _arrays(left, self._sizes) | {"known": np.array([self.proven, self.stuck, self.upper])}
        still = (box.branch for box in left if box.branch is not None)
        return answer(given, self.boxes, arrays, self._record, self._adopted, still, (network, query))

    def merge(self, held: list[Box], said: Parcel) -> None:
        """Takes in what became of boxes.

        Raises:
            ParcelError, CertificateError: the answer does not fit, and nothing of it was taken in.
        """
        left = self._boxes(said)
        proven, stuck, upper = known(said)
        nodes = said.number("nodes")
        roots = (box.branch for box in held if box.branch is not None)
        grown = grafted(self._record, roots, said, len(left))
        if grown is not None:
            left = [box.at(branch) for box, branch in zip(left, grown, strict=True)]
        self.proven, self.stuck = min(self.proven, proven), min(self.stuck, stuck)
        self.upper = min(self.upper, upper)
        self.boxes += nodes
        self.put_back(left)

    def _boxes(self, parcel: Parcel) -> list[Box]:
        inputs, clauses, relus = self._sizes
        bound = parcel.array("bound", np.float64, (None,))
        count = len(bound)
        lower, upper, score = (parcel.array(name, np.float64, (count, inputs)) for name in ("lower", "upper", "score"))
        open_ = parcel.array("open", np.bool_, (count, clauses))
        phases = parcel.array("phases", np.int8, (count, relus))
        return [Box(lower[b], upper[b], open_[b], phases[b], score[b], float(bound[b])) for b in range(count)]


def _arrays(boxes: list[Box], sizes: tuple[int, int, int]) -> dict[str, NDArray[Any]]:
    """Boxes without their branches."""
    inputs, clauses, relus = sizes
    arrays: dict[str, NDArray[Any]] = {"bound": np.array([box.bound for box in boxes], np.float64)}
    for name, width, dtype in (
        ("lower", inputs, np.float64),
        ("upper", inputs, np.float64),
        ("score", inputs, np.float64),
        ("open", clauses, np.bool_),
        ("phases", relus, np.int8),
    ):
        arrays[name] = np.array([getattr(box, name) for box in boxes], dtype).reshape(len(boxes), width)
    return arrays
