"""Exact minimisation by mixed-integer programming: what the nearest violation and the worst margin have in common.

The minimum over several clauses is the least of their minima. Each clause has a model of its own, the most promising
first, and what one finds cuts off the next: most then end at their root. At any time the least of the clauses' lower
bounds and the best replayed point enclose the minimum.

Soundness. Lower bounds are a MIP solver's word, less an allowance for its tolerances, so they are never certified by
themselves. They are cross-checked: sampled points of the region must be feasible in every model, with the objectives
that they have, and a lower bound above a replayed point's value raises.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bounds import Enclosure, lower_bounds
from networks.graph import Network
from networks.property import Clause
from networks.region import Region
from solver import policy
from solver.backends import BACKENDS, MilpBackend, MilpOutcome, MilpStatus, choose
from solver.compiled import CompiledModel, ScaledModel, scale
from solver.crosscheck import fault, margins_at, sampled
from solver.errors import BackendError, NumericsError
from solver.formulation import Formulation, formulate
from solver.options import Backend
from solver.outer_approximation import minimise_convex
from solver.verdict import Reason

__all__ = ["Minimisation", "Optimum"]


@dataclass(frozen=True, slots=True, eq=False)
class Optimum:
    """An interval around a minimum, and the point at its upper end.

    Attributes:
        lower: the solver's lower bound less its tolerances; +inf where there is nothing to minimise over.
        upper: value of the best replayed point, +inf without one.
        point: that point, float32, shape ``(inputs,)``.
        backend, choice: the solver that was used, and why.
        reason: why the search ended before the solver had its optimum; None if it had.
        message: how the solver ended, for reports.
        statistics: size of the model, for reports.
    """

    lower: float
    upper: float
    point: NDArray[np.float32] | None
    backend: str
    choice: str
    nodes: int
    seconds: float
    reason: Reason | None = None
    message: str = ""
    statistics: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Minimisation(ABC):
    """One minimisation over some clauses.

    Attributes:
        upper: the value that is to be improved on: of ``point``, or what the caller knew already.
        point: the best replayed point of this search.
        lower: lower bound of each clause's minimum, shape ``(clauses,)``.
        formulation: the models.
    """

    network: Network
    region: Region
    clauses: Sequence[Clause]
    enclosure: Enclosure
    wanted: Backend
    deadline: float
    threads: int
    progress: Callable[[float, float, int], None] | None
    cancel: Callable[[], bool] | None
    upper: float
    point: NDArray[np.float32] | None = field(default=None, init=False)
    nodes: int = field(default=0, init=False)
    message: str = field(default="", init=False)
    lower: NDArray[np.float64] = field(init=False)
    formulation: Formulation = field(init=False)
    backend: MilpBackend = field(init=False)
    choice: str = field(default="", init=False)

    #: The norm whose distance is formulated too.
    norm: str | None = field(default=None, init=False)

    @abstractmethod
    def model(self, k: int) -> CompiledModel:
        """The model of clause ``k``, cut off at ``upper`` where it is linear."""

    @abstractmethod
    def start(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lower bounds of the clauses' minima, from rigorous lower bounds of their margins; shapes ``(clauses,)``."""

    @abstractmethod
    def bound(self, k: int, dual: float) -> float:
        """The lower bound of clause ``k``'s minimum that the dual bound of its model gives, tolerances subtracted."""

    @abstractmethod
    def objective(self, value: float) -> float:
        """The objective of a model at a point of this value."""

    @abstractmethod
    def consider(self, k: int, v: NDArray[np.float64]) -> None:
        """Looks for a better point at or near ``v``, a point of clause ``k``'s model, shape ``(columns,)``."""

    def run(self) -> Optimum:
        """The interval around the minimum.

        Raises:
            BackendUnavailableError, LicenceLimitError: the solver that was asked for cannot serve; never for ``auto``.
            ModelSizeError: the model would be too large.
            NumericsError: the model does not reproduce the network, or a bound contradicts a replayed point.
        """
        started = time.monotonic()
        self.lower = self.start(self._margins())
        self.formulation = formulate(self.network, self.region, self.clauses, self.enclosure, norm=self.norm)
        largest = self.model(0)
        self.backend, self.choice = choose(self.wanted, largest)
        points = sampled(self.region)
        wrong = fault(self.formulation, self.network, points, margins_at(self.network, self.clauses, points))
        if wrong:
            raise NumericsError(wrong)
        left = [k for k in np.argsort(self.lower, kind="stable").tolist() if self.lower[k] < self.upper]
        # A second pass spends on what is open what the first left over.
        for _ in range(2):
            left = self._pass(left)
        return Optimum(
            lower=float(self.lower.min()),
            upper=self.upper if self.point is not None else math.inf,
            point=self.point,
            backend=self.backend.name,
            choice=self.choice,
            nodes=self.nodes,
            seconds=time.monotonic() - started,
            reason=self._reason() if left else None,
            message=self.message,
            statistics={
                "binaries": largest.binaries,
                "columns": largest.columns,
                "rows": largest.rows,
                "coefficients": int(largest.matrix.nnz),
            },
        )

    def _margins(self) -> NDArray[np.float64]:
        """Rigorous lower bounds of the clauses' margins, shape ``(clauses,)``."""
        rows = np.concatenate([clause.matrix for clause in self.clauses])
        offsets = np.concatenate([clause.offsets for clause in self.clauses])
        bounds = lower_bounds(self.network, self.region, self.enclosure, rows)
        bounds = bounds + offsets - 2.0**-52 * (np.abs(bounds) + np.abs(offsets))
        ends = np.cumsum([len(clause.rows) for clause in self.clauses])[:-1]
        return np.array([part.max() for part in np.split(bounds, ends)])

    def _pass(self, clauses: list[int]) -> list[int]:
        """Minimises the clauses one after the other, each with an even share of the time; returns what is left open."""
        left = []
        for done, k in enumerate(clauses):
            now = time.monotonic()
            if self.lower[k] >= self.upper:
                continue
            share = (self.deadline - now) / (len(clauses) - done)
            if now >= self.deadline or self._cancelled() or not self._minimise(k, now + share):
                left.append(k)
        return left

    def _minimise(self, k: int, deadline: float) -> bool:
        """Minimises clause ``k``; whether its minimum is known, up to tolerances, or not below ``upper``."""
        cutoff, before = self.upper, self.nodes
        scaled = scale(self.model(k))

        def on_incumbent(v: NDArray[np.float64], _objective: float) -> bool:
            self.consider(k, scaled.restore(v))
            return False

        def report(_primal: float, dual: float, nodes: int) -> None:
            if self.progress is not None:
                now = max(self.lower[k], self.bound(k, dual * scaled.unit))
                others = np.delete(self.lower, k).min(initial=math.inf)
                self.progress(float(min(now, others, self.upper)), self.upper, before + nodes)

        outcome = self._solve(
            scaled,
            {
                "deadline": deadline,
                "threads": self.threads,
                "stop_above": self.objective(cutoff) / scaled.unit,
                "on_incumbent": on_incumbent,
                "progress": report,
                "cancel": self.cancel,
            },
        )
        if outcome.v is not None:
            self.consider(k, scaled.restore(outcome.v))
        self.nodes += outcome.nodes
        self.message = outcome.message
        # Nothing is infeasible for any other reason than the cutoff: sampled points are points of the model.
        claimed = self.bound(k, outcome.dual * scaled.unit)
        if outcome.status is MilpStatus.INFEASIBLE:
            claimed = self.bound(k, self.objective(cutoff))
        self.lower[k] = max(self.lower[k], min(claimed, self.bound(k, self.objective(cutoff))))
        self._check()
        if self.progress is not None:
            self.progress(float(min(self.lower.min(), self.upper)), self.upper, self.nodes)
        if outcome.status is MilpStatus.FAILED:
            msg = f"the MIP solver failed ({outcome.message}); use --engine bab or another back end"
            raise NumericsError(msg)
        return outcome.status in {MilpStatus.OPTIMAL, MilpStatus.BOUND, MilpStatus.INFEASIBLE}

    def _solve(self, scaled: ScaledModel, options: dict[str, Any]) -> MilpOutcome:
        highs = BACKENDS[Backend.HIGHS]
        if self.wanted is not Backend.AUTO or self.backend is highs:
            return minimise_convex(self.backend, scaled.model, **options)
        # Gurobi has a share of the time, as in `solver.milp`; HiGHS the rest, if that was not enough.
        now = time.monotonic()
        first = now + policy.FIRST_SOLVER_SHARE * (options["deadline"] - now)
        try:
            outcome = minimise_convex(self.backend, scaled.model, **{**options, "deadline": first})
            if outcome.status is not MilpStatus.TIMEOUT:
                return outcome
            self.choice += f"; {self.backend.name} left a clause open"
        except NumericsError:
            raise
        except BackendError as error:
            self.choice = str(error)
        self.backend = highs
        return minimise_convex(highs, scaled.model, **options)

    def _check(self) -> None:
        """Raises:
        NumericsError: a lower bound lies above a replayed point's value.
        """
        least = float(self.lower.min())
        if self.point is not None and least > self.upper:
            msg = (
                f"the solver claims a minimum of at least {least:.9g}, but a replayed input attains {self.upper:.9g}; "
                "this is a bug, or an effect of float32 arithmetic that is larger than the solver's tolerances"
            )
            raise NumericsError(msg)

    def _cancelled(self) -> bool:
        return self.cancel is not None and self.cancel()

    def _reason(self) -> Reason:
        return Reason.CANCELLED if self._cancelled() else Reason.TIMEOUT
