"""What is known of a batch of boxes: bounds of each clause there, and what bounds leave of the box.

A clause is closed on a box by one of its rows, or by the best combination of them (`solver.conjunction`); all are where
the box holds no point of the region's ball or constraints. An open box is clipped: a violation can only lie where every
row of some open clause is at most 0; a linear form over a box gives the clipped end points in closed form.

Soundness. Every bound is rigorous in float64 (`bounds.backward`), and clipping rounds outward.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.backward import LinearBound, specification_bounds
from bounds.inside import Inside
from bounds.linear import enclose
from bounds.program import Program
from bounds.relus import BoxBounds
from solver.boxes import Box
from solver.certify import Branch
from solver.conjunction import Rows, together

__all__ = ["Bounded", "BoundedRows", "Bounder", "Reach", "bound"]


@dataclass(frozen=True, eq=False)
class Bounder:
    """Bounds boxes on several cores; torch lets threads run side by side."""

    program: Program
    rows: Rows
    executor: Executor
    inside: Inside | None = None

    def bound(self, boxes: Sequence[Box], *, nested: bool, threads: int) -> Bounded:
        """See `bound`; each of so many cores has its share of the boxes."""
        size = -(-len(boxes) // threads)
        parts = [boxes[begin : begin + size] for begin in range(0, len(boxes), size)]
        return Bounded.join(
            list(
                self.executor.map(lambda part: bound(self.program, self.rows, part, self.inside, nested=nested), parts)
            )
        )


@torch.no_grad()
def bound(program: Program, rows: Rows, batch: Sequence[Box], inside: Inside | None = None, *, nested: bool) -> Bounded:
    """Bounds boxes together.

    Args:
        program: the compiled network.
        rows: the rows of all clauses.
        batch: the boxes.
        inside: what the inputs keep beside the boxes.
        nested: whether boxes may use what was found out about the boxes around them.
    """
    lower = torch.as_tensor(np.stack([box.lower for box in batch]))
    upper = torch.as_tensor(np.stack([box.upper for box in batch]))
    was_open = torch.as_tensor(np.stack([box.open for box in batch]))
    count, clauses = was_open.shape
    # A certificate's checker bounds each box afresh, and might miss a sign that only the box around it showed.
    bounds = enclose(program, lower, upper, start=_inherited(program, batch) if nested else None, inside=inside)
    box, row = torch.nonzero(was_open[:, rows.clause], as_tuple=True)
    clause = rows.clause[row]
    linear = specification_bounds(program, bounds, rows.C[row], box)
    # The offset is rounded down already; one more rounding of the sum is charged here.
    row_value = linear.value + rows.offsets[row]
    row_value = row_value - 2.0**-52 * (linear.value.abs() + rows.offsets[row].abs())
    row_value = torch.nan_to_num(row_value, nan=-torch.inf)
    void = torch.zeros(count, dtype=torch.bool) if inside is None else inside.misses(lower, upper)
    row_value = torch.where(void[box], torch.inf, row_value)

    # A clause is a conjunction: it is disproved on a box as soon as one of its rows is positive there.
    flat = box * clauses + clause
    value = torch.full((count * clauses,), -torch.inf, dtype=torch.float64)
    value = value.scatter_reduce(0, flat, row_value, "amax").reshape(count, clauses)
    is_open = was_open & ~(value > 0)
    plain, found = len(box), together(program, rows, bounds, is_open)
    offset = rows.offsets[row]
    if found is not None:
        linear, row_value = LinearBound.join([linear, found.linear]), torch.cat([row_value, found.linear.value])
        offset = torch.cat([offset, torch.zeros_like(found.linear.value)])
        box, clause = torch.cat([box, found.box]), torch.cat([clause, found.clause])
        row = torch.cat([row, torch.full_like(found.box, -1)])
        flat = box * clauses + clause
        value = value.reshape(-1).scatter_reduce(0, flat, row_value, "amax").reshape(count, clauses)
        is_open = was_open & ~(value > 0)
    # Parts without combinations join those with any: torch.cat skips vectors without entries.
    none = torch.zeros(0)
    closed = torch.where(was_open & ~is_open, value, torch.inf).amin(1)

    keep = is_open.reshape(-1)[flat]
    reach = Reach.of(lower, upper, linear, row_value if inside is None else _over_box(bounds, linear, offset, box), box)
    low, high, empty = _clip(lower, upper, reach, flat, is_open, keep, nested=nested)
    is_open = is_open & ~empty
    # What was cut away has a positive margin, but how small it may be is not known.
    smaller = empty.any(1) | (low > lower).any(1) | (high < upper).any(1)
    closed = torch.where(smaller, closed.clamp(max=0), closed)
    leading = keep & (row_value >= value.reshape(-1)[flat])
    corner = (low + high) / 2
    minimiser = torch.where(linear.coefficients > 0, low[box], high[box])
    if inside is not None:
        minimiser = inside.minimiser(linear.coefficients, low[box], high[box])
    corner[box[leading]] = minimiser[leading]
    # Every row of an open clause counts: with the leading row alone, ACAS Xu's property 4 on network 1_1 takes more
    # than 60 times the boxes, for inputs that only the other rows depend on are never cut.
    weight = linear.coefficients.abs() * keep[:, None]
    score = torch.zeros_like(lower).index_add_(0, box[:plain], weight[:plain]) * (high - low)
    return Bounded(
        (lower.numpy(), upper.numpy()),
        (low.numpy(), high.numpy()),
        value.numpy(),
        is_open.numpy(),
        closed.numpy(),
        corner.numpy(),
        score.numpy(),
        _phases(program, bounds),
        BoundedRows(
            box,
            clause,
            row,
            row_value,
            reach,
            none if found is None else found.weights,
            none if found is None else found.slopes,
        ),
    )


def _over_box(bounds: BoxBounds, linear: LinearBound, offset: Tensor, box: Tensor) -> Tensor:
    """What the rows' linear functions are at least on all of their boxes, shape ``(R,)``: `Reach` starts from there."""
    A = linear.coefficients
    value = linear.constant + torch.minimum(A * bounds.lower[box], A * bounds.upper[box]).sum(-1)
    total = value + offset - 2.0**-52 * (value.abs() + offset.abs())
    return torch.nan_to_num(total, nan=-torch.inf)


def _inherited(program: Program, batch: Sequence[Box]) -> BoxBounds:
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
class Bounded:
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
    rows: BoundedRows

    @classmethod
    def join(cls, parts: Sequence[Bounded]) -> Bounded:
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
            BoundedRows(
                torch.cat([r.box + begin for r, begin in zip(rows, first, strict=False)]),
                torch.cat([r.clause for r in rows]),
                torch.cat([r.row for r in rows]),
                torch.cat([r.value for r in rows]),
                Reach(torch.cat([r.reach.low for r in rows]), torch.cat([r.reach.high for r in rows])),
                torch.cat([r.weights for r in rows]),
                torch.cat([r.slopes for r in rows]),
            ),
        )

    @cached_property
    def worst(self) -> NDArray[np.float64]:
        """The weakest bound among the clauses still open on each box, shape ``(B,)``."""
        worst: NDArray[np.float64] = np.where(self.open, self.value, np.inf).min(-1)
        return worst

    def box(self, b: int, branch: Branch | None) -> Box:
        """A box that is still open; copies, as views would keep the whole batch."""
        low, high = self.after
        return Box(
            low[b].copy(),
            high[b].copy(),
            self.open[b].copy(),
            self.phases[b].copy(),
            self.score[b].copy(),
            float(self.worst[b]),
            branch,
        )


@dataclass(frozen=True, eq=False)
class BoundedRows:
    """R rows of clauses, or combinations of them, that were bounded on boxes.

    Attributes:
        box, clause: the box and the clause of each, shape ``(R,)``.
        row: which row it is, -1 for combinations, shape ``(R,)``.
        value: its lower bound, shape ``(R,)``.
        reach: where it can be at most 0.
        weights, slopes: those of the combinations, in order (`solver.conjunction.Together`).
    """

    box: Tensor
    clause: Tensor
    row: Tensor
    value: Tensor
    reach: Reach
    weights: Tensor
    slopes: Tensor


@dataclass(frozen=True, eq=False)
class Reach:
    """Where each row can be at most 0: for R rows on their boxes, end points ``(R, inputs)``.

    A row is at least ``v`` on the box, with v ≤ 0, and rises by ``|a_j|`` per unit as input j moves away from the
    minimising end. So it can be at most 0 only within ``-v / |a_j|`` of that end. A little more is left, so
    that whoever repeats the sums in another order agrees. (Clip-and-Verify, 2025.)
    """

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, lower: Tensor, upper: Tensor, linear: LinearBound, row_value: Tensor, box: Tensor) -> Reach:
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
    lower: Tensor, upper: Tensor, reach: Reach, flat: Tensor, is_open: Tensor, keep: Tensor, *, nested: bool
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
