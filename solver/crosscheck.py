"""Whether a MILP reproduces its network: sampled inputs must be points of the model, with the objectives they have.

Nothing is claimed from a model that fails this. It catches weights that span too many orders of magnitude for floating
point, and bounds that cut the network off.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from networks.evaluation import evaluate
from networks.graph import Network
from networks.property import Clause
from networks.region import Region
from solver.compiled import scale
from solver.formulation import Formulation

__all__ = ["fault", "margins_at", "sampled"]

#: Points of the region that must be feasible in the model.
SAMPLES = 8


def sampled(region: Region) -> NDArray[np.float64]:
    """Points of the region, its center first, shape ``(k, inputs)``; of a box without a float32 point, its middle."""
    if region.plain and region.center is None:
        return ((region.lower + region.upper) / 2)[None]
    points = region.sample(SAMPLES, np.random.default_rng(0))
    if region.center is not None:
        points = np.concatenate([region.center[None], points])
    # With constraints, samples may miss them.
    return points[[region.contains(point) for point in points]].astype(np.float64)


def margins_at(network: Network, clauses: Sequence[Clause], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The clauses' margins at ``points``, in float64: ``(B, inputs) → (B, clauses)``."""
    y = evaluate(network, points)
    return np.stack([(y @ clause.matrix.T + clause.offsets).max(axis=1) for clause in clauses], axis=1)


def fault(formulation: Formulation, network: Network, points: NDArray[np.float64], margins: NDArray[np.float64]) -> str:
    """What is wrong with the model of any clause at ``points``, shape ``(B, inputs)``; "" if nothing is.

    Args:
        formulation: of the clauses.
        network: the network.
        points: in the region.
        margins: the clauses' margins there, shape ``(B, clauses)``.
    """
    for k, allowance in enumerate(formulation.allowances):
        scaled = scale(formulation.model(k))
        for x, margin in zip(points, margins, strict=True):
            v = scaled.shrink(formulation.lift(network, x, margin))
            off = abs(scaled.model.objective(v) * scaled.unit - margin[k])
            if scaled.model.violation(v) > 1e-6 or off > allowance:
                return (
                    "the MILP model does not reproduce the network at sampled inputs: its weights span too many "
                    "orders of magnitude for floating point; use --engine bab"
                )
    return ""
