"""Branch and bound by splitting the input box: the ``bab`` engine for networks with few inputs.

A box is closed when backward linear bounds, recomputed on it, prove every clause there: by one of its rows, or by the
best combination of them with slopes of its own. An open box is first clipped by these bounds (a violation can only lie
where every row of some open clause is at most 0; a linear form over a box gives the clipped end points in closed form),
then halved along the input that promises most (`solver.pseudocosts`). The two halves share the cut exactly, so the
leaves cover the region. In a norm ball, or with constraints, the boxes are parts of the bounding box, and those that
hold no point of the region are closed.

Soundness. Every bound is rigorous in float64 (`bounds.backward`) and clipping rounds outward, so "proven" here rests on
no solver tolerance. Of a part that was clipped away only the sign of the margin is known, so the reported bound of the
margin is then at most 0.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bounds.inside import Inside
from bounds.program import Program
from certificates import BoxSplit
from networks.graph import Network
from networks.property import Clause, Property, Query
from networks.region import Region
from solver import policy
from solver.answers import stated
from solver.attack import Attack, AttackResult, clause_margins
from solver.box_bounds import Bounded, Bounder
from solver.box_frontier import BoxFrontier
from solver.box_record import Notes
from solver.boxes import Box
from solver.certify import Branch, Record
from solver.conjunction import Rows
from solver.helpers import Helpers, Part, Sharing, replayed
from solver.parcel import Parcel
from solver.population import Population
from solver.pseudocosts import Pseudocosts
from solver.verdict import Counterexample, Reason

__all__ = ["BoxSearch", "SplitResult", "decide_by_input_split"]


@dataclass(frozen=True, eq=False)
class SplitResult:
    """What the search found.

    Attributes:
        lower: proven lower bound of the margin over the region, for the clauses searched; 0 where only the sign is
            known.
        upper: smallest replayed margin.
        counterexample: a replayed violation, if one was found.
        reason: why the search stopped undecided; None when it decided.
        boxes: boxes bounded.
    """

    lower: float
    upper: float
    counterexample: Counterexample | None
    reason: Reason | None
    boxes: int


def decide_by_input_split(
    program: Program,
    region: Region,
    clauses: Sequence[Clause],
    attack: Attack | None,
    *,
    stop: Callable[[], Reason | None],
    progress: Callable[[float, float, int, int], None],
    record: Record | None = None,
    threads: int = 1,
    helpers: Helpers | None = None,
    network: Network | None = None,
) -> SplitResult:
    """Proves the clauses on the region, or finds a counterexample, or runs until ``stop``.

    Args:
        program: the compiled network, float64.
        region: the input region.
        clauses: the clauses still open.
        attack: confirms points where the network itself violates a clause; None where none are tried.
        stop: asked between batches; a reason ends the search.
        progress: told (lower, upper, open boxes, boxes so far) after each batch.
        record: notes the tree for a certificate.
        threads: cores to bound boxes on.
        helpers: take some of the open boxes, where there are any.
        network: what ``program`` was compiled from; helpers need to know.
    """
    search = BoxSearch(program, region, clauses, attack, record=record, helpers=helpers, network=network)
    try:
        return search.run(stop, progress, threads=threads)
    finally:
        search.close()


class BoxSearch:
    """A search over boxes, from the whole region or from some boxes of another process's search."""

    def __init__(
        self,
        program: Program,
        region: Region,
        clauses: Sequence[Clause],
        attack: Attack | None,
        *,
        record: Record | None = None,
        helpers: Helpers | None = None,
        network: Network | None = None,
        seed: int = 0,
    ) -> None:
        """Arguments are those of `decide_by_input_split`; ``seed`` starts the population of points."""
        self._program, self._region, self._clauses, self._attack = program, region, clauses, attack
        self._network, self._record = network, record
        self._rows = Rows.of(clauses)
        if record is not None and self._rows.several.any():
            neurons = [(node, j) for node in program.relus for j in range(program.features[node])]
            record.columns = np.array(neurons, np.int64).reshape(-1, 2)
        relus = sum(program.features[node] for node in program.relus)
        self._front = BoxFrontier(len(region.lower), len(clauses), relus, record)
        self._population = Population(attack, clauses, seed) if attack is not None else None
        self._sharing = None if helpers is None else Sharing(helpers, self)
        whole = Box(
            region.lower,
            region.upper,
            np.ones(len(clauses), dtype=bool),
            np.zeros(relus, dtype=np.int8),
            np.zeros(len(region.lower)),
            branch=record.root if record is not None else None,
        )
        self._trials = _Trials.root(whole)
        self._seconds = 0.0

    def run(
        self,
        stop: Callable[[], Reason | None],
        progress: Callable[[float, float, int, int], None],
        *,
        threads: int = 1,
    ) -> SplitResult:
        """Searches until all is decided or ``stop`` gives a reason; see `decide_by_input_split`."""
        with ThreadPoolExecutor(threads, thread_name_prefix="boxes") as executor:
            bounder = Bounder(self._program, self._rows, executor, Inside.of(self._region))
            room = max(2, min(policy.BOX_BATCH, len(self._front.pool)))
            for turn in itertools.count():
                if self._trials.boxes:
                    began = time.perf_counter()
                    lower, found = self._bound(bounder, self._own(threads), push=turn % 16 == 0)
                    # As many at once as pay, but stop() is to be asked now and then.
                    took = max(time.perf_counter() - began, 1e-9)
                    self._seconds += took
                    pace = len(self._trials.boxes) / took
                    room = max(2, min(policy.BOX_BATCH, 4 * room, int(policy.BOX_SECONDS * pace)))
                    if found is not None:
                        return SplitResult(lower, found.attained, found, None, self._front.boxes)
                found = self._share()
                if found is not None:
                    return self._ended(None, found)
                progress(self._lower, self._front.upper, len(self._front.pool) + self._out, self._front.boxes)
                if not self._front.pool and not self._out:
                    return self._ended(Reason.NUMERICS if self._front.stuck < math.inf else None)
                reason = stop()
                if reason is not None:
                    return self._ended(reason)
                batch = self._front.pool.take(room // 2)
                self._trials = (
                    _Trials.of(batch, *self._front.cuts.choose(*_stacked(batch))) if batch else _Trials.none()
                )
                uncut = np.setdiff1d(np.arange(len(batch)), self._trials.box)
                self._front.stuck = min([self._front.stuck, *(batch[b].bound for b in uncut.tolist())])
        raise AssertionError

    def close(self) -> None:
        """Wants nothing of its helpers any more."""
        if self._sharing is not None:
            self._sharing.close()

    @property
    def _lower(self) -> float:
        return min(self._front.lower, math.inf if self._sharing is None else self._sharing.lower)

    def _ended(self, reason: Reason | None, found: Counterexample | None = None) -> SplitResult:
        upper = self._front.upper if found is None else found.attained
        return SplitResult(self._lower, upper, found, reason, self._front.boxes)

    def _bound(self, bounder: Bounder, threads: int, *, push: bool) -> tuple[float, Counterexample | None]:
        """Bounds the boxes that are tried, and closes or keeps them; the bound of all, and a counterexample."""
        front, trials, record = self._front, self._trials, self._record
        bounded = bounder.bound(trials.boxes, nested=record is None, threads=threads)
        front.boxes += len(trials.boxes)
        kept, branches = trials.settle(front.cuts, bounded, record)
        if record is not None and not record.full:
            branches = Notes(record, bounder.rows, bounded).write(branches)
        front.proven = min(front.proven, float(bounded.closed[kept].min()))
        left = kept[bounded.open[kept].any(-1)]
        for b in left.tolist():
            front.pool.put(bounded.box(b, branches[b]))
        lower = self._lower
        if self._attack is None or self._population is None or not len(left):
            return lower, None
        outcome = _probe(self._attack, self._program, self._clauses, bounded, left, push=push)
        if outcome.counterexample is None:
            front.upper = min(front.upper, outcome.upper)
            outcome = self._population.evolve(policy.POPULATION_SHARE * len(trials.boxes))
        front.upper = min(front.upper, outcome.upper)
        return lower, outcome.counterexample

    # -- with helpers ----------------------------------------------------------------------------------------------

    @property
    def _out(self) -> int:
        """How many boxes helpers have."""
        return 0 if self._sharing is None else self._sharing.cells

    def _own(self, threads: int) -> int:
        """How many of ``threads`` cores helpers leave: a process makes more of a core than another thread here."""
        return threads if self._sharing is None else max(1, threads - self._sharing.cores)

    def _share(self) -> Counterexample | None:
        if self._sharing is None:
            return None
        return self._sharing.exchange(self._front.boxes / max(self._seconds, 1e-3))

    def open_cells(self) -> int:
        """See `solver.helpers.Frontier`, as for the methods below."""
        return len(self._front.pool)

    def problem(self) -> Parcel:
        assert self._network is not None
        header: dict[str, Any] = {"kind": "problem", "search": "boxes", "network": self._network.sha256}
        header |= {"record": self._record is not None and not self._record.full}
        return Parcel(header, {}, {"query": stated(self._network, self._region, self._clauses)})

    def deal(self, hands: int, each: int) -> list[Part[list[Box]]]:
        return self._front.deal(hands, each)

    def put_back(self, held: list[Box]) -> None:
        self._front.put_back(held)

    def merge(self, held: list[Box], answer: Parcel) -> Counterexample | None:
        found = replayed(answer, self._attack)
        if found is not None:
            return found
        self._front.merge(held, answer)
        return None

    def adopt(self, piece: Parcel) -> None:
        """Begins with the boxes of a piece of such a search, in place of the region.

        Raises:
            ParcelError: they are not of such a search.
        """
        self._trials = _Trials.none()
        self._front.adopt(piece)

    def harvest(self, given: int) -> Parcel:
        """What became of ``given`` boxes that were adopted."""
        assert self._network is not None
        query = Query.single(self._region, Property(tuple(self._clauses)))
        return self._front.harvest(given, self._network, query)


def _stacked(batch: Sequence[Box]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """End points and scores of boxes that were bounded, each of shape ``(B, inputs)``."""
    return (
        np.stack([box.lower for box in batch]),
        np.stack([box.upper for box in batch]),
        np.stack([box.score for box in batch]),
    )


@dataclass(frozen=True, eq=False)
class _Trials:
    """Boxes to bound together: both halves of each of K cuts that are tried on the boxes of a batch.

    Attributes:
        batch: the boxes that are cut; none where the region itself is to be bounded.
        box, entry: for each cut its box and its input, shape ``(K,)``.
        boxes: what to bound.
    """

    batch: Sequence[Box]
    box: NDArray[np.intp]
    entry: NDArray[np.intp]
    boxes: Sequence[Box]

    @classmethod
    def none(cls) -> _Trials:
        return cls((), np.zeros(0, np.intp), np.zeros(0, np.intp), ())

    @classmethod
    def root(cls, whole: Box) -> _Trials:
        return cls((), np.zeros(0, np.intp), np.zeros(0, np.intp), (whole,))

    @classmethod
    def of(cls, batch: Sequence[Box], box: NDArray[np.intp], entry: NDArray[np.intp]) -> _Trials:
        pairs = zip(box.tolist(), entry.tolist(), strict=True)
        return cls(batch, box, entry, [batch[b].half(j, high=high) for b, j in pairs for high in (False, True)])

    def settle(
        self, cuts: Pseudocosts, bounded: Bounded, record: Record | None
    ) -> tuple[NDArray[np.intp], list[Branch | None]]:
        """Decides which cuts to make; returns the boxes that stay, and for all boxes the cells of these."""
        if not self.batch:
            return np.zeros(1, np.intp), [self.boxes[0].branch]
        before = np.array([each.bound for each in self.batch])
        with np.errstate(invalid="ignore"):
            rise = np.minimum(bounded.worst, 0).reshape(-1, 2) - before[self.box, None]
            gain = np.nan_to_num(rise.clip(min=0).sum(1) / -before[self.box], posinf=0)
        best = cuts.best(self.box, self.entry, gain, _stacked(self.batch)[2])
        branches: list[Branch | None] = [None] * len(self.boxes)
        for k in best.tolist():
            cell, j = self.batch[self.box[k]].branch, int(self.entry[k])
            if cell is not None and record is not None and not record.full:
                at = float(self.boxes[2 * k + 1].lower[j])
                branches[2 * k], branches[2 * k + 1] = record.split(cell, BoxSplit(j, at))
        return np.sort(np.concatenate([2 * best, 2 * best + 1])), branches


def _probe(
    attack: Attack,
    program: Program,
    clauses: Sequence[Clause],
    bounded: Bounded,
    left: NDArray[np.intp],
    *,
    push: bool,
) -> AttackResult:
    """Looks for a violation at the open boxes' corners and middles; with ``push``, descends from the best of them."""
    low, high = bounded.after
    points = np.concatenate([bounded.corner[left], (low[left] + high[left]) / 2])
    with torch.no_grad():
        margins = clause_margins(clauses, program.forward(torch.as_tensor(points))).numpy()
    if np.isnan(margins).all():
        return AttackResult(None, math.inf, 0)
    point, clause = np.unravel_index(np.nanargmin(margins), margins.shape)
    if push or margins[point, clause] <= 0:
        return attack.confirm(clauses[int(clause)], points[point])
    return AttackResult(None, math.inf, 0)
