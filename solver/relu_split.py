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

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bounds import Enclosure
from bounds.phases import Cells
from bounds.program import program
from bounds.reduced import Estimate, Reduced
from bounds.single import box_bounds
from certificates import PhaseSplit
from networks.graph import Network
from networks.property import Clause
from networks.region import Region
from solver import policy
from solver.attack import Attack, AttackResult
from solver.cell_pool import Batch, CellPool
from solver.certify import Branch, Record
from solver.verdict import Counterexample, Reason

if TYPE_CHECKING:
    from solver.leaf import CellProgram, Leaf

__all__ = ["CellSearch", "decide_by_relu_split"]

# Length of the first Adam step; slopes lie in [0, 1], and multipliers are in units of the root's coefficients.
_RATE = 0.2
# Weight of the stronger child's gain beside the weaker one's.
_STRONGER = 0.5
# Every so many batches a descent starts from the best minimiser, even if it violates nothing yet.
_PUSH = 32


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
    coefficients = enclosure.unstable_count * (network.inputs + enclosure.unstable_count)
    if coefficients > policy.BAB_COEFFICIENTS:
        return CellSearch(-math.inf, math.inf, None, Reason.MEMORY, 0)
    return _Search(network, region, enclosure, clause, attack, steps, stop, progress, record).run()


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
        record: Record | None,
    ) -> None:
        self._network = network
        self._region = region
        self._enclosure = enclosure
        self._cells = Cells(program(network), box_bounds(network, region, enclosure))
        self._reduced = Reduced(network, region, enclosure, self._cells, clause)
        self._clause = clause
        self._attack = attack
        self._steps = steps
        self._stop = stop
        self._progress = progress
        self._C = torch.as_tensor(clause.matrix)
        self._offsets = torch.as_tensor(clause.offsets)
        self._rows = len(clause.rows)
        self._record = record
        #: Cells of the record; an open cell knows its own by its number here, the root is the first.
        self._branches: list[Branch] = []
        if record is not None:
            pairs = [self._cells.neuron(column) for column in range(self._cells.columns)]
            record.columns = np.array(pairs, np.int64).reshape(-1, 2)
            self._branches.append(record.root)
        self._open = CellPool(self._cells.columns, self._rows if steps else 0)
        products = self._cells.columns * (network.inputs + self._cells.columns)
        self._batch = max(1, min(policy.BAB_BATCH, policy.BAB_PRODUCTS // max(1, products)))
        self._upper = math.inf
        self._nodes = 0
        self._proven = math.inf  # the weakest bound among closed cells
        self._stuck = math.inf  # the weakest bound among leaves that nothing decides

    @property
    def _lower(self) -> float:
        return min(self._open.lower, self._proven, self._stuck)

    def run(self) -> CellSearch:
        self._plant()
        for turn in itertools.count(1):
            # What holds before cells are taken holds as well if one of them turns out to have a violation.
            lower = self._lower
            if not len(self._open):
                reason = Reason.NUMERICS if self._stuck < math.inf else None
                return CellSearch(lower, self._upper, None, reason, self._nodes)
            reason = self._stop()
            if reason is not None:
                return CellSearch(lower, self._upper, None, reason, self._nodes)
            found = self._expand(self._open.take(self._batch), push=turn % _PUSH == 1)
            if found is not None:
                return CellSearch(lower, found.margin, found, None, self._nodes)
            self._progress(self._lower, self._upper, len(self._open), self._nodes)
        raise AssertionError

    def _plant(self) -> None:
        """Bounds the root with optimised slopes, which every other cell starts from."""
        phases = torch.zeros((1, self._cells.columns), dtype=torch.int8)
        every = torch.arange(self._rows)
        start = phases.expand(self._rows, -1)
        theta = self._reduced.start(start, every)
        if self._cells.columns:
            _, theta = self._reduced.optimise(start, theta, every, steps=policy.BAB_ROOT_STEPS, rate=_RATE)
            self._reduced.settle(theta)
        inherited = torch.full((1,), -torch.inf, dtype=torch.float64)
        self._receive(phases, theta[None], inherited, torch.zeros(1, dtype=torch.int64))

    def _expand(self, batch: Batch, *, push: bool) -> Counterexample | None:
        """Splits cells into two each; returns a counterexample if one turned up."""
        count, rows = len(batch.phases), self._rows
        row = torch.arange(rows).repeat(count)
        phases = batch.phases.repeat_interleave(rows, 0)
        theta = batch.theta.flatten(0, 1) if batch.theta is not None else self._reduced.start(phases, row)
        found = self._reduced.estimate(phases, theta, row)
        # A clause's leading row decides what to split next and where to look.
        leading = found.value.reshape(-1, rows).argmax(1)
        found = found.select(torch.arange(count) * rows + leading)
        outcome = self._probe(found, push=push)
        self._upper = min(self._upper, outcome.upper)
        if outcome.counterexample is not None:
            return outcome.counterexample
        theta = theta.reshape(count, rows, -1)
        score = self._reduced.score(found, batch.phases, theta[torch.arange(count), leading])
        score, columns = score.topk(min(policy.BAB_CANDIDATES, self._cells.columns), dim=1)
        useful = score[:, 0] > 0
        for i in torch.nonzero(~useful)[:, 0].tolist():
            counterexample = self._leaf(batch.phases[i], float(batch.bound[i]), int(batch.branch[i]))
            if counterexample is not None:
                return counterexample
        if not useful.all():
            batch, found, theta = batch.select(useful), found.select(useful), theta[useful]
            score, columns, leading = score[useful], columns[useful], leading[useful]
        if not len(theta):
            return None
        own = theta[torch.arange(len(theta)), leading]
        value = self._reduced.children(found, batch.phases, own, leading, columns)
        # A positive child is closed whatever it gains beyond that; the weaker child matters most.
        gain = value.clamp(max=0)
        merit = gain.amin(-1) + _STRONGER * gain.amax(-1)
        merit[score <= 0] = -torch.inf
        self._divide(batch, theta, columns.gather(1, merit.argmax(1, keepdim=True))[:, 0])
        return None

    def _divide(self, batch: Batch, theta: Tensor, columns: Tensor) -> None:
        """Bounds both children of every cell, split at one column each."""
        children = batch.phases.repeat_interleave(2, 0)
        at = torch.arange(len(children))
        column = columns.repeat_interleave(2)
        children[at, column] = torch.tensor([1, -1], dtype=torch.int8).repeat(len(columns))
        theta = theta.repeat_interleave(2, 0)
        theta[at, :, column] = 0
        if self._steps:
            row = torch.arange(self._rows).repeat(len(children))
            phases = children.repeat_interleave(self._rows, 0)
            _, best = self._reduced.optimise(phases, theta.flatten(0, 1), row, steps=self._steps, rate=_RATE)
            theta = best.reshape(theta.shape)
        self._receive(children, theta, batch.bound.repeat_interleave(2), self._grow(batch.branch, columns))

    def _grow(self, parents: Tensor, columns: Tensor) -> Tensor:
        """Splits cells of the record at one column each; the numbers of their children, phase +1 first."""
        if self._record is None or self._record.full:
            return torch.zeros(2 * len(parents), dtype=torch.int64)
        first = len(self._branches)
        for parent, column in zip(parents.tolist(), columns.tolist(), strict=True):
            split = PhaseSplit(*self._cells.neuron(column))
            self._branches.extend(self._record.split(self._branches[parent], split))
        return torch.arange(first, len(self._branches))

    def _receive(self, phases: Tensor, theta: Tensor, inherited: Tensor, branch: Tensor) -> None:
        """Closes new cells or keeps them.

        Args:
            phases: shape ``(B, K)``.
            theta: their parameters, shape ``(B, rows, K)``.
            inherited: bounds of their parents, which hold for them too, shape ``(B,)``.
            branch: their numbers in the record, shape ``(B,)``.
        """
        self._nodes += len(phases)
        each = phases.repeat_interleave(self._rows, 0)
        alpha, beta = self._reduced.multipliers(each, theta.flatten(0, 1))
        value = self._cells.bound(self._C.repeat(len(phases), 1), each, alpha, beta)
        own, leading = self._margins(value, len(phases))
        bound = torch.maximum(own, inherited)
        closed = bound > 0
        if closed.any():
            self._proven = min(self._proven, float(bound[closed].min()))
            if self._record is not None and not self._record.full:
                for i in torch.nonzero(closed)[:, 0].tolist():
                    line, row = i * self._rows + int(leading[i]), int(leading[i])
                    slopes = torch.stack([alpha[line], beta[line]]).numpy()
                    weights = [float(r == row) for r in range(self._rows)]
                    self._record.claim(self._branches[int(branch[i])], 0, weights, slopes=slopes)
        left = ~closed
        self._open.put(bound[left], phases[left], theta[left], branch[left])

    def _margins(self, value: Tensor, cells: int) -> tuple[Tensor, Tensor]:
        """Lower bounds of the clause's margin, ``(cells,)``, with one more rounding charged; and its best rows."""
        offsets = self._offsets.repeat(cells)
        total = value + offsets - 2.0**-52 * (value.abs() + offsets.abs())
        best = torch.nan_to_num(total, nan=-torch.inf).reshape(cells, -1).max(1)
        return best.values, best.indices

    def _probe(self, found: Estimate, *, push: bool) -> AttackResult:
        """Looks for a violation at the minimisers of the bounds; with ``push``, descends from the best of them."""
        if self._attack is None:
            return AttackResult(None, math.inf, 0)
        margins = self._reduced.margins(found.direction)
        best = int(margins.argmin())
        if push or margins[best] <= 0:
            return self._attack.confirm(self._clause, self._reduced.points(found.direction[best]).numpy())
        return AttackResult(None, math.inf, 0)

    def _leaf(self, phases: Tensor, bound: float, branch: int) -> Counterexample | None:
        """Lets the LP decide a cell, or choose what to split; what floating point cannot decide is stuck."""
        leaf = self._lp.solve(phases.numpy())
        proven = self._prove(leaf, phases)
        if proven > 0:
            self._proven = min(self._proven, proven)
            if self._record is not None and not self._record.full:
                self._record.claim(self._branches[branch], 0, leaf.weights.tolist(), rows=leaf.multipliers)
            return None
        bound = max(bound, proven)
        if leaf.point is not None and self._attack is not None:
            outcome = self._attack.confirm(self._clause, leaf.point)
            self._upper = min(self._upper, outcome.upper)
            if outcome.counterexample is not None:
                return outcome.counterexample
        if len(leaf.loose):
            row = torch.arange(self._rows)
            theta = self._reduced.start(phases.expand(self._rows, -1), row)[None]
            batch = Batch(torch.tensor([bound], dtype=torch.float64), phases[None], theta, torch.tensor([branch]))
            self._divide(batch, theta, torch.as_tensor(leaf.loose[:1]))
        else:
            self._stuck = min(self._stuck, bound)
        return None

    def _prove(self, leaf: Leaf, phases: Tensor) -> float:
        """The rigorous bound that the LP's duals give; where the cell is empty, that of 0·y."""
        weights = torch.as_tensor(leaf.weights)
        chosen = torch.as_tensor(leaf.multipliers)[None]
        value = float(self._cells.bound((weights @ self._C)[None], phases[None], multipliers=chosen))
        offset = float(weights @ self._offsets)
        # Sums of as many terms as the clause has rows, and one more, are rounded.
        return value + offset - (len(weights) + 2) * 2.0**-52 * (abs(value) + float(weights @ self._offsets.abs()))

    @cached_property
    def _lp(self) -> CellProgram:
        from solver.leaf import CellProgram  # SciPy's solvers take half a second to load, and few searches need one

        return CellProgram(self._network, self._region, self._enclosure, self._clause, self._cells)
