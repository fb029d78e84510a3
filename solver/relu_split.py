"""Branch and bound by splitting ReLUs: the ``bab`` engine for networks with many inputs.

A cell chooses a phase (z ≥ 0 or z ≤ 0) for some of the ReLUs that are unstable at the root; the two children of a cell
share the face z = 0, so the leaves cover the region. A cell is closed when its lower bound (`bounds.phases`) is
positive. Where it is not, the linear function that it comes from says where in the cell a violation could be, and
pre-activation bounds that hold there (`bounds.clipping`) give a better one; a cell passes them on to its children. The
ReLU to split is chosen by strong branching over a short list: the columns that loosen the bound most are
tried, both children of each are bounded, and the column whose children gain most is taken (Bunel et al. 2020; De Palma
et al. 2021). Where no relaxation loosens the bound, only multipliers of chosen phases can improve it: there an LP
(`solver.leaf`) closes the cell or says what to split, so the search is complete. Some of the weakest cells go to the LP
as well, more of them as long as it closes some: Adam's multipliers can be far from the best ones, and splits that
follow from those gain nothing then.

The rows of a conjunction may each be nonpositive where they cannot be so together. Their cells are contracted as well
(`bounds.contraction`): what seems empty goes to the LP, whose duals weigh the rows; where no split helps the leading
row, the column is split that tells most about the others.

Soundness. Cells are closed by `solver.cell_prover` alone; what is chosen here is data for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bounds.contraction import Contracted, contract
from bounds.reduced import Estimate, Reduced
from certificates import PhaseSplit
from networks.property import Clause, Property, Query
from solver import policy
from solver.answers import stated
from solver.attack import Attack, AttackResult
from solver.cell_frontier import CellFrontier
from solver.cell_pool import Batch, CellPool
from solver.cell_prover import CellProver
from solver.certify import Record
from solver.helpers import Helpers, Part, Sharing, replayed
from solver.parcel import Parcel
from solver.split_region import CellSearch, SplitRegion
from solver.travelling import enclosure_arrays
from solver.verdict import Counterexample, Reason

__all__ = ["CellSearch", "ReluSplit", "SplitRegion"]

# Length of the first Adam step; slopes lie in [0, 1], and multipliers are in units of the root's coefficients.
_RATE = 0.2
# Weight of the stronger child's gain beside the weaker one's.
_STRONGER = 1.0
# In place of a column to split: only the LP can say, or the LP has closed the cell.
_NONE, _CLOSED = -1, -2
# Every so many batches a descent starts from the best minimiser, even if it violates nothing yet.
_PUSH = 32
# A split helps a row of a conjunction where it gains more than this share of what the row loses in all.
_GAIN = 1e-4


class ReluSplit:
    """Proves one clause on a region, or finds a counterexample; a search that was stopped goes on where it was."""

    def __init__(
        self,
        over: SplitRegion,
        clause: Clause,
        attack: Attack | None,
        *,
        steps: int,
        memory: int = policy.BAB_MEMORY,
        record: Record | None = None,
        helpers: Helpers | None = None,
    ) -> None:
        """Nothing is bounded yet.

        Args:
            over: the region.
            clause: the clause.
            attack: confirms points where the network violates the clause; None where none are tried.
            steps: Adam steps on each new cell's multipliers; 0 keeps the default slopes.
            memory: bytes that open cells may fill before the search goes depth first.
            record: notes the tree for a certificate; the root's bounds must then be what default slopes give.
            helpers: take some of the open cells, where there are any.
        """
        self._over = over
        self._cells = over.cells
        self._reduced = Reduced(over.network, over.enclosure, over.forms, clause)
        self._clause = clause
        self._attack = attack
        self._steps = steps
        self._rows = len(clause.rows)
        self._record = record
        if record is not None:
            pairs = [self._cells.neuron(column) for column in range(self._cells.columns)]
            record.columns = np.array(pairs, np.int64).reshape(-1, 2)
        self._lines_kept = self._rows if steps else 0
        self._open = CellPool(self._cells.low, self._cells.high, self._lines_kept, memory)
        self._front = CellFrontier(self._open, record)
        self._prover = CellProver(over, clause, self._reduced, self._front)
        self._sharing = None if helpers is None else Sharing(helpers, self)
        products = self._cells.columns * (over.network.inputs + self._cells.columns)
        self._batch = max(1, min(policy.BAB_BATCH, policy.BAB_PRODUCTS // max(1, products)))
        self._memory = memory
        self._planted = False
        self._turn = 0
        self._seconds = 0.0

    @property
    def _lower(self) -> float:
        out = math.inf if self._sharing is None else self._sharing.lower
        return min(self._front.lower, out)

    def run(self, stop: Callable[[], Reason | None], progress: Callable[[float, float, int, int], None]) -> CellSearch:
        """Searches until the clause is decided or ``stop``, asked between batches, gives a reason.

        ``progress`` is told (lower, upper, open cells, cells so far) after each batch.
        """
        if not self._planted:
            self._plant()
        while True:
            found = self._share()
            if found is not None:
                return self._ended(None, found)
            if not len(self._open) and not self._out:
                return self._ended(Reason.NUMERICS if self._front.stuck < math.inf else None)
            reason = stop()
            if reason is not None:
                return self._ended(reason)
            if len(self._open):
                self._turn += 1
                # What holds before cells are taken holds as well if one of them turns out to have a violation.
                lower, began = self._lower, time.monotonic()
                found = self._expand(self._open.take(self._batch), stop, push=self._turn % _PUSH == 1)
                self._seconds += time.monotonic() - began
                if found is not None:
                    return CellSearch(lower, found.attained, found, None, self._front.nodes)
            progress(self._lower, self._front.upper, len(self._open) + self._out, self._front.nodes)

    def close(self) -> None:
        """Wants nothing of its helpers any more."""
        if self._sharing is not None:
            self._sharing.close()

    def _ended(self, reason: Reason | None, found: Counterexample | None = None) -> CellSearch:
        upper = self._front.upper if found is None else found.attained
        return CellSearch(self._lower, upper, found, reason, self._front.nodes)

    # -- with helpers ----------------------------------------------------------------------------------------------

    @property
    def _out(self) -> int:
        """How many cells helpers have."""
        return 0 if self._sharing is None else self._sharing.cells

    def _share(self) -> Counterexample | None:
        if self._sharing is None:
            return None
        return self._sharing.exchange(self._front.nodes / max(self._seconds, 1e-3))

    def open_cells(self) -> int:
        """See `solver.helpers.Frontier`, as for the methods below."""
        return len(self._open)

    def problem(self) -> Parcel:
        over = self._over
        arrays = enclosure_arrays(over.enclosure)
        arrays |= {"default": self._reduced.settled.numpy(), "slack": np.array([self._prover.slack])}
        header = {"kind": "problem", "search": "relus", "network": over.network.sha256, "steps": self._steps}
        header |= {"memory": self._memory, "record": self._record is not None and not self._record.full}
        return Parcel(header, arrays, {"query": stated(over.network, over.region, [self._clause])})

    def deal(self, hands: int, each: int) -> list[Part[Batch]]:
        return self._front.deal(hands, each)

    def put_back(self, held: Batch) -> None:
        self._open.put(held)

    def merge(self, held: Batch, answer: Parcel) -> Counterexample | None:
        found = replayed(answer, self._attack)
        if found is not None:
            return found
        self._front.merge(held, answer, (self._cells.low, self._cells.high), self._lines_kept)
        return None

    def adopt(self, problem: Parcel, piece: Parcel) -> None:
        """Begins with the cells of a piece of such a search, in place of the root.

        Raises:
            ParcelError: they are not of such a search.
        """
        default = problem.array("default", np.float32, (self._rows, self._cells.columns))
        if self._cells.columns:
            self._reduced.settle(torch.as_tensor(default))
        (self._prover.slack,) = problem.array("slack", np.float64, (1,)).tolist()
        self._front.adopt(Batch.of(piece, (self._cells.low, self._cells.high), self._lines_kept))
        self._planted = True

    def harvest(self, given: int) -> Parcel:
        """What became of ``given`` cells that were adopted."""
        query = Query.single(self._over.region, Property((self._clause,)))
        return self._front.harvest(given, self._over.network, query)

    # -- at home ---------------------------------------------------------------------------------------------------

    def _plant(self) -> None:
        """Bounds the root with optimised slopes, which every other cell starts from."""
        self._planted = True
        low, high = self._cells.low[None], self._cells.high[None]
        every = torch.arange(self._rows)
        wide = low.float().expand(self._rows, -1), high.float().expand(self._rows, -1)
        theta = self._reduced.start(*wide, every)
        if self._cells.columns:
            _, theta = self._reduced.optimise(*wide, theta, every, steps=policy.BAB_ROOT_STEPS, rate=_RATE)
            self._reduced.settle(theta)
        inherited = torch.full((1,), -torch.inf, dtype=torch.float64)
        self._prover.receive(Batch(inherited, low, high, theta[None], torch.zeros(1, dtype=torch.int64)))

    def _expand(self, batch: Batch, stop: Callable[[], Reason | None], *, push: bool) -> Counterexample | None:
        """Splits cells into two each; returns a counterexample if one turned up."""
        count, rows = len(batch), self._rows
        low, high, row = self._lines(batch)
        theta = batch.theta.flatten(0, 1) if batch.theta is not None else self._reduced.start(low, high, row)
        found = self._reduced.estimate(low, high, theta, row)
        # A clause's leading row decides what to split next and where to look.
        leading = found.value.reshape(-1, rows).argmax(1)
        found = found.select(torch.arange(count) * rows + leading)
        direction, contracted = found.direction, None
        if rows > 1 and self._over.forms.layers:
            contracted = contract(self._over.forms, self._reduced, low[::rows], high[::rows], rounds=policy.BAB_ROUNDS)
            direction = torch.cat([direction, torch.where(contracted.least + contracted.most > 0, -1.0, 1.0)])
        outcome = self._probe(direction, push=push)
        self._front.upper = min(self._front.upper, outcome.upper)
        if outcome.counterexample is not None:
            return outcome.counterexample
        low, high, theta = low[::rows], high[::rows], theta.reshape(count, rows, -1)
        columns = self._choose(found, low, high, theta[torch.arange(count), leading], leading, contracted)
        self._ask(batch, columns, stop)
        leaves = torch.nonzero(columns == _NONE)[:, 0]
        for done, i in enumerate(leaves.tolist()):
            if stop() is not None:
                self._open.put(batch.select(leaves[done:]))
                break
            counterexample = self._leaf(batch.select(torch.tensor([i])), stop)
            if counterexample is not None:
                return counterexample
        known = columns >= 0
        if known.any():
            self._divide(batch.select(known), theta[known], columns[known])
        return None

    def _choose(
        self,
        found: Estimate,
        low: Tensor,
        high: Tensor,
        theta: Tensor,
        row: Tensor,
        contracted: Contracted | None,
    ) -> Tensor:
        """The column to split in each cell, ``(B,)``; `_NONE` where only the LP can say.

        ``found`` are the estimates of the leading rows ``row`` with parameters ``theta``; ``contracted`` is what the
        rows of a conjunction say together.
        """
        loose = self._reduced.score(found, low, high, theta)
        score, columns = loose.topk(min(policy.BAB_CANDIDATES, self._cells.columns), dim=1)
        if not (score > 0).any():
            return torch.full((len(low),), _NONE)
        value = self._reduced.children(found, low, high, theta, row, columns)
        # A positive child is closed whatever it gains beyond that; the weaker child matters most.
        gain = value.clamp(max=0)
        merit = gain.amin(-1) + _STRONGER * gain.amax(-1)
        merit[score <= 0] = -torch.inf
        merit, best = merit.max(1)
        chosen = torch.where(score[:, 0] > 0, columns.gather(1, best[:, None])[:, 0], _NONE)
        if contracted is None:
            return chosen
        # Where no split helps the leading row alone, what matters is what the rows say together.
        helped = merit - (1 + _STRONGER) * found.value.clamp(max=0) > _GAIN * loose.sum(1)
        shared, column = contracted.score.max(1)
        chosen = torch.where(helped, chosen, torch.where(shared > 0, column, _NONE))
        return torch.where(contracted.empty, _NONE, chosen)

    def _lines(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Each cell once for every row of the clause, as float32 ``(B · rows, K)``; and the rows, ``(B · rows,)``."""
        low = batch.low.float().repeat_interleave(self._rows, 0)
        return low, batch.high.float().repeat_interleave(self._rows, 0), torch.arange(self._rows).repeat(len(batch))

    def _divide(self, batch: Batch, theta: Tensor, columns: Tensor) -> None:
        """Bounds both children of every cell, split at one column each."""
        low, high = batch.low.repeat_interleave(2, 0), batch.high.repeat_interleave(2, 0)
        theta = theta.repeat_interleave(2, 0)
        first = torch.arange(0, len(low), 2)
        low[first, columns] = 0
        high[first + 1, columns] = 0
        theta[first, :, columns] = 0
        theta[first + 1, :, columns] = 0
        children = Batch(batch.bound.repeat_interleave(2), low, high, theta, self._grow(batch.branch, columns))
        if self._steps:
            lines = self._lines(children)
            _, best = self._reduced.optimise(*lines[:2], theta.flatten(0, 1), lines[2], steps=self._steps, rate=_RATE)
            children = replace(children, theta=best.reshape(theta.shape))
        self._prover.receive(children)

    def _grow(self, parents: Tensor, columns: Tensor) -> Tensor:
        """Splits cells of the record at one column each; the numbers of their children, phase +1 first."""
        if self._record is None or self._record.full:
            return torch.zeros(2 * len(parents), dtype=torch.int64)
        return self._front.grow(parents, [PhaseSplit(*self._cells.neuron(column)) for column in columns.tolist()])

    def _probe(self, direction: Tensor, *, push: bool) -> AttackResult:
        """Looks for a violation at the corners of the region against ``direction``; with ``push``, descends from the
        best of them.
        """
        if self._attack is None:
            return AttackResult(None, math.inf, 0)
        margins = self._reduced.margins(direction)
        best = int(margins.argmin())
        if push or margins[best] <= 0:
            return self._attack.confirm(self._clause, self._reduced.points(direction[best]).numpy())
        return AttackResult(None, math.inf, 0)

    def _ask(self, batch: Batch, columns: Tensor, stop: Callable[[], Reason | None]) -> None:
        """Lets the LP close some of the weakest cells of a batch; their columns become `_CLOSED`."""
        asked, until = self._over.asks.next(len(batch))
        if not asked:
            return
        begin = time.monotonic()

        def enough() -> bool:
            return time.monotonic() > until or stop() is not None

        for i in range(asked):
            if enough():
                break
            if columns[i] != _NONE and self._prover.by_lp(batch.select(torch.tensor([i])), enough)[1] > 0:
                columns[i] = _CLOSED
        self._over.asks.took(time.monotonic() - begin, closed=bool((columns[:asked] == _CLOSED).any()))

    def _leaf(self, cell: Batch, stop: Callable[[], Reason | None]) -> Counterexample | None:
        """Lets the LP decide a cell, or choose what to split; what floating point cannot decide is stuck."""
        leaf, proven = self._prover.by_lp(cell, lambda: stop() is not None)
        if leaf is None:
            self._open.put(cell)
            return None
        if proven > 0:
            return None
        cell = replace(cell, bound=cell.bound.clamp(min=proven))
        if leaf.point is not None and self._attack is not None:
            outcome = self._attack.confirm(self._clause, leaf.point)
            self._front.upper = min(self._front.upper, outcome.upper)
            if outcome.counterexample is not None:
                return outcome.counterexample
        if len(leaf.loose):
            theta = self._reduced.start(*self._lines(cell))[None]
            self._divide(cell, theta, torch.as_tensor(leaf.loose[:1]))
        else:
            self._front.stuck = min(self._front.stuck, float(cell.bound[0]))
        return None
