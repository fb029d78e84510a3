"""One climb of the ladder: the query, its limits, and what is known so far; every rung reads and writes it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bounds.program import Program, program
from networks.graph import Network
from networks.property import Clause, Query
from solver import policy
from solver.attack import Attack
from solver.case import Case
from solver.certify import Record
from solver.options import Budget, Options
from solver.replay import Replayer
from solver.verdict import Counterexample, Progress, Reason, Stage

__all__ = ["Climb"]


@dataclass(eq=False)
class Climb:
    """What a query is, may take, and has come to.

    Attributes:
        network, query, options, budget, progress, cancel: see `solver.ladder.verify`.
        started, deadline: `time.monotonic` of the start and of the end of the budget.
        stages: what the rungs so far did and took.
        upper: the smallest margin attained in a region.
        counterexample: a violation, which decides the query.
        decided_by: the stage that decided; "" while open.
        reason: why the last search ended undecided.
        statistics: sizes, for reports.
        too_large: engines that were left out because they would not fit, each with its figures.
        near: whether the query's margin is known to be near zero: bounds and short searches then settle little, and
            the multipliers of many chosen phases decide.
        cases: the query's regions, and what is known about each.
    """

    network: Network
    query: Query
    options: Options
    budget: Budget
    progress: Callable[[Progress], None] | None
    cancel: Callable[[], bool] | None
    started: float = field(default_factory=time.monotonic)
    stages: list[Stage] = field(default_factory=list)
    upper: float = math.inf
    counterexample: Counterexample | None = None
    decided_by: str = ""
    reason: Reason | None = None
    statistics: dict[str, Any] = field(default_factory=dict)
    near: bool = False
    too_large: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cases = [Case.of(region, prop) for region, prop in self.query.cases]
        self.rng = np.random.default_rng(self.options.seed)
        self.replayer = Replayer(self.network)
        self.compiled: Program = program(self.network)
        self.deadline = self.started + self.budget.seconds

    @property
    def undecided(self) -> bool:
        """Whether there is something to do, and leave to do it."""
        if self.counterexample is not None or all(case.proven.all() for case in self.cases):
            return False
        stopped = self.stop()
        self.reason = stopped or self.reason
        return stopped is None

    def stop(self) -> Reason | None:
        """Why everything should end now, or None."""
        if self.cancel is not None and self.cancel():
            return Reason.CANCELLED
        return Reason.TIMEOUT if time.monotonic() >= self.deadline else None

    def stop_within(self, seconds: float) -> Callable[[], Reason | None]:
        """`stop` for a rung that may take at most ``seconds`` from now on."""
        limit = time.monotonic() + seconds
        return lambda: self.stop() or (Reason.TIMEOUT if time.monotonic() >= limit else None)

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Times a rung and credits it with whatever it decided."""
        detail: dict[str, Any] = {}
        begin = time.monotonic()
        before = self.open_count
        self.report(name)
        try:
            yield detail
        finally:
            if self.open_count < before:
                detail["proven"] = before - self.open_count
            if self.counterexample is not None or self.open_count == 0:
                self.decided_by = self.decided_by or name
            self.stages.append(Stage(name, time.monotonic() - begin, detail))

    def attacker(self, case: Case) -> Attack:
        """What looks for counterexamples in one case."""
        return Attack(self.compiled, self.replayer, case.region, case.prop, lambda: self.stop() is not None)

    def record(self, case: Case, clauses: list[Clause]) -> Record | None:
        """What a search over some clauses of a case notes for a certificate; None where it need not."""
        # The checker starts from bounds of its own, so cells of ones that LPs tightened would not convince it.
        if not self.options.certificate or (case.tightened and case.slopes is None):
            return None
        return Record([case.prop.clauses.index(clause) for clause in clauses], case.slopes)

    def take(self, upper: float, counterexample: Counterexample | None) -> None:
        """Takes in the smallest margin that a rung saw attained, and its counterexample."""
        self.upper = min(self.upper, upper)
        self.found(counterexample)

    def found(self, counterexample: Counterexample | None) -> None:
        """Takes in a counterexample, if there is one."""
        if counterexample is not None:
            self.counterexample = counterexample
            self.upper = min(self.upper, counterexample.attained)

    def left_out(self, why: str) -> None:
        """Notes that an engine does not fit, which is the reason if nothing else decides."""
        self.reason = Reason.MEMORY
        if why not in self.too_large:
            self.too_large.append(why)

    @property
    def open_count(self) -> int:
        """How many clauses are not proven."""
        return int(sum((~case.proven).sum() for case in self.cases))

    @property
    def lower(self) -> float:
        """The proven lower bound of the query's margin."""
        return float(min(case.lower.min() for case in self.cases))

    def report(self, stage: str) -> None:
        """Tells the caller what is known."""
        if self.progress is not None:
            seconds = time.monotonic() - self.started
            self.progress(Progress(stage, seconds, self.lower, self.upper, self.open_count))

    def reporter(self, stage: str, case: Case, clauses: list[Clause]) -> Callable[[float, float, int, int], None]:
        """Passes on (lower, upper, pending, nodes) of a search over some clauses of one case.

        The search's lower bound is about its own clauses; what is reported is about the whole query, and never falls.
        """
        others = [
            low
            for each in self.cases
            for low, clause in zip(each.lower, each.prop.clauses, strict=True)
            if each is not case or clause not in clauses
        ]
        floor = min(others, default=math.inf)
        best = min(case.bound(clause) for clause in clauses)
        last = -math.inf

        def report(lower: float, upper: float, pending: int, nodes: int) -> None:
            nonlocal best, last
            now = time.monotonic()
            best = max(best, lower)
            if self.progress is not None and now - last >= policy.REPORT_SECONDS:
                last = now
                known = (min(floor, best), min(self.upper, upper))
                helpers = self.budget.helpers.busy() if self.budget.helpers is not None else 0
                self.progress(Progress(stage, now - self.started, *known, pending, nodes, helpers=helpers))

        return report
