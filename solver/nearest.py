"""The nearest violation by mixed-integer programming: minimum distortion in the norms linf, l2, l1 and l0.

The margin of a clause is limited to zero and the distance from the region's center minimised (Tjeng, Xiao & Tedrake,
ICLR 2019, §3, for linf, l1 and l2): a MILP, or with the l2 norm's square an MIQP, which goes to Gurobi as it is and
to HiGHS by outer approximation. The l0 norm counts the entries that change, a binary variable for each.

What a model calls a violation has a margin of up to its allowance, so that no tolerance cuts a violation off; its
solutions are therefore just short of one. They are moved on, away from the center, until the network itself is past
zero, rounded to float32 and replayed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bounds import Enclosure
from networks.errors import RegionError
from networks.graph import Network
from networks.property import Clause
from networks.region import Region
from solver.backends import MilpStatus
from solver.compiled import TOLERANCE, CompiledModel, scale
from solver.crosscheck import margins_at
from solver.optimum import Minimisation, Optimum
from solver.options import Backend
from solver.outer_approximation import minimise_convex
from solver.verdict import Counterexample

__all__ = ["distance", "minimise_distance"]

#: How far solutions are moved on, relatively to their distance.
_STEPS = np.concatenate([[0.0], 2.0 ** np.arange(-30, -3)])


def distance(x: NDArray[np.floating], center: NDArray[np.floating], norm: str) -> float:
    """The norm of ``x − center``, in float64; arrays of shape ``(inputs,)``."""
    d = np.abs(np.asarray(x, dtype=np.float64).reshape(-1) - np.asarray(center, dtype=np.float64).reshape(-1))
    match norm:
        case "linf":
            return float(d.max(initial=0.0))
        case "l2":
            return float(np.sqrt((d**2).sum()))
        case "l1":
            return float(d.sum())
        case _:
            return float(np.count_nonzero(d))


def minimise_distance(
    network: Network,
    region: Region,
    clauses: Sequence[Clause],
    enclosure: Enclosure,
    norm: str,
    *,
    backend: Backend = Backend.AUTO,
    deadline: float = math.inf,
    threads: int = 1,
    progress: Callable[[float, float, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    replay: Callable[[NDArray[np.float64]], Counterexample | None],
    upper: float = math.inf,
) -> Optimum:
    """The distance from the region's center to the nearest violation of a clause in the region.

    Args:
        network: the network.
        region: where to look; it has a center. The smaller it is, the faster: it need not be larger than the distance
            of the nearest violation that is known.
        clauses: at least one.
        enclosure: rigorous pre-activation bounds over the region; the tighter, the faster.
        norm: ``linf``, ``l2``, ``l1`` or ``l0`` (the number of entries that change).
        backend: which solver; for ``l2``, HiGHS solves the MIQP by outer approximation.
        deadline: `time.monotonic` at which to stop.
        threads: cores that the solver may use.
        progress: called at most twice a second with the lower bound, the best distance known, and the nodes so far.
        cancel: polled; True ends the search with the bounds so far.
        replay: makes a counterexample of a float64 point, shape ``(inputs,)``, if rounding it into the region gives
            one.
        upper: the distance of a violation that is known already: farther ones are not looked for.

    Returns:
        The interval; ``lower`` is +inf where the region has no violation, and ``upper`` if none was replayed.

    Raises:
        RegionError: the region has no center to measure from.
        BackendUnavailableError, LicenceLimitError: the solver that was asked for cannot serve; never for ``auto``.
        ModelSizeError: the model would be too large.
        NumericsError: the model does not reproduce the network, or the bounds contradict a replayed point.
    """
    if region.center is None:
        msg = "no float32 point lies in the region, so there is no center to measure distances from"
        raise RegionError(msg)
    search = _Nearest(
        network, region, clauses, enclosure, backend, deadline, threads, progress, cancel, upper, norm, replay
    )
    return search.run()


@dataclass(eq=False)
class _Nearest(Minimisation):
    """One run of `minimise_distance`."""

    distance_norm: str
    replay: Callable[[NDArray[np.float64]], Counterexample | None]

    def __post_init__(self) -> None:
        self.norm = self.distance_norm
        assert self.region.center is not None
        self.center = self.region.center.astype(np.float64)

    def start(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        for k in np.flatnonzero(margins <= 0).tolist():
            self._try(k, self.center)
        return np.where(margins > 0, math.inf, 0.0)

    def objective(self, value: float) -> float:
        return value**2 if self.norm == "l2" else value

    def model(self, k: int) -> CompiledModel:
        model = self.formulation.nearest(k)
        if not math.isfinite(self.upper):
            return model
        if self.norm == "l0":
            return model.below(self.upper - 0.5)
        # No entry of a nearer point is farther from the center than that.
        column = self.formulation.inputs
        lower, upper = model.lower.copy(), model.upper.copy()
        reach = self.upper * (1 + 2.0**-40)
        kept = column >= 0
        lower[column[kept]] = np.maximum(lower[column[kept]], self.center[kept] - reach)
        upper[column[kept]] = np.minimum(upper[column[kept]], self.center[kept] + reach)
        smaller = replace(model, lower=lower, upper=upper)
        return smaller if self.norm == "l2" else smaller.below(self.upper)

    def bound(self, k: int, dual: float) -> float:  # noqa: ARG002 - allowances of margins are the clauses'
        goal = self.formulation.distance
        assert goal is not None
        if not math.isfinite(dual):
            return max(dual, 0.0)
        if self.norm == "l0":
            return float(max(0, math.ceil(dual - 1e-6)))
        if goal.squares is not None:
            common = self.formulation.common
            allowance = 10 * TOLERANCE * goal.squares.most(common.lower, common.upper)
            return math.sqrt(max(0.0, dual - allowance))
        # Each term of the objective may be off by a tolerance of its own range.
        allowance = 10 * TOLERANCE * replace(self.formulation.common, cost=goal.cost, offset=0.0).magnitude
        return max(0.0, dual - allowance)

    def consider(self, k: int, v: NDArray[np.float64]) -> None:
        x = np.clip(self.formulation.point(v), self.region.lower, self.region.upper)
        if not self._try(k, x) and self.norm != "l2":
            deeper = self._deeper(k, v)
            if deeper is not None:
                self._try(k, np.clip(deeper, self.region.lower, self.region.upper))

    def _try(self, k: int, x: NDArray[np.float64]) -> bool:
        """Whether the point itself, or one a little farther out, is a violation and nearer than all before."""
        points = self.region.project(self.center + (1 + _STEPS[:, None]) * (x - self.center))
        margins = margins_at(self.network, [self.clauses[k]], points.astype(np.float64))[:, 0]
        for i in np.flatnonzero(margins <= 0)[:3].tolist():
            if distance(points[i], self.center, self.distance_norm) >= self.upper:
                return True  # nothing to gain
            found = self.replay(points[i].astype(np.float64))
            if found is None:
                continue
            attained = distance(found.input, self.center, self.distance_norm)
            if attained < self.upper:
                self.upper, self.point = attained, np.asarray(found.input, dtype=np.float32).reshape(-1)
            return True
        return False

    def _deeper(self, k: int, v: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """The point with the smallest margin among those with the phases of ``v`` that are hardly farther away."""
        model = self.formulation.model(k)
        goal = self.formulation.distance
        assert goal is not None
        value = float(goal.cost @ v) + goal.offset
        limit = value + 0.5 if self.norm == "l0" else value * (1 + 2.0**-20)
        fixed = model.integral
        lower, upper = model.lower.copy(), model.upper.copy()
        lower[fixed] = upper[fixed] = np.round(v[fixed])
        limited = model.extended(csr_array(goal.cost[None]), np.array([limit - goal.offset]))
        scaled = scale(replace(limited, lower=lower, upper=upper, integral=np.zeros_like(fixed)))
        outcome = minimise_convex(self.backend, scaled.model, deadline=self.deadline, threads=self.threads)
        if outcome.status is not MilpStatus.OPTIMAL or outcome.v is None:
            return None
        return self.formulation.point(scaled.restore(outcome.v))
