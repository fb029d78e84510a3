"""Branch and bound by splitting the input box: the ``bab`` engine for networks with few inputs.

A box is closed when backward linear bounds, recomputed on it, prove every clause there: by one of its rows, or by the
best combination of them with slopes of its own. An open box is first clipped by these bounds (a violation can only lie
where every row of some open clause is at most 0; a linear form over a box gives the clipped end points in closed form),
then halved along the input that promises most (`solver.pseudocosts`). The two halves share the cut exactly, so the
leaves cover the region. In a norm ball, or with constraints, the boxes are parts of the bounding box, and those that
hold no point of the region are closed.

Soundness. Every bound is rigorous in float64 (`bounds.linear`) and clipping rounds outward, so "proven" here rests on
no solver tolerance. Of a part that was clipped away only the sign of the margin is known, so the reported bound of the
margin is then at most 0.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bounds.inside import Inside
from bounds.program import Program
from certificates import BoxSplit
from networks.property import Clause
from networks.region import Region
from solver import policy
from solver.attack import Attack, AttackResult, clause_margins
from solver.box_bounds import Bounded, Bounder
from solver.box_record import Notes
from solver.boxes import Box, Pool
from solver.certify import Branch, Record
from solver.conjunction import Rows
from solver.population import Population
from solver.pseudocosts import Pseudocosts
from solver.verdict import Counterexample, Reason

__all__ = ["SplitResult", "decide_by_input_split"]


@dataclass(frozen=True, eq=False)
class SplitResult:
    """What the search found.

    Attributes:
        lower: proven lower bound of the margin over the region, for the clauses searched; 0 where only the sign is
            known.
        upper: smallest replayed margin.
        counterexample: a replayed violation, if one was found.
        reason: why the search stopped undecided; None when it decided.
        boxes: boxes bounded.
    """

    lower: float
    upper: float
    counterexample: Counterexample | None
    reason: Reason | None
    boxes: int


def decide_by_input_split(
    program: Program,
    region: Region,
    clauses: Sequence[Clause],
    attack: Attack | None,
    *,
    stop: Callable[[], Reason | None],
    progress: Callable[[float, float, int, int], None],
    record: Record | None = None,
    threads: int = 1,
) -> SplitResult:
    """Proves the clauses on the region, or finds a counterexample, or runs until ``stop``.

    Args:
        program: the compiled network, float64.
        region: the input region.
        clauses: the clauses still open.
        attack: confirms points where the network itself violates a clause; None where none are tried.
        stop: asked between batches; a reason ends the search.
        progress: told (lower, upper, open boxes, boxes so far) after each batch.
        record: notes the tree for a certificate.
        threads: cores to bound boxes on.
    """
    rows = Rows.of(clauses)
    if record is not None and rows.several.any():
        neurons = [(node, j) for node in program.relus for j in range(program.features[node])]
        record.columns = np.array(neurons, np.int64).reshape(-1, 2)
    with ThreadPoolExecutor(threads, thread_name_prefix="boxes") as executor:
        bounder = Bounder(program, rows, executor, threads, Inside.of(region))
        return _search(bounder, region, clauses, attack, stop, progress, record)


def _search(
    bounder: Bounder,
    region: Region,
    clauses: Sequence[Clause],
    attack: Attack | None,
    stop: Callable[[], Reason | None],
    progress: Callable[[float, float, int, int], None],
    record: Record | None,
) -> SplitResult:
    program = bounder.program
    cuts = Pseudocosts(len(region.lower))
    pool = Pool()
    population = Population(attack, clauses) if attack is not None else None
    proven = math.inf  # the weakest bound among closed boxes
    stuck = math.inf  # the weakest bound among boxes that are too small to halve
    upper = math.inf
    relus = sum(program.features[node] for node in program.relus)
    whole = Box(
        region.lower,
        region.upper,
        np.ones(len(clauses), dtype=bool),
        np.zeros(relus, dtype=np.int8),
        np.zeros(len(region.lower)),
        branch=record.root if record is not None else None,
    )
    trials = _Trials.root(whole)
    boxes, room = 0, 1
    for round_number in itertools.count():
        began = time.perf_counter()
        bounded = bounder.bound(trials.boxes, nested=record is None)
        boxes += len(trials.boxes)
        # As many at once as pay, but stop() is to be asked now and then.
        pace = len(trials.boxes) / max(time.perf_counter() - began, 1e-9)
        room = max(2, min(policy.BOX_BATCH, 4 * room, int(policy.BOX_SECONDS * pace)))
        kept, branches = trials.settle(cuts, bounded, record)
        if record is not None and not record.full:
            branches = Notes(record, bounder.rows, bounded).write(branches)
        proven = min(proven, float(bounded.closed[kept].min()))
        left = kept[bounded.open[kept].any(-1)]
        for b in left.tolist():
            pool.put(bounded.box(b, branches[b]))
        lower = min(pool.weakest, proven, stuck)
        if attack is not None and population is not None and len(left):
            outcome = _probe(attack, program, clauses, bounded, left, push=round_number % 16 == 0)
            if outcome.counterexample is None:
                upper = min(upper, outcome.upper)
                outcome = population.evolve(policy.POPULATION_SHARE * len(trials.boxes))
            upper = min(upper, outcome.upper)
            if outcome.counterexample is not None:
                return SplitResult(lower, outcome.upper, outcome.counterexample, None, boxes)
        progress(lower, upper, len(pool), boxes)
        trials = _Trials((), np.zeros(0, np.intp), np.zeros(0, np.intp), ())
        while not trials.boxes:
            if not pool:
                lower = min(proven, stuck)
                return SplitResult(lower, upper, None, Reason.NUMERICS if stuck < math.inf else None, boxes)
            reason = stop()
            if reason is not None:
                return SplitResult(min(pool.weakest, proven, stuck), upper, None, reason, boxes)
            batch = pool.take(room // 2)
            trials = _Trials.of(batch, *cuts.choose(*_stacked(batch)))
            uncut = np.setdiff1d(np.arange(len(batch)), trials.box)
            stuck = min([stuck, *(batch[b].bound for b in uncut.tolist())])
    raise AssertionError


def _stacked(batch: Sequence[Box]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """End points and scores of boxes that were bounded, each of shape ``(B, inputs)``."""
    return (
        np.stack([box.lower for box in batch]),
        np.stack([box.upper for box in batch]),
        np.stack([box.score for box in batch]),
    )


@dataclass(frozen=True, eq=False)
class _Trials:
    """Boxes to bound together: both halves of each of K cuts that are tried on the boxes of a batch.

    Attributes:
        batch: the boxes that are cut; none where the region itself is to be bounded.
        box, entry: for each cut its box and its input, shape ``(K,)``.
        boxes: what to bound.
    """

    batch: Sequence[Box]
    box: NDArray[np.intp]
    entry: NDArray[np.intp]
    boxes: Sequence[Box]

    @classmethod
    def root(cls, whole: Box) -> _Trials:
        return cls((), np.zeros(0, np.intp), np.zeros(0, np.intp), (whole,))

    @classmethod
    def of(cls, batch: Sequence[Box], box: NDArray[np.intp], entry: NDArray[np.intp]) -> _Trials:
        pairs = zip(box.tolist(), entry.tolist(), strict=True)
        return cls(batch, box, entry, [batch[b].half(j, high=high) for b, j in pairs for high in (False, True)])

    def settle(
        self, cuts: Pseudocosts, bounded: Bounded, record: Record | None
    ) -> tuple[NDArray[np.intp], list[Branch | None]]:
        """Decides which cuts to make; returns the boxes that stay, and for all boxes the cells of these."""
        if not self.batch:
            return np.zeros(1, np.intp), [self.boxes[0].branch]
        before = np.array([each.bound for each in self.batch])
        with np.errstate(invalid="ignore"):
            rise = np.minimum(bounded.worst, 0).reshape(-1, 2) - before[self.box, None]
            gain = np.nan_to_num(rise.clip(min=0).sum(1) / -before[self.box], posinf=0)
        best = cuts.best(self.box, self.entry, gain, _stacked(self.batch)[2])
        branches: list[Branch | None] = [None] * len(self.boxes)
        for k in best.tolist():
            cell, j = self.batch[self.box[k]].branch, int(self.entry[k])
            if cell is not None and record is not None and not record.full:
                at = float(self.boxes[2 * k + 1].lower[j])
                branches[2 * k], branches[2 * k + 1] = record.split(cell, BoxSplit(j, at))
        return np.sort(np.concatenate([2 * best, 2 * best + 1])), branches


def _probe(
    attack: Attack,
    program: Program,
    clauses: Sequence[Clause],
    bounded: Bounded,
    left: NDArray[np.intp],
    *,
    push: bool,
) -> AttackResult:
    """Looks for a violation at the open boxes' corners and middles; with ``push``, descends from the best of them."""
    low, high = bounded.after
    points = np.concatenate([bounded.corner[left], (low[left] + high[left]) / 2])
    with torch.no_grad():
        margins = clause_margins(clauses, program.forward(torch.as_tensor(points))).numpy()
    if np.isnan(margins).all():
        return AttackResult(None, math.inf, 0)
    point, clause = np.unravel_index(np.nanargmin(margins), margins.shape)
    if push or margins[point, clause] <= 0:
        return attack.confirm(clauses[int(clause)], points[point])
    return AttackResult(None, math.inf, 0)
