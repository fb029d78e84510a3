"""What ReLU-split searches over one region share, and what one of them comes to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property

from bounds import Enclosure
from bounds.clipping import Clipper
from bounds.phases import Cells
from bounds.program import program
from bounds.reduced import Forms
from bounds.relaxation import Relaxation, RelaxationTooLargeError, relax
from bounds.single import box_bounds
from networks.graph import Network
from networks.region import Region
from solver import policy
from solver.verdict import Counterexample, Reason

__all__ = ["Asks", "CellSearch", "SplitRegion"]


@dataclass(frozen=True, eq=False)
class CellSearch:
    """What the search found for one clause.

    Attributes:
        lower: proven lower bound of the clause's margin over the region.
        upper: smallest replayed margin.
        counterexample: a replayed violation, if one was found.
        reason: why the search stopped undecided; None when it decided.
        nodes: cells bounded (children that strong branching discarded are not counted).
    """

    lower: float
    upper: float
    counterexample: Counterexample | None
    reason: Reason | None
    nodes: int


class SplitRegion:
    """What the searches for all clauses over one region share."""

    def __init__(self, network: Network, region: Region, enclosure: Enclosure) -> None:
        """``enclosure``: root bounds of every ReLU."""
        self.network = network
        self.region = region
        self.enclosure = enclosure
        self._bounds = box_bounds(network, region, enclosure)
        self.cells = Cells(program(network), self._bounds)
        self.forms = Forms(network, region, enclosure, self.cells)
        self.asks = Asks()

    @cached_property
    def clipper(self) -> Clipper:
        """Clips cells of the region."""
        return Clipper(program(self.network), self._bounds, self.cells)

    @cached_property
    def relaxation(self) -> Relaxation | None:
        """The linear relaxation of the whole network, for LPs of cells; None where it would be too large."""
        try:
            return relax(self.network, self.region, self.enclosure, -1)
        except RelaxationTooLargeError:
            return None


@dataclass
class Asks:
    """How many of a batch's weakest cells go to the LP: four times as many after it closed some, else fewer, and none
    until the searches over the region have taken much longer than those.
    """

    count: int = 2
    began: float = field(default_factory=time.monotonic)
    due: float = field(default_factory=lambda: policy.BAB_LP_AFTER)

    def next(self, cells: int) -> tuple[int, float]:
        """For the next batch, of so many cells; and until when they may last, at most as long as the search so far."""
        lasted = time.monotonic() - self.began
        if lasted < self.due:
            return 0, 0.0
        return min(self.count, cells), self.began + 2 * lasted

    def took(self, seconds: float, *, closed: bool) -> None:
        """What those took, and whether the LP closed any of them."""
        self.count = min(4 * self.count, policy.BAB_BATCH) if closed else max(1, self.count // 2)
        self.due = time.monotonic() - self.began + (0.0 if closed else policy.BAB_LP_PAUSE * seconds)
