"""Convex programs over a part of a box: the point nearest to its center, or the least of a margin.

Points are written as c + d. The rows ``G d + m`` are those of a clause on one cell (`solver.cells`); further rows
``A d ≤ b`` may be added one after the other. A program minimises

* the length of d in ``linf`` or ``l1`` subject to ``G d + m ≤ −slack`` (`Linear`, HiGHS from the last basis);
* the same in ``l2`` (`Euclidean`), through the dual: for multipliers λ ≥ 0 the Lagrangian's minimiser is d = clip(−Aᵀλ)
  into the box, and the dual is smooth, with gradient A d − b;
* or the largest row of ``G d + m``, over the box, over an ℓ1 ball (`Linear`), or over an ℓ2 ball (`Euclidean`, as the
  least t for which the nearest point with ``G d + m ≤ t`` lies in the ball).

Nothing here proves anything: points count only after a replay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import OptimizeResult, minimize

from solver import policy

__all__ = ["Euclidean", "Linear", "Rows", "Solution"]

Array: TypeAlias = NDArray[np.float64]

# Rows may be broken by this share of their scale where the l2 dual ends.
_BROKEN = 1e-7
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Rows:
    """A clause's rows ``G d + m`` and the box ``low ≤ d ≤ high``; G of shape ``(rows, n)``."""

    G: Array
    m: Array
    low: Array
    high: Array


@dataclass(frozen=True, eq=False)
class Solution:
    """The minimum ``value`` at d, shape ``(n,)``, and the multipliers of the rows that were added, at least 0."""

    value: float
    d: Array
    multipliers: Array


class Program(Protocol):
    """What both kinds of program do."""

    def add(self, A: Array, b: Array) -> None:
        """Adds the rows ``A d ≤ b``, A of shape ``(k, n)``."""

    def solve(self, slack: float = 0.0) -> Solution | None:
        """The minimum, or None where there is none."""


class Linear:
    """A linear program. Columns: p and q, at least 0, with d = p − q; and s, the length or the margin."""

    def __init__(self, rows: Rows, *, norm: str | None, budget: float | None = None) -> None:
        """``norm`` is that of the length, None to minimise the margin instead; ``budget`` limits Σ|d_i| then."""
        import highspy

        self._highspy, self._rows, self._norm = highspy, rows, norm
        n = len(rows.low)
        self._n = n
        G, eye = sparse.csr_array(rows.G), sparse.eye_array(n, format="csr")
        #: One power of two for all rows, so that the margin stays a margin.
        self._scale = float(np.exp2(np.ceil(np.log2(max(np.abs(rows.G).max(initial=0.0), 1e-30)))))
        last = np.full((len(rows.G), 1), -1.0 if norm is None else 0.0)
        blocks = [sparse.hstack([G / self._scale, -G / self._scale, sparse.csr_array(last)])]
        limits = [-rows.m / self._scale]
        if norm == "linf":
            ones, none = sparse.csr_array(-np.ones((n, 1))), sparse.csr_array((n, n))
            blocks += [sparse.hstack([eye, none, ones]), sparse.hstack([none, eye, ones])]
            limits += [np.zeros(2 * n)]
        if budget is not None:
            blocks.append(sparse.csr_array(np.append(np.ones(2 * n), 0.0)[None]))
            limits.append(np.array([budget]))
        matrix = sparse.vstack(blocks, format="csr")
        infinite = highspy.kHighsInf
        lp = highspy.HighsLp()
        lp.num_row_, lp.num_col_ = matrix.shape
        lp.col_cost_ = np.append(np.full(2 * n, float(norm == "l1")), float(norm != "l1"))
        lp.col_lower_ = np.append(np.zeros(2 * n), -infinite if norm is None else 0.0)
        lp.col_upper_ = np.concatenate([np.maximum(rows.high, 0), np.maximum(-rows.low, 0), [infinite]])
        lp.row_lower_ = np.full(lp.num_row_, -infinite)
        lp.row_upper_ = np.concatenate(limits)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.num_row_, lp.a_matrix_.num_col_ = matrix.shape
        lp.a_matrix_.start_ = matrix.indptr.astype(np.int32)
        lp.a_matrix_.index_ = matrix.indices.astype(np.int32)
        lp.a_matrix_.value_ = matrix.data
        self._solver = solver = highspy.Highs()
        solver.setOptionValue("output_flag", False)
        solver.setOptionValue("threads", 1)
        solver.setOptionValue("time_limit", policy.POLISH_LP_SECONDS)
        solver.passModel(lp)
        self._first = lp.num_row_
        self._slack = 0.0

    def add(self, A: Array, b: Array) -> None:
        infinite = self._highspy.kHighsInf
        for a, limit in zip(A, b.tolist(), strict=True):
            scale = max(float(np.abs(a).max(initial=0.0)), 1e-30)
            at = np.flatnonzero(np.abs(a) > 1e-12 * scale)
            index = np.concatenate([at, at + self._n]).astype(np.int32)
            value = np.concatenate([a[at], -a[at]]) / scale
            self._solver.addRow(-infinite, limit / scale, len(index), index, value)

    def solve(self, slack: float = 0.0) -> Solution | None:
        if slack != self._slack:
            self._slack = slack
            for r, m in enumerate(self._rows.m.tolist()):
                self._solver.changeRowBounds(r, -self._highspy.kHighsInf, (-m - slack) / self._scale)
        self._solver.setOptionValue("time_limit", self._solver.getRunTime() + policy.POLISH_LP_SECONDS)
        self._solver.run()
        if self._solver.getModelStatus() != self._highspy.HighsModelStatus.kOptimal:
            return None
        found = self._solver.getSolution()
        columns = np.asarray(found.col_value)
        value = float(self._solver.getInfo().objective_function_value)
        d = np.clip(columns[: self._n] - columns[self._n : 2 * self._n], self._rows.low, self._rows.high)
        multipliers = np.maximum(-np.asarray(found.row_dual)[self._first :], 0.0)
        return Solution(value * (self._scale if self._norm is None else 1.0), d, multipliers)


class Euclidean:
    """The shortest d, or with a ``radius`` the least margin over the ball."""

    def __init__(self, rows: Rows, *, radius: float | None = None) -> None:
        self._rows, self._radius = rows, radius
        self._A, self._b = np.zeros((0, len(rows.low))), np.zeros(0)
        self._start = np.zeros(len(rows.m))
        # No dual exceeds this where a point of the box, and of the ball, keeps all rows.
        longest = float(np.linalg.norm(np.maximum(-rows.low, rows.high)))
        self._highest = (1 + _ROUNDING) * min(longest, math.inf if radius is None else radius) ** 2 / 2

    def add(self, A: Array, b: Array) -> None:
        norms = np.maximum(np.linalg.norm(A, axis=1), 1e-30)
        self._A = np.concatenate([self._A, A / norms[:, None]])
        self._b = np.concatenate([self._b, b / norms])
        self._start = np.append(self._start, np.zeros(len(b)))

    def solve(self, slack: float = 0.0) -> Solution | None:
        if self._radius is None:
            return self._shortest(-slack)
        rows = self._rows
        reach = np.minimum(rows.G * rows.low, rows.G * rows.high).sum(1)
        low, high = float((rows.m + reach).max()), float(rows.m.max()) + float(np.abs(reach).max())
        best = None
        for _ in range(policy.POLISH_HALVINGS):
            middle = (low + high) / 2
            found = self._shortest(middle)
            if found is not None and found.value <= self._radius:
                best, high = Solution(middle, found.d, found.multipliers), middle
            else:
                low = middle
        return best

    def _shortest(self, most: float) -> Solution | None:
        """The shortest d with ``G d + m ≤ most``; None where the ball has none."""
        rows = self._rows
        norms = np.maximum(np.linalg.norm(rows.G, axis=1), 1e-30)
        A = np.concatenate([rows.G / norms[:, None], self._A])
        b = np.concatenate([(most - rows.m) / norms, self._b])

        def dual(multipliers: Array) -> tuple[float, Array]:
            d = np.clip(-multipliers @ A, rows.low, rows.high)
            broken = A @ d - b
            return -float(d @ d / 2 + multipliers @ broken), -broken

        def enough(intermediate_result: OptimizeResult) -> None:
            # Without a point in reach the dual grows without end.
            if -intermediate_result.fun > self._highest:
                raise StopIteration

        found = minimize(
            dual,
            self._start,
            jac=True,
            method="L-BFGS-B",
            callback=enough,
            bounds=[(0.0, None)] * len(b),
            options={
                "maxiter": policy.POLISH_DUAL_STEPS,
                "maxfun": 2 * policy.POLISH_DUAL_STEPS,
                "ftol": 0.0,
                "gtol": 1e-10,
                "maxcor": 30,
            },
        )
        d = np.clip(-found.x @ A, rows.low, rows.high)
        if -found.fun > self._highest or (A @ d - b > _BROKEN * (1 + np.abs(b))).any():
            return None
        self._start = found.x
        return Solution(float(np.linalg.norm(d)), d, found.x[len(rows.m) :])
