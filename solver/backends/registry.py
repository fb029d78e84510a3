"""The MIP back ends by name, and the choice between them."""

from __future__ import annotations

from solver.backends.base import MilpBackend
from solver.backends.gurobi import Gurobi
from solver.backends.highs import Highs
from solver.compiled import CompiledModel
from solver.options import Backend

__all__ = ["BACKENDS", "choose"]

#: Every back end; a new one is added here.
BACKENDS: dict[Backend, MilpBackend] = {Backend.HIGHS: Highs(), Backend.GUROBI: Gurobi()}


def choose(wanted: Backend, model: CompiledModel) -> tuple[MilpBackend, str]:
    """The back end for ``model``, and why it is this one.

    ``auto`` takes Gurobi where its licence admits the model, else HiGHS.

    Raises:
        BackendUnavailableError: the back end that was asked for is not installed or has no licence.
        LicenceLimitError: it has, but not for a model of this size.
    """
    if wanted is not Backend.AUTO:
        chosen = BACKENDS[wanted]
        chosen.available().check(model, chosen.name.capitalize())
        return chosen, "as asked"
    availability = BACKENDS[Backend.GUROBI].available()
    if not availability.ok:
        return BACKENDS[Backend.HIGHS], availability.why
    if availability.limit is not None and not availability.limit.admits(model):
        why = f"{availability.licence} admits {availability.limit.describe(model)}"
        return BACKENDS[Backend.HIGHS], why
    return BACKENDS[Backend.GUROBI], f"Gurobi {availability.version} with {availability.licence}"
