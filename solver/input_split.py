"""Branch and bound by splitting the input box: the ``bab`` engine for networks with few inputs.

A box is closed when backward linear bounds, recomputed on it, prove every clause there. An open box is first clipped
by the linear bounds of its rows (a violation can only lie where every row of some open clause is at most 0; a linear
form over a box gives the clipped end points in closed form), then halved along the input that promises most.
The two halves share the cut exactly, so the leaves cover the region.

Soundness. Every bound is rigorous in float64 (`bounds.linear`) and clipping rounds outward, so "proven" here rests on
no solver tolerance. Of a part that was clipped away only the sign of the margin is known, so the reported bound of the
margin is then at most 0.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.linear import BoxBounds, LinearBound, enclose, specification_bounds
from bounds.program import Program
from certificates import BoxSplit
from networks.property import Clause
from networks.region import Region
from solver.attack import Attack, AttackResult, clause_margins
from solver.certify import Branch, Record
from solver.verdict import Counterexample, Reason

__all__ = ["SplitResult", "decide_by_input_split"]

_BATCH = 128
# Above this many open boxes the search goes depth first, so memory stays bounded.
_POOL = 200_000


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
    """An open box: its end points, the clauses open on it, what is known of the ReLUs, and its cell in the record.

    ``phases`` has one entry for each ReLU, node after node: 1 where it is active on the whole box, -1 where inactive, 0
    where nothing is known. Signs that a box has inherited need no bounds of their own, and cost a byte where bounds
    would cost sixteen.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    open: NDArray[np.bool_]
    phases: NDArray[np.int8]
    branch: Branch | None = None


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

    def put(self, bound: float, box: _Box) -> None:
        heapq.heappush(self._heap, (bound, next(self._ticket), box))

    def take(self, count: int) -> list[_Box]:
        many = len(self._heap) > _POOL
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
    """
    rows = _Rows.of(clauses)
    pool = _Pool()
    relus = sum(program.features[node] for node in program.relus)
    whole = _Box(region.lower, region.upper, np.ones(len(clauses), dtype=bool), np.zeros(relus, dtype=np.int8))
    if record is not None:
        whole = replace(whole, branch=record.root)
    pool.put(-math.inf, whole)
    extent = torch.as_tensor(region.upper - region.lower)
    proven = math.inf  # the weakest bound among closed boxes
    stuck = math.inf  # the weakest bound among boxes that are too small to halve
    upper = math.inf
    boxes = 0
    for round_number in itertools.count():
        lower = min(pool.weakest, proven, stuck)
        if not pool:
            return SplitResult(lower, upper, None, Reason.NUMERICS if stuck < math.inf else None, boxes)
        reason = stop()
        if reason is not None:
            return SplitResult(lower, upper, None, reason, boxes)
        batch = pool.take(_BATCH)
        boxes += len(batch)
        bounded = _bound(program, rows, batch, extent, record)
        proven = min(proven, bounded.proven)
        left = np.flatnonzero(bounded.open.any(-1))
        if attack is not None and len(left):
            outcome = _probe(attack, program, clauses, bounded, left, push=round_number % 16 == 0)
            upper = min(upper, outcome.upper)
            if outcome.counterexample is not None:
                return SplitResult(lower, outcome.upper, outcome.counterexample, None, boxes)
        for b in left.tolist():
            worst = float(bounded.value[b][bounded.open[b]].min())
            entry, halves = _halve(bounded.lower[b], bounded.upper[b], bounded.score[b])
            if not halves:
                stuck = min(stuck, worst)
                continue
            branches: Sequence[Branch | None] = (None, None)
            if record is not None and not record.full and (cell := bounded.branch[b]) is not None:
                branches = record.split(cell, BoxSplit(entry, float(halves[1][0][entry])))
            phases = bounded.phases[b].copy()  # a view would keep the phases of the whole batch
            for (low, high), branch in zip(halves, branches, strict=True):
                pool.put(worst, _Box(low, high, bounded.open[b], phases, branch))
        progress(min(pool.weakest, proven, stuck), upper, len(pool), boxes)
    raise AssertionError


@dataclass(frozen=True, eq=False)
class _Bounded:
    """A batch of B boxes after bounding and clipping.

    Attributes:
        lower, upper: the clipped boxes, shape ``(B, inputs)``.
        value: lower bound of each clause's margin on each box, shape ``(B, clauses)``.
        open: which clauses are still open, shape ``(B, clauses)``.
        proven: the weakest bound among those closed here.
        corner: for each box, where the weakest row's linear bound is smallest, shape ``(B, inputs)``.
        score: for each box and input, how much the bounds depend on it, shape ``(B, inputs)``.
        phases: for each box, the ReLUs' phases as in `_Box`.
        branch: for each clipped box the cell in the record, if there is one.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    value: NDArray[np.float64]
    open: NDArray[np.bool_]
    proven: float
    corner: NDArray[np.float64]
    score: NDArray[np.float64]
    phases: NDArray[np.int8]
    branch: Sequence[Branch | None]


@torch.no_grad()
def _bound(program: Program, rows: _Rows, batch: Sequence[_Box], extent: Tensor, record: Record | None) -> _Bounded:
    lower = torch.as_tensor(np.stack([box.lower for box in batch]))
    upper = torch.as_tensor(np.stack([box.upper for box in batch]))
    was_open = torch.as_tensor(np.stack([box.open for box in batch]))
    count, clauses = was_open.shape
    # The checker bounds each box afresh, and might miss a sign that only the box around it showed.
    start = _inherited(program, batch) if record is None else None
    bounds = enclose(program, lower, upper, start=start)
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
    proven = torch.where(was_open & ~is_open, value, torch.inf).amin().item()

    keep = is_open.reshape(-1)[flat]
    reach = _Reach.of(lower, upper, linear, row_value, box)
    low, high, empty = _clip(lower, upper, reach, flat, is_open, keep, nested=record is None)
    if empty.any() or (low > lower).any() or (high < upper).any():
        # What was cut away has a positive margin, but how small it may be is not known.
        proven = min(proven, 0.0)
        is_open &= ~empty
    branch = [each.branch for each in batch]
    if record is not None and not record.full:
        notes = _Notes(record, rows, box.numpy(), row.numpy(), reach)
        notes.closed(branch, row_value.numpy(), value.numpy())
        branch = notes.clipped(branch, is_open.numpy(), (lower.numpy(), upper.numpy()), (low.numpy(), high.numpy()))
    lower, upper = low, high
    leading = keep & (row_value >= value.reshape(-1)[flat])
    # Every row of an open clause counts: with the leading row alone, ACAS Xu's property 4 on network 1_1 takes more
    # than 60 times the boxes, for inputs that only the other rows depend on are never cut.
    weight = linear.coefficients.abs() * keep[:, None]
    # Coefficients are those of a relaxation, and say little of what a cut would do to the relaxation itself. An input
    # that is still uncut counts for more: without the second factor, ACAS Xu's property 1 takes more than 15 times the
    # boxes on networks 1_4 and 2_2.
    width = upper - lower
    uncut = torch.where(extent > 0, width / extent, 0.0)
    score = torch.zeros_like(lower).index_add_(0, box, weight) * width * uncut
    corner = (lower + upper) / 2
    minimiser = torch.where(linear.coefficients > 0, lower[box], upper[box])
    corner[box[leading]] = minimiser[leading]
    return _Bounded(
        lower.numpy(),
        upper.numpy(),
        value.numpy(),
        is_open.numpy(),
        proven,
        corner.numpy(),
        score.numpy(),
        _phases(program, bounds),
        branch,
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


@dataclass(frozen=True, eq=False)
class _Notes:
    """Writes what happened to a batch of boxes into the record; row ``row[r]`` was bounded on box ``box[r]``."""

    record: Record
    rows: _Rows
    box: NDArray[np.intp]
    row: NDArray[np.intp]
    reach: _Reach

    def closed(
        self, branches: Sequence[Branch | None], row_value: NDArray[np.float64], value: NDArray[np.float64]
    ) -> None:
        """The rows that close a clause on its box."""
        clause = self.rows.clause.numpy()[self.row]
        done = set()
        for r in np.flatnonzero((row_value > 0) & (row_value == value[self.box, clause])).tolist():
            b, c = int(self.box[r]), int(clause[r])
            branch = branches[b]
            if branch is not None and (b, c) not in done:
                done.add((b, c))
                self.record.claim(branch, c, self.rows.unit(int(self.row[r])))

    def clipped(
        self,
        branches: Sequence[Branch | None],
        is_open: NDArray[np.bool_],
        before: tuple[NDArray[np.float64], NDArray[np.float64]],
        after: tuple[NDArray[np.float64], NDArray[np.float64]],
    ) -> list[Branch | None]:
        """What was clipped off each box, a slab at a time; returns the cells of what is left.

        On a slab every open clause has a row that is positive there, by the bounds of the whole box.
        """
        out: list[Branch | None] = []
        for b, branch in enumerate(branches):
            left = branch
            for high in (True, False) if is_open[b].any() else ():
                at = after[high][b]
                for j in np.flatnonzero(at != before[high][b]).tolist():
                    if left is not None:
                        left = self._slab(left, b, j, float(at[j]), np.flatnonzero(is_open[b]), high=high)
            out.append(left)
        return out

    def _slab(self, branch: Branch, b: int, j: int, at: float, clauses: NDArray[np.intp], *, high: bool) -> Branch:
        low_part, high_part = self.record.split(branch, BoxSplit(j, at, keep=True))
        slab, left = (high_part, low_part) if high else (low_part, high_part)
        mine = np.flatnonzero(self.box == b)
        clause = self.rows.clause.numpy()[self.row[mine]]
        for c in clauses.tolist():
            these = mine[clause == c]
            reached = self.reach.high[these, j] if high else -self.reach.low[these, j]
            self.record.claim(slab, c, self.rows.unit(int(self.row[these[int(reached.argmin())]])))
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
    points = np.concatenate([bounded.corner[left], (bounded.lower[left] + bounded.upper[left]) / 2])
    with torch.no_grad():
        margins = clause_margins(clauses, program.forward(torch.as_tensor(points))).numpy()
    point, clause = np.unravel_index(np.nanargmin(margins), margins.shape)
    if push or margins[point, clause] <= 0:
        return attack.confirm(clauses[int(clause)], points[point])
    return AttackResult(None, math.inf, 0)


def _halve(
    lower: NDArray[np.float64], upper: NDArray[np.float64], score: NDArray[np.float64]
) -> tuple[int, list[tuple[NDArray[np.float64], NDArray[np.float64]]]]:
    """The two halves along the input with the highest score that can be cut, and that input; empty if none can."""
    middle = lower + (upper - lower) / 2
    width = upper - lower
    for j in np.lexsort((width, score))[::-1]:
        if lower[j] < middle[j] < upper[j]:
            left, right = upper.copy(), lower.copy()
            left[j] = right[j] = middle[j]
            return int(j), [(lower, left), (right, upper)]
    return -1, []
