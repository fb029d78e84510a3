"""What is known at the root: replay of centers, bounds over the whole region, a short attack. Most queries end here."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
import torch

from bounds import Enclosure
from bounds.linear import enclose, specification_bounds
from solver import policy
from solver.case import Case, known_bounds
from solver.climb import Climb

__all__ = ["attack", "bound", "bound_cases", "replay_centers"]


def replay_centers(climb: Climb) -> None:
    """Runs the network at each region's center; a center that violates the property decides the query."""
    for case in climb.cases:
        if case.region.center is None:
            continue
        climb.found(climb.replayer.counterexample(case.region, case.prop, case.region.center))
        if climb.counterexample is not None:
            return
        margin = climb.replayer.margin(case.prop, case.region.center)
        climb.upper = min(climb.upper, math.inf if math.isnan(margin) else margin)


@torch.no_grad()
def bound(climb: Climb, *, prove: bool) -> None:
    """Interval bounds, then backward linear bounds where they leave something open.

    ``prove``: whether clauses that they prove are dropped.
    """
    with climb.stage("interval") as detail:
        unstable = sum(bound_cases(climb, cases, backward=False, prove=prove) for cases in _chunks(climb))
        detail["unstable"] = unstable
    if climb.undecided:
        with climb.stage("linear") as detail:
            unstable = sum(bound_cases(climb, cases, backward=True, prove=prove) for cases in _chunks(climb))
            detail["unstable"] = unstable
    climb.statistics["relus"] = climb.network.relus
    climb.statistics["unstable"] = unstable


def _chunks(climb: Climb) -> Iterator[list[Case]]:
    still = [case for case in climb.cases if not case.proven.all()]
    for begin in range(0, len(still), policy.CASES_PER_BATCH):
        if climb.stop() is not None:
            return
        yield still[begin : begin + policy.CASES_PER_BATCH]


def bound_cases(climb: Climb, cases: list[Case], *, backward: bool, prove: bool, replicable: bool = True) -> int:
    """Bounds a batch of cases together; returns how many ReLUs stay unstable (over all of them).

    ``replicable``: the bounds so far are those of default slopes, as the certificates' checker computes them.
    """
    lower = torch.as_tensor(np.stack([case.region.lower for case in cases]))
    upper = torch.as_tensor(np.stack([case.region.upper for case in cases]))
    # Where bounds alone would take the time, the rest of the ladder gets its part of it.
    late = climb.stop_within(policy.LINEAR_SHARE * (climb.deadline - time.monotonic()))
    known = known_bounds(cases)
    bounds = enclose(climb.compiled, lower, upper, start=known, backward=backward, stop=lambda: late() is not None)
    rows = [
        (b, c, r)
        for b, case in enumerate(cases)
        for c, clause in enumerate(case.prop.clauses)
        if not case.proven[c]
        for r in range(len(clause.rows))
    ]
    C = np.stack([cases[b].prop.clauses[c].matrix[r] for b, c, r in rows])
    box = torch.as_tensor([b for b, _, _ in rows])
    linear = specification_bounds(climb.compiled, bounds, torch.as_tensor(C), box)
    minimiser = torch.where(linear.coefficients > 0, lower[box], upper[box]).numpy()
    for (b, c, r), value, corner in zip(rows, linear.value.tolist(), minimiser, strict=True):
        case = cases[b]
        offset = float(case.prop.clauses[c].offsets[r])
        margin = value + offset - 2.0**-52 * (abs(value) + abs(offset))
        if climb.options.certificate and replicable and prove and margin > 0 and c not in case.evidence:
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


def attack(climb: Climb) -> None:
    """A short descent towards a violation, in every case that is open."""
    with climb.stage("attack") as detail:
        steps = 0
        for case in climb.cases:
            if not case.open or not case.region.replayable:
                continue
            result = climb.attacker(case).run(
                case.open,
                starts=case.corners[~case.proven],
                restarts=policy.ATTACK_RESTARTS,
                steps=policy.ATTACK_STEPS,
                rng=climb.rng,
            )
            steps += result.steps
            climb.take(result.upper, result.counterexample)
            if not climb.undecided:
                break
        detail["steps"] = steps
