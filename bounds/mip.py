"""The sign of one pre-activation by mixed-integer programming, where its LP leaves it open.

The relaxation of `bounds.relaxation` gets one binary a_j for each unstable ReLU: p_j ≤ a_j, q_j ≤ 1 − a_j. This is
big-M with asymmetric bounds (Tjeng et al. 2019, §4), and exact. A solve ends as soon as the sign is known: the dual
bound is positive, or an incumbent is negative.

Soundness. A dual bound is **not** a proof: HiGHS works with tolerances and its tree is not exported. `allowance` is
subtracted from it, the most that meeting rows, bounds and binaries only within tolerance can change the objective:
worst case, accumulated through the layers. What stays trusted is HiGHS's search. Whoever uses such a bound says so
(`TightenReport.solver_trusted`). A negative incumbent claims nothing either: its input is evaluated before the neuron
counts as unstable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bounds.lp import matrix, throttled
from bounds.relaxation import SMALLEST, Relaxation

__all__ = ["TOLERANCE", "SignSearch", "allowance", "decide_sign"]

Array: TypeAlias = NDArray[np.float64]

#: For feasibility of rows, columns, binaries and reduced costs, on columns between −1 and 1 (HiGHS's least is 1e-10).
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class SignSearch:
    """What a MIP found out about ``min cost · (t, p) + constant``.

    Attributes:
        lower: the dual bound less the allowance; −inf where there is none. Rests on the solver.
        point: the best incumbent's network input, shape ``(inputs,)``; None without an incumbent.
        finished: False where time ran out or the search was interrupted from outside.
    """

    lower: float
    point: Array | None
    finished: bool


def allowance(relaxation: Relaxation, cost: Array, constant: float, tolerance: float = TOLERANCE) -> float:
    """How far below a solver's dual bound of ``cost · (t, p) + constant`` the true minimum may lie.

    Feasibility tolerances act through `Relaxation.leak`; reduced costs that are wrong by ``tolerance`` (of costs
    scaled to at most 1) act on each of the columns, whose range is at most 2.
    """
    largest = float(np.abs(cost).max(initial=0.0))
    columns = relaxation.m + 3 * relaxation.k
    rounding = (columns + 16) * 2.0**-52 * (float(np.abs(cost).sum()) + abs(constant))
    return float(np.abs(cost) @ relaxation.leak(tolerance)) + 4 * columns * tolerance * largest + rounding


def decide_sign(
    relaxation: Relaxation,
    cost: Array,
    constant: float,
    *,
    seconds: float,
    interrupted: Callable[[], bool] = bool,
) -> SignSearch:
    """Is ``cost · (t, p) + constant`` positive wherever p is the network's?

    Args:
        relaxation: everything before the neuron.
        cost: shape ``(m + k,)``.
        constant: added to the minimum.
        seconds: time limit.
        interrupted: asked often; True ends the search.
    """
    import highspy

    r = relaxation
    nothing = SignSearch(-np.inf, None, finished=True)
    largest = float(np.abs(cost).max(initial=0.0))
    if not 0 < largest < np.inf:
        return nothing
    unit = float(np.ldexp(1.0, int(np.frexp(largest)[1])))
    margin = allowance(r, cost, constant)
    if not margin < np.abs(cost).sum() + abs(constant):
        # The tolerances swamp the objective: no answer of the solver would mean anything.
        return nothing
    # In the solver's units the sign is known once the bound exceeds, or an incumbent falls below, these.
    proven, refuted = (margin - constant) / unit, -constant / unit
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("time_limit", max(seconds, 1e-3))
    for name in ("mip_feasibility_tolerance", "primal_feasibility_tolerance", "dual_feasibility_tolerance"):
        solver.setOptionValue(name, TOLERANCE)
    solver.setOptionValue("small_matrix_value", SMALLEST)
    solver.setOptionValue("mip_rel_gap", 0.0)
    solver.setOptionValue("mip_abs_gap", TOLERANCE)
    lp = matrix(r, binaries=True)
    lp.col_cost_ = np.concatenate([cost / unit, np.zeros(lp.num_col_ - len(cost))])
    if solver.passModel(lp) == highspy.HighsStatus.kError:
        return nothing
    outside = False
    ask = throttled(interrupted)

    def watch(event: Any) -> None:
        nonlocal outside
        seen = event.data_out
        if ask():
            outside = True
            event.interrupt()
        elif seen.mip_dual_bound > proven or seen.mip_primal_bound < refuted:
            event.interrupt()

    solver.cbMipInterrupt += watch
    solver.run()
    kinds, status, info = highspy.HighsModelStatus, solver.getModelStatus(), solver.getInfo()
    if status not in (kinds.kOptimal, kinds.kInterrupt, kinds.kTimeLimit, kinds.kSolutionLimit):
        # "Infeasible" included: the region is not empty, so it would only show that the tolerances got in the way.
        return nothing
    bound = float(info.mip_dual_bound)
    lower = bound * unit + constant - margin if np.isfinite(bound) else -np.inf
    point = None
    if info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible:
        point = r.point(np.nan_to_num(np.asarray(solver.getSolution().col_value, dtype=np.float64)[: r.m]))
    return SignSearch(lower, point, finished=not outside and status != kinds.kTimeLimit)
