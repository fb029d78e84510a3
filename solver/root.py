"""What is known at the root: replay of centers, bounds over the whole region, a short attack, optimised slopes.

Most queries end here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import certificates
from bounds import Enclosure
from bounds.backward import LinearBound, specification_bounds
from bounds.inside import Inside
from bounds.linear import enclose
from bounds.optimised import NeuronSlopes, SlopeSearch, optimised_bounds, optimised_rows
from bounds.program import program
from bounds.recomputed import Recomputed
from bounds.relus import BoxBounds
from solver import policy, sizes
from solver.case import Case, known_bounds
from solver.climb import Climb

__all__ = [
    "attack",
    "bound",
    "bound_cases",
    "default_cells",
    "optimise_neurons",
    "optimise_rows",
    "replay_centers",
    "slope_search",
]


def replay_centers(climb: Climb) -> None:
    """Runs the network at each region's center; a center that violates the property decides the query."""
    for case in climb.cases:
        if case.region.center is None:
            continue
        climb.found(climb.replayer.counterexample(case.region, case.prop, case.region.center))
        if climb.counterexample is not None:
            return
        margin = climb.replayer.margin(case.prop, case.region.center)
        _note_output(climb, climb.replayer(case.region.center))
        climb.upper = min(climb.upper, math.inf if math.isnan(margin) else margin)


def _note_output(climb: Climb, output: NDArray[np.float32]) -> None:
    """Keeps what the network says at the only center, for comparison with a counterexample's output."""
    if len(climb.cases) == 1 and np.isfinite(output).all():
        climb.statistics["center_output"] = output.astype(float).tolist()


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
    """Cases to bound together: boxes side by side, every other region alone."""
    still = [case for case in climb.cases if not case.proven.all()]
    boxes = [case for case in still if case.region.plain]
    size = sizes.batch(sum(node.features for node in climb.network.nodes))
    batches = [boxes[begin : begin + size] for begin in range(0, len(boxes), size)]
    for batch in [*batches, *([case] for case in still if not case.region.plain)]:
        if climb.stop() is not None:
            return
        yield batch


def bound_cases(climb: Climb, cases: list[Case], *, backward: bool, prove: bool) -> int:
    """Bounds a batch of cases together; returns how many ReLUs stay unstable (over all of them)."""
    # Where bounds alone would take the time, the rest of the ladder gets its part of it.
    late = climb.stop_within(policy.LINEAR_SHARE * (climb.deadline - time.monotonic()))
    bounds = _boxes(climb, cases, backward=backward, stop=lambda: late() is not None)
    rows = _Rows.open(cases)
    linear = specification_bounds(climb.compiled, bounds, rows.C, rows.box)
    for c, case, row in rows.take(bounds, linear, prove=prove):
        if climb.options.certificate and not case.tightened and c not in case.evidence:
            case.evidence[c] = case.root
            case.root.claim(case.root.root, c, np.eye(len(case.prop.clauses[c].rows))[rows.row[row]].tolist())
    _keep(cases, bounds)
    return _unstable(bounds)


def optimise_rows(climb: Climb, *, prove: bool) -> None:
    """Slopes optimised for the rows of every open clause."""
    with climb.stage("alpha"):
        for cases in _chunks(climb):
            bounds = _boxes(climb, cases, backward=False)
            rows = _Rows.open(cases)
            search = slope_search(climb, policy.ALPHA_ROW_STEPS, climb.deadline - time.monotonic())
            linear, alpha = optimised_rows(
                climb.compiled, bounds, rows.C, search, box=rows.box, offsets=rows.offsets, target=rows.target
            )
            _note(climb, bounds, alpha, rows, rows.take(bounds, linear, prove=prove))


def _note(climb: Climb, bounds: BoxBounds, alpha: Tensor, rows: _Rows, proved: list[tuple[int, Case, int]]) -> None:
    """Records what rows prove with slopes of their own, for certificates."""
    pairs = np.array([[k, int(j)] for k in bounds.pre_lower for j in bounds.relaxation(k).columns], np.int64)
    for c, case, row in proved:
        record = climb.record(case, [case.prop.clauses[c]])
        if record is not None and c not in case.evidence:
            record.columns = pairs.reshape(-1, 2)
            slopes = torch.stack([alpha[row], torch.zeros_like(alpha[row])]).numpy()
            weights = np.eye(len(case.prop.clauses[c].rows))[rows.row[row]].tolist()
            record.claim(record.root, 0, weights, slopes=slopes)
            case.evidence[c] = record


def optimise_neurons(climb: Climb, case: Case, seconds: float) -> int:
    """Slopes optimised for every neuron whose sign is open, and for what is open of the case after that.

    Returns:
        How many ReLUs stay unstable.
    """
    bounds = _boxes(climb, [case], backward=False)
    keep = _unstable(bounds) <= policy.SLOPE_COLUMNS
    bounds, slopes = optimised_bounds(
        climb.compiled, bounds, slope_search(climb, policy.ALPHA_STEPS, seconds), keep=keep
    )
    rows = _Rows.open([case])
    search = slope_search(climb, policy.ALPHA_ROW_STEPS, seconds)
    linear, alpha = optimised_rows(climb.compiled, bounds, rows.C, search, offsets=rows.offsets, target=rows.target)
    if climb.options.certificate and keep and not case.tightened:
        case.slopes = stored(bounds, slopes)
    case.default = case.default or case.enclosure
    _note(climb, bounds, alpha, rows, rows.take(bounds, linear, prove=True))
    _keep([case], bounds)
    unstable = _unstable(bounds)
    if keep and not sizes.deep_splits(unstable):
        case.recomputed = Recomputed(climb.compiled, bounds, slopes)
    return unstable


def stored(bounds: BoxBounds, slopes: dict[int, NeuronSlopes]) -> certificates.NeuronSlopes | None:
    """The slopes of neurons' bounds as certificates hold them; None where they would be too many."""
    columns = [(node, int(j)) for node in bounds.pre_lower for j in bounds.relaxation(node).columns]
    neurons = [(node, int(j)) for node, found in slopes.items() for j in found.neuron]
    if len(columns) * len(neurons) > policy.STORED_SLOPES:
        return None
    alpha = np.zeros((2, len(neurons), len(columns)), np.float32)
    start = 0
    for found in slopes.values():
        count, width = found.alpha.shape[1:]
        alpha[:, start : start + count, :width] = found.alpha.numpy(force=True)
        start += count
    lines, places = (np.array(each, np.int64).reshape(-1, 2) for each in (neurons, columns))
    return certificates.NeuronSlopes(lines, places, alpha)


def default_cells(climb: Climb, case: Case) -> Recomputed | None:
    """Cells of the region from the bounds that the case has, with default slopes; None where they would be too many."""
    bounds = _boxes(climb, [case], backward=False)
    return None if sizes.deep_splits(_unstable(bounds)) else Recomputed(climb.compiled, bounds)


def _boxes(climb: Climb, cases: list[Case], *, backward: bool, stop: Callable[[], bool] | None = None) -> BoxBounds:
    """The cases' regions as a batch, with what is known about each."""
    lower = torch.as_tensor(np.stack([case.region.lower for case in cases]))
    upper = torch.as_tensor(np.stack([case.region.upper for case in cases]))
    inside = Inside.of(cases[0].region)
    assert inside is None or len(cases) == 1
    return enclose(climb.compiled, lower, upper, start=known_bounds(cases), inside=inside, backward=backward, stop=stop)


def slope_search(climb: Climb, steps: int, seconds: float) -> SlopeSearch:
    """How slopes are looked for, for at most ``seconds``."""
    late = climb.stop_within(seconds)
    return SlopeSearch(program(climb.network, dtype=torch.float32), steps, stop=lambda: late() is not None)


def _keep(cases: list[Case], bounds: BoxBounds) -> None:
    for b, case in enumerate(cases):
        case.enclosure = Enclosure(
            {k: v[b].numpy() for k, v in bounds.pre_lower.items()},
            {k: v[b].numpy() for k, v in bounds.pre_upper.items()},
        )


def _unstable(bounds: BoxBounds) -> int:
    return int(sum(bounds.unstable(node).sum() for node in bounds.pre_lower))


@dataclass(frozen=True, eq=False)
class _Rows:
    """The R rows of every open clause of a batch of cases.

    Attributes:
        cases: the batch.
        C: shape ``(R, outputs)``.
        offsets: shape ``(R,)``.
        box, clause, row: for each row the number of its case, of its clause there, and its own there.
        target: shape ``(R,)``: rows of one clause have one number.
    """

    cases: list[Case]
    C: Tensor
    offsets: Tensor
    box: Tensor
    target: Tensor
    clause: list[int]
    row: list[int]

    @classmethod
    def open(cls, cases: list[Case]) -> _Rows:
        pairs = [(b, c) for b, case in enumerate(cases) for c in np.flatnonzero(~case.proven).tolist()]
        clauses = [cases[b].prop.clauses[c] for b, c in pairs]
        each = torch.as_tensor([len(clause.rows) for clause in clauses])
        return cls(
            cases,
            torch.as_tensor(np.concatenate([clause.matrix for clause in clauses])),
            torch.as_tensor(np.concatenate([clause.offsets for clause in clauses])),
            torch.as_tensor([b for b, _ in pairs]).repeat_interleave(each),
            torch.arange(len(pairs)).repeat_interleave(each),
            [c for (_, c), clause in zip(pairs, clauses, strict=True) for _ in clause.rows],
            [r for clause in clauses for r in range(len(clause.rows))],
        )

    def take(self, bounds: BoxBounds, linear: LinearBound, *, prove: bool) -> list[tuple[int, Case, int]]:
        """Hands bounds of the rows on to the cases; the clauses that they prove, with their cases and rows."""
        minimiser = bounds.corner(linear.coefficients, self.box).numpy()
        # One more rounding: that of the sum.
        margins = linear.value + self.offsets - 2.0**-52 * (linear.value.abs() + self.offsets.abs())
        proved = []
        for r, (b, c, margin) in enumerate(zip(self.box.tolist(), self.clause, margins.tolist(), strict=True)):
            case = self.cases[b]
            if margin >= case.lower[c]:
                case.lower[c] = margin
                case.corners[c] = minimiser[r]
            if prove and margin > 0:
                case.proven[c] = True
                proved.append((c, case, r))
        return proved


def attack(climb: Climb) -> None:
    """A short descent towards a violation, in every case that is open."""
    with climb.stage("attack") as detail:
        detail["steps"] = 0
        for case, clauses in _attacked(climb):
            result = climb.attacker(case).run(
                [case.prop.clauses[c] for c in clauses],
                starts=case.corners[clauses],
                restarts=policy.ATTACK_RESTARTS,
                steps=policy.ATTACK_STEPS,
                rng=climb.rng,
            )
            detail["steps"] += result.steps
            climb.take(result.upper, result.counterexample)
            if not climb.undecided:
                break


def _attacked(climb: Climb) -> Iterator[tuple[Case, list[int]]]:
    """What to attack together: some open clauses of a case, the weakest first.

    They are few at a time because each starts from the minimisers of all, and all but a case's first ones come only
    while there is time to spare.
    """
    end = time.monotonic() + policy.ATTACK_SHARE * (climb.deadline - time.monotonic())
    for case in climb.cases:
        weakest = sorted(np.flatnonzero(~case.proven).tolist(), key=case.lower.item)
        for first in range(0, len(weakest), policy.ATTACK_CLAUSES):
            if first and time.monotonic() > end:
                break
            yield case, sorted(weakest[first : first + policy.ATTACK_CLAUSES])
