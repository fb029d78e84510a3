"""Branch and bound by splitting the input box: the ``bab`` engine for networks with few inputs.

A box is closed when backward linear bounds, recomputed on it, prove every clause there: by one of its rows, or by the
best combination of them with slopes of its own. An open box is first clipped by these bounds (a violation can only lie
where every row of some open clause is at most 0; a linear form over a box gives the clipped end points in closed form),
then halved along the input that promises most (`solver.pseudocosts`). The two halves share the cut exactly, so the
leaves cover the region.

Soundness. Every bound is rigorous in float64 (`bounds.linear`) and clipping rounds outward, so "proven" here rests on
no solver tolerance. Of a part that was clipped away only the sign of the margin is known, so the reported bound of the
margin is then at most 0.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.ascent import Ascent
from bounds.groups import Groups
from bounds.linear import BoxBounds, LinearBound, backward_pass, enclose, specification_bounds
from bounds.program import Program
from certificates import BoxSplit
from networks.property import Clause
from networks.region import Region
from solver import policy
from solver.attack import Attack, AttackResult, clause_margins
from solver.certify import Branch, Record
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


@dataclass(frozen=True, eq=False)
class _Rows:
    """All clauses' rows in one matrix; ``clause[r]`` is the clause that row r belongs to."""

    C: Tensor
    offsets: Tensor
    clause: Tensor

    @classmethod
    def of(cls, clauses: Sequence[Clause]) -> _Rows:
        return cls(
            torch.as_tensor(np.concatenate([c.matrix for c in clauses])),
            torch.as_tensor(np.concatenate([c.offsets for c in clauses])),
            torch.as_tensor([i for i, c in enumerate(clauses) for _ in c.rows]),
        )

    def unit(self, row: int) -> list[float]:
        """Weights of the rows of this row's clause: 1 for itself, 0 for the others."""
        first, count = int((self.clause < self.clause[row]).sum()), int((self.clause == self.clause[row]).sum())
        return [float(first + i == row) for i in range(count)]


@dataclass(frozen=True, eq=False)
class _Box:
    """A box: its end points, the clauses open on it, what is known of the ReLUs, and its cell in the record.

    ``phases`` has one entry for each ReLU, node after node: 1 where it is active on the whole box, -1 where inactive, 0
    where nothing is known. Signs that a box has inherited need no bounds of their own, and cost a byte where bounds
    would cost sixteen. ``score`` says how much the linear bounds of the open rows vary along each input.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    open: NDArray[np.bool_]
    phases: NDArray[np.int8]
    score: NDArray[np.float64]
    bound: float = -math.inf
    branch: Branch | None = None

    def half(self, entry: int, *, high: bool) -> _Box:
        """One of the halves along an input, with nothing more known about it."""
        middle = self.lower[entry] + (self.upper[entry] - self.lower[entry]) / 2
        end = (self.lower if high else self.upper).copy()
        end[entry] = middle
        low, high_end = (end, self.upper) if high else (self.lower, end)
        return replace(self, lower=low, upper=high_end, branch=None)


class _Pool:
    """Open boxes, the weakest bound first; depth first once there are too many."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Box]] = []
        self._ticket = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def weakest(self) -> float:
        return self._heap[0][0] if self._heap else math.inf

    def put(self, box: _Box) -> None:
        heapq.heappush(self._heap, (box.bound, next(self._ticket), box))

    def take(self, count: int) -> list[_Box]:
        many = len(self._heap) > policy.BOX_POOL
        # The last entry of a heap is a leaf, so popping it keeps the heap in order.
        return [
            (self._heap.pop() if many else heapq.heappop(self._heap))[2] for _ in range(min(count, len(self._heap)))
        ]


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
        attack: confirms points where the network itself violates a clause; None if the region holds no float32 point.
        stop: asked between batches; a reason ends the search.
        progress: told (lower, upper, open boxes, boxes so far) after each batch.
        record: notes the tree for a certificate.
        threads: cores to bound boxes on.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="boxes") as executor:
        return _search(
            _Bounder(program, _Rows.of(clauses), executor, threads), region, clauses, attack, stop, progress, record
        )


def _search(
    bounder: _Bounder,
    region: Region,
    clauses: Sequence[Clause],
    attack: Attack | None,
    stop: Callable[[], Reason | None],
    progress: Callable[[float, float, int, int], None],
    record: Record | None,
) -> SplitResult:
    program = bounder.program
    cuts = Pseudocosts(len(region.lower))
    pool = _Pool()
    population = Population(attack, clauses) if attack is not None else None
    proven = math.inf  # the weakest bound among closed boxes
    stuck = math.inf  # the weakest bound among boxes that are too small to halve
    upper = math.inf
    relus = sum(program.features[node] for node in program.relus)
    whole = _Box(
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
            branches = _Notes(record, bounder.rows, bounded).write(branches)
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
            batch = pool.take(max(1, room // (2 * cuts.trials) if cuts.learning else room // 2))
            trials = _Trials.of(batch, *cuts.choose(*_stacked(batch)))
            uncut = np.setdiff1d(np.arange(len(batch)), trials.box)
            stuck = min([stuck, *(batch[b].bound for b in uncut.tolist())])
    raise AssertionError


def _stacked(batch: Sequence[_Box]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
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

    batch: Sequence[_Box]
    box: NDArray[np.intp]
    entry: NDArray[np.intp]
    boxes: Sequence[_Box]

    @classmethod
    def root(cls, whole: _Box) -> _Trials:
        return cls((), np.zeros(0, np.intp), np.zeros(0, np.intp), (whole,))

    @classmethod
    def of(cls, batch: Sequence[_Box], box: NDArray[np.intp], entry: NDArray[np.intp]) -> _Trials:
        pairs = zip(box.tolist(), entry.tolist(), strict=True)
        return cls(batch, box, entry, [batch[b].half(j, high=high) for b, j in pairs for high in (False, True)])

    def settle(
        self, cuts: Pseudocosts, bounded: _Bounded, record: Record | None
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


@dataclass(frozen=True, eq=False)
class _Bounded:
    """A batch of B boxes after bounding and clipping.

    Attributes:
        before, after: lower and upper end points before and after clipping, shape ``(B, inputs)`` each.
        value: lower bound of each clause's margin on each box, shape ``(B, clauses)``.
        open: which clauses are still open, shape ``(B, clauses)``.
        closed: for each box the weakest bound among the clauses closed here, shape ``(B,)``.
        corner: for each box, where the weakest row's linear bound is smallest, shape ``(B, inputs)``.
        score: how much the open rows' linear bounds vary along each input, shape ``(B, inputs)``.
        phases: what the bounds show of the ReLUs, shape ``(B, relus)``.
        rows: the rows that were bounded.
    """

    before: tuple[NDArray[np.float64], NDArray[np.float64]]
    after: tuple[NDArray[np.float64], NDArray[np.float64]]
    value: NDArray[np.float64]
    open: NDArray[np.bool_]
    closed: NDArray[np.float64]
    corner: NDArray[np.float64]
    score: NDArray[np.float64]
    phases: NDArray[np.int8]
    rows: _BoundedRows

    @classmethod
    def join(cls, parts: Sequence[_Bounded]) -> _Bounded:
        """The boxes of all parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        first = np.cumsum([0, *(len(part.value) for part in parts)]).tolist()
        rows = [part.rows for part in parts]
        return cls(
            (np.concatenate([p.before[0] for p in parts]), np.concatenate([p.before[1] for p in parts])),
            (np.concatenate([p.after[0] for p in parts]), np.concatenate([p.after[1] for p in parts])),
            np.concatenate([p.value for p in parts]),
            np.concatenate([p.open for p in parts]),
            np.concatenate([p.closed for p in parts]),
            np.concatenate([p.corner for p in parts]),
            np.concatenate([p.score for p in parts]),
            np.concatenate([p.phases for p in parts]),
            _BoundedRows(
                torch.cat([r.box + begin for r, begin in zip(rows, first, strict=False)]),
                torch.cat([r.row for r in rows]),
                torch.cat([r.value for r in rows]),
                _Reach(torch.cat([r.reach.low for r in rows]), torch.cat([r.reach.high for r in rows])),
            ),
        )

    @cached_property
    def worst(self) -> NDArray[np.float64]:
        """The weakest bound among the clauses still open on each box, shape ``(B,)``."""
        worst: NDArray[np.float64] = np.where(self.open, self.value, np.inf).min(-1)
        return worst

    def box(self, b: int, branch: Branch | None) -> _Box:
        """A box that is still open; copies, as views would keep the whole batch."""
        low, high = self.after
        return _Box(
            low[b].copy(),
            high[b].copy(),
            self.open[b].copy(),
            self.phases[b].copy(),
            self.score[b].copy(),
            float(self.worst[b]),
            branch,
        )


@dataclass(frozen=True, eq=False)
class _BoundedRows:
    """R rows of clauses that were bounded on boxes.

    Attributes:
        box, row: the box and the row of each, shape ``(R,)``.
        value: its lower bound, shape ``(R,)``.
        reach: where it can be at most 0.
    """

    box: Tensor
    row: Tensor
    value: Tensor
    reach: _Reach


def _together(program: Program, rows: _Rows, bounds: BoxBounds, is_open: Tensor) -> tuple[LinearBound, Tensor | None]:
    """Bounds of the best convex combinations of clauses' rows on boxes where the clauses are open.

    A violation has every row of a clause at most 0, so also each combination with weights w ≥ 0. Weights and lower
    slopes climb side by side; both are data, so whatever they are, the bound holds.

    Returns:
        The bounds, offsets and all rounding included, and the box and the clause of each, shape ``(P, 2)``; None where
        no open clause has several rows.
    """
    several = torch.bincount(rows.clause, minlength=is_open.shape[1]) > 1
    pair = torch.nonzero(is_open & several)
    nothing = torch.zeros(0, dtype=rows.C.dtype)
    if not len(pair) or not program.relus:
        return LinearBound(nothing, nothing, nothing), None
    box, last = pair[:, 0], len(program.steps) - 1
    frame = Groups(box, 1)
    widths = [program.features[node] for node in program.relus]
    slopes = torch.cat([bounds.relaxation(node).dense[2] for node in program.relus], 1)[box]
    logits = torch.where(rows.clause == pair[:, 1:], 0.0, -torch.inf).to(rows.C.dtype)

    def bound(weights: Tensor, alpha: Tensor) -> LinearBound:
        parts = dict(zip(program.relus, torch.split(alpha, widths, 1), strict=True))
        return backward_pass(
            program,
            bounds,
            {last: (weights @ rows.C)[:, None]},
            frame,
            last,
            lambda node: bounds.relaxation(node).grouped(frame, parts[node]),
        )

    climb = [
        Ascent(slopes, policy.BOX_STEPS, policy.BOX_SLOPE_RATE),
        Ascent(logits, policy.BOX_STEPS, policy.BOX_WEIGHT_RATE),
    ]
    best = torch.full((len(pair),), -torch.inf, dtype=rows.C.dtype)
    best_weights, best_slopes = logits.softmax(1), slopes
    for step in range(policy.BOX_STEPS + 1):
        with torch.enable_grad():
            slopes.requires_grad_(True)
            logits.requires_grad_(True)
            weights = logits.softmax(1)
            value = bound(weights, slopes).value[:, 0] + weights @ rows.offsets
            along = None
            if step < policy.BOX_STEPS:
                along = torch.autograd.grad(value.sum(), (slopes, logits), allow_unused=True, materialize_grads=True)
        slopes, logits, weights, value = slopes.detach(), logits.detach(), weights.detach(), value.detach()
        better = value > best
        best = torch.where(better, value, best)
        best_weights = torch.where(better[:, None], weights, best_weights)
        best_slopes = torch.where(better[:, None], slopes, best_slopes)
        if along is None or (best > 0).all():
            break
        slopes = (slopes + climb[0].step(along[0].nan_to_num())).clamp(0, 1)
        logits = logits + climb[1].step(along[1].nan_to_num())
    linear = bound(best_weights, best_slopes)
    linear = LinearBound(linear.value[:, 0], linear.coefficients[:, 0], linear.constant[:, 0])
    offset = best_weights @ rows.offsets
    # What is bounded is the rounded combination; the weights add up to 1 but for rounding.
    size = ((best_weights @ rows.C.abs()) * bounds.magnitude[last][box]).sum(-1)
    size = size + best_weights @ rows.offsets.abs() + linear.value.abs() + 2.0**-900
    charge = (len(rows.C) + 32) * 2.0**-52 * size
    value = torch.nan_to_num(linear.value + offset - charge, nan=-torch.inf, posinf=-torch.inf)
    return LinearBound(value, linear.coefficients, linear.constant + offset - charge), pair


@dataclass(frozen=True, eq=False)
class _Bounder:
    """Bounds boxes on several cores; torch lets threads run side by side."""

    program: Program
    rows: _Rows
    executor: Executor
    threads: int

    def bound(self, boxes: Sequence[_Box], *, nested: bool) -> _Bounded:
        """See `_bound`; each core has its share of the boxes."""
        size = -(-len(boxes) // self.threads)
        parts = [boxes[begin : begin + size] for begin in range(0, len(boxes), size)]
        return _Bounded.join(
            list(self.executor.map(lambda part: _bound(self.program, self.rows, part, nested=nested), parts))
        )


@torch.no_grad()
def _bound(program: Program, rows: _Rows, batch: Sequence[_Box], *, nested: bool) -> _Bounded:
    """``nested``: whether boxes may use what was found out about the boxes around them."""
    lower = torch.as_tensor(np.stack([box.lower for box in batch]))
    upper = torch.as_tensor(np.stack([box.upper for box in batch]))
    was_open = torch.as_tensor(np.stack([box.open for box in batch]))
    count, clauses = was_open.shape
    # A certificate's checker bounds each box afresh, and might miss a sign that only the box around it showed.
    bounds = enclose(program, lower, upper, start=_inherited(program, batch) if nested else None)
    box, row = torch.nonzero(was_open[:, rows.clause], as_tuple=True)
    clause = rows.clause[row]
    linear = specification_bounds(program, bounds, rows.C[row], box)
    # The offset is rounded down already; one more rounding of the sum is charged here.
    row_value = linear.value + rows.offsets[row]
    row_value = row_value - 2.0**-52 * (linear.value.abs() + rows.offsets[row].abs())
    row_value = torch.nan_to_num(row_value, nan=-torch.inf)

    # A clause is a conjunction: it is disproved on a box as soon as one of its rows is positive there.
    flat = box * clauses + clause
    value = torch.full((count * clauses,), -torch.inf, dtype=torch.float64)
    value = value.scatter_reduce(0, flat, row_value, "amax").reshape(count, clauses)
    is_open = was_open & ~(value > 0)
    plain = len(box)
    if nested and policy.BOX_STEPS:
        # Certificates do without: they would have to hold the slopes of every box.
        together, pair = _together(program, rows, bounds, is_open)
        if pair is not None:
            linear, row_value = LinearBound.join([linear, together]), torch.cat([row_value, together.value])
            box, clause = torch.cat([box, pair[:, 0]]), torch.cat([clause, pair[:, 1]])
            flat = box * clauses + clause
            value = value.reshape(-1).scatter_reduce(0, flat, row_value, "amax").reshape(count, clauses)
            is_open = was_open & ~(value > 0)
    closed = torch.where(was_open & ~is_open, value, torch.inf).amin(1)

    keep = is_open.reshape(-1)[flat]
    reach = _Reach.of(lower, upper, linear, row_value, box)
    low, high, empty = _clip(lower, upper, reach, flat, is_open, keep, nested=nested)
    is_open = is_open & ~empty
    # What was cut away has a positive margin, but how small it may be is not known.
    smaller = empty.any(1) | (low > lower).any(1) | (high < upper).any(1)
    closed = torch.where(smaller, closed.clamp(max=0), closed)
    leading = keep & (row_value >= value.reshape(-1)[flat])
    corner = (low + high) / 2
    minimiser = torch.where(linear.coefficients > 0, low[box], high[box])
    corner[box[leading]] = minimiser[leading]
    # Every row of an open clause counts: with the leading row alone, ACAS Xu's property 4 on network 1_1 takes more
    # than 60 times the boxes, for inputs that only the other rows depend on are never cut.
    weight = linear.coefficients.abs() * keep[:, None]
    score = torch.zeros_like(lower).index_add_(0, box[:plain], weight[:plain]) * (high - low)
    return _Bounded(
        (lower.numpy(), upper.numpy()),
        (low.numpy(), high.numpy()),
        value.numpy(),
        is_open.numpy(),
        closed.numpy(),
        corner.numpy(),
        score.numpy(),
        _phases(program, bounds),
        _BoundedRows(box, row, row_value, reach),
    )


def _inherited(program: Program, batch: Sequence[_Box]) -> BoxBounds:
    """Bounds of the pre-activations that say no more than the phases that the boxes have inherited."""
    phases = torch.as_tensor(np.stack([box.phases for box in batch]))
    empty = torch.empty(0)
    start = BoxBounds(empty, empty)
    widths = [program.features[node] for node in program.relus]
    for node, phase in zip(program.relus, torch.split(phases, widths, 1), strict=True):
        start.pre_lower[node] = torch.where(phase > 0, 0.0, -torch.inf).to(program.dtype)
        start.pre_upper[node] = torch.where(phase < 0, 0.0, torch.inf).to(program.dtype)
    return start


def _phases(program: Program, bounds: BoxBounds) -> NDArray[np.int8]:
    """The phases that the bounds of each box show; where both would do, as for a pre-activation of 0, active."""
    if not program.relus:
        return np.zeros((bounds.boxes, 0), dtype=np.int8)
    low = torch.cat([bounds.pre_lower[node] for node in program.relus], 1)
    high = torch.cat([bounds.pre_upper[node] for node in program.relus], 1)
    return np.where(low.numpy() >= 0, np.int8(1), np.where(high.numpy() <= 0, np.int8(-1), np.int8(0)))


@dataclass(frozen=True, eq=False)
class _Reach:
    """Where each row can be at most 0: for R rows on their boxes, end points ``(R, inputs)``.

    A row is at least ``v`` on the box, with v ≤ 0, and rises by ``|a_j|`` per unit as input j moves away from the
    minimising end. So it can be at most 0 only within ``-v / |a_j|`` of that end. A little more is left, so
    that whoever repeats the sums in another order agrees. (Clip-and-Verify, 2025.)
    """

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, lower: Tensor, upper: Tensor, linear: LinearBound, row_value: Tensor, box: Tensor) -> _Reach:
        size = (linear.coefficients.abs() * torch.maximum(lower.abs(), upper.abs())[box]).sum(-1)
        most = (-row_value + 2.0**-36 * size)[:, None] / linear.coefficients.abs() * (1 + 2.0**-36)
        most = torch.nan_to_num(most, nan=torch.inf).clamp(min=0)
        infinity = torch.full((), torch.inf, dtype=lower.dtype)
        rising, falling = linear.coefficients > 0, linear.coefficients < 0
        return cls(
            torch.where(falling, torch.nextafter(upper[box] - most, -infinity), lower[box]),
            torch.where(rising, torch.nextafter(lower[box] + most, infinity), upper[box]),
        )


def _clip(
    lower: Tensor, upper: Tensor, reach: _Reach, flat: Tensor, is_open: Tensor, keep: Tensor, *, nested: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Shrinks each box to where its open clauses can still be violated.

    A clause needs all its rows, so its box is the intersection; several open clauses need the union, of which the
    enclosing box is kept. Without ``nested`` a clause that no point of the box can violate stays open on a part of it,
    because the tree of a certificate is split for all clauses alike.

    Returns:
        The clipped end points, and a mask ``(B, clauses)`` of open clauses that no point of the box can violate.
    """
    count, clauses = is_open.shape
    inputs = lower.shape[1]
    index = flat[keep][:, None].expand(-1, inputs)
    high = upper.repeat_interleave(clauses, 0).scatter_reduce(0, index, reach.high[keep], "amin")
    low = lower.repeat_interleave(clauses, 0).scatter_reduce(0, index, reach.low[keep], "amax")
    high, low = high.reshape(count, clauses, inputs), low.reshape(count, clauses, inputs)
    if not nested:
        low = torch.where(low > high, lower[:, None], low)
    empty = (low > high).any(-1) & is_open
    useful = (is_open & ~empty)[..., None]
    some = useful.any(1)
    clipped_low = torch.where(some, torch.where(useful, low, torch.inf).amin(1), lower)
    clipped_high = torch.where(some, torch.where(useful, high, -torch.inf).amax(1), upper)
    return clipped_low, clipped_high, empty


class _Notes:
    """Writes what happened to a batch of boxes into the record."""

    def __init__(self, record: Record, rows: _Rows, bounded: _Bounded) -> None:
        self._record, self._rows, self._bounded = record, rows, bounded
        self._box, self._row = bounded.rows.box.numpy(), bounded.rows.row.numpy()
        self._clause = rows.clause.numpy()[self._row]

    def write(self, branches: Sequence[Branch | None]) -> list[Branch | None]:
        """Notes what each box's cell proves; returns the cells of what is left of the boxes."""
        value = self._bounded.rows.value.numpy()
        done = set()
        for r in np.flatnonzero((value > 0) & (value == self._bounded.value[self._box, self._clause])).tolist():
            b, c = int(self._box[r]), int(self._clause[r])
            branch = branches[b]
            if branch is not None and (b, c) not in done:
                done.add((b, c))
                self._record.claim(branch, c, self._rows.unit(int(self._row[r])))
        return [self._clipped(branch, b) for b, branch in enumerate(branches)]

    def _clipped(self, branch: Branch | None, b: int) -> Branch | None:
        """What was clipped off a box, a slab at a time; returns the cell of what is left.

        On a slab every open clause has a row that is positive there, by the bounds of the whole box.
        """
        clauses = np.flatnonzero(self._bounded.open[b])
        for high in (True, False) if len(clauses) else ():
            at = self._bounded.after[high][b]
            for j in np.flatnonzero(at != self._bounded.before[high][b]).tolist():
                if branch is not None:
                    branch = self._slab(branch, b, j, float(at[j]), clauses, high=high)
        return branch

    def _slab(self, branch: Branch, b: int, j: int, at: float, clauses: NDArray[np.intp], *, high: bool) -> Branch:
        low_part, high_part = self._record.split(branch, BoxSplit(j, at, keep=True))
        slab, left = (high_part, low_part) if high else (low_part, high_part)
        mine = np.flatnonzero(self._box == b)
        reach = self._bounded.rows.reach
        for c in clauses.tolist():
            these = mine[self._clause[mine] == c]
            reached = reach.high[these, j] if high else -reach.low[these, j]
            self._record.claim(slab, c, self._rows.unit(int(self._row[these[int(reached.argmin())]])))
        return left


def _probe(
    attack: Attack,
    program: Program,
    clauses: Sequence[Clause],
    bounded: _Bounded,
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
