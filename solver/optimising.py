"""The same intervals from one optimisation model for each region: the ``milp`` engine's own answer.

A MIP solver minimises the distance of a violation, or the margin, and its solutions are replayed like all others. The
lower end is the solver's word, less an allowance for its tolerances (`solver.optimum`), so it is no evidence by itself;
where a certificate is wanted, the threshold below the upper end is proven again (`solver.proof`).
"""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray

from networks.property import Property
from networks.region import Region
from solver import policy, root, rungs
from solver.aims import Distance
from solver.case import Case
from solver.climb import Climb
from solver.closing import Closing
from solver.errors import ModelSizeError, NumericsError
from solver.optimum import Optimum
from solver.verdict import Counterexample, Reason

__all__ = ["Optimising"]


class Optimising(Closing):
    """A closing interval whose lower end comes from a MIP solver."""

    def _close(self, *, attack: bool) -> None:
        lower = math.inf
        for region, prop in self._aim.query.cases:
            if self._done:
                return
            with self._stage("milp") as detail:
                try:
                    found = self._minimum(region, prop)
                except (ModelSizeError, NumericsError) as error:
                    # Nothing is claimed then, and the search by thresholds goes on.
                    self._reason = Reason.MEMORY if isinstance(error, ModelSizeError) else Reason.NUMERICS
                    detail["skipped"] = [str(error)]
                    lower = -math.inf
                    continue
                detail["nodes"] = found.nodes
                self._statistics |= {"backend": found.backend, "backend_choice": found.choice, **found.statistics}
            lower = min(lower, found.lower)
            self._reason = found.reason or self._reason
        aim = self._aim
        # Nothing was looked for beyond the best input, and what is proven is strict.
        self.lower = max(self.lower, min(lower, aim.proven(aim.top(self.upper))))
        self._decided_by = "milp"
        if self._checker is not None and not self._done_with_proof:
            self._ask(aim.top(self.upper))
        # Rounding may have left the model's solution just short of a violation, and a farther one in its place.
        super()._close(attack=attack)

    @property
    def _done_with_proof(self) -> bool:
        return self._certificate is not None and self._aim.closed(self._aim.proven(self._certificate[2]), self.upper)

    def _minimum(self, region: Region, prop: Property) -> Optimum:
        aim = self._aim
        query = aim.query if math.isinf(self.upper) or not isinstance(aim, Distance) else aim.at(self.upper)
        climb = self._climb(query, "milp")
        root.bound(climb, prove=False)
        case = next(case for case in climb.cases if case.prop is prop)
        rungs.tighten(climb, case, policy.TIGHTEN_SHARE * (self._deadline - time.monotonic()))
        if isinstance(aim, Distance):
            return self._nearest(aim, climb, case)
        return self._worst(climb, case, region)

    def _told(self, _lower: float, _upper: float, nodes: int) -> None:
        self._report("milp", nodes)

    def _nearest(self, aim: Distance, climb: Climb, case: Case) -> Optimum:
        from solver.nearest import minimise_distance

        assert case.enclosure is not None

        def replay(x: NDArray[np.float64]) -> Counterexample | None:
            found = aim.replay(self._replayer, case.region, case.prop, case.region.project(x))
            self._take(found)
            return found

        return minimise_distance(
            self._network,
            case.region,
            case.prop.clauses,
            case.enclosure,
            aim.norm,
            backend=self._options.backend,
            deadline=self._deadline,
            threads=self._budget.threads,
            progress=self._told,
            cancel=climb.cancel,
            replay=replay,
            upper=self.upper,
        )

    def _worst(self, climb: Climb, case: Case, region: Region) -> Optimum:
        from solver.worst import minimise_margin

        assert case.enclosure is not None

        def replay(x: NDArray[np.float64]) -> tuple[NDArray[np.float32], float] | None:
            point = region.project(x)
            found = self._aim.replay(self._replayer, region, case.prop, point)
            self._take(found)
            return None if found is None else (point, self._aim.attained(found))

        return minimise_margin(
            self._network,
            region,
            case.prop.clauses,
            case.enclosure,
            backend=self._options.backend,
            deadline=self._deadline,
            threads=self._budget.threads,
            progress=self._told,
            cancel=climb.cancel,
            replay=replay,
            upper=self.upper,
        )
