"""The LP of a cell: the best that any multipliers can prove there, or the ReLU to split next.

On a cell every ReLU whose phase is chosen is linear, and the others are relaxed to their triangles
(`bounds.relaxation`). Where the LP's optimum is positive its duals close the cell; where it is not, either the optimal
point violates the clause in truth, or some ReLU's relaxation is loose there and splitting it excludes the point.

One model serves all cells: only bounds of columns change, and the dual simplex goes on from the last cell's basis.

A region's constraints are rows of the LP. An ℓ1 ball is a few more, with a column for each input. An ℓ2 ball is cut out
by tangents, as many as the optimum needs. Of an ℓ0 ball the LP knows the convex hull: where no ReLU is loose and the
optimum lies outside the ball, the cell stays undecided, and only a MILP can decide it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bounds.lp import loaded, throttled
from bounds.relaxation import Relaxation, objectives
from networks.property import Clause
from solver.leaf_inputs import InputRows, Rows
from solver.split_region import SplitRegion

__all__ = ["CellProgram", "Leaf"]

Array = NDArray[np.float64]

# Tangents of an ℓ2 ball that one optimum may take; they are kept for later cells.
_TANGENTS = 60
# What lies off a ReLU's graph by less than this does so for rounding's sake only.
_TIGHT = 1e-9
# The first method goes on from the last basis; where numbers of very different sizes defeat it, the others begin anew.
_METHODS: tuple[dict[str, str | int], ...] = (
    {"solver": "simplex", "presolve": "off", "simplex_scale_strategy": 0},
    {"solver": "simplex", "presolve": "off", "simplex_scale_strategy": 2},
    {"solver": "ipm", "presolve": "on"},
)


@dataclass(frozen=True, eq=False)
class Leaf:
    """What the LP suggests; nothing here is trusted.

    Attributes:
        weights: nonnegative weights of the clause's rows, shape ``(rows,)``; all zero where the cell seems empty.
        multipliers: Λ at the K columns, shape ``(K,)``.
        constraints: multipliers of the region's constraints, one for each.
        point: where the LP's margin is smallest, shape ``(inputs,)``; None where the cell seems empty.
        loose: the unchosen columns whose relaxation is not tight at that point, loosest first; without a point, all
            unchosen columns that matter.
    """

    weights: NDArray[np.float64]
    multipliers: NDArray[np.float64]
    constraints: NDArray[np.float64]
    point: NDArray[np.float64] | None
    loose: NDArray[np.int64]

    @classmethod
    def silent(cls, rows: int, constraints: int, free: NDArray[np.bool_]) -> Self:
        """Where an LP says nothing; smaller cells, with a phase for one of the ``free`` columns, may be easier."""
        return cls(np.zeros(rows), np.zeros(len(free)), np.zeros(constraints), None, np.flatnonzero(free))


class CellProgram:
    """The LP of one clause over one region; a cell only changes bounds of its columns.

    Variables are t, p and q of `bounds.relaxation`, the margin μ and the columns e of `InputRows`: min μ subject to the
    defining rows, the face rows, ``μ ≥ C_r y + d_r`` for every row r of the clause, and the region's rows, in this
    order. Phase +1 of neuron j is ``q_j ≤ 0``, phase −1 is ``p_j ≤ 0``. Where that is infeasible, a dual ray (Farkas)
    has the multipliers that prove the cell empty.
    """

    def __init__(self, over: SplitRegion, relaxation: Relaxation, clause: Clause) -> None:
        """``relaxation`` is that of ``over``."""
        import highspy

        self._highspy = highspy
        self._relaxation = r = relaxation
        m, k = r.m, r.k
        order = [(node, int(j)) for node, neurons in zip(r.nodes, r.neurons, strict=True) for j in neurons]
        place = {neuron: position for position, neuron in enumerate(order)}
        #: For each of the K columns its position among the k neurons of the LP, -1 if the output ignores it.
        self._position = np.array(
            [place.get(over.cells.neuron(c), -1) for c in range(over.cells.columns)], dtype=np.int64
        )
        costs, constants = objectives(over.network, over.enclosure, r, -1, np.arange(over.network.outputs))
        rows, offsets = clause.matrix @ costs, clause.matrix @ constants + clause.offsets
        self._count = len(offsets)
        #: μ is in units of this power of two.
        self._unit = float(np.ldexp(1.0, np.frexp(np.abs(rows).max(initial=2.0**-40))[1]))
        margin = m + 2 * k
        self._inputs = InputRows(over.region, r)
        self._solver = solver = loaded(r)
        self._columns = np.arange(m, margin, dtype=np.int32)
        self._interrupted: Callable[[], bool] = bool
        solver.cbSimplexInterrupt += self._on_iteration
        solver.cbIpmInterrupt += self._on_iteration
        self._add_columns()
        margins = np.hstack([rows / self._unit, np.zeros((self._count, k)), -np.ones((self._count, 1))])
        self._add(Rows.dense(margins, -offsets / self._unit))
        fixed = self._inputs.fixed.moved(np.append(np.arange(m), np.arange(self._inputs.extra) + margin + 1))
        fixed, self._scale = fixed.scaled()
        self._add(fixed)

    def _add_columns(self) -> None:
        """μ, whose cost is 1, and e, without any coefficients yet."""
        extra, infinite = self._inputs.extra, self._highspy.kHighsInf
        zeros, no_index, no_value = np.zeros(extra), np.zeros(0, np.int32), np.zeros(0)
        lower, upper = np.append(-infinite, zeros), np.full(extra + 1, infinite)
        starts = np.zeros(extra + 1, np.int32)
        self._solver.addCols(extra + 1, np.append(1.0, zeros), lower, upper, 0, starts, no_index, no_value)

    def solve(self, phases: NDArray[np.int8], stop: Callable[[], bool] = bool) -> Leaf | None:
        """Minimises the clause's margin over the cell ``phases``, shape ``(K,)``; None if ``stop`` ended that."""
        r, k = self._relaxation, self._relaxation.k
        chosen = np.zeros(k, dtype=np.int8)
        known = self._position >= 0
        chosen[self._position[known]] = phases[known]
        ends = np.concatenate([np.where(chosen < 0, 0.0, 1.0), np.where(chosen > 0, 0.0, 1.0)])
        self._solver.changeColsBounds(2 * k, self._columns, np.zeros(2 * k), ends)
        self._interrupted = throttled(stop)
        kinds = self._highspy.HighsModelStatus
        status = self._minimum()
        if status == kinds.kInterrupt:
            return None
        if status == kinds.kOptimal:
            found = self._solver.getSolution()
            duals, x = np.asarray(found.row_dual), np.asarray(found.col_value)
            weights = np.maximum(-duals[2 * k : 2 * k + self._count], 0)
            p, q = x[r.m : r.m + k], x[r.m + k : r.m + 2 * k]
            slack = np.where(chosen == 0, np.minimum(p * r.above, q * r.below), 0.0)
            loose = np.argsort(-slack)[: int((slack > _TIGHT).sum())]
            columns = np.flatnonzero(np.isin(self._position, loose))
            columns = columns[np.argsort(-slack[self._position[columns]])]
            return Leaf(weights, *self._multipliers(duals * self._unit), r.point(x[: r.m]), columns)
        silent = Leaf.silent(self._count, self._inputs.constraints, known & (phases == 0))
        if status != kinds.kInfeasible:
            return silent
        _, exists, ray = self._solver.getDualRay()
        if not exists:
            return silent
        multipliers, constraints = self._multipliers(ray / np.abs(ray).max())
        return replace(silent, multipliers=multipliers, constraints=constraints)

    def _minimum(self) -> Any:
        """HiGHS's status of the cell's LP, whose optimum lies in the ℓ2 ball if there is one."""
        kinds = self._highspy.HighsModelStatus
        status = self._run()
        for _ in range(_TANGENTS):
            if status != kinds.kOptimal:
                break
            tangent = self._inputs.tangent(np.asarray(self._solver.getSolution().col_value)[: self._relaxation.m])
            if tangent is None:
                break
            self._add(tangent.scaled()[0])
            status = self._run()
        return status

    def _run(self) -> Any:
        kinds, solver = self._highspy.HighsModelStatus, self._solver
        for turn, options in enumerate(_METHODS):
            for name, value in options.items():
                solver.setOptionValue(name, value)
            if turn:
                solver.clearSolver()
            solver.run()
            status = solver.getModelStatus()
            if status in (kinds.kOptimal, kinds.kInfeasible, kinds.kInterrupt):
                break
        return status

    def _on_iteration(self, event: Any) -> None:
        event.interrupt(self._interrupted())  # what was asked of an earlier run would stay

    def _add(self, rows: Rows) -> None:
        start, index, value = rows.compressed()
        lower = np.full(len(rows), -self._highspy.kHighsInf)
        self._solver.addRows(len(rows), lower, rows.limits, len(value), start[:-1], index, value)

    def _multipliers(self, duals: Array) -> tuple[Array, Array]:
        """Λ at the K columns and the multipliers of the region's constraints: duals, undoing their rows' scales."""
        r = self._relaxation
        known = self._position >= 0
        out = np.zeros(len(self._position))
        with np.errstate(over="ignore", invalid="ignore"):  # rows may be as small as float64 knows
            own = duals[: r.k] / r.scale
        out[known] = np.where(np.isfinite(own), own, 0.0)[self._position[known]]
        first, constraints = 2 * r.k + self._count, self._inputs.constraints
        return out, -duals[first : first + constraints] / self._scale[:constraints]
