"""Questions of kind ``universal``: one perturbation of many inputs, by the names of the other questions.

Their members are ``inputs`` (one list of numbers for each), ``labels``, ``epsilon`` and ``domain``. The answer is a
document like a verdict's: ``counterexample`` where a perturbation that flips an input was replayed, ``robust`` where
none flips any, else ``unknown``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from networks.errors import InputError, PropertyError, RegionError
from networks.property import Property
from networks.region import Region
from solver.options import Budget, Options
from solver.reading import Fault, Reading, Signature, WrongError, index
from solver.verdict import Outcome, Progress, Trust

if TYPE_CHECKING:
    from networks.graph import Network
    from solver.universal import UniversalPerturbation

__all__ = ["UNIVERSAL", "as_document", "search_universal", "universal_faults"]

UNIVERSAL = ("inputs", "labels", "epsilon", "domain")


def universal_faults(members: Mapping[str, Any], signature: Signature) -> list[Fault]:
    """All that is wrong with a universal question about a network with this signature."""
    reading = Reading(members, signature)
    with suppress(WrongError):
        _read(reading)
    return reading.found


def search_universal(
    network: Network,
    *,
    options: Options | None = None,
    budget: Budget | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    **members: Any,
) -> UniversalPerturbation:
    """The best universal perturbation, see `solver.universal.universal_perturbation`.

    Args:
        network: the network.
        options, budget, progress, cancel: see `solver.answer`; of the options, the back end counts.
        members: those named in `UNIVERSAL`.

    Raises:
        InputError: the first thing that is wrong with the members.
        BackendError: the back end cannot serve, or the model is too large.
    """
    from solver.universal import universal_perturbation  # brings torch

    options, budget = options or Options(), budget or Budget()
    reading = Reading(members, network)
    with suppress(WrongError):
        points, labels = _read(reading)
    if reading.found:
        raise reading.found[0].error
    started = time.monotonic()

    def report(flipped: int, bound: int, nodes: int) -> None:
        if progress is not None:
            seconds = time.monotonic() - started
            progress(Progress("universal", seconds, lower=flipped, upper=bound, nodes=nodes, measures="flips"))

    return universal_perturbation(
        network,
        points,
        labels,
        members["epsilon"],
        members.get("domain"),
        backend=options.backend,
        deadline=started + budget.seconds,
        threads=budget.threads,
        progress=report,
        cancel=cancel,
    )


def as_document(found: UniversalPerturbation) -> dict[str, Any]:
    """A universal perturbation as JSON, with the members of a verdict that apply."""
    outcome, trust = Outcome.UNKNOWN, None
    if found.flipped:
        outcome, trust = Outcome.COUNTEREXAMPLE, Trust.REPLAYED
    elif found.bound == 0:
        outcome, trust = Outcome.ROBUST, Trust.SOLVER
    return {
        "verdict": str(outcome),
        "trust": str(trust) if trust else None,
        "kind": "universal",
        "margin": [None, None],
        "universal": {
            "flips": [len(found.flipped), found.bound],
            "flipped": list(found.flipped),
            "robust": list(found.robust),
            "delta": found.delta.astype(float).tolist(),
        },
        "seconds": round(found.seconds, 6),
        "stages": [],
        "reason": str(found.reason) if found.reason else None,
        "statistics": {"backend": found.backend, "choice": found.choice, "nodes": found.nodes} | found.statistics,
    }


def _read(reading: Reading) -> tuple[NDArray[np.float64], list[int]]:
    for name in reading.given.keys() - {*UNIVERSAL, "kind"}:
        msg = f"{name} is no part of a universal perturbation, which has {', '.join(UNIVERSAL)}"
        reading.wrong(InputError(msg), name)
    for name in ("inputs", "labels", "epsilon"):
        if name not in reading.given:
            raise reading.wrong(InputError(f"{name} missing: give inputs, labels and epsilon"), name)
    given, size = reading.given, reading.signature.inputs
    with reading.at("epsilon"):
        Region.linf_ball((0.0,), given["epsilon"])
    try:
        points = np.asarray(given["inputs"], dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        msg = f"inputs must be one list of numbers for each: {error}"
        raise reading.wrong(RegionError(msg), "inputs") from error
    if points.ndim < 2 or points[0].size != size:
        msg = f"inputs has shape {points.shape}; give a list of inputs with {size} numbers each"
        raise reading.wrong(RegionError(msg), "inputs")
    points = points.reshape(len(points), -1)
    with reading.at("inputs"):
        for point in points:
            Region.linf_ball(point, given["epsilon"], given.get("domain"))
    with reading.at("labels"):
        labels = [index(label, "a label") for label in given["labels"]]
        if len(labels) != len(points):
            msg = f"there are {len(points)} inputs but {len(labels)} labels; give one for each"
            raise PropertyError(msg)
        for label in labels:
            Property.classification(label, reading.signature.outputs)
    return points, labels
