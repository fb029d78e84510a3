"""Convex mixed-integer models for solvers that know only linear ones: outer approximation by tangents.

Every square ``q_i = (v_i − c_i)²`` of the model gets a column with rows ``q_i ≥ 2 p (v_i − c_i) − p²`` for the points p
tried so far; sums of squares, in the objective or limited, become linear in q. The linear model contains every point of
the convex one, so its dual bound holds. Where a solution of it breaks a square by too much, its integers are fixed and
the LP that remains is solved with new tangents at each solution, until they agree with the squares there: that gives a
feasible point, and tangents that give these integers their right value in every later model. So no integers come twice,
and the alternation ends with the optimum (Duran & Grossmann, *Math. Programming* 36, 1986; a column for each square
instead of one for their sum: Vielma, Dunning, Huchette & Lubin, *Math. Programming Computation* 9, 2017).

HiGHS offers no lazy constraints (the callback exists, but is never called), so each round is a search of its own that
ends at the best point known, instead of one tree that grows tangents (Quesada & Grossmann 1992).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack, vstack

from solver import policy
from solver.backends import MilpBackend, MilpOutcome, MilpStatus
from solver.compiled import CompiledModel, scale
from solver.squares import Squares

__all__ = ["GAP", "minimise_convex"]

#: Gap of the objective, in the scaled model's units and relatively, and violation of a limit, at which a solution is
#: accepted. Squares are compared, so a distance is off by half of it at most.
GAP = 1e-9
RELATIVE_GAP = 1e-8
VIOLATION = 1e-8

# Errors of a square, relative to its range, that solvers do not resolve.
_NOISE = 1e-11

# Refinements that may pass without the least error so far becoming less.
_PATIENCE = 3


def minimise_convex(
    backend: MilpBackend,
    model: CompiledModel,
    *,
    deadline: float = math.inf,
    threads: int = 1,
    stop_above: float = math.inf,
    on_incumbent: Callable[[NDArray[np.float64], float], bool] | None = None,
    progress: Callable[[float, float, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> MilpOutcome:
    """Minimises a scaled model that may have squares; arguments and errors as in `MilpBackend.solve`.

    A back end that solves convex quadratic models gets it as it is. Else incumbents of the linear models are passed on,
    which may lie outside quadratic constraints by what the tangents do not cut off yet.
    """
    if model.linear or "miqp" in backend.capabilities:
        return backend.solve(
            model,
            deadline=deadline,
            threads=threads,
            stop_above=stop_above,
            on_incumbent=on_incumbent,
            progress=progress,
            cancel=cancel,
        )
    search = _Search(backend, model, deadline, threads, stop_above, on_incumbent, progress, cancel)
    started = time.monotonic()
    outcome = search.run()
    message = f"{outcome.message}; {search.rounds} rounds, {search.tangents} tangents"
    return replace(outcome, seconds=time.monotonic() - started, message=message)


@dataclass(eq=False)
class _Search:
    """One run of outer approximation.

    Attributes:
        columns, centers: of each square, shape ``(Q,)``; limits and objective share them.
        rows, sides: the tangents so far, over the model's columns and then the squares'.
        lower, best, v: dual bound, value of the best feasible point, and the point.
    """

    backend: MilpBackend
    model: CompiledModel
    deadline: float
    threads: int
    stop_above: float
    on_incumbent: Callable[[NDArray[np.float64], float], bool] | None
    progress: Callable[[float, float, int], None] | None
    cancel: Callable[[], bool] | None
    lower: float = -math.inf
    best: float = math.inf
    v: NDArray[np.float64] | None = None
    nodes: int = 0
    rounds: int = 0
    rows: list[csr_array] = field(default_factory=list)
    sides: list[NDArray[np.float64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = [row.squares for row in self.model.quadratic]
        if self.model.squares is not None:
            parts.append(self.model.squares)
        pairs = np.unique(
            np.concatenate([np.stack([part.columns.astype(np.float64), part.centers]) for part in parts], axis=1),
            axis=1,
        )
        self.columns, self.centers = pairs[0].astype(np.int64), pairs[1]
        self._integral = np.flatnonzero(self.model.integral)
        self._tried: set[bytes] = set()
        self._place = {pair: i for i, pair in enumerate(zip(*pairs.tolist(), strict=True))}
        low, high = self.model.lower[self.columns], self.model.upper[self.columns]
        self.most = np.maximum((low - self.centers) ** 2, (high - self.centers) ** 2)
        count = min(policy.FIRST_TANGENTS, max(3, policy.FIRST_TANGENT_ROWS // max(1, len(self.columns))))
        for share in np.linspace(0, 1, count):
            self._add(low + share * (high - low))

    @property
    def tangents(self) -> int:
        return sum(len(sides) for sides in self.sides)

    def run(self) -> MilpOutcome:
        while True:
            self.rounds += 1
            outcome = self._solve(self._linear(self.best), self._confirm)
            self.nodes += outcome.nodes
            self.lower = max(self.lower, outcome.dual)
            if outcome.status is MilpStatus.INFEASIBLE and self.v is not None:
                # Nothing lies below the best point.
                self.lower = max(self.lower, self.best)
                return self._outcome(MilpStatus.OPTIMAL, outcome.message)
            if outcome.status is not MilpStatus.OPTIMAL:
                return self._outcome(outcome.status, outcome.message, outcome.v)
            assert outcome.v is not None
            integers = outcome.v[self._integral].round().tobytes()
            status = self._refine(outcome.v)
            # Integers that come twice have no better tangents than they have: the gap is the solver's tolerance.
            if status is not MilpStatus.OPTIMAL or self.best - self.lower <= self._gap or integers in self._tried:
                return self._outcome(status, outcome.message)
            self._tried.add(integers)

    @property
    def _gap(self) -> float:
        return max(GAP, RELATIVE_GAP * abs(self.best)) if self.v is not None else GAP

    def _refine(self, v: NDArray[np.float64]) -> MilpStatus:
        """Adds tangents until they agree with the squares at the best point with the integers of ``v``."""
        errors: list[float] = []
        while True:
            point, q = v[: self.model.columns], v[self.model.columns :]
            value = self.model.objective(point)
            outside = max((row.violation(point) for row in self.model.quadratic), default=0.0)
            if outside <= VIOLATION and value < self.best:
                self.best, self.v = value, point
                if self.on_incumbent is not None and self.on_incumbent(point, value):
                    return MilpStatus.CONFIRMED
            error = max(outside, value - self._value(point, q))
            # Newton's method: the error is soon squared each time, until the solver's tolerance stops it.
            stalled = min([*errors, error][-_PATIENCE:]) >= min(errors[:-_PATIENCE], default=math.inf)
            if error <= self._gap / 2 or stalled:
                return MilpStatus.OPTIMAL
            errors.append(error)
            self._add(point[self.columns], above=q)
            fixed = self._linear(math.inf)
            lower, upper = fixed.lower.copy(), fixed.upper.copy()
            lower[self._integral] = upper[self._integral] = np.round(v[self._integral])
            continuous = replace(fixed, lower=lower, upper=upper, integral=np.zeros_like(fixed.integral))
            outcome = self._solve(continuous, None)
            if outcome.status is MilpStatus.INFEASIBLE:
                return MilpStatus.OPTIMAL  # these integers have no point, and the tangents show it
            if outcome.status is not MilpStatus.OPTIMAL:
                return outcome.status
            assert outcome.v is not None
            v = outcome.v

    def _value(self, point: NDArray[np.float64], q: NDArray[np.float64]) -> float:
        """The objective with q for the squares."""
        linear = float(self.model.cost @ point + self.model.offset)
        return linear + float(self._weights(self.model.squares) @ q)

    def _weights(self, squares: Squares | None) -> NDArray[np.float64]:
        """The weight of each square in a sum, shape ``(Q,)``."""
        weights = np.zeros(len(self.columns))
        if squares is not None:
            keys = zip(squares.columns.astype(np.float64).tolist(), squares.centers.tolist(), strict=True)
            weights[[self._place[key] for key in keys]] = squares.weights
        return weights

    def _add(self, at: NDArray[np.float64], above: NDArray[np.float64] | None = None) -> None:
        """Tangents of the squares at ``at``, shape ``(Q,)``; only of those that are larger than ``above`` there."""
        p = at - self.centers
        chosen = np.flatnonzero(p**2 > above + _NOISE * self.most if above is not None else self.most > 0)
        p, columns, size = p[chosen], self.columns[chosen], len(chosen)
        rows = np.tile(np.arange(size), 2)
        places = np.concatenate([columns, self.model.columns + chosen])
        shape = (size, self.model.columns + len(self.columns))
        offsets = 2 * p * self.centers[chosen]
        # The slack covers the rounding of the side.
        side = p**2 + offsets + 2.0**-50 * (p**2 + np.abs(offsets))
        self.rows.append(csr_array((np.concatenate([2 * p, -np.ones(size)]), (rows, places)), shape=shape))
        self.sides.append(side)

    def _linear(self, cutoff: float) -> CompiledModel:
        """The linear model with the tangents so far, and no objective above ``cutoff``."""
        model, squares = self.model, len(self.columns)
        limits = [
            csr_array(np.concatenate([np.zeros(model.columns), self._weights(row.squares)])[None])
            for row in model.quadratic
        ]
        grown = CompiledModel(
            cost=np.append(model.cost, self._weights(model.squares)),
            offset=model.offset,
            matrix=csr_array(hstack([model.matrix, csr_array((model.rows, squares))])),
            row_lower=model.row_lower,
            row_upper=model.row_upper,
            lower=np.append(model.lower, np.zeros(squares)),
            upper=np.append(model.upper, self.most * (1 + 2.0**-40)),
            integral=np.append(model.integral, np.zeros(squares, dtype=bool)),
        ).extended(
            csr_array(vstack([*limits, *self.rows])),
            np.concatenate([[row.limit for row in model.quadratic], *self.sides]),
        )
        return grown.below(cutoff) if math.isfinite(cutoff) else grown

    def _solve(self, model: CompiledModel, on_incumbent: Callable[[NDArray[np.float64]], bool] | None) -> MilpOutcome:
        """Minimises a linear model, in its own units; only its point is over the columns of ``model``."""
        scaled = scale(model)

        def confirm(v: NDArray[np.float64], _objective: float) -> bool:
            return on_incumbent is not None and on_incumbent(scaled.restore(v))

        def report(_primal: float, dual: float, nodes: int) -> None:
            if self.progress is not None and on_incumbent is not None:
                self.progress(self.best, max(self.lower, dual * scaled.unit), self.nodes + nodes)

        outcome = self.backend.solve(
            scaled.model,
            deadline=self.deadline,
            threads=self.threads,
            stop_above=self.stop_above / scaled.unit if on_incumbent is not None else math.inf,
            on_incumbent=confirm,
            progress=report,
            cancel=self.cancel,
        )
        v = scaled.restore(outcome.v) if outcome.v is not None else None
        return replace(outcome, dual=outcome.dual * scaled.unit, primal=outcome.primal * scaled.unit, v=v)

    def _confirm(self, v: NDArray[np.float64]) -> bool:
        point = v[: self.model.columns]
        return self.on_incumbent is not None and self.on_incumbent(point, self.model.objective(point))

    def _outcome(self, status: MilpStatus, message: str, v: NDArray[np.float64] | None = None) -> MilpOutcome:
        best = self.v if self.v is not None or v is None else v[: self.model.columns]
        return MilpOutcome(status, self.best, min(self.lower, self.best), best, self.nodes, message=message)
