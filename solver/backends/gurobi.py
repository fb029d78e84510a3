"""Gurobi through gurobipy's matrix interface, with whatever licence is found.

gurobipy brings a licence that is limited in size. A larger one is found the way Gurobi finds it
(``GRB_LICENSE_FILE``, a ``gurobi.lic`` in the usual places, web licence variables); which limit applies is decided by
trying, not by reading licences.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from solver.backends.base import Availability, MilpBackend, MilpOutcome, MilpStatus, Search, SizeLimit
from solver.compiled import TOLERANCE, CompiledModel
from solver.errors import BackendError, LicenceLimitError
from solver.squares import Squares

if TYPE_CHECKING:
    import gurobipy

__all__ = ["Gurobi"]

#: Variables and constraints that the licence inside gurobipy admits, and variables beside quadratic terms.
RESTRICTED = SizeLimit(columns=2000, rows=2000, quadratic=199)

#: Parameters that are set on purpose; Gurobi's defaults hold for the others.
PARAMETERS: dict[str, Any] = {
    "Seed": 0,
    "MIPGap": 0.0,
    "MIPGapAbs": 0.0,
    "FeasibilityTol": TOLERANCE,
    "OptimalityTol": TOLERANCE,
    "IntFeasTol": TOLERANCE,
    "IntegralityFocus": 1,
    # Its default of 1e-6 would be all of the gap that two solvers may have between them.
    "BarQCPConvTol": 1e-9,
}

_SIZE_LIMIT_EXCEEDED = 10010


class Gurobi(MilpBackend):
    """The commercial solver Gurobi."""

    name = "gurobi"
    capabilities = frozenset({"milp", "miqp"})

    def __init__(self, parameters: dict[str, Any] | None = None) -> None:
        self._parameters = {**PARAMETERS, **(parameters or {})}

    def available(self) -> Availability:
        settings = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(("GRB_", "GUROBI_"))))
        return _probe(settings)

    def prepare(self, model: CompiledModel, *, deadline: float, threads: int) -> Callable[[Search], MilpOutcome]:
        def run(search: Search) -> MilpOutcome:
            with _environment({**self._parameters, "Threads": threads}) as environment:
                return _run(model, environment, search, deadline, self.available())

        return run


@contextmanager
def _environment(parameters: dict[str, Any]) -> Iterator[gurobipy.Env]:
    """A Gurobi environment that prints nothing; it holds the licence until it is left."""
    import gurobipy

    with gurobipy.Env(empty=True) as environment:
        environment.setParam("OutputFlag", 0)
        environment.start()
        for name, value in parameters.items():
            environment.setParam(name, value)
        yield environment


@lru_cache(maxsize=4)
def _probe(_settings: tuple[tuple[str, str], ...]) -> Availability:
    """Tries to solve a model that is just too large for the restricted licence.

    ``_settings`` are the environment variables that Gurobi reads, so that a change of them is noticed.
    """
    try:
        import gurobipy
    except ImportError as error:
        return Availability(
            ok=False, why=f"gurobipy cannot be imported ({error}); install gurobipy or use --backend highs"
        )
    version = ".".join(map(str, gurobipy.gurobi.version()))
    try:
        with _environment({}) as environment, gurobipy.Model(env=environment) as model:
            model.addMVar(RESTRICTED.columns + 1)
            try:
                model.optimize()
            except gurobipy.GurobiError as error:
                if error.errno != _SIZE_LIMIT_EXCEEDED:
                    raise
                return Availability(True, version, "the restricted licence that comes with gurobipy", RESTRICTED)
    except gurobipy.GurobiError as error:
        return Availability(ok=False, version=version, why=f"Gurobi {version} has no usable licence: {error.message}")
    return Availability(ok=True, version=version, licence="a full licence")


def _run(
    model: CompiledModel, environment: gurobipy.Env, search: Search, deadline: float, availability: Availability
) -> MilpOutcome:
    """Runs Gurobi to its end in this thread, reporting to ``search``."""
    import gurobipy
    from gurobipy import GRB

    with gurobipy.Model(env=environment) as native:
        variables = native.addMVar(
            model.columns,
            lb=model.lower,
            ub=model.upper,
            obj=model.cost,
            vtype=np.where(model.integral, GRB.BINARY, GRB.CONTINUOUS),
        )
        native.ObjCon = model.offset
        _add_rows(native, model, variables)
        _add_squares(native, model, variables)

        def callback(current: Any, where: int) -> None:
            if where == GRB.Callback.MIP:
                search.bounds(
                    _finite(current.cbGet(GRB.Callback.MIP_OBJBST)),
                    _finite(current.cbGet(GRB.Callback.MIP_OBJBND)),
                    int(current.cbGet(GRB.Callback.MIP_NODCNT)),
                )
            elif where == GRB.Callback.MIPSOL:
                search.incumbent(current.cbGetSolution(variables), current.cbGet(GRB.Callback.MIPSOL_OBJ))
            if search.stopping is not None:
                current.terminate()

        if math.isfinite(deadline):
            native.Params.TimeLimit = max(0.0, deadline - time.monotonic())
        try:
            native.optimize(callback)
        except gurobipy.GurobiError as error:
            if error.errno == _SIZE_LIMIT_EXCEEDED:
                msg = (
                    f"Gurobi refuses this query's model ({model.columns} variables, {model.rows} constraints) as too "
                    f"large for {availability.licence}; use --backend highs"
                )
                raise LicenceLimitError(msg) from error
            msg = f"Gurobi failed with error {error.errno}: {error.message}; use --backend highs"
            raise BackendError(msg) from error
        return _outcome(native, variables, search)


def _add_rows(native: Any, model: CompiledModel, variables: Any) -> None:
    below, above = np.isfinite(model.row_upper), np.isfinite(model.row_lower)
    equal = below & above & (model.row_lower == model.row_upper)
    for chosen, sense, side in (
        (equal, "=", model.row_upper),
        (below & ~equal, "<", model.row_upper),
        (above & ~equal, ">", model.row_lower),
    ):
        if chosen.any():
            native.addMConstr(model.matrix[chosen], variables, sense, side[chosen])


def _add_squares(native: Any, model: CompiledModel, variables: Any) -> None:
    def expanded(squares: Squares) -> Any:
        chosen = variables[squares.columns]
        square = (squares.weights * chosen * chosen).sum()
        return square - (2 * squares.weights * squares.centers) @ chosen + float(squares.weights @ squares.centers**2)

    if model.squares is not None and len(model.squares.columns):
        native.setObjective(model.cost @ variables + model.offset + expanded(model.squares))
    for row in model.quadratic:
        if len(row.squares.columns):
            native.addConstr(expanded(row.squares) <= row.limit)


def _outcome(native: Any, variables: Any, search: Search) -> MilpOutcome:
    from gurobipy import GRB

    if native.SolCount:
        search.incumbent(variables.X, native.ObjVal)
    if native.Status == GRB.NUMERIC:
        return search.outcome(MilpStatus.FAILED, "Gurobi: numerical trouble")
    if native.Status == GRB.OPTIMAL:
        search.bounds(native.ObjVal, _finite(native.ObjBound), int(native.NodeCount))
        return search.outcome(MilpStatus.OPTIMAL, "Gurobi: optimal")
    # Every column is bounded, so "infeasible or unbounded" can only mean the former.
    if native.Status in {GRB.INFEASIBLE, GRB.INF_OR_UNBD}:
        return search.outcome(MilpStatus.INFEASIBLE, "Gurobi: infeasible")
    if native.Status in {GRB.INTERRUPTED, GRB.TIME_LIMIT}:
        search.bounds(math.inf, _finite(native.ObjBound), int(native.NodeCount))
        stopped = MilpStatus.TIMEOUT if native.Status == GRB.TIME_LIMIT else MilpStatus.FAILED
        return search.outcome(search.stopping or stopped, "Gurobi: stopped")
    if native.Status == GRB.MEM_LIMIT:
        return search.outcome(MilpStatus.MEMORY, "Gurobi: out of memory")
    return search.outcome(MilpStatus.FAILED, f"Gurobi: status {native.Status}")


def _finite(value: float) -> float:
    """Gurobi's 1e100 for "none" as an infinity."""
    return math.copysign(math.inf, value) if abs(value) >= 1e100 else float(value)
