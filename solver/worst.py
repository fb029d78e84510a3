"""The worst case by mixed-integer programming: the least margin of any clause over the region, as an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bounds import Enclosure
from networks.graph import Network
from networks.property import Clause
from networks.region import Region
from solver.compiled import CompiledModel
from solver.optimum import Minimisation, Optimum
from solver.options import Backend

__all__ = ["minimise_margin"]


def minimise_margin(
    network: Network,
    region: Region,
    clauses: Sequence[Clause],
    enclosure: Enclosure,
    *,
    backend: Backend = Backend.AUTO,
    deadline: float = math.inf,
    threads: int = 1,
    progress: Callable[[float, float, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    replay: Callable[[NDArray[np.float64]], tuple[NDArray[np.float32], float] | None],
    upper: float = math.inf,
) -> Optimum:
    """The least margin of ``clauses`` over ``region``; the sign is not enough, as it is for `solver.milp`.

    Args:
        network: the network.
        region: the input region.
        clauses: at least one.
        enclosure: rigorous pre-activation bounds over the region; the tighter, the faster.
        backend: which solver.
        deadline: `time.monotonic` at which to stop.
        threads: cores that the solver may use.
        progress: called at most twice a second with the lower bound, the least margin known, and the nodes so far.
        cancel: polled; True ends the search with the bounds so far.
        replay: rounds a float64 point, shape ``(inputs,)``, into the region and returns it with the margin of its
            replayed output; None where there is none.
        upper: a margin that is attained, as known already: larger ones are not looked for.

    Raises:
        BackendUnavailableError, LicenceLimitError: the solver that was asked for cannot serve; never for ``auto``.
        ModelSizeError: the model would be too large.
        NumericsError: the model does not reproduce the network, or the bounds contradict a replayed point.
    """
    search = _Worst(network, region, clauses, enclosure, backend, deadline, threads, progress, cancel, upper, replay)
    return search.run()


@dataclass(eq=False)
class _Worst(Minimisation):
    """One run of `minimise_margin`."""

    replay: Callable[[NDArray[np.float64]], tuple[NDArray[np.float32], float] | None]

    def start(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        # A margin that is attained cuts every model off, so that none can be infeasible but for that.
        if self.region.center is not None:
            self._take(self.region.center.astype(np.float64))
        return margins

    def objective(self, value: float) -> float:
        return value

    def model(self, k: int) -> CompiledModel:
        model = self.formulation.model(k)
        return model.below(self.upper) if math.isfinite(self.upper) else model

    def bound(self, k: int, dual: float) -> float:
        return dual - float(self.formulation.allowances[k])

    def consider(self, k: int, v: NDArray[np.float64]) -> None:  # noqa: ARG002 - every clause's margin counts
        x = np.clip(self.formulation.point(v), self.region.lower, self.region.upper)
        self._take(x)

    def _take(self, x: NDArray[np.float64]) -> None:
        found = self.replay(x)
        if found is not None and found[1] < self.upper:
            self.point, self.upper = found
