"""HiGHS through highspy: matrices handed over as they are, callbacks for bounds, incumbents and stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solver.backends.base import Availability, MilpBackend, MilpOutcome, MilpStatus, Search
from solver.compiled import TOLERANCE, CompiledModel
from solver.errors import NumericsError

if TYPE_CHECKING:
    import highspy

__all__ = ["Highs", "pass_model"]

#: Options that are set on purpose; HiGHS' defaults hold for the others.
OPTIONS: dict[str, Any] = {
    "output_flag": False,
    "random_seed": 0,
    "mip_rel_gap": 0.0,
    "mip_abs_gap": 0.0,
    "mip_feasibility_tolerance": TOLERANCE,
    "primal_feasibility_tolerance": TOLERANCE,
    "dual_feasibility_tolerance": TOLERANCE,
    # Models arrive scaled, and without terms below solver.compiled.SMALLEST: HiGHS shall drop none.
    "small_matrix_value": 1e-12,
}


class Highs(MilpBackend):
    """The open-source solver HiGHS. It solves MILPs; it has no MIQP."""

    name = "highs"
    capabilities = frozenset({"milp"})

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        self._options = {**OPTIONS, **(options or {})}

    def available(self) -> Availability:
        try:
            import highspy
        except ImportError as error:
            return Availability(ok=False, why=f"highspy cannot be imported ({error}); install highspy")
        return Availability(ok=True, version=highspy.Highs().version(), licence="MIT licence")

    def prepare(self, model: CompiledModel, *, deadline: float, threads: int) -> Callable[[Search], MilpOutcome]:
        solver = self._loaded(model, threads)
        return lambda search: _run(solver, search, deadline, mixed=bool(model.integral.any()))

    def _loaded(self, model: CompiledModel, threads: int) -> highspy.Highs:
        import highspy

        solver = highspy.Highs()
        for option, value in {**self._options, "threads": threads}.items():
            _require(solver.setOptionValue(option, value), f"option {option} = {value!r}")
        _require(pass_model(solver, model, model.integral), "the model")
        count = model.matrix.nnz
        if solver.getNumNz() != count:
            msg = f"HiGHS would drop {count - solver.getNumNz()} of {count} coefficients as too small; use --engine bab"
            raise NumericsError(msg)
        return solver


def pass_model(solver: highspy.Highs, model: CompiledModel, integral: NDArray[np.bool_]) -> Any:
    """Hands a model to HiGHS, with these of its columns as integers; what HiGHS says to it."""
    import highspy

    matrix = model.matrix
    return solver.passModel(
        model.columns,
        model.rows,
        matrix.nnz,
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMinimize),
        model.offset,
        model.cost,
        model.lower,
        model.upper,
        model.row_lower,
        model.row_upper,
        matrix.indptr.astype(np.int32),
        matrix.indices.astype(np.int32),
        matrix.data,
        integral.astype(np.int32),
    )


def _require(status: Any, what: str) -> None:
    """Raises:
    NumericsError: HiGHS did not accept ``what`` without reservation.
    """
    import highspy

    if status != highspy.HighsStatus.kOk:
        msg = f"HiGHS does not accept {what} as it is (status {status.name}); use --engine bab or another back end"
        raise NumericsError(msg)


def _run(solver: highspy.Highs, search: Search, deadline: float, *, mixed: bool) -> MilpOutcome:
    """Runs HiGHS to its end in this thread, reporting to ``search``."""
    import highspy

    def on_mip(event: Any) -> None:
        out = event.data_out
        if search.bounds(out.mip_primal_bound, out.mip_dual_bound, out.mip_node_count):
            event.interrupt()

    def on_lp(event: Any) -> None:
        if search.stopping is not None:
            event.interrupt()

    def on_solution(event: Any) -> None:
        search.incumbent(np.asarray(event.data_out.mip_solution), event.data_out.objective_function_value)

    solver.cbMipInterrupt += on_mip
    solver.cbSimplexInterrupt += on_lp
    solver.cbIpmInterrupt += on_lp
    solver.cbMipImprovingSolution += on_solution
    if math.isfinite(deadline):
        solver.setOptionValue("time_limit", max(0.0, deadline - time.monotonic()))
    try:
        status = solver.run()
    finally:
        solver.clearCallbacks()
    model_status = solver.getModelStatus()
    message = f"HiGHS: {solver.modelStatusToString(model_status)}"
    info = solver.getInfo()
    kind = highspy.HighsModelStatus
    if info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible:
        search.incumbent(np.asarray(solver.getSolution().col_value), info.objective_function_value)
    if status == highspy.HighsStatus.kError:
        return search.outcome(MilpStatus.FAILED, f"{message}, run() failed")
    if model_status == kind.kOptimal:
        # A model without integers is an LP, and HiGHS sets no MIP bound for it.
        search.bounds(info.objective_function_value, info.mip_dual_bound if mixed else info.objective_function_value, 0)
        return search.outcome(MilpStatus.OPTIMAL, message)
    if mixed:
        search.bounds(math.inf, info.mip_dual_bound, max(0, info.mip_node_count))
    if model_status == kind.kInfeasible:
        return search.outcome(MilpStatus.INFEASIBLE, message)
    if model_status == kind.kTimeLimit:
        return search.outcome(search.stopping or MilpStatus.TIMEOUT, message)
    if model_status == kind.kMemoryLimit:
        return search.outcome(MilpStatus.MEMORY, message)
    return search.outcome(search.stopping or MilpStatus.FAILED, message)
