"""The record of input splits: what boxes prove, for a certificate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from certificates import BoxSplit
from solver.box_bounds import Bounded
from solver.certify import Branch, Record
from solver.conjunction import Rows

__all__ = ["Notes"]


class Notes:
    """Writes what happened to a batch of boxes into the record."""

    def __init__(self, record: Record, rows: Rows, bounded: Bounded) -> None:
        self._record, self._bounded = record, bounded
        self._box, self._clause, self._row = (
            x.numpy() for x in (bounded.rows.box, bounded.rows.clause, bounded.rows.row)
        )
        self._clause_of_row = rows.clause.numpy()
        self._combination = np.cumsum(self._row < 0) - 1

    def write(self, branches: Sequence[Branch | None]) -> list[Branch | None]:
        """Notes what each box's cell proves; returns the cells of what is left of the boxes."""
        value = self._bounded.rows.value.numpy()
        done = set()
        for r in np.flatnonzero((value > 0) & (value == self._bounded.value[self._box, self._clause])).tolist():
            b, c = int(self._box[r]), int(self._clause[r])
            branch = branches[b]
            if branch is not None and (b, c) not in done:
                done.add((b, c))
                self._claim(branch, r)
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
            self._claim(slab, int(these[reached.argmin()]))
        return left

    def _claim(self, branch: Branch, r: int) -> None:
        """Notes that bounded row or combination ``r`` proves its clause on a cell."""
        clause, row = int(self._clause[r]), int(self._row[r])
        own = self._clause_of_row == clause
        if row >= 0:
            self._record.claim(branch, clause, (np.arange(len(own)) == row)[own].tolist())
            return
        found, k = self._bounded.rows, int(self._combination[r])
        alpha = found.slopes[k].numpy()
        weights = found.weights[k].numpy()[: own.sum()].tolist()
        self._record.claim(branch, clause, weights, slopes=np.stack([alpha, np.zeros_like(alpha)]))
