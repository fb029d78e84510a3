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
from networks.graph import Network
from networks.property import Clause
from networks.region import Region
from solver.attack import Attack, AttackResult, clause_margins
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
    """

    phases: NDArray[np.int8]
    candidates: NDArray[np.int64]
    alpha: Tensor | None
    beta: Tensor | None


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
    """
    return _Search(network, region, enclosure, clause, attack, steps, stop, progress).run()


@dataclass(frozen=True, eq=False)
class _Children:
    """New cells: phases ``(B, K)``, and the multipliers to start from, ``(B, rows, K)``."""

    phases: Tensor
    alpha: Tensor | None
    beta: Tensor | None

    def select(self, rows: Tensor) -> _Children:
        return _Children(
            self.phases[rows],
            self.alpha[rows] if self.alpha is not None else None,
            self.beta[rows] if self.beta is not None else None,
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
        found = self._receive(_Children(root, None, None))
        for turn in itertools.count(1):
            if found is not None:
                return CellSearch(self._lower, found.margin, found, None, self._nodes)
            if not self._heap:
                reason = Reason.NUMERICS if self._stuck < math.inf else None
                return CellSearch(self._lower, self._upper, None, reason, self._nodes)
            reason = self._stop()
            if reason is not None:
                return CellSearch(self._lower, self._upper, None, reason, self._nodes)
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
            return children
        value = self._margins(self._bound(children).value, len(phases)).reshape(-1, 2)
        # A positive child is closed whatever it gains beyond that; the weaker child matters most.
        gain = value.clamp(max=0)
        merit = (gain.amin(1) + 0.1 * gain.amax(1)).tolist()
        best: dict[int, int] = {}
        for t, (i, _) in enumerate(tried):
            if i not in best or merit[t] > merit[best[i]]:
                best[i] = t
        picked = torch.as_tensor([2 * t + side for t in best.values() for side in (0, 1)])
        return children.select(picked)

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
                )
                continue
            found = self._leaf(phases[i], float(margins[i]))
            if found is not None:
                return found
        return None

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

    def _leaf(self, phases: Tensor, bound: float) -> Counterexample | None:
        """Lets the LP decide a cell, or choose what to split; what floating point cannot decide is stuck."""
        leaf = self._lp.solve(phases.numpy())
        proven = self._prove(leaf, phases)
        if proven > 0:
            self._proven = min(self._proven, proven)
            return None
        bound = max(bound, proven)
        if leaf.point is not None:
            outcome = self._probe(torch.as_tensor(leaf.point)[None], push=True)
            self._upper = min(self._upper, outcome.upper)
            if outcome.counterexample is not None:
                return outcome.counterexample
        if len(leaf.loose):
            self._keep(bound, phases, leaf.loose[:_CANDIDATES], None, None)
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
        self, bound: float, phases: Tensor, candidates: NDArray[np.int64], alpha: Tensor | None, beta: Tensor | None
    ) -> None:
        cell = _Cell(phases.numpy(), candidates, alpha, beta)
        heapq.heappush(self._heap, (bound, next(self._ticket), cell))

    @cached_property
    def _lp(self) -> CellProgram:
        from solver.leaf import CellProgram  # brings SciPy, which most searches end without

        return CellProgram(self._network, self._region, self._enclosure, self._clause, self._cells)
