"""From a query to a verdict: the ladder of engines, each stronger and dearer than the one before.

``auto`` climbs until something decides:

1. replay of each region's center;
2. interval bounds, then backward linear bounds; proven clauses are dropped;
3. a short attack on what is open;
4. exact search: input splits where the input is small, and the MILP after them where the ReLUs are few; otherwise
   ReLU splits, then LP tightening (for several hidden layers ReLU splits again), then the MILP;
5. where asked for, a certificate of what was proven, and the independent checker's word on it.

A named engine is used alone: ``milp`` and ``bab`` take pre-activation bounds from rung 2 but prove every clause
themselves, which is what makes them comparable. What is open at the end is reported with the bounds that were proven.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bounds import Enclosure
from bounds.linear import enclose, specification_bounds
from bounds.program import Program, program
from networks.evaluation import evaluate
from networks.graph import Network
from networks.property import Clause, Query
from solver import policy
from solver.attack import Attack
from solver.case import Case, check_fit, known_bounds
from solver.certify import Record, accepted, certificate
from solver.hints import float32_hint, unknown_hint
from solver.options import Budget, Engine, Options
from solver.replay import Replayer
from solver.verdict import Counterexample, Outcome, Progress, Reason, Stage, Trust, Verdict

__all__ = ["verify"]


def verify(
    network: Network,
    query: Query,
    *,
    options: Options | None = None,
    budget: Budget | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Verdict:
    """Decides a query, or proves as much as the budget allows.

    Args:
        network: the loaded network.
        query: regions and properties; see `networks.property`.
        options: engine, back end and seed.
        budget: wall-clock seconds and threads.
        progress: called from this thread or a solver's, at most a few times a second.
        cancel: polled; when it returns True the verdict is ``unknown`` with the bounds so far.

    Returns:
        A verdict; ``robust`` and ``counterexample`` are claims as DESIGN §1 words them.

    Raises:
        RegionError, PropertyError: the query does not fit the network.
        BackendError: the back end that was asked for cannot serve the query.
    """
    options = options or Options()
    budget = budget or Budget()
    check_fit(network, query)
    torch.set_num_threads(min(budget.threads, policy.TORCH_THREADS))
    return _Climb(network, query, options, budget, progress, cancel).run()


@dataclass(eq=False)
class _Climb:
    """One run of the ladder."""

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

    def __post_init__(self) -> None:
        self.cases = [Case.of(region, prop) for region, prop in self.query.cases]
        self.rng = np.random.default_rng(self.options.seed)
        self.replayer = Replayer(self.network)
        self.compiled: Program = program(self.network)
        self.deadline = self.started + self.budget.seconds

    # The climb

    def run(self) -> Verdict:
        engine = self.options.engine
        with self._stage("replay"):
            self._replay_centers()
        if self._undecided:
            self._bound(prove=engine in {Engine.AUTO, Engine.BOUNDS})
        if engine in {Engine.AUTO, Engine.BOUNDS} and self._undecided:
            self._attack()
        if engine is Engine.BOUNDS:
            self.reason = self.reason or Reason.INCOMPLETE
        elif self._undecided:
            self._search()
        return self._verdict(self._certify())

    @property
    def _undecided(self) -> bool:
        if self.counterexample is not None or all(case.proven.all() for case in self.cases):
            return False
        stopped = self._stop()
        self.reason = stopped or self.reason
        return stopped is None

    def _stop(self) -> Reason | None:
        if self.cancel is not None and self.cancel():
            return Reason.CANCELLED
        return Reason.TIMEOUT if time.monotonic() >= self.deadline else None

    def _stop_within(self, seconds: float) -> Callable[[], Reason | None]:
        limit = time.monotonic() + seconds
        return lambda: self._stop() or (Reason.TIMEOUT if time.monotonic() >= limit else None)

    @contextmanager
    def _stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Times a rung and credits it with whatever it decided."""
        detail: dict[str, Any] = {}
        begin = time.monotonic()
        before = self._open_count
        self._report(name)
        try:
            yield detail
        finally:
            if self._open_count < before:
                detail["proven"] = before - self._open_count
            if self.counterexample is not None or self._open_count == 0:
                self.decided_by = self.decided_by or name
            self.stages.append(Stage(name, time.monotonic() - begin, detail))

    # The rungs

    def _replay_centers(self) -> None:
        for case in self.cases:
            if case.region.center is None:
                continue
            self._found(self.replayer.counterexample(case.region, case.prop, case.region.center))
            if self.counterexample is not None:
                return
            margin = self.replayer.margin(case.prop, case.region.center)
            self.upper = min(self.upper, math.inf if math.isnan(margin) else margin)

    @torch.no_grad()
    def _bound(self, *, prove: bool) -> None:
        with self._stage("interval") as detail:
            unstable = sum(self._bound_cases(cases, backward=False, prove=prove) for cases in self._chunks())
            detail["unstable"] = unstable
        if self._undecided:
            with self._stage("linear") as detail:
                unstable = sum(self._bound_cases(cases, backward=True, prove=prove) for cases in self._chunks())
                detail["unstable"] = unstable
        self.statistics["relus"] = self.network.relus
        self.statistics["unstable"] = unstable

    def _chunks(self) -> Iterator[list[Case]]:
        still = [case for case in self.cases if not case.proven.all()]
        for begin in range(0, len(still), policy.CASES_PER_BATCH):
            if self._stop() is not None:
                return
            yield still[begin : begin + policy.CASES_PER_BATCH]

    def _bound_cases(self, cases: list[Case], *, backward: bool, prove: bool, replicable: bool = True) -> int:
        """Bounds a batch of cases together; returns how many ReLUs stay unstable (over all of them).

        ``replicable``: the bounds so far are those of default slopes, as the certificates' checker computes them.
        """
        lower = torch.as_tensor(np.stack([case.region.lower for case in cases]))
        upper = torch.as_tensor(np.stack([case.region.upper for case in cases]))
        # Where bounds alone would take the time, the rest of the ladder gets its part of it.
        late = self._stop_within(policy.LINEAR_SHARE * (self.deadline - time.monotonic()))
        known = known_bounds(cases)
        bounds = enclose(self.compiled, lower, upper, start=known, backward=backward, stop=lambda: late() is not None)
        rows = [
            (b, c, r)
            for b, case in enumerate(cases)
            for c, clause in enumerate(case.prop.clauses)
            if not case.proven[c]
            for r in range(len(clause.rows))
        ]
        C = np.stack([cases[b].prop.clauses[c].matrix[r] for b, c, r in rows])
        box = torch.as_tensor([b for b, _, _ in rows])
        linear = specification_bounds(self.compiled, bounds, torch.as_tensor(C), box)
        minimiser = torch.where(linear.coefficients > 0, lower[box], upper[box]).numpy()
        for (b, c, r), value, corner in zip(rows, linear.value.tolist(), minimiser, strict=True):
            case = cases[b]
            offset = float(case.prop.clauses[c].offsets[r])
            margin = value + offset - 2.0**-52 * (abs(value) + abs(offset))
            if self.options.certificate and replicable and prove and margin > 0 and c not in case.evidence:
                case.evidence[c] = case.root
                case.root.claim(case.root.root, c, np.eye(len(case.prop.clauses[c].rows))[r].tolist())
            if margin >= case.lower[c]:
                case.lower[c] = margin
                case.corners[c] = corner
            case.proven[c] |= prove and margin > 0
        for b, case in enumerate(cases):
            case.enclosure = Enclosure(
                {k: v[b].numpy() for k, v in bounds.pre_lower.items()},
                {k: v[b].numpy() for k, v in bounds.pre_upper.items()},
            )
        return int(sum(bounds.unstable(node).sum() for node in bounds.pre_lower))

    def _attack(self) -> None:
        with self._stage("attack") as detail:
            steps = 0
            for case in self.cases:
                if not case.open or not case.region.replayable:
                    continue
                result = self._attacker(case).run(
                    case.open,
                    starts=case.corners[~case.proven],
                    restarts=policy.ATTACK_RESTARTS,
                    steps=policy.ATTACK_STEPS,
                    rng=self.rng,
                )
                steps += result.steps
                self._take(result.upper, result.counterexample)
                if not self._undecided:
                    break
            detail["steps"] = steps

    def _search(self) -> None:
        open_cases = [case for case in self.cases if case.open]
        for done, case in enumerate(open_cases):
            end = time.monotonic() + (self.deadline - time.monotonic()) / (len(open_cases) - done)
            for rung, share in self._rungs():
                if not self._undecided:
                    return
                if case.open:
                    rung(case, share * (end - time.monotonic()))

    def _rungs(self) -> list[tuple[Callable[[Case, float], None], float]]:
        """The exact engines to run one after the other, each with its share of the time that is left then."""
        branch = self._split_inputs if self.network.inputs <= policy.SPLIT_INPUTS else self._split_relus
        milp: list[tuple[Callable[[Case, float], None], float]] = [
            (self._tighten, policy.TIGHTEN_SHARE),
            (self._milp, 1.0),
        ]
        match self.options.engine:
            case Engine.BAB:
                return [(branch, 1.0)]
            case Engine.MILP:
                return milp
        if branch == self._split_inputs:
            # What a few ReLUs decide, as in an encoded formula, boxes approach only from outside.
            few = self.network.relus <= policy.MILP_RELUS
            return [(branch, policy.BOX_SHARE), *milp] if few else [(branch, 1.0)]
        if len(self.network.relu_nodes) > 1:
            # Most queries that bounds leave open end soon; what does not, profits from LPs for the deeper layers.
            first = policy.BAB_SHARE if self.options.certificate else policy.BAB_FIRST_SHARE
            return [(branch, first), milp[0], (branch, policy.BAB_SHARE), milp[1]]
        return [(branch, policy.BAB_SHARE), *milp]

    def _split_inputs(self, case: Case, seconds: float) -> None:
        from solver.input_split import decide_by_input_split

        with self._stage("bab") as detail:
            clauses = case.open
            record = self._record(case, clauses)
            result = decide_by_input_split(
                self.compiled,
                case.region,
                clauses,
                self._attacker(case) if case.region.replayable else None,
                stop=self._stop_within(seconds),
                progress=self._reporter("bab", case, clauses),
                record=record,
            )
            detail["nodes"] = result.boxes
            self._take(result.upper, result.counterexample)
            proven = result.counterexample is None and result.reason is None
            for clause in clauses:
                case.keep(clause, record if proven else None)
                case.prove(clause, result.lower, proven=proven)
            self.reason = result.reason

    def _split_relus(self, case: Case, seconds: float) -> None:
        from solver.relu_split import decide_by_relu_split

        assert case.enclosure is not None
        end = time.monotonic() + seconds
        attacker = self._attacker(case) if case.region.replayable else None
        with self._stage("bab") as detail:
            detail["nodes"] = 0
            # The weakest first: a violation ends the query.
            clauses = sorted(case.open, key=case.bound)
            for done, clause in enumerate(clauses):
                record = self._record(case, [clause])
                result = decide_by_relu_split(
                    self.network,
                    case.region,
                    case.enclosure,
                    clause,
                    attacker,
                    steps=policy.BAB_STEPS if len(self.network.relu_nodes) > 1 else 0,
                    stop=self._stop_within((end - time.monotonic()) / (len(clauses) - done)),
                    progress=self._reporter("bab", case, [clause]),
                    record=record,
                )
                detail["nodes"] += result.nodes
                self._take(result.upper, result.counterexample)
                proven = result.counterexample is None and result.reason is None
                case.keep(clause, record if proven else None)
                case.prove(clause, result.lower, proven=proven)
                self.reason = result.reason or self.reason
                if not self._undecided:
                    return

    def _tighten(self, case: Case, seconds: float) -> None:
        from bounds.tighten import Effort, tighten

        assert case.enclosure is not None
        with self._stage("tighten") as detail:
            case.enclosure, report = tighten(
                self.network,
                case.region,
                case.enclosure,
                effort=Effort(
                    lp_seconds=seconds,
                    lp_each=policy.LP_SECONDS,
                    mip_seconds=seconds * policy.TIGHTEN_MIP_SHARE,
                    mip_each=policy.MIP_SECONDS,
                ),
                threads=self.budget.threads,
                deadline=min(self.deadline, time.monotonic() + seconds),
                cancel=self.cancel,
            )
            detail |= {
                "unstable": report.unstable_after,
                "lp": {"solved": report.lp_solved, "closed": report.lp_closed},
                "mip": {"solved": report.mip_solved, "closed": report.mip_closed},
                "solver_trusted": len(report.solver_trusted),
            }
            if report.skipped:
                detail["skipped"] = [reason for _, reason in report.skipped]
            self.statistics["unstable"] = report.unstable_after
            case.tightened |= report.lp_solved > 0
            if report.lp_solved:
                self._bound_cases([case], backward=False, prove=self.options.engine is Engine.AUTO, replicable=False)

    def _milp(self, case: Case, seconds: float) -> None:
        from solver.milp import ClauseStatus, decide_milp

        assert case.enclosure is not None
        attacker = self._attacker(case)
        clauses = case.open
        report = self._reporter("milp", case, clauses)

        def replay(point: NDArray[np.float64]) -> Counterexample | None:
            if not case.region.replayable:
                return None
            output = evaluate(self.network, point[None])[0]
            result = attacker.confirm(min(clauses, key=lambda clause: clause.margin(output)), point)
            self.upper = min(self.upper, result.upper)
            return result.counterexample

        with self._stage("milp") as detail:
            result = decide_milp(
                self.network,
                case.region,
                clauses,
                case.enclosure,
                backend=self.options.backend,
                deadline=min(self.deadline, time.monotonic() + seconds),
                threads=self.budget.threads,
                progress=lambda lower, pending, nodes: report(lower, math.inf, pending, nodes),
                cancel=self.cancel,
                replay=replay,
            )
            detail |= {"nodes": result.nodes, "backend": result.backend, **result.statistics}
            self._found(result.counterexample)
            for clause, outcome in zip(clauses, result.clauses, strict=True):
                case.prove(clause, outcome.lower, proven=outcome.status is ClauseStatus.PROVEN)
            self.reason = result.reason
            self.statistics["backend"] = result.backend
            if result.choice:
                self.statistics["backend_choice"] = result.choice

    def _record(self, case: Case, clauses: list[Clause]) -> Record | None:
        # The checker starts from bounds of its own, so cells of tightened ones would not convince it.
        if not self.options.certificate or case.tightened:
            return None
        return Record([case.prop.clauses.index(clause) for clause in clauses])

    def _certify(self) -> bytes | None:
        """The certificate of a robust verdict, if the engines left one and the checker accepts it."""
        if not self.options.certificate or self.counterexample is not None or self._open_count:
            return None
        with self._stage("certificate") as detail:
            trees = []
            for number, case in enumerate(self.cases):
                if len(case.evidence) < len(case.prop.clauses):
                    detail["missing"] = f"the engine {self.decided_by!r} left no proof that can be checked"
                    return None
                records = dict.fromkeys(case.evidence.values())
                trees += [tree for record in records if (tree := record.tree(number)) is not None]
            data = certificate(self.network, self.query, trees)
            seconds = self.deadline - time.monotonic()
            accepts, detail["checker"] = accepted(data, self.network, seconds=seconds, threads=self.budget.threads)
            detail["bytes"] = len(data)
        return data if accepts else None

    # What is known

    def _attacker(self, case: Case) -> Attack:
        return Attack(self.compiled, self.replayer, case.region, case.prop, lambda: self._stop() is not None)

    def _take(self, upper: float, counterexample: Counterexample | None) -> None:
        self.upper = min(self.upper, upper)
        self._found(counterexample)

    def _found(self, counterexample: Counterexample | None) -> None:
        if counterexample is not None:
            self.counterexample = counterexample
            self.upper = min(self.upper, counterexample.margin)

    @property
    def _open_count(self) -> int:
        return int(sum((~case.proven).sum() for case in self.cases))

    @property
    def _lower(self) -> float:
        return float(min(case.lower.min() for case in self.cases))

    def _report(self, stage: str) -> None:
        if self.progress is not None:
            seconds = time.monotonic() - self.started
            self.progress(Progress(stage, seconds, self._lower, self.upper, self._open_count))

    def _reporter(self, stage: str, case: Case, clauses: list[Clause]) -> Callable[[float, float, int, int], None]:
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
                self.progress(Progress(stage, now - self.started, *known, pending, nodes))

        return report

    def _verdict(self, proof: bytes | None) -> Verdict:
        seconds = time.monotonic() - self.started
        margin = (self._lower, self.upper)
        common: dict[str, Any] = {"margin": margin, "seconds": seconds, "stages": tuple(self.stages)}
        if self.counterexample is not None:
            return Verdict(
                Outcome.COUNTEREXAMPLE,
                Trust.REPLAYED,
                counterexample=self.counterexample,
                decided_by=self.decided_by,
                statistics=self.statistics,
                hint=float32_hint(self.counterexample, self.cases),
                **common,
            )
        if self._open_count == 0:
            return Verdict(
                Outcome.ROBUST,
                Trust.SOLVER if proof is None else Trust.CERTIFIED,
                decided_by=self.decided_by,
                statistics=self.statistics,
                certificate=proof,
                **common,
            )
        reason = self.reason or Reason.NUMERICS
        return Verdict(
            Outcome.UNKNOWN,
            None,
            reason=reason,
            open=tuple(dict.fromkeys(clause.label for case in self.cases for clause in case.open)),
            hint=unknown_hint(reason, self.cases),
            statistics=self.statistics,
            **common,
        )
