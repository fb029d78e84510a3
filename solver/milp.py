"""Exact search by mixed-integer programming: from open clauses to proofs, counterexamples or bounds.

Each clause's margin is bounded by its LP relaxation with ideal cuts (`solver.cuts`), which proves many a clause without
branching; what that leaves is minimised by a MIP solver that stops as soon as the sign is known.

Soundness. The bound at the root is rigorous. Otherwise a clause counts as proven when the solver's lower bound of its
margin, less the allowance for the solver's tolerances (`Formulation.allowances`), is positive. That is the solver's
word (trust: solver), so it is cross-checked with what is known for certain: sampled points of the region must be
feasible in the model, with the margins that the network has there, and no margin seen anywhere may lie below a claimed
bound. Where a check fails nothing is claimed and the reason is ``numerics``. A counterexample exists only when the
caller's replay confirms one.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bounds import Enclosure, lower_bounds
from networks.graph import Network
from networks.property import Clause
from networks.region import Region
from solver import policy
from solver.backends import BACKENDS, MilpBackend, MilpOutcome, MilpStatus, choose
from solver.compiled import ScaledModel, scale
from solver.crosscheck import fault, margins_at, sampled
from solver.cuts import solve_root
from solver.errors import BackendError, ModelSizeError, NumericsError
from solver.formulation import Formulation, formulate
from solver.options import Backend
from solver.outer_approximation import minimise_convex
from solver.verdict import Counterexample, Reason

__all__ = ["ClauseResult", "ClauseStatus", "MilpResult", "decide_milp"]

#: Margins beyond this many allowances are cut off: proving that there are none below is enough.
CUTOFF = 4.0


class ClauseStatus(enum.StrEnum):
    """What the search found out about a clause."""

    PROVEN = "proven"  #: no input of the region violates it
    VIOLATED = "violated"  #: some input does; it was replayed
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class ClauseResult:
    """One clause's share of the result.

    Attributes:
        lower: lower bound of the clause's margin: the solver's less the allowance, or a rigorous one if larger.
        reason: why the clause is open; None where it is decided, or was not reached because another one is violated.
        message: how the solver ended.
    """

    status: ClauseStatus
    lower: float
    nodes: int = 0
    seconds: float = 0.0
    reason: Reason | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class MilpResult:
    """The outcome of `decide_milp`.

    Attributes:
        clauses: one result for each clause, in the order given.
        counterexample: what the replay confirmed, if anything.
        backend: name of the solver that was used, "" if none was.
        choice: why it was this one.
        statistics: size of the model, for reports.
    """

    clauses: tuple[ClauseResult, ...]
    counterexample: Counterexample | None
    backend: str
    choice: str
    seconds: float
    statistics: dict[str, Any] = field(default_factory=dict)

    @property
    def nodes(self) -> int:
        """Branch-and-bound nodes over all clauses."""
        return sum(clause.nodes for clause in self.clauses)

    @property
    def lower(self) -> float:
        """Lower bound of the margin over all clauses."""
        return min(clause.lower for clause in self.clauses)

    @property
    def reason(self) -> Reason | None:
        """Why not everything is decided; None when it is."""
        reasons = [clause.reason for clause in self.clauses if clause.reason is not None]
        return reasons[-1] if reasons and self.counterexample is None else None


def decide_milp(
    network: Network,
    region: Region,
    clauses: Sequence[Clause],
    enclosure: Enclosure,
    *,
    backend: Backend = Backend.AUTO,
    deadline: float = math.inf,
    threads: int = 1,
    progress: Callable[[float, int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    replay: Callable[[NDArray[np.float64]], Counterexample | None],
) -> MilpResult:
    """Decides ``clauses`` over ``region``, one MILP for each, the most promising for a counterexample first.

    Args:
        network: the network.
        region: the input region.
        clauses: at least one; the search ends with the first that is violated.
        enclosure: rigorous pre-activation bounds over the region; the tighter, the faster.
        backend: which solver; ``auto`` takes Gurobi where its licence admits the model, and HiGHS for what is left.
        deadline: `time.monotonic` at which to stop. Each clause gets an even share of the time that is left; what
            others did not need is spent on those that stayed open.
        threads: cores that the solver may use.
        progress: called at most twice a second with the lower bound over all clauses, how many are open, and the
            nodes so far.
        cancel: polled; True ends the search with the bounds so far.
        replay: tries to make a counterexample of a float64 point of the region, shape ``(inputs,)``, rounding,
            projecting and pushing it as it sees fit. Called with every incumbent of the solver.

    Raises:
        BackendUnavailableError, LicenceLimitError: the solver that was asked for cannot serve; never for ``auto``.
    """
    started = time.monotonic()
    search = _Search(network, region, clauses, enclosure, deadline, threads, progress, cancel, replay)
    try:
        search.run(backend)
    except NumericsError as error:
        search.give_up(Reason.NUMERICS, str(error))
    except ModelSizeError as error:
        search.give_up(Reason.MEMORY, str(error))
    return MilpResult(
        tuple(search.results),
        search.counterexample,
        search.backend.name if search.backend else "",
        search.choice,
        time.monotonic() - started,
        search.statistics,
    )


@dataclass(eq=False)
class _Search:
    """One run of `decide_milp`."""

    network: Network
    region: Region
    clauses: Sequence[Clause]
    enclosure: Enclosure
    deadline: float
    threads: int
    progress: Callable[[float, int, int], None] | None
    cancel: Callable[[], bool] | None
    replay: Callable[[NDArray[np.float64]], Counterexample | None]
    backend: MilpBackend | None = None
    choice: str = ""
    counterexample: Counterexample | None = None
    statistics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = np.concatenate([clause.matrix for clause in self.clauses])
        offsets = np.concatenate([clause.offsets for clause in self.clauses])
        bounds = lower_bounds(self.network, self.region, self.enclosure, rows)
        bounds = bounds + offsets - 2.0**-52 * (np.abs(bounds) + np.abs(offsets))
        ends = np.cumsum([len(clause.rows) for clause in self.clauses])[:-1]
        self.results = [ClauseResult(ClauseStatus.OPEN, float(part.max())) for part in np.split(bounds, ends)]
        #: The smallest margin of each clause that the network was seen to have, in float64.
        self.seen = np.full(len(self.clauses), math.inf)

    def run(self, wanted: Backend) -> None:
        formulation = formulate(self.network, self.region, self.clauses, self.enclosure)
        largest = formulation.model(0).below(0.0)
        self.backend, self.choice = choose(wanted, largest)
        self.statistics = {
            "binaries": largest.binaries,
            "columns": largest.columns,
            "rows": largest.rows,
            "coefficients": int(largest.matrix.nnz),
        }
        fault = self._fault(formulation)
        if fault:
            self.give_up(Reason.NUMERICS, fault)
            return
        highs = BACKENDS[Backend.HIGHS]
        both = wanted is Backend.AUTO and self.backend is not highs
        # A second pass spends on the clauses still open what the first left over; on the other solver, if there is one.
        for second in (False, True):
            if second and both and self.open:
                self.choice += f"; {self.backend.name} left {self.open} clauses open"
                self.backend = highs
            share = policy.FIRST_SOLVER_SHARE if both and not second else 1.0
            pending = [k for k in np.argsort([result.lower for result in self.results]).tolist() if self._pending(k)]
            for done, k in enumerate(pending):
                now = time.monotonic()
                seconds = share * (self.deadline - now) / (len(pending) - done)
                if self.counterexample is not None or now >= self.deadline or self._cancelled():
                    break
                if not second:
                    self._root(formulation, k, now + seconds)
                if self._pending(k):
                    self._decide(formulation, k, now + seconds, fallback=wanted is Backend.AUTO)
        if self.counterexample is None:
            stopped = Reason.CANCELLED if self._cancelled() else Reason.TIMEOUT
            for k, result in enumerate(self.results):
                if result.status is ClauseStatus.OPEN and result.reason is None:
                    self.results[k] = ClauseResult(ClauseStatus.OPEN, result.lower, reason=stopped)

    def give_up(self, reason: Reason, message: str) -> None:
        """Marks every clause that is open as such for this reason."""
        for k, result in enumerate(self.results):
            if result.status is ClauseStatus.OPEN:
                self.results[k] = ClauseResult(
                    ClauseStatus.OPEN, result.lower, result.nodes, result.seconds, reason, message
                )

    def _pending(self, k: int) -> bool:
        result = self.results[k]
        return result.status is ClauseStatus.OPEN and result.reason in {None, Reason.TIMEOUT}

    def _cancelled(self) -> bool:
        return self.cancel is not None and self.cancel()

    def _decide(self, formulation: Formulation, k: int, deadline: float, *, fallback: bool) -> None:
        """Minimises the margin of clause ``k`` until its sign is known."""
        allowance = float(formulation.allowances[k])
        cutoff = CUTOFF * allowance
        scaled = scale(formulation.model(k).below(cutoff))

        def on_incumbent(v: NDArray[np.float64], _objective: float) -> bool:
            self._try(formulation, scaled.restore(v))
            return self.counterexample is not None

        nodes_before, lower_before = self.nodes, self.results[k].lower

        def report(_primal: float, dual: float, nodes: int) -> None:
            if self.progress is not None:
                others = [result.lower for i, result in enumerate(self.results) if i != k]
                lower = min([max(lower_before, dual * scaled.unit - allowance), *others])
                self.progress(lower, self.open, nodes_before + nodes)

        outcome = self._solve(
            scaled,
            fallback=fallback,
            options={
                "deadline": deadline,
                "threads": self.threads,
                "stop_above": allowance / scaled.unit,
                "on_incumbent": on_incumbent,
                "progress": report,
                "cancel": self.cancel,
            },
        )
        self.results[k] = self._judged(k, outcome, outcome.dual * scaled.unit, allowance, cutoff)

    def _root(self, formulation: Formulation, k: int, deadline: float) -> None:
        """Proves clause ``k`` without branching, if its LP relaxation with ideal cuts can."""
        before, began = self.results[k], time.monotonic()
        seconds = policy.CUT_SHARE * (deadline - began)
        root = solve_root(formulation, k, seconds=seconds, stop=self._cancelled)
        self.statistics["rounds"] = self.statistics.get("rounds", 0) + root.rounds
        if root.point is not None:
            self._try(formulation, root.point)
        if root.lower > self.seen[k]:
            msg = f"the LP relaxation proves a margin of at least {root.lower:g}, but the network has {self.seen[k]:g}"
            raise NumericsError(msg)
        status = ClauseStatus.PROVEN if root.lower > 0 else before.status
        if self.counterexample is not None:
            status = ClauseStatus.VIOLATED
        lower, seconds = max(before.lower, root.lower), before.seconds + time.monotonic() - began
        self.results[k] = replace(before, status=status, lower=lower, seconds=seconds)

    def _try(self, formulation: Formulation, v: NDArray[np.float64]) -> None:
        """Looks for a counterexample at a point of the model, shape ``(columns,)``."""
        point = np.clip(formulation.point(v), self.region.lower, self.region.upper)
        # Tolerances, and tangents that are still to come, let a solver's points lie a little outside of a ball.
        if self.region.plain:
            self._see(point[None])
        elif self.region.contains(inside := self.region.project(point)):
            self._see(inside[None].astype(np.float64))
        self.counterexample = self.counterexample or self.replay(point)

    def _solve(self, scaled: ScaledModel, *, fallback: bool, options: dict[str, Any]) -> MilpOutcome:
        assert self.backend is not None
        try:
            return minimise_convex(self.backend, scaled.model, **options)
        except NumericsError:
            raise
        except BackendError as error:
            highs = BACKENDS[Backend.HIGHS]
            if not fallback or self.backend is highs:
                raise
            self.backend, self.choice = highs, str(error)
            return minimise_convex(highs, scaled.model, **options)

    def _judged(self, k: int, outcome: MilpOutcome, dual: float, allowance: float, cutoff: float) -> ClauseResult:
        """What ``outcome``, with the dual bound ``dual`` in units of the margin, says about clause ``k``."""
        before = self.results[k]
        nodes, seconds = before.nodes + outcome.nodes, before.seconds + outcome.seconds
        # The model ends at the cutoff, so "infeasible" means that no margin lies below it. That the model is not
        # infeasible for any other reason was checked with sampled points before.
        claimed = cutoff if outcome.status is MilpStatus.INFEASIBLE else min(dual, cutoff)
        lower = max(before.lower, claimed - allowance)

        def result(status: ClauseStatus, reason: Reason | None, bound: float, message: str) -> ClauseResult:
            return ClauseResult(status, bound, nodes, seconds, reason, message)

        if outcome.status is MilpStatus.CONFIRMED:
            return result(ClauseStatus.VIOLATED, None, lower, outcome.message)
        if lower > self.seen[k]:
            message = f"the solver claims a margin of at least {lower:g}, but the network attains {self.seen[k]:g}"
            return result(ClauseStatus.OPEN, Reason.NUMERICS, before.lower, message)
        if lower > 0:
            return result(ClauseStatus.PROVEN, None, lower, outcome.message)
        reasons = {
            MilpStatus.TIMEOUT: Reason.TIMEOUT,
            MilpStatus.CANCELLED: Reason.CANCELLED,
            MilpStatus.MEMORY: Reason.MEMORY,
        }
        return result(ClauseStatus.OPEN, reasons.get(outcome.status, Reason.NUMERICS), lower, outcome.message)

    def _fault(self, formulation: Formulation) -> str:
        """What is wrong with the formulation at sampled points of the region; "" if nothing is."""
        points = sampled(self.region)
        return fault(formulation, self.network, points, self._see(points))

    def _see(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The clauses' margins at ``points``, in float64: ``(B, inputs) → (B, clauses)``."""
        margins = margins_at(self.network, self.clauses, points)
        self.seen = np.minimum(self.seen, margins.min(axis=0))
        return margins

    @property
    def open(self) -> int:
        """Number of clauses that are not decided."""
        return sum(result.status is ClauseStatus.OPEN for result in self.results)

    @property
    def nodes(self) -> int:
        """Nodes over all clauses so far."""
        return sum(result.nodes for result in self.results)
