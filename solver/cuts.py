"""The LP relaxation of a MILP with ideal cuts: what it proves without branching.

Symbols are those of `solver.formulation`. For an unstable ReLU with ``ẑ = w·v + b`` over source columns v in a box, put
``L̆_i = L_i`` and ``Ŭ_i = U_i`` where ``w_i ≥ 0``, and the other way round where ``w_i < 0``. Every set I of its sources
gives a valid cut

    h ≤ Σ_{i∈I} w_i (v_i − L̆_i (1 − a)) + (b + Σ_{i∉I} w_i Ŭ_i) a,

and together with the formulation's rows all of them describe the convex hull of the neuron's graph (Anderson, Huchette,
Ma, Tjandraatmadja & Vielma 2020, eq. (9)). There are exponentially many, but the one that a point violates most is
found in linear time: I holds the i whose first term is smaller at the point than ``w_i Ŭ_i a``. So the LP is solved,
violated cuts are added, slack ones dropped, and the dual simplex goes on from the last basis.

Soundness. A cut is relaxed by the error of the form of ẑ and by the rounding of its own coefficients, so it holds at
every point of the network. The LP's objective is not used: `CompiledModel.dual_bound` bounds it at the LP's duals in
float64 with rounding charged, over rows that are widened by the forms' errors. A ball ``Σ w_i (v_i − c_i)² ≤ r²`` takes
part by supporting halfspaces: ``Σ g_i (v_i − c_i) ≤ r (Σ g_i²/w_i)^½`` holds for every g, by the inequality of Cauchy
and Schwarz, and cuts a point outside off if g_i is w_i times its distance from c_i. HiGHS is therefore not trusted, and
a bound that is positive here proves the clause as rigorously as the enclosure holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from bounds.lp import throttled
from solver import policy
from solver.backends.highs import pass_model
from solver.compiled import CompiledModel, ScaledModel, scale, scale_rows
from solver.errors import NumericsError
from solver.formulation import Formulation

__all__ = ["Cuts", "Root", "solve_root", "supporting_cuts", "violated_cuts"]

#: A cut is violated if it is by this share of the neuron's upper bound.
VIOLATION = 1e-3

#: Slack of a scaled row beyond which it is not tight.
_SLACK = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """Rows ``matrix · v ≤ sides`` over a formulation's columns; shapes ``(R, columns)`` and ``(R,)``."""

    matrix: csr_array
    sides: NDArray[np.float64]

    @classmethod
    def none(cls, columns: int) -> Cuts:
        return cls(csr_array((0, columns)), np.zeros(0))

    def __len__(self) -> int:
        return len(self.sides)

    def __add__(self, other: Cuts) -> Cuts:
        return Cuts(csr_array(vstack([self.matrix, other.matrix])), np.append(self.sides, other.sides))

    def select(self, which: NDArray[np.bool_]) -> Cuts:
        return Cuts(csr_array(self.matrix[np.flatnonzero(which)]), self.sides[which])


@dataclass(frozen=True, slots=True, eq=False)
class Root:
    """What the rounds at the root came to.

    Attributes:
        lower: rigorous lower bound of the clause's margin, −inf where there is none.
        point: the last LP's minimiser as a point of the model, None if no LP was solved.
        rounds: LPs solved.
    """

    lower: float
    point: NDArray[np.float64] | None
    rounds: int


def violated_cuts(formulation: Formulation, v: NDArray[np.float64]) -> Cuts:
    """For each ReLU the ideal cut that ``v``, shape ``(columns,)``, violates most, where it violates one."""
    forms, model = formulation.forms, formulation.common
    h, _, a = formulation.phases
    matrix = forms.matrix
    row, column, w = np.repeat(np.arange(len(h)), np.diff(matrix.indptr)), matrix.indices, matrix.data
    ends = w * np.stack([model.lower[column], model.upper[column]])
    low, high = ends.min(axis=0), ends.max(axis=0)

    def total(terms: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(row, terms, minlength=len(h)).astype(np.float64)

    inside = w * v[column] - low * (1 - v[a][row])
    outside = high * v[a][row]
    chosen = inside < outside
    most = total(np.where(chosen, inside, outside)) + forms.constant * v[a]
    broken = v[h] - most > VIOLATION * model.upper[h]
    below = total(np.where(chosen, low, 0.0))
    phase = below + total(np.where(chosen, 0.0, high)) + forms.constant
    # Each of the two sums has at most as many terms as the row; Higham §3.1 as in `solver.formulation`.
    terms = np.diff(matrix.indptr) + 4
    slack = forms.error + 2.0**-50 * terms * (total(np.maximum(np.abs(low), np.abs(high))) + np.abs(forms.constant))

    number = np.cumsum(broken) - 1
    kept = chosen & broken[row]
    count = np.arange(int(broken.sum()))
    rows = np.concatenate([number[row[kept]], count, count])
    columns = np.concatenate([column[kept], h[broken], a[broken]])
    values = np.concatenate([-w[kept], np.ones(len(count)), -phase[broken]])
    shape = (len(count), model.columns)
    return Cuts(csr_array((values, (rows, columns)), shape=shape), (slack - below)[broken])


def supporting_cuts(model: CompiledModel, v: NDArray[np.float64]) -> Cuts:
    """A supporting halfspace for each quadratic constraint that ``v``, shape ``(columns,)``, violates."""
    cuts = Cuts.none(model.columns)
    for row in model.quadratic:
        squares = row.squares
        if row.violation(v) <= VIOLATION * row.limit:
            continue
        g = squares.weights * (v[squares.columns] - squares.centers)
        dense = np.zeros((1, model.columns))
        dense[0, squares.columns] = g
        reach, shift = math.sqrt(row.limit * float((g**2 / squares.weights).sum())), float(g @ squares.centers)
        slack = 2.0**-50 * (len(g) + 8) * (reach + float(np.abs(g) @ np.abs(squares.centers)))
        cuts += Cuts(csr_array(dense), np.array([reach + shift + slack]))
    return cuts


def solve_root(formulation: Formulation, clause: int, *, seconds: float, stop: Callable[[], bool]) -> Root:
    """Solves the LP relaxation of a clause's margin, adding ideal cuts in rounds until its sign is known or it stalls.

    Args:
        formulation: the models.
        clause: which of its clauses.
        seconds: for all rounds.
        stop: polled while an LP runs; True ends the rounds.

    Raises:
        NumericsError: HiGHS does not accept the model.
    """
    model = formulation.widened(clause)
    program = _Program(scale(model), model.columns, throttled(stop))
    lower, gains, rounds, point = -math.inf, [math.inf, math.inf], 0, None
    end = program.seconds + seconds
    while rounds < policy.CUT_ROUNDS and program.seconds < end:
        if not program.solve(end - program.seconds):
            break
        rounds += 1
        point, bound = program.point, program.bound()
        gains.append(bound - lower)
        lower = max(lower, bound)
        # Two rounds together, as one may only repair what dropping cuts has cost.
        if lower > 0 or max(gains[-2:]) * policy.CUT_PATIENCE < -lower:
            break
        found = violated_cuts(formulation, point) + supporting_cuts(model, point)
        if not len(found):
            break
        program.add(found)
    return Root(lower, point, rounds)


@dataclass(eq=False)
class _Program:
    """An LP in HiGHS that grows by cuts, in the scaled columns of its model."""

    scaled: ScaledModel
    columns: int
    stop: Callable[[], bool]
    cuts: Cuts = field(init=False)
    rows: Cuts = field(init=False)

    def __post_init__(self) -> None:
        import highspy

        self.cuts = self.rows = Cuts.none(self.columns)
        self._kinds = highspy.HighsModelStatus
        self._solver = solver = highspy.Highs()
        options = {"output_flag": False, "threads": 1, "presolve": "off", "small_matrix_value": 1e-12}
        for name, value in options.items():
            solver.setOptionValue(name, value)
        model = self.scaled.model
        status = pass_model(solver, model, np.zeros(model.columns, np.bool_))
        if status == highspy.HighsStatus.kError:
            msg = "HiGHS does not accept the LP relaxation; use --engine bab"
            raise NumericsError(msg)
        solver.cbSimplexInterrupt += self._on_iteration

    def _on_iteration(self, event: Any) -> None:
        if self.stop():
            event.interrupt()

    @property
    def seconds(self) -> float:
        """Run time of all LPs so far."""
        return float(self._solver.getRunTime())

    def solve(self, seconds: float) -> bool:
        """Whether HiGHS came to an optimum in time."""
        self._solver.setOptionValue("time_limit", self.seconds + seconds)
        self._solver.run()
        return bool(self._solver.getModelStatus() == self._kinds.kOptimal)

    @property
    def point(self) -> NDArray[np.float64]:
        return self.scaled.restore(np.asarray(self._solver.getSolution().col_value, dtype=np.float64))

    def bound(self) -> float:
        """Rigorous lower bound of the objective, at the duals of the last LP."""
        grown = self.scaled.model.extended(self.rows.matrix, self.rows.sides)
        return grown.dual_bound(np.asarray(self._solver.getSolution().row_dual)) * self.scaled.unit

    def add(self, found: Cuts) -> None:
        """Adds cuts, and drops those that are slack once they are the most."""
        tight = self._tight()
        if tight.sum() < len(tight) / 2:
            gone = (np.flatnonzero(~tight) + self.scaled.model.rows).astype(np.int32)
            self._solver.deleteRows(len(gone), gone)
            self.cuts, self.rows = self.cuts.select(tight), self.rows.select(tight)
        matrix, sides = scale_rows(csr_array(found.matrix.multiply(self.scaled.columns[None])), found.sides)
        self.cuts, self.rows = self.cuts + found, self.rows + Cuts(matrix, sides)
        self._solver.addRows(
            len(sides),
            np.full(len(sides), -np.inf),
            sides,
            matrix.nnz,
            matrix.indptr[:-1].astype(np.int32),
            matrix.indices.astype(np.int32),
            matrix.data,
        )

    def _tight(self) -> NDArray[np.bool_]:
        activity = np.asarray(self._solver.getSolution().row_value)[self.scaled.model.rows :]
        # What was added since the last LP has no activity yet, and counts as tight.
        activity = np.append(activity, self.rows.sides[len(activity) :])
        return np.asarray(activity > self.rows.sides - _SLACK)
