"""Linear programs over a relaxation, and the rigorous bounds that their duals give.

One model serves all neurons of a node; only the objective changes. HiGHS's dual simplex starts each time from the
vertex that backward linear bounds suggest (`Relaxation.vertex`): on a dense 784-256 layer that took a sixth to a half
of the time of a start from the previous optimum, a tenth to a seventh of one from scratch; primal simplex, interior
points and PDLP took longer.

Sign convention. Everything is a minimisation. HiGHS's row dual is the rate at which the minimum grows with a row's
right-hand side. For the defining row ẑ_j − E_j x − F_j h = c_j, which is HiGHS's row times s_j, this is Λ_j = (HiGHS's
dual)/s_j, and Λ is exactly the multiplier of ẑ_j in `bounds.backward`'s formula: the Lagrangian term
−Λ_j (ẑ_j − E_j x − F_j h − c_j) adds Λ_j c_j to the constant and Λ_j F_j to the coefficients of earlier h, and leaves
A_j h_j − Λ_j ẑ_j to be minimised. An upper bound of z is minus the minimum of −z.

Soundness. The solver's objective value is never used as a bound. `safe_bounds` evaluates the formula at the duals; it
holds for any multipliers, so whatever HiGHS returns (a wrong optimum, a basis at which it was interrupted) can only
make the bound weaker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bounds.relaxation import SMALLEST, Relaxation

if TYPE_CHECKING:
    from bounds.enclosure import Enclosure
    from networks.graph import Network
    from networks.region import Region

__all__ = ["Optimum", "Simplex", "compressed", "loaded", "matrix", "safe_bounds", "throttled"]

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Optimum:
    """Where an LP ended.

    Attributes:
        value: HiGHS's minimum of ``cost · (t, p)``: a hint for what to do next, never a bound.
        duals: Λ of the defining rows, shape ``(k,)``.
        point: the minimiser's network input, shape ``(inputs,)``.
        optimal: False where the LP was interrupted and the duals are those of its last basis.
    """

    value: float
    duals: Array
    point: Array
    optimal: bool


class Simplex:
    """HiGHS on one relaxation, one thread; `minimise` may be called any number of times."""

    def __init__(self, relaxation: Relaxation) -> None:
        import highspy

        self._highspy = highspy
        self._relaxation = relaxation
        self._interrupted: Callable[[], bool] = bool
        self._solver = solver = loaded(relaxation)
        self._columns = np.arange(relaxation.m + relaxation.k, dtype=np.int32)
        solver.cbSimplexInterrupt += self._on_iteration

    def minimise(self, cost: Array, *, seconds: float, interrupted: Callable[[], bool] = bool) -> Optimum | None:
        """The minimum of ``cost · (t, p)`` over the relaxation.

        Args:
            cost: shape ``(m + k,)``.
            seconds: time limit; what HiGHS has at that point is returned.
            interrupted: asked between iterations; True ends the solve.

        Returns:
            None where HiGHS has no duals to offer (a model that it refuses, an interruption before the first basis).
        """
        r, solver, kinds = self._relaxation, self._solver, self._highspy.HighsModelStatus
        largest = float(np.abs(cost).max(initial=0.0))
        if not np.isfinite(largest):
            return None
        # A power of two: the duals are scaled back without rounding.
        unit = float(np.ldexp(1.0, int(np.frexp(largest)[1]))) if largest > 0 else 1.0
        scaled = cost / unit
        solver.changeColsCost(len(scaled), self._columns, scaled)
        solver.setBasis(self._basis(scaled))
        # HiGHS holds the limit against the time of all its runs together.
        solver.setOptionValue("time_limit", solver.getRunTime() + max(seconds, 1e-3))
        self._interrupted = throttled(interrupted)
        solver.run()
        status = solver.getModelStatus()
        stopped = (kinds.kTimeLimit, kinds.kInterrupt, kinds.kIterationLimit)
        if status != kinds.kOptimal and status not in stopped:
            return None
        solution = solver.getSolution()
        duals = np.asarray(solution.row_dual, dtype=np.float64)[: r.k]
        if len(duals) != r.k or not np.isfinite(duals).all():
            return None
        t = np.asarray(solution.col_value, dtype=np.float64)[: r.m]
        return Optimum(
            value=float(solver.getInfo().objective_function_value) * unit,
            duals=duals / r.scale * unit,
            point=r.point(np.nan_to_num(t)),
            optimal=status == kinds.kOptimal,
        )

    def _basis(self, cost: Array) -> Any:
        vertex, status = self._relaxation.vertex(cost), self._highspy.HighsBasisStatus
        basic, lower, upper = status.kBasic, status.kLower, status.kUpper
        face, positive = vertex.face, vertex.positive
        basis = self._highspy.HighsBasis()
        basis.col_status = (
            [upper if up else lower for up in vertex.at_upper.tolist()]
            + [basic if inside else lower for inside in (face | positive).tolist()]
            + [basic if inside else lower for inside in (face | ~positive).tolist()]
        )
        basis.row_status = [lower] * len(face) + [upper if tight else basic for tight in face.tolist()]
        basis.valid = True
        return basis

    def _on_iteration(self, event: Any) -> None:
        event.interrupt(self._interrupted())  # what was asked of an earlier run would stay


def loaded(relaxation: Relaxation) -> Any:
    """A ``Highs`` with `matrix`, on one thread, for dual simplex from the basis that it is given or had last."""
    import highspy

    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("presolve", "off")  # it would discard the starting basis
    solver.setOptionValue("simplex_strategy", 1)
    solver.setOptionValue("simplex_scale_strategy", 0)  # the relaxation is scaled
    solver.setOptionValue("small_matrix_value", SMALLEST)
    solver.passModel(matrix(relaxation, binaries=False))
    return solver


def matrix(relaxation: Relaxation, *, binaries: bool) -> Any:
    """The relaxation as a ``HighsLp`` with zero costs: columns t, p, q (and a); rows as in `bounds.relaxation`."""
    import highspy

    r, m, k = relaxation, relaxation.m, relaxation.k
    each = np.arange(k)
    lengths = np.diff(r.start)
    defining = np.repeat(each, lengths)
    rows = [defining, each, each]
    cols = [r.index, m + each, m + k + each]
    values = [-r.value, r.above, -r.below]
    if binaries:
        # p_j − a_j ≤ 0 and q_j + a_j ≤ 1.
        rows += [k + each, k + each, 2 * k + each, 2 * k + each]
        cols += [m + each, m + 2 * k + each, m + k + each, m + 2 * k + each]
        values += [np.ones(k), -np.ones(k), np.ones(k), np.ones(k)]
        limits = np.concatenate([np.zeros(k), np.ones(k)])
    else:
        rows += [k + each, k + each]
        cols += [m + each, m + k + each]
        values += [np.ones(k), np.ones(k)]
        limits = np.ones(k)
    start, index, value = compressed(
        np.concatenate(rows), np.concatenate(cols), np.concatenate(values), k + len(limits)
    )
    lp = highspy.HighsLp()
    lp.num_col_ = m + (3 if binaries else 2) * k
    lp.num_row_ = k + len(limits)
    lp.col_cost_ = np.zeros(lp.num_col_)
    lp.col_lower_ = np.concatenate([-np.ones(m), np.zeros(lp.num_col_ - m)])
    lp.col_upper_ = np.ones(lp.num_col_)
    lp.row_lower_ = np.concatenate([r.rhs, np.full(len(limits), -highspy.kHighsInf)])
    lp.row_upper_ = np.concatenate([r.rhs, limits])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.num_col_ = lp.num_col_
    lp.a_matrix_.num_row_ = lp.num_row_
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = start, index, value
    if binaries:
        kinds = highspy.HighsVarType
        lp.integrality_ = [kinds.kContinuous] * (m + 2 * k) + [kinds.kInteger] * k
    return lp


def compressed(
    row: NDArray[np.int64], column: NDArray[np.int64], value: Array, rows: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], Array]:
    """Where each of the rows starts, and one more for the last one's end, the columns and the values, from triplets."""
    order = np.argsort(row, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))])
    return start.astype(np.int32), column[order].astype(np.int32), value[order]


def safe_bounds(
    network: Network,
    region: Region,
    enclosure: Enclosure,
    relaxation: Relaxation,
    node: int,
    indices: NDArray[np.int64],
    signs: Array,
    duals: Array,
) -> Array:
    """Rigorous lower bounds of ``signs[r] · z[indices[r]]``, z the value of ``node``, shape ``(R,)``.

    Args:
        network: the network.
        region: the input region.
        enclosure: any valid bounds; those that ``relaxation`` was built from, or tighter ones.
        relaxation: tells which neurons the duals belong to.
        node: index of the node.
        indices: shape ``(R,)``.
        signs: ±1, shape ``(R,)``.
        duals: Λ, shape ``(R, k)``; any finite values are valid.
    """
    from bounds.single import lower_bounds  # loads torch, which workers do without

    C = np.zeros((len(indices), network.nodes[node].features))
    C[np.arange(len(indices)), indices] = signs
    features = {r: network.nodes[r].features for r in relaxation.nodes}
    return lower_bounds(network, region, enclosure, C, node, relaxation.multipliers(duals, features))


def throttled(ask: Callable[[], bool], every: float = 0.02) -> Callable[[], bool]:
    """``ask``, at most once in ``every`` seconds: HiGHS calls back at each of thousands of iterations a second."""
    last = -np.inf

    def answer() -> bool:
        nonlocal last
        now = time.monotonic()
        if now - last < every:
            return False
        last = now
        return ask()

    return answer
