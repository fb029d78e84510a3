"""Branch and bound by splitting ReLUs: the ``bab`` engine for networks with many inputs.

A cell chooses a phase (z ≥ 0 or z ≤ 0) for some of the ReLUs that are unstable at the root; the two children of a cell
share the face z = 0, so the leaves cover the region. A cell is closed when its lower bound (`bounds.phases`) is
positive. The ReLU to split is chosen by strong branching over a short list: the columns that loosen the bound most are
tried, both children of each are bounded, and the column whose children gain most is taken (Bunel et al. 2020; De Palma
et al. 2021). Where no relaxation loosens the bound, only multipliers of chosen phases can improve it: there an LP
(`solver.leaf`) closes the cell or says what to split, so the search is complete.

Soundness. Cells are closed by rigorous float64 bounds only. The LP's duals are multipliers for such a bound; its
verdict itself is never used.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds import Enclosure
from bounds.phases import CellBounds, Cells
from bounds.program import program
from bounds.single import box_bounds
from certificates import PhaseSplit
from networks.graph import Network
from networks.property import Clause
from networks.region import Region
from solver.attack import Attack, AttackResult, clause_margins
from solver.certify import Branch, Record
from solver.verdict import Counterexample, Reason

if TYPE_CHECKING:
    from solver.leaf import CellProgram, Leaf

__all__ = ["CellSearch", "decide_by_relu_split"]

_BATCH = 32
_CANDIDATES = 6
# Above this many open cells the search goes depth first, so memory stays bounded.
_POOL = 100_000


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


@dataclass(frozen=True, eq=False)
class _Cell:
    """An open cell.

    Attributes:
        phases: int8, shape ``(K,)``.
        candidates: the columns to try next, best first.
        alpha, beta: the multipliers that its bound was found with, one line for each row of the clause, float32
            ``(rows, K)``; children start from them.
        branch: the cell in the record, if there is one.
    """

    phases: NDArray[np.int8]
    candidates: NDArray[np.int64]
    alpha: Tensor | None
    beta: Tensor | None
    branch: Branch | None = None


def decide_by_relu_split(
    network: Network,
    region: Region,
    enclosure: Enclosure,
    clause: Clause,
    attack: Attack | None,
    *,
    steps: int,
    stop: Callable[[], Reason | None],
    progress: Callable[[float, float, int, int], None],
    record: Record | None = None,
) -> CellSearch:
    """Proves one clause on the region of ``bounds``, or finds a counterexample, or runs until ``stop``.

    Args:
        network: the network.
        region: the input region.
        enclosure: root bounds of every ReLU.
        clause: the clause.
        attack: confirms points where the network violates the clause; None if the region holds no float32 point.
        steps: Adam steps on each new cell's multipliers; 0 keeps the default slopes.
        stop: asked between batches; a reason ends the search.
        progress: told (lower, upper, open cells, cells so far) after each batch.
        record: notes the tree for a certificate; ``enclosure`` must then be what default slopes give.
    """
    return _Search(network, region, enclosure, clause, attack, steps, stop, progress, record).run()


@dataclass(frozen=True, eq=False)
class _Children:
    """New cells: phases ``(B, K)``, the multipliers to start from, ``(B, rows, K)``, and the cells in the record."""

    phases: Tensor
    alpha: Tensor | None
    beta: Tensor | None
    branches: Sequence[Branch] | None = None

    def select(self, rows: Tensor, branches: Sequence[Branch] | None) -> _Children:
        return _Children(
            self.phases[rows],
            self.alpha[rows] if self.alpha is not None else None,
            self.beta[rows] if self.beta is not None else None,
            branches,
        )


def _stack(parts: Sequence[Tensor | None]) -> Tensor | None:
    some = [part for part in parts if part is not None]
    return torch.stack(some) if len(some) == len(parts) else None


class _Search:
    def __init__(
        self,
        network: Network,
        region: Region,
        enclosure: Enclosure,
        clause: Clause,
        attack: Attack | None,
        steps: int,
        stop: Callable[[], Reason | None],
        progress: Callable[[float, float, int, int], None],
        record: Record | None = None,
    ) -> None:
        self._network = network
        self._region = region
        self._enclosure = enclosure
        self._program = program(network)
        self._cells = Cells(self._program, box_bounds(network, region, enclosure))
        self._clause = clause
        self._attack = attack
        self._steps = steps
        self._stop = stop
        self._progress = progress
        self._record = record
        if record is not None:
            pairs = [self._cells.neuron(column) for column in range(self._cells.columns)]
            record.columns = np.array(pairs, np.int64).reshape(-1, 2)
        self._C = torch.as_tensor(clause.matrix)
        self._offsets = torch.as_tensor(clause.offsets)
        self._heap: list[tuple[float, int, _Cell]] = []
        self._ticket = itertools.count()
        self._upper = math.inf
        self._nodes = 0
        self._proven = math.inf  # the weakest bound among closed cells
        self._stuck = math.inf  # the weakest bound among leaves that nothing decides

    @property
    def _lower(self) -> float:
        return min(self._heap[0][0] if self._heap else math.inf, self._proven, self._stuck)

    def run(self) -> CellSearch:
        root = torch.zeros((1, self._cells.columns), dtype=torch.int8)
        # What held before the cells in hand were taken holds as well if one of them has a violation.
        lower = -math.inf
        found = self._receive(_Children(root, None, None, [self._record.root] if self._record else None))
        for turn in itertools.count(1):
            if found is not None:
                return CellSearch(lower, found.margin, found, None, self._nodes)
            lower = self._lower
            if not self._heap:
                reason = Reason.NUMERICS if self._stuck < math.inf else None
                return CellSearch(lower, self._upper, None, reason, self._nodes)
            reason = self._stop()
            if reason is not None:
                return CellSearch(lower, self._upper, None, reason, self._nodes)
            found = self._receive(self._split(self._take()), push=turn % 32 == 0)
            self._progress(self._lower, self._upper, len(self._heap), self._nodes)
        raise AssertionError

    def _take(self) -> list[_Cell]:
        many = len(self._heap) > _POOL
        # The last entry of a heap is a leaf, so popping it keeps the heap in order.
        return [
            (self._heap.pop() if many else heapq.heappop(self._heap))[2] for _ in range(min(_BATCH, len(self._heap)))
        ]

    def _split(self, cells: Sequence[_Cell]) -> _Children:
        """The children that strong branching chooses, two for each cell."""
        tried = [(i, int(column)) for i, cell in enumerate(cells) for column in cell.candidates]
        parents = torch.as_tensor(np.stack([cell.phases for cell in cells]))
        owner = torch.as_tensor([i for i, _ in tried]).repeat_interleave(2)
        columns = torch.as_tensor([column for _, column in tried]).repeat_interleave(2)
        phases = parents[owner]
        phases[torch.arange(len(phases)), columns] = torch.tensor([1, -1], dtype=torch.int8).repeat(len(tried))
        alpha, beta = _stack([cell.alpha for cell in cells]), _stack([cell.beta for cell in cells])
        children = _Children(
            phases,
            alpha[owner] if alpha is not None else None,
            beta[owner] if beta is not None else None,
        )
        if len(tried) == len(cells):
            return children.select(torch.arange(len(phases)), self._grown(cells, [column for _, column in tried]))
        value = self._margins(self._bound(children).value, len(phases)).reshape(-1, 2)
        # A positive child is closed whatever it gains beyond that; the weaker child matters most.
        gain = value.clamp(max=0)
        merit = (gain.amin(1) + 0.1 * gain.amax(1)).tolist()
        best: dict[int, int] = {}
        for t, (i, _) in enumerate(tried):
            if i not in best or merit[t] > merit[best[i]]:
                best[i] = t
        picked = torch.as_tensor([2 * t + side for t in best.values() for side in (0, 1)])
        return children.select(picked, self._grown(cells, [tried[t][1] for t in best.values()]))

    def _grown(self, cells: Sequence[_Cell], columns: Sequence[int]) -> list[Branch] | None:
        """The cells' children in the record, in the order of `_split`."""
        if self._record is None or self._record.full:
            return None
        out: list[Branch] = []
        for cell, column in zip(cells, columns, strict=True):
            assert cell.branch is not None
            out += self._record.split(cell.branch, PhaseSplit(*self._cells.neuron(column)))
        return out

    def _receive(self, children: _Children, *, push: bool = True) -> Counterexample | None:
        """Bounds new cells, closes, keeps or decides each; returns a counterexample if one turned up."""
        phases = children.phases
        self._nodes += len(phases)
        bound = self._bound(children, steps=self._steps)
        rows = len(self._offsets)
        margins = self._margins(bound.value, len(phases))
        # A clause's leading row decides what to split next and where to look.
        leading = (bound.value + self._offsets.repeat(len(phases))).reshape(-1, rows).argmax(1)
        at = torch.arange(len(phases)) * rows + leading
        is_open = ~(margins > 0)
        if (~is_open).any():
            self._proven = min(self._proven, float(margins[~is_open].min()))
        branches: Sequence[Branch | None] = children.branches or [None] * len(phases)
        for i in torch.nonzero(~is_open)[:, 0].tolist():
            self._note(branches[i], bound, int(at[i]), int(leading[i]))
        left = torch.nonzero(is_open)[:, 0]
        if not len(left):
            return None
        outcome = self._probe(bound.minimiser[at[left]], push=push)
        self._upper = min(self._upper, outcome.upper)
        if outcome.counterexample is not None:
            return outcome.counterexample
        score, columns = bound.score[at[left]].topk(min(_CANDIDATES, self._cells.columns), dim=1)
        alpha = bound.alpha.to(torch.float32) if bound.alpha is not None else None
        beta = bound.beta.to(torch.float32) if bound.beta is not None else None
        for i, weight, candidates in zip(left.tolist(), score, columns, strict=True):
            useful = candidates[weight > 0]
            if len(useful):
                mine = slice(i * rows, (i + 1) * rows)
                self._keep(
                    float(margins[i]),
                    phases[i],
                    useful.numpy(),
                    alpha[mine].clone() if alpha is not None else None,
                    beta[mine].clone() if beta is not None else None,
                    branches[i],
                )
                continue
            found = self._leaf(phases[i], float(margins[i]), branches[i])
            if found is not None:
                return found
        return None

    def _note(self, branch: Branch | None, bound: CellBounds, line: int, row: int) -> None:
        """Records that a row proves the clause on a cell."""
        if self._record is None or branch is None:
            return
        weights = [float(r == row) for r in range(len(self._offsets))]
        slopes = None
        if bound.alpha is not None and bound.beta is not None:
            slopes = torch.stack([bound.alpha[line], bound.beta[line]]).numpy()
        self._record.claim(branch, 0, weights, slopes=slopes)

    def _bound(self, children: _Children, *, steps: int = 0) -> CellBounds:
        """Bounds of every row of the clause on every cell, cell by cell."""
        rows, count = len(self._offsets), len(children.phases)
        C = self._C.repeat(count, 1)
        phases = children.phases.repeat_interleave(rows, 0)
        alpha = children.alpha.flatten(0, 1).to(C.dtype) if children.alpha is not None else None
        beta = children.beta.flatten(0, 1).to(C.dtype) if children.beta is not None else None
        if not steps:
            return self._cells.bound(C, phases, alpha, beta)
        offsets = self._offsets.repeat(count)
        return self._cells.optimise(C, phases, offsets, steps=steps, rate=0.1, alpha=alpha, beta=beta)

    def _margins(self, value: Tensor, cells: int) -> Tensor:
        """Lower bounds of the clause's margin, ``(cells,)``: its best row, with one more rounding charged."""
        offsets = self._offsets.repeat(cells)
        total = value + offsets - 2.0**-52 * (value.abs() + offsets.abs())
        return torch.nan_to_num(total, nan=-torch.inf).reshape(cells, -1).amax(1)

    def _probe(self, points: Tensor, *, push: bool) -> AttackResult:
        """Looks for a violation at the minimisers of the bounds; with ``push``, descends from the best of them."""
        if self._attack is None:
            return AttackResult(None, math.inf, 0)
        with torch.no_grad():
            margins = clause_margins([self._clause], self._program.forward(points))[:, 0]
        best = int(margins.argmin())
        if push or margins[best] <= 0:
            return self._attack.confirm(self._clause, points[best].numpy())
        return AttackResult(None, math.inf, 0)

    def _leaf(self, phases: Tensor, bound: float, branch: Branch | None) -> Counterexample | None:
        """Lets the LP decide a cell, or choose what to split; what floating point cannot decide is stuck."""
        leaf = self._lp.solve(phases.numpy())
        proven = self._prove(leaf, phases)
        if proven > 0:
            self._proven = min(self._proven, proven)
            if self._record is not None and branch is not None:
                self._record.claim(branch, 0, leaf.weights.tolist(), rows=leaf.multipliers)
            return None
        bound = max(bound, proven)
        if leaf.point is not None:
            outcome = self._probe(torch.as_tensor(leaf.point)[None], push=True)
            self._upper = min(self._upper, outcome.upper)
            if outcome.counterexample is not None:
                return outcome.counterexample
        if len(leaf.loose):
            self._keep(bound, phases, leaf.loose[:_CANDIDATES], None, None, branch)
        else:
            self._stuck = min(self._stuck, bound)
        return None

    def _prove(self, leaf: Leaf, phases: Tensor) -> float:
        """The rigorous bound that the LP's duals give; where the cell is empty, that of 0·y."""
        weights = torch.as_tensor(leaf.weights)
        chosen = torch.as_tensor(leaf.multipliers)[None]
        value = float(self._cells.bound((weights @ self._C)[None], phases[None], multipliers=chosen).value)
        offset = float(weights @ self._offsets)
        # Sums of as many terms as the clause has rows, and one more, are rounded.
        return value + offset - (len(weights) + 2) * 2.0**-52 * (abs(value) + float(weights @ self._offsets.abs()))

    def _keep(
        self,
        bound: float,
        phases: Tensor,
        candidates: NDArray[np.int64],
        alpha: Tensor | None,
        beta: Tensor | None,
        branch: Branch | None,
    ) -> None:
        cell = _Cell(phases.numpy(), candidates, alpha, beta, branch)
        heapq.heappush(self._heap, (bound, next(self._ticket), cell))

    @cached_property
    def _lp(self) -> CellProgram:
        from solver.leaf import CellProgram  # brings SciPy, which most searches end without

        return CellProgram(self._network, self._region, self._enclosure, self._clause, self._cells)
