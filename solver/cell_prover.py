"""What is proven of the cells of a ReLU-split search: bounds that close them, clips, LPs, and what a record notes.

Soundness. Cells are closed by rigorous bounds only. The LP's duals are multipliers for such a bound; its verdict itself
is never used. Clipped bounds hold at the points of a cell whose margin is at most `_GOAL`, so on such cells no margin
above it is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from bounds.backward import LinearBound
from bounds.reduced import Reduced
from networks.property import Clause
from solver import policy
from solver.cell_frontier import CellFrontier
from solver.cell_pool import Batch
from solver.leaf import CellProgram, Leaf
from solver.split_region import SplitRegion

__all__ = ["CellProver"]

# Columns are clipped that lose more than this share of what the columns that lose something lose on average.
_WORTH = 0.25
# What clipped cells prove, at most: any positive margin.
_GOAL = 2.0**-40


class CellProver:
    """Closes cells of one clause over one region, or tightens their bounds.

    Attributes:
        slack: what a bound that is recorded has to exceed; of the root's size, so negative until that is known. A
            checker chooses what it clips, and rounds it, in its own way.
    """

    def __init__(self, over: SplitRegion, clause: Clause, reduced: Reduced, front: CellFrontier) -> None:
        """``front`` keeps the cells that stay open, and the record if there is one."""
        self._over = over
        self._cells = over.cells
        self._clause = clause
        self._reduced = reduced
        self._front = front
        self._record = front.record
        self._C = torch.as_tensor(clause.matrix)
        self._offsets = torch.as_tensor(clause.offsets)
        self._rows = len(clause.rows)
        self.slack = -1.0

    def receive(self, batch: Batch) -> None:
        """Closes new cells or keeps them; their bounds are those of their parents, which hold for them too."""
        self._front.nodes += len(batch)
        for clip in range(policy.BAB_CLIPS + 1):
            batch, linear, row = self._close(batch)
            if not len(batch):
                return
            if clip < policy.BAB_CLIPS:
                batch = self._clip(batch, linear, row)
        self._front.cells.put(batch)

    def _close(self, batch: Batch) -> tuple[Batch, LinearBound, Tensor]:
        """Bounds cells; returns those that stay open, with the bounds of their leading rows, and those rows."""
        assert batch.theta is not None
        count, rows = len(batch), self._rows
        low, high = batch.low.repeat_interleave(rows, 0), batch.high.repeat_interleave(rows, 0)
        alpha, beta = self._reduced.multipliers(low, high, batch.theta.flatten(0, 1))
        linear = self._cells.bound(self._C.repeat(count, 1), low, high, alpha, beta)
        own, leading = self._margins(linear.value, count)
        # Clipped bounds that cross leave no place for a violation.
        empty = (batch.low > batch.high).any(1)
        bound = torch.where(empty, _GOAL, torch.maximum(own.clamp(max=_GOAL), batch.bound))
        closed = bound > 0
        if self._record is not None:
            if self.slack < 0:
                self.slack = policy.BAB_SLACK * abs(float(own[0])) if math.isfinite(own[0]) else 0.0
            closed &= empty | (own > self.slack)
            # What stays open is not called proven.
            bound = torch.where(closed, bound, bound.clamp(max=-_GOAL))
        if closed.any():
            self._front.proven = min(self._front.proven, float(bound[closed].min()))
        left = torch.nonzero(~closed)[:, 0]
        if self._record is not None:
            done, at = torch.nonzero(closed)[:, 0], torch.arange(count) * rows + leading
            self._note(self._record.claim, batch.branch[done], leading[done], alpha[at[done]], beta[at[done]])
        at, row = left * rows + leading[left], leading[left]
        linear = LinearBound(linear.value[at], linear.coefficients[at], linear.constant[at])
        return replace(batch, bound=bound).select(left), linear, row

    def _clip(self, batch: Batch, linear: LinearBound, row: Tensor) -> Batch:
        """Tightens the cells' bounds for points with a margin of at most `_GOAL`, where columns lose most."""
        assert batch.theta is not None
        low, high = batch.low.clone(), batch.high.clone()
        theta = batch.theta[torch.arange(len(batch)), row]
        if self._record is not None:
            self._note(self._record.clip, batch.branch, row, *self._reduced.multipliers(low, high, theta))
        arriving = self._reduced.estimate(low.float(), high.float(), theta, row).arriving
        unknown = (low < 0) & (high > 0)
        loss = torch.where(unknown, arriving.clamp(max=0) * low * high / (high - low), 0.0)
        lossy = loss > _WORTH * loss.sum(1, keepdim=True) / (loss > 0).sum(1, keepdim=True)
        offset = self._offsets[row]
        constant = linear.constant + offset - _GOAL
        constant = constant - 2.0**-51 * (linear.constant.abs() + offset.abs() + _GOAL)
        self._over.clipper.clip(low, high, lossy, linear.coefficients, constant)
        # θ is a slope where the phase is open and a multiplier where it is not.
        free = ((low < 0) & (high > 0))[:, None]
        known = unknown[:, None] & ~free
        return replace(batch, low=low, high=high, theta=batch.theta.masked_fill(known, 0.0))

    def _note(self, what: Callable[..., None], branch: Tensor, row: Tensor, alpha: Tensor, beta: Tensor) -> None:
        """Notes claims or clips of cells in the record."""
        assert self._record is not None
        slopes = torch.stack([alpha, beta], 1).numpy()
        for cell, best, line in zip(branch.tolist(), row.tolist(), slopes, strict=True):
            if not self._record.full:
                what(self._front.branches[cell], 0, [float(r == best) for r in range(self._rows)], slopes=line)

    def _margins(self, value: Tensor, cells: int) -> tuple[Tensor, Tensor]:
        """Lower bounds of the clause's margin, ``(cells,)``, with one more rounding charged; and its best rows."""
        offsets = self._offsets.repeat(cells)
        total = value + offsets - 2.0**-52 * (value.abs() + offsets.abs())
        best = torch.nan_to_num(total, nan=-torch.inf).reshape(cells, -1).max(1)
        return best.values, best.indices

    def by_lp(self, cell: Batch, stop: Callable[[], bool]) -> tuple[Leaf | None, float]:
        """The LP of a cell, and the bound that its duals prove; where that is positive, the cell is closed. There is no
        LP where ``stop`` ended it.
        """
        on = cell.low >= 0
        off = ~on & (cell.high <= 0)
        if self._lp is None:
            leaf: Leaf | None = Leaf.silent(self._rows, len(self._over.region.constraints), ~(on | off)[0].numpy())
        else:
            leaf = self._lp.solve((on.to(torch.int8) - off.to(torch.int8))[0].numpy(), stop)
        if leaf is None:
            return None, -math.inf
        if self._record is not None:
            # The LP knows nothing of clips, and near zero a checker's may be weaker.
            low = torch.where(on, 0.0, self._cells.low)
            cell = replace(cell, low=low, high=torch.where(off, 0.0, self._cells.high))
        proven = self._prove(leaf, cell)
        if proven > 0:
            self._front.proven = min(self._front.proven, proven)
            if self._record is not None and not self._record.full:
                branch = self._front.branches[int(cell.branch[0])]
                self._record.claim(branch, 0, leaf.weights.tolist(), rows=leaf.multipliers)
        return leaf, proven

    def _prove(self, leaf: Leaf, cell: Batch) -> float:
        """The rigorous bound that the LP's duals give; where the cell is empty, that of 0·y."""
        weights = torch.as_tensor(leaf.weights)
        chosen = torch.as_tensor(leaf.multipliers)[None]
        given = torch.as_tensor(leaf.constraints)
        bound = self._cells.bound((weights @ self._C)[None], cell.low, cell.high, multipliers=chosen, mu=given)
        value = float(bound.value[0])
        offset = float(weights @ self._offsets)
        # Sums of as many terms as the clause has rows, and one more, are rounded.
        value = value + offset - (len(weights) + 2) * 2.0**-52 * (abs(value) + float(weights @ self._offsets.abs()))
        return min(value, _GOAL)

    @cached_property
    def _lp(self) -> CellProgram | None:
        relaxation = self._over.relaxation
        return None if relaxation is None else CellProgram(self._over, relaxation, self._clause)
