"""From a query to a verdict: the ladder of engines, each stronger and dearer than the one before.

``auto`` climbs until something decides:

1. replay of each region's center;
2. interval bounds, then backward linear bounds; proven clauses are dropped;
3. a short attack on what is open, then slopes optimised for its rows, where the input is not small;
4. exact search, in the order that `solver.rungs` has;
5. where asked for, a certificate of what was proven, and the independent checker's word on it.

A named engine is used alone: ``milp`` and ``bab`` take pre-activation bounds from rung 2 but prove every clause
themselves, which is what makes them comparable. What is open at the end is reported with the bounds that were proven.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

from certificates import Report
from networks.graph import Network
from networks.property import Query
from solver import policy, root, rungs, sizes
from solver.case import check_fit
from solver.checking import Checker
from solver.climb import Climb
from solver.facts import examined
from solver.hints import counterexample_hint, unknown_hint
from solver.options import Budget, Engine, Options
from solver.proof import certify
from solver.sizes import is_memory_error
from solver.verdict import Outcome, Progress, Reason, Trust, Verdict

__all__ = ["by_bounds", "decide", "refused", "verify"]


def verify(
    network: Network,
    query: Query,
    *,
    options: Options | None = None,
    budget: Budget | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    checker: Checker | None = None,
) -> Verdict:
    """Decides a query, or proves as much as the budget allows.

    Args:
        network: the loaded network.
        query: regions and properties; see `networks.property`.
        options: engine, back end and seed.
        budget: wall-clock seconds and threads.
        progress: called from this thread or a solver's, at most a few times a second.
        cancel: polled; when it returns True the verdict is ``unknown`` with the bounds so far.
        checker: checks certificates about this network, for callers with several queries; by default a process is
            started for this one.

    Returns:
        A verdict; ``robust`` and ``counterexample`` are claims as docs/evidence.md words them.

    Raises:
        RegionError, PropertyError: the query does not fit the network.
        BackendError: the back end that was asked for cannot serve the query.
        SoundnessError: two facts that were proven contradict each other.
    """
    options = options or Options()
    budget = budget or Budget()
    check_fit(network, query)
    why = sizes.too_large(network, query)
    if why:
        return refused(query, why)
    torch.set_num_threads(min(budget.threads, policy.TORCH_THREADS))
    with ExitStack() as stack:
        if options.certificate and checker is None:
            checker = stack.enter_context(Checker(network, threads=budget.threads))
            checker.start()  # it takes half a second to be ready, while others work here
        return decide(Climb(network, query, options, budget, progress, cancel), checker)


def by_bounds(climb: Climb, checker: Checker | None) -> Verdict:
    """What bounds over the whole regions prove, without looking for violations."""
    root.bound(climb, prove=True)
    climb.reason = climb.reason or Reason.INCOMPLETE
    return _verdict(climb, certify(climb, checker))


def decide(climb: Climb, checker: Checker | None) -> Verdict:
    """The ladder, from its first rung; ``checker`` where a certificate is wanted."""
    try:
        _search(climb)
    except (MemoryError, RuntimeError) as error:
        if not is_memory_error(error):
            raise
        # Whatever was proven and found before stays; the estimates did not foresee this.
        stage = climb.stages[-1].name if climb.stages else "replay"
        climb.left_out(f"memory ran out in the stage {stage}")
    proof = certify(climb, checker)
    if climb.counterexample is not None:
        climb.counterexample = examined(climb.counterexample, climb.network, climb.cases)
    return _verdict(climb, proof)


def _search(climb: Climb) -> None:
    """The rungs, until something decides."""
    engine = climb.options.engine
    with climb.stage("replay"):
        root.replay_centers(climb)
    if climb.undecided:
        root.bound(climb, prove=engine in {Engine.AUTO, Engine.BOUNDS})
    if engine in {Engine.AUTO, Engine.BOUNDS} and climb.undecided:
        root.attack(climb)
        if climb.undecided and climb.network.inputs > policy.SPLIT_INPUTS:
            root.optimise_rows(climb, prove=True)
    if engine is Engine.BOUNDS:
        climb.reason = climb.reason or Reason.INCOMPLETE
    elif climb.undecided:
        rungs.search(climb)


def refused(query: Query, why: str) -> Verdict:
    """The answer to what does not fit into memory, for the reason that `solver.sizes` gives."""
    labels = tuple(dict.fromkeys(clause.label for _, prop in query.cases for clause in prop.clauses))
    hint = unknown_hint(Reason.MEMORY, [], too_large=[why])
    return Verdict(Outcome.UNKNOWN, None, (-math.inf, math.inf), 0.0, reason=Reason.MEMORY, open=labels, hint=hint)


def _verdict(climb: Climb, proof: tuple[bytes, Report] | str) -> Verdict:
    seconds = time.monotonic() - climb.started
    margin = (climb.lower, climb.upper)
    statistics = climb.statistics | _layers(climb)
    common: dict[str, Any] = {"margin": margin, "seconds": seconds, "stages": tuple(climb.stages)}
    if climb.counterexample is not None:
        return Verdict(
            Outcome.COUNTEREXAMPLE,
            climb.counterexample.trust,
            counterexample=climb.counterexample,
            decided_by=climb.decided_by,
            statistics=statistics,
            hint=counterexample_hint(climb.counterexample, climb.cases),
            **common,
        )
    if climb.open_count == 0:
        data, report = (None, None) if isinstance(proof, str) else proof
        return Verdict(
            Outcome.ROBUST,
            Trust.SOLVER if data is None else Trust.CERTIFIED,
            decided_by=climb.decided_by,
            statistics=statistics,
            certificate=data,
            hint=proof if isinstance(proof, str) else "",
            checked=report,
            **common,
        )
    reason = climb.reason or Reason.NUMERICS
    return Verdict(
        Outcome.UNKNOWN,
        None,
        reason=reason,
        open=tuple(dict.fromkeys(clause.label for case in climb.cases for clause in case.open)),
        hint=unknown_hint(reason, climb.cases, disagreed=climb.replayer.disagreed, too_large=climb.too_large),
        statistics=statistics,
        **common,
    )


def _layers(climb: Climb) -> dict[str, list[dict[str, int]]]:
    """How many ReLUs each layer has and how many of them may be on or off, summed over the query's regions."""
    known = [case.enclosure for case in climb.cases if case.enclosure is not None]
    if len(known) < len(climb.cases):
        return {}
    return {
        "layers": [
            {
                "relus": sum(each.lower[node].size for each in known),
                "unstable": sum(int(each.unstable(node).sum()) for each in known),
            }
            for node in known[0].lower
        ]
    }
