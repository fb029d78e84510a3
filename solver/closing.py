"""An interval that closes around a margin or a distance: proven from below, replayed from above.

Two moves take turns until the ends are as near as asked, or the budget is spent:

* *improve*: an attack, and descents through activation patterns (`solver.polish`) from the best input known;
* *prove*: the ladder decides whether the number is above a threshold (`solver.aims`), just below the upper end at
  first. Its counterexample, if there is one, is the next input to improve. A threshold that time alone left open is
  tried again with twice the seconds, after one that is easier.

Soundness. The lower end rises only by what a verdict of `solver.ladder` claims about the query at a threshold, the
upper one falls only to what a replayed input attains. A claim that such an input refutes raises.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from certificates import Report
from networks.errors import SoundnessError
from networks.evaluation import evaluate
from networks.exact import rounded
from networks.exact_evaluation import evaluate_exactly
from networks.graph import Network
from networks.property import Property, Query
from solver import policy, root
from solver.aims import Aim, Distance
from solver.checking import Checker
from solver.climb import Climb
from solver.hints import float32_hint
from solver.ladder import by_bounds, decide
from solver.lengths import nearer
from solver.options import Budget, Options
from solver.polish import Descent
from solver.replay import Replayer
from solver.verdict import Counterexample, Kind, Outcome, Progress, Reason, Stage, Trust, Verdict

__all__ = ["Closing"]

# Reasons that more seconds do not change.
_FINAL = {Reason.NUMERICS, Reason.INCOMPLETE, Reason.MEMORY}


class Closing:
    """One interval, and what its ends rest on.

    Attributes:
        lower, upper: the ends.
        witness: the input that the upper end rests on.
    """

    def __init__(
        self,
        network: Network,
        aim: Aim,
        options: Options,
        budget: Budget,
        progress: Callable[[Progress], None] | None,
        cancel: Callable[[], bool] | None,
        checker: Checker | None,
    ) -> None:
        """Args: see `solver.kinds`; ``checker`` where certificates are wanted."""
        self._network, self._aim, self._options, self._budget = network, aim, options, budget
        self._progress, self._cancel, self._checker = progress, cancel, checker
        self._started = time.monotonic()
        self._deadline = self._started + budget.seconds
        self._replayer = Replayer(network)
        self._stages: dict[str, Stage] = {}
        self._statistics: dict[str, Any] = {}
        self._reason: Reason | None = None
        self._decided_by = ""
        self._hint = ""
        self._certificate: tuple[bytes, Report, float] | None = None
        self._last: Verdict | None = None
        self.lower = aim.least
        self.upper = math.inf
        self.witness: Counterexample | None = None

    def run(self, *, attack: bool = True) -> Verdict:
        """Closes the interval as far as the budget allows.

        ``attack``: whether violations are looked for other than by what decides the thresholds.
        """
        self._look_at_centers()
        if not self._done:
            self._bound()
        if attack and not self._done:
            with self._stage("improve"):
                self._approach()
        self._close(attack=attack)
        return self._verdict()

    @property
    def _done(self) -> bool:
        if self._aim.closed(self.lower, self.upper):
            self._reason = None
            return True
        stopped = self._stop()
        self._reason = stopped or self._reason
        return stopped is not None

    def _stop(self) -> Reason | None:
        if self._cancel is not None and self._cancel():
            return Reason.CANCELLED
        return Reason.TIMEOUT if time.monotonic() >= self._deadline else None

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Times a move; moves of one name make one stage, with what they found summed and the last threshold."""
        begin, detail = time.monotonic(), dict[str, Any]()
        self._report(name)
        try:
            yield detail
        finally:
            known = self._stages.get(name, Stage(name, 0.0))
            detail["calls"] = 1
            summed = {k: known.detail.get(k, 0) + v for k, v in detail.items() if isinstance(v, int)}
            proven = self.lower if self.lower > self._aim.least else math.nan
            ends = {k: v for k, v in (("lower", proven), ("upper", self.upper)) if math.isfinite(v)}
            seconds = known.seconds + time.monotonic() - begin
            self._stages[name] = Stage(name, seconds, known.detail | detail | summed | ends)

    def _report(self, stage: str, nodes: int = 0) -> None:
        if self._progress is not None:
            seconds = time.monotonic() - self._started
            self._progress(Progress(stage, seconds, self.lower, self.upper, 1, nodes, self._aim.measure))

    # What is known of the upper end.

    def _look_at_centers(self) -> None:
        with self._stage("replay"):
            for region, prop in self._aim.query.cases:
                if region.center is not None:
                    self._take(self._aim.replay(self._replayer, region, prop, region.center))

    def _take(self, found: Counterexample | None) -> bool:
        """Takes in an input; whether it is better than what was known."""
        if found is None:
            return False
        value = self._aim.attained(found)
        if value < self.upper:
            self.upper, self.witness = value, found
            return True
        return False

    def _approach(self) -> None:
        """The first inputs to improve."""
        aim = self._aim
        if isinstance(aim, Distance):
            self._attack(aim)
            return
        climb = self._climb(aim.query, "improve")
        root.bound(climb, prove=False)
        for case in climb.cases:
            weakest = np.argsort(case.lower)[: policy.POLISH_STARTS]
            for c in weakest.tolist():
                for start in (case.corners[c], case.region.project(case.corners[c]), case.region.center):
                    if start is not None and self._stop() is None:
                        descent = Descent(self._network, case.region, case.prop.clauses[c], None, self._ended)
                        self._descend(descent, case.prop, np.asarray(start, np.float64), cells=False)
        self._improve()

    def _attack(self, aim: Distance) -> None:
        """Attacks balls of radii between what is proven and what was found."""
        low, radius = self.lower, aim.top(self.upper)
        rng = np.random.default_rng(self._options.seed)
        for _ in range(policy.CLOSING_ATTACKS):
            if self._stop() is not None:
                return
            climb = self._climb(aim.at(radius), "improve")
            (case,) = climb.cases
            result = climb.attacker(case).run(
                case.prop.clauses,
                starts=None if self.witness is None else self.witness.input.reshape(1, -1).astype(np.float64),
                restarts=policy.ATTACK_RESTARTS,
                steps=policy.ATTACK_STEPS,
                rng=rng,
            )
            if result.counterexample is None:
                low = radius
            elif self._take(result.counterexample):
                self._improve(cells=False)
            if self.witness is None:
                return
            middle = aim.between(max(low, self.lower), self.upper)
            if middle is None:
                break
            radius = middle
        self._improve()

    def _improve(self, *, cells: bool = True) -> None:
        """Descends from the best input."""
        witness, norm = self.witness, self._aim.norm if isinstance(self._aim, Distance) else None
        if witness is None or witness.exact_input is not None or self._stop() is not None:
            return
        for region, prop in self._aim.query.cases:
            if not region.contains(witness.input):
                continue
            clause = min(prop.clauses, key=lambda clause: clause.margin(witness.output))
            around = region if norm is None else nearer(region, norm, self.upper)
            descent = Descent(self._network, around, clause, norm, self._ended)
            self._descend(descent, prop, witness.input.reshape(-1).astype(np.float64), cells=cells)

    def _descend(self, descent: Descent, prop: Property, x: Any, *, cells: bool) -> None:
        """Takes the first point that replays; before it one that violates over the reals as well, if there is one."""
        first = None
        for point in descent.run(x, cells=cells):
            rounded_point = descent.region.project(point)
            found = self._aim.replay(self._replayer, descent.region, prop, rounded_point)
            if found is None:
                continue
            first = first or found
            if descent.norm is None or prop.violated(
                evaluate(self._network, rounded_point[None].astype(np.float64))[0]
            ):
                first = found
                break
        self._take(first)

    def _ended(self) -> bool:
        return self._stop() is not None

    # What is known of the lower end.

    def _bound(self) -> None:
        """What bounds alone prove."""
        aim = self._aim
        if isinstance(aim, Distance):
            failed = aim.top(self.upper)
            threshold: float | None = failed
            for _ in range(policy.CLOSING_BOUNDS):
                if threshold is None or self._stop() is not None:
                    return
                verdict = self._ask(threshold, bounds=True)
                if verdict.outcome is not Outcome.ROBUST:
                    failed = threshold
                threshold = aim.between(self.lower, failed)
            return
        climb = self._climb(aim.query, "bounds")
        root.bound(climb, prove=False)
        if math.isfinite(climb.lower):
            # The bounds of the property at that threshold round once more.
            threshold = climb.lower - 1e-12 * (1 + abs(climb.lower))
            self._ask(threshold, bounds=True)

    def _close(self, *, attack: bool) -> None:
        """Thresholds, until the interval is closed or nothing helps."""
        aim = self._aim
        seconds = max(policy.CLOSING_SECONDS, policy.CLOSING_SHARE * (self._deadline - time.monotonic()))
        failed: float | None = None
        late = found = 0
        while not self._done:
            threshold: float | None = aim.threshold(self.lower, self.upper, max(0, found - policy.CLOSING_FOUND))
            assert threshold is not None
            if not found and threshold < 0 < self.upper and self.lower < 0:
                threshold = 0.0  # the sign of a margin matters more than its size
            if failed is not None and failed <= threshold:
                threshold = aim.between(self.lower, failed)
            if threshold is None or late > policy.CLOSING_LATE:
                if not late:
                    return
                seconds, failed, late = 2 * seconds, None, 0
                continue
            verdict = self._ask(threshold, seconds)
            match verdict.outcome:
                case Outcome.ROBUST:
                    found = 0
                    late += bool(late)
                case Outcome.COUNTEREXAMPLE:
                    # Inputs that are a little better each time would take forever.
                    found += 1
                    failed = None
                    if attack:
                        with self._stage("improve"):
                            self._improve()
                case Outcome.UNKNOWN:
                    failed = threshold
                    late += verdict.reason not in _FINAL
                    self._reason = verdict.reason

    def _climb(self, query: Query, stage: str, seconds: float = math.inf) -> Climb:
        """The ladder's state for a query about a threshold, for which so many seconds are left.

        Its rungs share all of the time, so that the first ones have enough of it where that is little.
        """
        end = time.monotonic() + seconds

        def progress(report: Progress) -> None:
            self._report(stage, report.nodes)

        def cancel() -> bool:
            # What is proven may be certified, however long that takes.
            late = time.monotonic() >= end and climb.open_count > 0
            return late or (self._cancel is not None and self._cancel())

        budget = dataclasses.replace(self._budget, seconds=max(0.0, self._deadline - time.monotonic()))
        near = self.upper < math.inf
        climb = Climb(self._network, query, self._options, budget, progress, cancel, near=near)
        return climb

    def _ask(self, threshold: float, seconds: float = math.inf, *, bounds: bool = False) -> Verdict:
        """The verdict of the ladder, or of bounds alone, about a threshold; what it says is taken in."""
        name = "bounds" if bounds else "prove"
        with self._stage(name) as detail:
            climb = self._climb(self._aim.at(threshold), name, seconds)
            verdict = by_bounds(climb, self._checker) if bounds else decide(climb, self._checker)
            self._learn(threshold, verdict)
            detail["threshold"] = threshold
            detail[str(verdict.outcome)] = 1
            if not bounds:
                detail["nodes"] = sum(stage.detail.get("nodes", 0) for stage in verdict.stages)
        return verdict

    def _learn(self, threshold: float, verdict: Verdict) -> None:
        self._statistics |= verdict.statistics
        match verdict.outcome:
            case Outcome.ROBUST:
                self.lower = max(self.lower, self._aim.proven(threshold))
                self._decided_by, self._hint, self._last = verdict.decided_by, verdict.hint, verdict
                if verdict.certificate is not None and verdict.checked is not None:
                    self._certificate = verdict.certificate, verdict.checked, threshold
            case Outcome.COUNTEREXAMPLE:
                assert verdict.counterexample is not None
                self._take(self._aim.original(verdict.counterexample))
            case Outcome.UNKNOWN:
                self.lower = max(self.lower, self._aim.learned(threshold, verdict.margin[0]))

    def _verdict(self) -> Verdict:
        aim = self._aim
        distance = isinstance(aim, Distance)
        self._examine()
        margin = (-math.inf, math.inf) if distance else (self.lower, self.upper)
        trust, counterexample = None, None
        if (self.witness is not None) if distance else self.upper <= 0:
            assert self.witness is not None
            outcome, counterexample = Outcome.COUNTEREXAMPLE, self.witness
            trust, margin = self.witness.trust, (margin[0], self.witness.attained)
        elif aim.robust(self.lower):
            certified = self._certificate is not None and aim.robust(aim.proven(self._certificate[2]))
            outcome, trust = Outcome.ROBUST, Trust.CERTIFIED if certified else Trust.SOLVER
            if distance and self._last is not None:
                margin = self._last.margin
        else:
            outcome = Outcome.UNKNOWN
        data, report, proves = self._certificate or (None, None, None)
        return Verdict(
            outcome,
            trust,
            margin,
            time.monotonic() - self._started,
            stages=tuple(self._stages.values()),
            counterexample=counterexample,
            reason=self._reason,
            decided_by=self._decided_by,
            hint=(float32_hint(counterexample) if counterexample is not None else "") or self._hint,
            statistics=self._statistics,
            certificate=data,
            checked=report,
            kind=Kind.DISTANCE if distance else Kind.MARGIN,
            distance=(max(self.lower, 0.0), self.upper) if distance else None,
            witness=self.witness,
            proves=proves,
        )

    def _examine(self) -> None:
        """Exact arithmetic's word on the witness.

        Raises:
            SoundnessError: it refutes what was proven.
        """
        if self.witness is None:
            return
        output = evaluate_exactly(self._network, self.witness.point)
        properties = [p for region, p in self._aim.query.cases if region.contains_exactly(self.witness.point)]
        margin = min(prop.margin(output) for prop in properties)
        self.witness = dataclasses.replace(self.witness, exact_margin=rounded(margin))
        if self._aim.refutes(self.lower, self.witness, margin):
            msg = (
                f"a {self._aim.measure} above {self.lower!r} was proven, but an input attains {self.upper!r} (exact "
                f"margin {rounded(margin)!r}); please report this with the network and the query"
            )
            raise SoundnessError(msg)
        # Float32 rounding alone can take an input below what is proven over the reals.
        self.lower = min(self.lower, self.upper)
