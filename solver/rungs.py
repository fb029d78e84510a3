"""The exact engines as rungs of the ladder, and their order.

Where the input is small, inputs are split; where the ReLUs are few as well, ReLU splits and the MILP follow soon.
Otherwise ``auto`` splits ReLUs, tightens bounds by LPs, and ends with the MILP, which has an early turn too where the
ReLUs are few.

With several hidden layers, slopes are optimised for the neurons before the ReLU splits; then come ReLU splits that
bound all neurons anew on every cell, and before the LPs a second turn of the simpler ones. Where very many ReLUs are
open, there are neither LPs nor a late MILP.

A rung takes what is open of a case and a number of seconds, and leaves what it found in the case and the climb.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from networks.evaluation import evaluate
from networks.property import Clause
from solver import policy, sizes
from solver.case import Case
from solver.climb import Climb
from solver.options import Engine
from solver.root import bound_cases, default_cells, optimise_neurons, slope_search
from solver.verdict import Counterexample, Reason

if TYPE_CHECKING:
    from solver.relu_split import ReluSplit

__all__ = ["deep", "milp", "optimise", "search", "split_inputs", "split_relus", "tighten"]

#: Decides what is open of a case, as far as it can within some seconds.
Rung: TypeAlias = Callable[[Climb, Case, float], None]


def search(climb: Climb) -> None:
    """Decides what the root left open, case by case, each with an even share of the time that is left."""
    open_cases = [case for case in climb.cases if case.open]
    for done, case in enumerate(open_cases):
        end = time.monotonic() + (climb.deadline - time.monotonic()) / (len(open_cases) - done)
        if case.enclosure is not None and not case.enclosure.finite:
            climb.reason = Reason.NUMERICS  # float64 overflows; no engine is made for that
            continue
        for rung, share in _rungs(climb, case, end - time.monotonic()):
            if not climb.undecided:
                return
            if case.open:
                rung(climb, case, share * (end - time.monotonic()))


def _rungs(climb: Climb, case: Case, seconds: float) -> list[tuple[Rung, float]]:
    """The exact engines to run one after the other within ``seconds``, each with its share of what is left then."""
    branch = split_inputs if climb.network.inputs <= policy.SPLIT_INPUTS else split_relus
    by_milp: list[tuple[Rung, float]] = [(tighten, policy.TIGHTEN_SHARE), (milp, 1.0)]
    if climb.options.engine is Engine.MILP:
        return by_milp
    if climb.options.engine is Engine.BAB:
        if branch is split_relus:
            return [(branch, 1.0)]
        by_milp = []
    if branch is split_inputs:
        assert case.enclosure is not None
        # A handful of phases closes at once what takes boxes in every direction.
        few = case.enclosure.unstable_count <= policy.PHASES_PER_INPUT * climb.network.inputs
        phases: list[tuple[Rung, float]] = [(split_relus, policy.BAB_FIRST_SHARE)] if few else []
        if climb.network.relus > policy.MILP_RELUS:
            return [*phases, (branch, 1.0)]
        # What a few ReLUs decide, as in an encoded formula, boxes approach only from outside.
        return [*phases, (branch, policy.BOX_SHARE), (split_relus, policy.BAB_SHARE if by_milp else 1.0), *by_milp]
    small = climb.network.relus <= policy.MILP_FIRST_RELUS
    early: list[tuple[Rung, float]] = [(milp, policy.MILP_FIRST_SHARE)] if small else []
    if len(climb.network.relu_nodes) > 1:
        assert case.enclosure is not None
        # Most queries that bounds leave open end soon; what does not, profits from new bounds for the deeper layers,
        # where there are some.
        first_share = policy.BAB_SHARE if len(climb.network.relu_nodes) == 2 else _first_share(seconds)
        if climb.near:
            first_share = policy.BAB_NEAR_SHARE
        anew: list[tuple[Rung, float]] = [(deep, policy.DEEP_SHARE), (branch, policy.BAB_SHARE), *by_milp]
        if _hopeless(climb, case):
            return [(deep, 1.0), (branch, 1.0)]
        if case.enclosure.unstable_count > policy.MILP_UNSTABLE:
            # LPs and MILPs of that size only take the time that the search could use.
            anew = [(deep, policy.DEEP_SHARE), (branch, 1.0)]
        # Near zero a checker's bounds under stored slopes, rounded their own way, need not reach what ours did.
        before: list[tuple[Rung, float]] = [(optimise, policy.ALPHA_SHARE)]
        if climb.near and climb.options.certificate:
            before = []
        return [*before, (branch, first_share), *early, *anew]
    first: list[tuple[Rung, float]] = [(branch, policy.BAB_FIRST_SHARE), *early] if small else []
    return [*first, (branch, policy.BAB_SHALLOW_SHARE), *by_milp]


def _first_share(seconds: float) -> float:
    """The share of ``seconds`` that ReLU splits have before all neurons are bounded anew on every cell."""
    least, most = policy.BAB_FIRST_SECONDS
    wanted = min(max(policy.BAB_FIRST_SHARE * seconds, least), most)
    return min(policy.BAB_SHARE, wanted / max(seconds, 1e-3))


def _hopeless(climb: Climb, case: Case) -> bool:
    """Whether so many ReLUs are open that no search fits, and slopes optimised for neurons would not change that."""
    assert case.enclosure is not None
    unstable = case.enclosure.unstable_count
    return unstable > policy.SLOPE_COLUMNS and bool(sizes.relu_splits(climb.network.inputs, unstable))


def split_inputs(climb: Climb, case: Case, seconds: float) -> None:
    """Branch and bound over sub-boxes of the input."""
    from solver.input_split import decide_by_input_split

    with climb.stage("bab") as detail:
        clauses = case.open
        record = climb.record(case, clauses)
        result = decide_by_input_split(
            climb.compiled,
            case.region,
            clauses,
            climb.attacker(case),
            stop=climb.stop_within(seconds),
            progress=climb.reporter("bab", case, clauses),
            record=record,
            threads=climb.budget.threads,
            helpers=climb.budget.helpers,
            network=climb.network,
        )
        detail["nodes"] = result.boxes
        climb.take(result.upper, result.counterexample)
        proven = result.counterexample is None and result.reason is None
        for clause in clauses:
            case.keep(clause, record if proven else None)
            case.prove(clause, result.lower, proven=proven)
        climb.reason = result.reason


def split_relus(climb: Climb, case: Case, seconds: float) -> None:
    """Branch and bound over phases of ReLUs; clauses take turns, so that easy ones leave their time to the others."""
    from solver.relu_split import ReluSplit, SplitRegion

    assert case.enclosure is not None
    why = sizes.relu_splits(climb.network.inputs, case.enclosure.unstable_count)
    if why:
        climb.left_out(why)
        return
    end = time.monotonic() + seconds
    attacker = climb.attacker(case)
    steps = policy.BAB_STEPS if len(climb.network.relu_nodes) > 1 else policy.BAB_SHALLOW_STEPS
    # The weakest first: a violation ends the query.
    clauses = sorted(case.open, key=case.bound)
    searches: dict[Clause, ReluSplit] = {}
    records = {clause: climb.record(case, [clause]) for clause in clauses}
    nodes = dict.fromkeys(clauses, 0)
    memory = policy.BAB_MEMORY // len(clauses)
    with climb.stage("bab") as detail, _closing(searches):
        over = SplitRegion(climb.network, case.region, case.enclosure)
        for turn in itertools.count():
            for clause in clauses:
                left = end - time.monotonic()
                if left <= 0:
                    return
                if clause not in searches:
                    searches[clause] = ReluSplit(
                        over,
                        clause,
                        attacker,
                        steps=steps,
                        memory=memory,
                        record=records[clause],
                        helpers=climb.budget.helpers,
                    )
                length = left if len(clauses) == 1 else min(left, policy.BAB_TURN * 2**turn)
                result = searches[clause].run(climb.stop_within(length), climb.reporter("bab", case, [clause]))
                nodes[clause] = result.nodes
                detail["nodes"] = sum(nodes.values())
                climb.take(result.upper, result.counterexample)
                proven = result.counterexample is None and result.reason is None
                case.keep(clause, records[clause] if proven else None)
                case.prove(clause, result.lower, proven=proven)
                climb.reason = result.reason or climb.reason
                if result.reason is not Reason.TIMEOUT:
                    searches.pop(clause).close()
                if not climb.undecided:
                    return
            clauses = [clause for clause in clauses if clause in searches]
            if not clauses:
                return


@contextmanager
def _closing(searches: dict[Clause, ReluSplit]) -> Iterator[None]:
    """At its end, helpers are told that nothing is wanted of them any more."""
    try:
        yield
    finally:
        for search in searches.values():
            search.close()


def optimise(climb: Climb, case: Case, seconds: float) -> None:
    """Optimised slopes for the bounds of neurons whose sign is open."""
    with climb.stage("alpha") as detail:
        detail["unstable"] = climb.statistics["unstable"] = optimise_neurons(climb, case, seconds)


def deep(climb: Climb, case: Case, seconds: float) -> None:
    """Branch and bound over phases of ReLUs that bounds all neurons anew on every cell; all clauses together.

    From slopes that were optimised, where the case has them; else from default slopes, as the checker does.
    """
    from solver.deep_split import decide_by_deep_split

    with climb.stage("deep") as detail:
        cells = case.recomputed if case.tightened or case.slopes is not None else default_cells(climb, case)
        if cells is None:
            assert case.enclosure is not None
            climb.left_out(sizes.deep_splits(case.enclosure.unstable_count))
            return
        clauses = case.open
        # Slopes that are found anew on cells decide more, but no certificate holds them.
        record = None if case.tightened else climb.record(case, clauses)
        result = decide_by_deep_split(
            cells,
            clauses,
            climb.attacker(case),
            slope_search(climb, policy.DEEP_STEPS, seconds),
            slope_search(climb, policy.DEEP_NEURON_STEPS, seconds),
            stop=climb.stop_within(seconds),
            progress=climb.reporter("deep", case, clauses),
            record=record,
            helpers=climb.budget.helpers,
            about=(climb.network, case.region),
        )
        detail["nodes"] = result.nodes
        climb.take(result.upper, result.counterexample)
        for clause, lower, proven in zip(clauses, result.lower, result.proven, strict=True):
            case.keep(clause, record if proven else None)
            case.prove(clause, lower, proven=proven)
        climb.reason = result.reason


def tighten(climb: Climb, case: Case, seconds: float) -> None:
    """LPs for the bounds of neurons whose sign is open."""
    import bounds.tighten as tightening

    assert case.enclosure is not None
    before = case.enclosure
    with climb.stage("tighten") as detail:
        case.enclosure, report = tightening.tighten(
            climb.network,
            case.region,
            case.enclosure,
            effort=tightening.Effort(
                lp_seconds=seconds,
                lp_each=policy.LP_SECONDS,
                mip_seconds=seconds * policy.TIGHTEN_MIP_SHARE,
                mip_each=policy.MIP_SECONDS,
            ),
            threads=climb.budget.threads,
            deadline=min(climb.deadline, time.monotonic() + seconds),
            cancel=climb.cancel,
        )
        detail |= {
            "unstable": report.unstable_after,
            "lp": {"solved": report.lp_solved, "closed": report.lp_closed},
            "mip": {"solved": report.mip_solved, "closed": report.mip_closed},
            "solver_trusted": len(report.solver_trusted),
        }
        if report.skipped:
            detail["skipped"] = [reason for _, reason in report.skipped]
        climb.statistics["unstable"] = report.unstable_after
        if report.lp_solved:
            case.default, case.slopes = case.default or before, None
            bound_cases(climb, [case], backward=False, prove=climb.options.engine is Engine.AUTO)


def milp(climb: Climb, case: Case, seconds: float) -> None:
    """The MILP, to HiGHS or Gurobi."""
    from solver.milp import ClauseStatus, decide_milp

    assert case.enclosure is not None
    attacker = climb.attacker(case)
    clauses = case.open
    report = climb.reporter("milp", case, clauses)

    def replay(point: NDArray[np.float64]) -> Counterexample | None:
        output = evaluate(climb.network, point[None])[0]
        result = attacker.confirm(min(clauses, key=lambda clause: clause.margin(output)), point)
        climb.upper = min(climb.upper, result.upper)
        return result.counterexample

    with climb.stage("milp") as detail:
        result = decide_milp(
            climb.network,
            case.region,
            clauses,
            case.enclosure,
            backend=climb.options.backend,
            deadline=min(climb.deadline, time.monotonic() + seconds),
            threads=climb.budget.threads,
            progress=lambda lower, pending, nodes: report(lower, math.inf, pending, nodes),
            cancel=climb.cancel,
            replay=replay,
        )
        detail |= {"nodes": result.nodes, "backend": result.backend, **result.statistics}
        climb.found(result.counterexample)
        for clause, outcome in zip(clauses, result.clauses, strict=True):
            case.prove(clause, outcome.lower, proven=outcome.status is ClauseStatus.PROVEN)
            if outcome.status is ClauseStatus.PROVEN:
                case.trusted.add(case.prop.clauses.index(clause))
        climb.reason = result.reason
        for outcome in result.clauses:
            if outcome.reason is Reason.MEMORY:
                climb.left_out(outcome.message)
        climb.statistics["backend"] = result.backend
        if result.choice:
            climb.statistics["backend_choice"] = result.choice
