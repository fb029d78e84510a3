"""Branch and bound by splitting ReLUs, with the bounds of all neurons computed anew on every cell.

For networks with several hidden layers. One tree serves all open clauses of a case, as bounds of neurons do not depend
on the clause: a cell is closed when each of them is proven there (or on a cell around it), or when bounds that cross
show that it is empty. The column to split is the one that loosens the weakest clause's bound most, directly and through
the bounds of later neurons (`bounds.recomputed`).

Slopes of neurons that were found for the whole region grow stale on its cells. So when a tree has had a few cells, each
one that is still open becomes the root of a tree of its own, with slopes optimised further. Trees are searched depth
first. Cells of the trees nearest to the region are shared, where there are helpers (`solver.deep_frontier`): they are
the largest parts of what is left, and each becomes a root whoever goes on with it.

The search is not complete: cells without a free column that are still open end it undecided, with `Reason.NUMERICS`;
`solver.relu_split` has an LP for such cells.

Soundness. Cells are closed by rigorous float64 bounds only. The two children of a cell share the face z = 0, so the
leaves cover the region.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bounds.columns import Columns
from bounds.optimised import SlopeSearch
from bounds.recomputed import Recomputed
from certificates import PhaseSplit
from networks.graph import Network
from networks.property import Clause
from networks.region import Region
from solver import policy
from solver.answers import stated
from solver.attack import Attack
from solver.certify import Branch, Record
from solver.deep_frontier import DeepCell, DeepFrontier, DeepTree, Held
from solver.helpers import Helpers, Part, Sharing, replayed
from solver.parcel import Parcel
from solver.travelling import root_arrays
from solver.verdict import Counterexample, Reason

__all__ = ["DeepSearch", "DeepSplit", "decide_by_deep_split"]

# Every so many batches a descent starts from the weakest bound's minimiser, even if it violates nothing yet.
_PUSH = 8


@dataclass(frozen=True, eq=False)
class DeepSearch:
    """What the search found.

    Attributes:
        lower: proven lower bound of each clause's margin over the region, shape ``(clauses,)``; +inf where every cell
            was empty.
        proven: which clauses hold on the region.
        upper: smallest replayed margin.
        counterexample: a replayed violation, if one was found.
        reason: why the search stopped undecided; None when it decided.
        nodes: cells bounded.
    """

    lower: list[float]
    proven: list[bool]
    upper: float
    counterexample: Counterexample | None
    reason: Reason | None
    nodes: int


def decide_by_deep_split(
    cells: Recomputed,
    clauses: Sequence[Clause],
    attack: Attack | None,
    rows: SlopeSearch,
    neurons: SlopeSearch,
    *,
    stop: Callable[[], Reason | None],
    progress: Callable[[float, float, int, int], None],
    record: Record | None = None,
    helpers: Helpers | None = None,
    about: tuple[Network, Region] | None = None,
) -> DeepSearch:
    """Proves clauses on a region, or finds a counterexample, or runs until ``stop``.

    Args:
        cells: the region's root bounds.
        clauses: what is open.
        attack: confirms points where the network violates a clause; None where none are tried.
        rows: how slopes and multipliers of the rows are looked for on each cell.
        neurons: how slopes of the neurons are looked for on each new root.
        stop: asked between batches; a reason ends the search.
        progress: told (lower, upper, open cells, cells so far) after each batch.
        record: notes the tree for a certificate; ``cells`` must then have default slopes, which every cell keeps, as
            checkers know no others.
        helpers: take some of the open cells, where there are any.
        about: the network and the region of ``cells``; helpers need to know.
    """
    search = DeepSplit(cells, clauses, attack, rows, neurons, record=record, helpers=helpers, about=about)
    try:
        return search.run(stop, progress)
    finally:
        search.close()


class DeepSplit:
    """A search from the whole region, or from some cells of another process's search."""

    def __init__(
        self,
        cells: Recomputed,
        clauses: Sequence[Clause],
        attack: Attack | None,
        rows: SlopeSearch,
        neurons: SlopeSearch,
        *,
        record: Record | None = None,
        helpers: Helpers | None = None,
        about: tuple[Network, Region] | None = None,
    ) -> None:
        """Nothing is bounded yet; arguments are those of `decide_by_deep_split`."""
        self._record = record
        if record is not None:
            pairs = [cells.neuron(column) for column in range(cells.layout.count)]
            record.columns = np.array(pairs, np.int64).reshape(-1, 2)
        self._root, self._clauses, self._attack, self._rows, self._neurons = cells, clauses, attack, rows, neurons
        self._about = about
        device = cells.root.low.device
        self._C = torch.as_tensor(np.concatenate([clause.matrix for clause in clauses]), device=device)
        self._offsets = torch.as_tensor(np.concatenate([clause.offsets for clause in clauses]), device=device)
        self._front = DeepFrontier(cells, clauses, record)
        self._clause = self._front.clause
        self._sharing = None if helpers is None else Sharing(helpers, self)
        self._planted = False
        #: Cells bounded here, and how long that took.
        self._bounded, self._seconds = 0, 0.0

    def run(self, stop: Callable[[], Reason | None], progress: Callable[[float, float, int, int], None]) -> DeepSearch:
        """Searches until all is decided or ``stop`` gives a reason; see `decide_by_deep_split`."""
        found = None if self._planted else self._begin()
        for turn in itertools.count():
            if found is None:
                found = self._share()
            if found is not None:
                return self._ended(None, found)
            tree = self._front.top()
            if tree is None and not self._out:
                return self._ended(Reason.NUMERICS if (self._front.stuck < torch.inf).any() else None)
            progress(self._lower, self._front.upper, self._front.cells + self._out, self._front.nodes)
            reason = stop()
            if reason is not None:
                return self._ended(reason)
            if tree is not None:
                began = time.monotonic()
                found = self._grow_root(tree) if self._full_grown(tree) else self._split(tree, push=turn % _PUSH == 0)
                self._seconds += time.monotonic() - began
        raise AssertionError

    def close(self) -> None:
        """Wants nothing of its helpers any more."""
        if self._sharing is not None:
            self._sharing.close()

    def _ended(self, reason: Reason | None, found: Counterexample | None = None) -> DeepSearch:
        lower, left = self._front.known(() if self._sharing is None else self._sharing.held)
        proven = ~left if found is None else torch.zeros_like(left)
        upper = self._front.upper if found is None else min(self._front.upper, found.attained)
        return DeepSearch(lower.tolist(), proven.tolist(), upper, found, reason, self._front.nodes)

    @property
    def _lower(self) -> float:
        return min(self._front.lower, math.inf if self._sharing is None else self._sharing.lower)

    # -- with helpers ----------------------------------------------------------------------------------------------

    @property
    def _out(self) -> int:
        """How many cells helpers have."""
        return 0 if self._sharing is None else self._sharing.cells

    def _share(self) -> Counterexample | None:
        if self._sharing is None:
            return None
        # What a cell that goes out comes to at least, where it becomes a root.
        each = 1 if self._record is not None else policy.DEEP_TURN
        return self._sharing.exchange(self._bounded / each / max(self._seconds, 1e-3))

    def open_cells(self) -> int:
        """See `solver.helpers.Frontier`, as for the methods below."""
        return self._front.cells

    def problem(self) -> Parcel:
        assert self._about is not None
        network, region = self._about
        header: dict[str, Any] = {"kind": "problem", "search": "deep", "network": network.sha256}
        header |= {"steps": [self._rows.steps, self._neurons.steps]}
        header |= {"record": self._record is not None and not self._record.full}
        return Parcel(header, root_arrays(self._root), {"query": stated(network, region, self._clauses)})

    def deal(self, hands: int, each: int) -> list[Part[Held]]:
        grown = [tree for tree in self._front.trees if self._record is not None or self._full_grown(tree)]
        return self._front.deal(grown, hands, each)

    def put_back(self, held: Held) -> None:
        self._front.put(*held)

    def merge(self, held: Held, said: Parcel) -> Counterexample | None:
        found = replayed(said, self._attack)
        if found is not None:
            return found
        assert self._about is not None
        self._front.merge(*self._about, held, said)
        return None

    def adopt(self, piece: Parcel) -> None:
        """Begins with the cells of a piece of such a search, in place of the region.

        Raises:
            ParcelError: they are not of such a search.
        """
        assert self._about is not None
        self._front.adopt(*self._about, piece)
        self._planted = True

    def harvest(self, given: int) -> Parcel:
        """What became of ``given`` cells that were adopted."""
        assert self._about is not None
        return self._front.harvest(given, *self._about)

    # -- at home ---------------------------------------------------------------------------------------------------

    def _begin(self) -> Counterexample | None:
        """Bounds the region itself."""
        self._planted = True
        theta = self._root.root.slope.to(torch.float32).expand(len(self._C), -1)
        nothing = torch.full_like(self._front.closed, -torch.inf)
        branch = None if self._record is None else self._record.root
        return self._plant(self._root, 0, theta, nothing, torch.ones_like(nothing, dtype=torch.bool), branch)

    def _full_grown(self, tree: DeepTree) -> bool:
        """Whether a tree's open cells become roots, and are not split below its own."""
        return tree.nodes > policy.DEEP_TURN and self._record is None

    def _grow_root(self, tree: DeepTree) -> Counterexample | None:
        """Makes the weakest cell of a tree the root of one of its own."""
        (cell,) = self._front.take(tree, 1)
        here = Columns(tree.cells.layout, cell.low[None], cell.high[None], cell.phases[None])
        anew = tree.cells.anew(here, self._neurons)
        if self._neurons.stop():
            # What was found in haste would leave all below it with worse bounds.
            self._front.put(tree, [cell])
            return None
        if anew is None:
            return None
        return self._plant(anew, tree.depth + 1, cell.theta, cell.bound, cell.open, cell.branch)

    def _plant(
        self, cells: Recomputed, depth: int, theta: Tensor, bound: Tensor, open_: Tensor, branch: Branch | None
    ) -> Counterexample | None:
        """Begins a tree: slopes for its root ``(R, K)``, and what is known of each clause there ``(clauses,)``."""
        root = cells.root
        columns = Columns(root.layout, root.low.clone(), root.high.clone(), root.phases.clone())
        tree = self._front.plant(cells, depth)
        return self._bound(tree, columns, theta[None].clone(), bound[None], open_[None].clone(), [branch], push=False)

    def _split(self, tree: DeepTree, *, push: bool) -> Counterexample | None:
        """Splits the weakest cells of a tree into two each."""
        K = tree.cells.layout.count
        batch = max(1, min(policy.DEEP_BATCH, policy.DEEP_ENTRIES // (4 * K * K + 1)))
        taken = self._front.take(tree, batch)

        def twice(name: str) -> Tensor:
            return torch.stack([getattr(cell, name) for cell in taken]).repeat_interleave(2, 0)

        low, high, phases, theta = (twice(name) for name in ("low", "high", "phases", "theta"))
        column = torch.tensor([cell.column for cell in taken], device=low.device).repeat_interleave(2)
        at = torch.arange(len(column), device=low.device)
        on = at % 2 == 0
        phases[at, column] = torch.where(on, 1, -1).to(phases)
        if self._record is not None:
            # The checker knows the root's bounds and the phases, not what was found on the cells between.
            low, high = (each.expand_as(low).clone() for each in (tree.cells.root.low, tree.cells.root.high))
            low[phases > 0] = 0
            high[phases < 0] = 0
        low[at[on], column[on]] = 0
        high[at[~on], column[~on]] = 0
        # What was a slope there is a multiplier from now on.
        theta[at, :, column] = 0
        columns = Columns(tree.cells.layout, low, high, phases)
        branches = [branch for cell in taken for branch in self._grow(cell)]
        return self._bound(tree, columns, theta, twice("bound"), twice("open"), branches, push=push)

    def _grow(self, cell: DeepCell) -> tuple[Branch | None, Branch | None]:
        """The children of a cell in the record, phase +1 first."""
        if self._record is None or cell.branch is None:
            return None, None
        return self._record.split(cell.branch, PhaseSplit(*self._root.neuron(cell.column), keep=False))

    def _bound(
        self,
        tree: DeepTree,
        cells: Columns,
        theta: Tensor,
        inherited: Tensor,
        open_: Tensor,
        branches: list[Branch | None],
        *,
        push: bool,
    ) -> Counterexample | None:
        """Bounds new cells, and closes them or keeps them; returns a counterexample if one turned up.

        Args:
            tree: where they belong.
            cells: B cells with their parents' bounds; they are tightened.
            theta: the parents' slopes for each row, shape ``(B, R, K)``.
            inherited: the parents' bounds of the clauses' margins, which hold here too, shape ``(B, clauses)``.
            open_: which clauses are open on the parents, shape ``(B, clauses)``.
            branches: the cells' own in the record.
        """
        self._front.nodes += cells.cells
        self._bounded += cells.cells
        tree.nodes += cells.cells
        traces = tree.cells.bound_neurons(cells)
        empty = (cells.low > cells.high).any(1)
        for i, clause in torch.nonzero(open_ & empty[:, None]).tolist():
            self._claim(branches[i], clause)
        open_ &= ~empty[:, None]
        cell, row = torch.nonzero(open_[:, self._clause], as_tuple=True)
        if not len(cell):
            return None
        found = tree.cells.bound_rows(
            cells, self._C[row], self._offsets[row], cell, self._rows, theta[cell, row].double()
        )
        theta[cell, row] = found.theta
        # A clause holds where one of its rows is positive.
        value = torch.full((cells.cells, len(self._C)), -torch.inf, dtype=torch.float64, device=cell.device)
        value[cell, row] = found.value
        own = torch.full_like(inherited, -torch.inf)
        own.scatter_reduce_(1, self._clause.expand(len(own), -1), value, "amax")
        bound = torch.maximum(own, inherited)
        still = open_ & (bound <= 0)
        for i, clause in torch.nonzero(open_ & ~still).tolist():
            best = int(torch.where(self._clause == clause, value[i], -torch.inf).argmax())
            self._claim(branches[i], clause, best, (theta[i, best], cells.phases[i] == 0))
        proven = torch.where(open_ & ~still, bound, torch.inf)
        self._front.closed = torch.minimum(self._front.closed, proven.amin(0))
        # The weakest clause of a cell, and its best row, say what to split.
        weakest = torch.where(still, bound, torch.inf).argmin(1)
        leading = torch.where(self._clause == weakest[:, None], value, -torch.inf).argmax(1)
        lines = torch.full(value.shape, -1, dtype=torch.int64, device=cell.device)
        lines[cell, row] = torch.arange(len(cell), device=cell.device)
        line = lines[torch.arange(len(lines), device=cell.device), leading]
        importance = tree.cells.importance(cells, found.arriving[line], traces)
        # One more column stands for none.
        score = torch.cat([torch.where(cells.free, importance, -1.0), importance.new_full((cells.cells, 1), -0.5)], 1)
        column = score.argmax(1)
        left = torch.nonzero(still.any(1))[:, 0]
        for i in left.tolist():
            if column[i] == tree.cells.layout.count:
                stuck = torch.where(still[i], bound[i], torch.inf)
                self._front.stuck = torch.minimum(self._front.stuck, stuck)
                continue
            known = cells.low[i], cells.high[i], cells.phases[i], theta[i], bound[i], still[i]
            self._front.put(tree, [DeepCell(*known, int(column[i]), branches[i])])
        if self._attack is None or not len(left):
            return None
        return self._probe(self._attack, found.corner[line[left]], push=push)

    def _claim(
        self, branch: Branch | None, clause: int, row: int | None = None, theta: tuple[Tensor, Tensor] | None = None
    ) -> None:
        """Notes that a clause holds on a cell: by a row, with θ and where that is a slope; or as nothing is there."""
        if self._record is None or self._record.full or branch is None:
            return
        own = torch.nonzero(self._clause == clause)[:, 0].tolist()
        weights = [float(r == (own[0] if row is None else row)) for r in own]
        slopes = None
        if theta is not None:
            values, free = theta
            slopes = torch.stack([values * free, values * ~free]).numpy(force=True)
        self._record.claim(branch, clause, weights, slopes=slopes)

    def _probe(self, attack: Attack, points: Tensor, *, push: bool) -> Counterexample | None:
        """Looks for a violation at the bounds' minimisers; with ``push``, descends from the best of them."""
        output = attack.program.forward(points)
        best = None
        for clause in self._clauses:
            rows = output @ torch.as_tensor(clause.matrix, device=output.device).T
            margin, at = (rows + torch.as_tensor(clause.offsets, device=output.device)).amax(1).min(0)
            if best is None or float(margin) < best[0]:
                best = float(margin), clause, int(at)
        assert best is not None
        if not push and best[0] > 0:
            return None
        outcome = attack.confirm(best[1], points[best[2]].numpy(force=True))
        self._front.upper = min(self._front.upper, outcome.upper)
        return outcome.counterexample
