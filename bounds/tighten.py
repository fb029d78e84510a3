"""Progressive tightening of pre-activation bounds: LP where the sign is open, MIP where LP leaves it open.

As Tjeng et al. (2019, §4.2) describe: the cheap bounds come first (intervals and backward linear bounds, given as an
`Enclosure`), an LP is solved only for neurons that they leave unstable, a MIP only for those that the LP leaves open,
layer by layer so that later layers start from better bounds. Only as long as it pays:

* Evaluated points (samples, and the minimiser of every LP) show many neurons on both sides of zero. Nothing can close
  those: they get LPs after the others, for their tighter bounds, and never a MIP.
* In each layer the most promising neurons come first, and the LPs of a layer end when the last 24 neurons closed none
  and narrowed their bounds by less than 2 % on average; the MIPs when the last 6 closed none.
* Later layers' backward bounds are computed anew only when a layer closed a neuron or narrowed its bounds by 2 %.
* Every LP and MIP has a time limit, and so has each stage as a whole.

Soundness. LP bounds are evaluated from duals in safe arithmetic (`bounds.lp`): an enclosure that only LPs tightened is
as rigorous as the one given. A bound from a MIP rests on the solver (`bounds.mip`), and so does everything that was
derived after it: `TightenReport.solver_trusted` lists the neurons closed in this way, and a verdict that used them has
to say so.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bounds.enclosure import Enclosure
from bounds.lp import Optimum, safe_bounds
from bounds.mip import SignSearch
from bounds.pool import Answer, Pool, Solver, Task
from bounds.relaxation import Relaxation, RelaxationTooLargeError, objectives, relax
from bounds.seen import Seen
from bounds.single import backward_bounds
from networks.graph import Network, ReluNode
from networks.region import Region

__all__ = ["Effort", "TightenReport", "tighten"]

Array: TypeAlias = NDArray[np.float64]

_SAMPLES = 256
_LP_WINDOW = 24
_WORTHWHILE = 0.02
_MIP_WINDOW = 6
# One task holds about this many seconds of work, so that progress is steady and the pay rule is asked often.
_TASK_SECONDS = 0.25
_TASK_NEURONS = 32
# Neurons solved in this process before the pool is considered.
_MEASURED = 3


@dataclass(frozen=True)
class Effort:
    """What tightening may cost, in seconds of wall clock.

    Attributes:
        lp_seconds: for all LPs together.
        lp_each: for one LP; what its duals prove by then is kept.
        mip_seconds: for all MIPs together; 0 solves none, and the result stays rigorous.
        mip_each: for one MIP.
        pool_pays: processes are started when a layer's remaining work seems to exceed this much time on one
            core (a worker takes about a third of a second of CPU to start).
    """

    lp_seconds: float = math.inf
    lp_each: float = 5.0
    mip_seconds: float = 0.0
    mip_each: float = 5.0
    pool_pays: float = 2.0


@dataclass(frozen=True)
class TightenReport:
    """What tightening did.

    Attributes:
        seconds: of wall clock.
        lp_solved, lp_closed: LPs (up to two for each neuron), and neurons that they made stable.
        mip_solved, mip_closed: the same for MIPs.
        mip_refuted: MIPs whose "closed" an evaluated point contradicts; their bounds were not used.
        unstable_before, unstable_after: unstable ReLUs of the whole network, whichever bound closed them.
        stopped: why it ended early: "deadline", "cancelled", "effort" (its seconds are spent), "" if it did not.
        skipped: ReLU nodes that were left out, with the reason.
        solver_trusted: (node, neuron) pairs that are stable on a MIP solver's word; empty when all is rigorous.
        processes: worker processes that were alive at the end.
    """

    seconds: float
    lp_solved: int
    lp_closed: int
    mip_solved: int
    mip_closed: int
    mip_refuted: int
    unstable_before: int
    unstable_after: int
    stopped: str = ""
    skipped: tuple[tuple[int, str], ...] = ()
    solver_trusted: tuple[tuple[int, int], ...] = ()
    processes: int = 0


def tighten(
    network: Network,
    region: Region,
    enclosure: Enclosure,
    *,
    effort: Effort | None = None,
    threads: int = 1,
    deadline: float = math.inf,
    cancel: Callable[[], bool] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Enclosure, TightenReport]:
    """Tightens ``enclosure`` by LPs and, if allowed, MIPs.

    Args:
        network: the network.
        region: the input region.
        enclosure: valid bounds of every ReLU node, usually `backward_bounds`.
        effort: what it may cost; LPs only by default.
        threads: worker processes that may be used; with 1 everything happens in this process.
        deadline: on ``clock``; what is known by then is returned.
        cancel: asked often, also while a solver runs; True returns what is known.
        clock: seconds.

    Returns:
        An enclosure nowhere looser than the one given, and the report.

    Raises:
        SoundnessError: two proven bounds contradict each other.
    """
    with contextlib.ExitStack() as stack:
        run = _Run(network, region, enclosure, effort or Effort(), threads, deadline, cancel, clock, stack)
        for position, node in enumerate(network.relu_nodes):
            if run.interrupted() or run.spent():
                break
            if run.layer(node) and position + 1 < len(network.relu_nodes):
                run.refresh()
        return run.enclosure, run.report()


@dataclass
class _Run:
    """The state of one call of `tighten`."""

    network: Network
    region: Region
    enclosure: Enclosure
    effort: Effort
    threads: int
    deadline: float
    cancel: Callable[[], bool] | None
    clock: Callable[[], float]
    stack: contextlib.ExitStack
    stopped: str = ""
    lp_solved: int = 0
    lp_closed: int = 0
    mip_solved: int = 0
    mip_closed: int = 0
    mip_refuted: int = 0
    lp_spent: float = 0.0
    mip_spent: float = 0.0
    refresh_seconds: float = 0.0
    trusted: list[tuple[int, int]] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)
    pool: Pool | None = None
    pool_failed: bool = False

    def __post_init__(self) -> None:
        self.begin = self.clock()
        self.unstable_before = self.enclosure.unstable_count
        self.seen = Seen(self.network)
        rng = np.random.default_rng(0)
        self.seen.add(self.region.sample(_SAMPLES, rng).astype(np.float64))

    def report(self) -> TightenReport:
        return TightenReport(
            seconds=self.clock() - self.begin,
            lp_solved=self.lp_solved,
            lp_closed=self.lp_closed,
            mip_solved=self.mip_solved,
            mip_closed=self.mip_closed,
            mip_refuted=self.mip_refuted,
            unstable_before=self.unstable_before,
            unstable_after=self.enclosure.unstable_count,
            stopped=self.stopped,
            skipped=tuple(self.skipped),
            solver_trusted=tuple(self.trusted),
            processes=self.pool.processes if self.pool is not None else 0,
        )

    def interrupted(self) -> bool:
        """Whether to end now; remembers why."""
        if not self.stopped:
            if self.cancel is not None and self.cancel():
                self.stopped = "cancelled"
            elif self.clock() >= self.deadline:
                self.stopped = "deadline"
        return bool(self.stopped)

    def spent(self) -> bool:
        """Whether neither an LP nor a MIP may be solved any more."""
        spent = self.lp_spent >= self.effort.lp_seconds and self.mip_spent >= self.effort.mip_seconds
        if spent and not self.stopped:
            self.stopped = "effort"
        return spent

    def refresh(self) -> None:
        """Backward bounds of the layers that follow, from what is known now; left out where the deadline is near."""
        begin = self.clock()
        if begin + 2 * self.refresh_seconds < self.deadline and not self.interrupted():
            self.enclosure = backward_bounds(self.network, self.region, start=self.enclosure)
            self.refresh_seconds = self.clock() - begin

    def layer(self, node: int) -> bool:
        """Tightens the bounds of one ReLU node; returns whether later layers' backward bounds will profit."""
        unstable = self.enclosure.unstable(node)
        if not unstable.any():
            return False
        try:
            relaxation = relax(self.network, self.region, self.enclosure, node)
        except RelaxationTooLargeError as error:
            self.skipped.append((node, str(error)))
            return False
        if not relaxation.k:
            return False  # an affine form of the box: intervals are exact already
        layer = _Layer(self, node, relaxation)
        before = self.enclosure
        if self.lp_spent < self.effort.lp_seconds:
            begin = self.clock()
            layer.solve_lps(begin + self.effort.lp_seconds - self.lp_spent)
            self.lp_spent += self.clock() - begin
        if self.mip_spent < self.effort.mip_seconds and not self.interrupted():
            begin = self.clock()
            layer.solve_mips(begin + self.effort.mip_seconds - self.mip_spent)
            self.mip_spent += self.clock() - begin
        if self.enclosure.unstable(node).sum() < unstable.sum():
            return True
        return _narrowed(before, self.enclosure, node, unstable) >= _WORTHWHILE

    def processes(self) -> Pool | None:
        """The pool, started at its first use; None where there can be none."""
        if self.pool is None and self.threads > 1 and not self.pool_failed and Pool.available():
            try:
                self.pool = self.stack.enter_context(Pool(self.threads))
            except OSError:
                self.pool_failed = True  # out of processes or memory: this process can do the work alone
        return self.pool


class _Layer:
    """The LPs and MIPs of one ReLU node."""

    def __init__(self, run: _Run, node: int, relaxation: Relaxation) -> None:
        self._run = run
        self._node = node
        relu = run.network.nodes[node]
        assert isinstance(relu, ReluNode)
        self._parent = relu.parent
        self._relaxation = relaxation
        # The bounds that the relaxation was built from: objectives must refer to the same unstable neurons.
        self._basis = run.enclosure
        self._each = 0.0
        self._solver = Solver(relaxation)

    def solve_lps(self, until: float) -> None:
        run, low, high = self._run, *self._bounds()
        open_, settled = self._split(np.flatnonzero(run.enclosure.unstable(self._node)))
        # What is nearest to a known sign first; among neurons that cannot be closed, the widest triangle first.
        near = np.minimum(-low, high) / (high - low)
        with np.errstate(over="ignore"):
            area = low * high
        order = [*open_[np.argsort(near[open_])], *settled[np.argsort(area[settled])]]
        recent: deque[tuple[bool, float]] = deque(maxlen=_LP_WINDOW)
        for answers in self._answers(order, until, mip=False):
            recent.extend(self._accept_lps(answers))
            gained = sum(gain for _, gain in recent)
            if len(recent) == _LP_WINDOW and not any(c for c, _ in recent) and gained < _WORTHWHILE * _LP_WINDOW:
                break

    def solve_mips(self, until: float) -> None:
        run, low, high = self._run, *self._bounds()
        open_, _ = self._split(np.flatnonzero(run.enclosure.unstable(self._node)))
        near = np.minimum(-low, high) / (high - low)
        recent: deque[bool] = deque(maxlen=_MIP_WINDOW)
        for answers in self._answers(open_[np.argsort(near[open_])], until, mip=True):
            recent.extend(self._accept_mips(answers))
            if len(recent) == _MIP_WINDOW and not any(recent):
                break

    def _bounds(self) -> tuple[Array, Array]:
        return self._run.enclosure.lower[self._node], self._run.enclosure.upper[self._node]

    def _split(self, neurons: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Neurons whose sign may be constant as far as evaluated points show, and the others."""
        low, high = self._run.seen.range(self._node)
        both = (low[neurons] < 0) & (high[neurons] > 0)
        return neurons[~both], neurons[both]

    def _answers(self, order: Iterable[np.int64], until: float, *, mip: bool) -> Iterator[list[Answer]]:
        """Answers for the neurons in ``order``, from this process or the pool."""
        run = self._run

        def interrupted() -> bool:
            return run.interrupted() or run.clock() >= until

        pending = deque(int(neuron) for neuron in order)
        self._each = 0.0
        measured = 0
        while pending and not interrupted():
            # The first neurons are solved here: what they cost tells whether processes would pay.
            remaining = min(self._each * len(pending), until - run.clock(), run.deadline - run.clock())
            pays = measured >= _MEASURED and len(pending) > 1 and remaining > run.effort.pool_pays
            pool = run.processes() if pays else None
            if pool is not None:
                tasks = self._tasks(pending, until, mip=mip)
                for answers in pool.solve(self._relaxation, tasks, interrupted):
                    self._measure(answers)
                    yield answers
                if not pool.processes:
                    run.pool, run.pool_failed = None, True
                    continue
                return
            task = next(self._tasks(pending, until, mip=mip))
            answers = self._solver.solve(task, interrupted)
            measured += len(task.neurons)
            self._measure(answers)
            yield answers

    def _tasks(self, pending: deque[int], until: float, *, mip: bool) -> Iterator[Task]:
        run = self._run
        while pending:
            size = 1 if mip or not self._each else int(np.clip(_TASK_SECONDS / self._each, 1, _TASK_NEURONS))
            chosen = [pending.popleft() for _ in range(min(size, len(pending)))]
            neurons = np.array(chosen, dtype=np.int64)
            costs, constants = objectives(run.network, self._basis, self._relaxation, self._parent, neurons)
            left = min(until, run.deadline) - run.clock()
            each = run.effort.mip_each if mip else run.effort.lp_each
            signs = tuple(self._directions(neuron, mip=mip) for neuron in chosen)
            yield Task(neurons, costs, constants, signs, max(min(each, left), 0.0), mip)

    def _directions(self, neuron: int, *, mip: bool) -> tuple[int, ...]:
        """Which bounds to seek: the one that may close the neuron first, and for an LP the other one too."""
        highest_seen = self._run.seen.range(self._node)[1][neuron]
        first = 1 if highest_seen > 0 else -1
        return (first,) if mip else (first, -first)

    def _measure(self, answers: list[Answer]) -> None:
        """Keeps a running mean of the seconds that a neuron takes."""
        if answers:
            spent = sum(answer.seconds for answer in answers) / len({answer.neuron for answer in answers})
            self._each = spent if not self._each else 0.7 * self._each + 0.3 * spent

    def _accept_lps(self, answers: list[Answer]) -> list[tuple[bool, float]]:
        """Turns duals into bounds; for each neuron, whether it was closed and by which fraction its bounds shrank."""
        run = self._run
        found = [(a.neuron, a.sign, a.found) for a in answers if isinstance(a.found, Optimum)]
        run.lp_solved += len(answers)
        if not found:
            return [(False, 0.0)] * len({a.neuron for a in answers})
        indices = np.array([neuron for neuron, _, _ in found], dtype=np.int64)
        signs = np.array([float(sign) for _, sign, _ in found])
        duals = np.array([optimum.duals for _, _, optimum in found])
        safe = safe_bounds(
            run.network, run.region, run.enclosure, self._relaxation, self._parent, indices, signs, duals
        )
        run.seen.add(np.array([optimum.point for _, _, optimum in found]))
        outcome = self._improve(indices[signs > 0], safe[signs > 0], indices[signs < 0], -safe[signs < 0])
        run.lp_closed += sum(closed for closed, _ in outcome)
        return outcome

    def _accept_mips(self, answers: list[Answer]) -> list[bool]:
        """Accepts the bounds of MIPs that settle a sign, and evaluates the incumbents of the others."""
        run, node = self._run, self._node
        outcome = []
        for answer in answers:
            run.mip_solved += 1
            found = answer.found
            if not isinstance(found, SignSearch):
                continue
            if found.point is not None:
                run.seen.add(found.point[None])
            # A bound that does not settle the sign buys little and would cost the enclosure its rigour.
            low, high = run.seen.range(node)
            refuted = low[answer.neuron] < 0 if answer.sign > 0 else high[answer.neuron] > 0
            run.mip_refuted += int(found.lower > 0 and refuted)
            closed = bool(found.lower > 0 and not refuted)
            if closed:
                index, value = np.array([answer.neuron]), np.array([found.lower])
                nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
                lower, upper = ((index, value), nothing) if answer.sign > 0 else (nothing, (index, -value))
                self._improve(*lower, *upper)
                run.trusted.append((node, answer.neuron))
                run.mip_closed += 1
            outcome.append(closed)
        return outcome

    def _improve(
        self, rising: NDArray[np.int64], lower: Array, falling: NDArray[np.int64], upper: Array
    ) -> list[tuple[bool, float]]:
        """Intersects the node's bounds with new ones; see `_accept_lps` for the result, one entry for each neuron."""
        run = self._run
        low, high = self._bounds()
        new_low, new_high = low.copy(), high.copy()
        new_low[rising] = np.maximum(new_low[rising], lower)
        new_high[falling] = np.minimum(new_high[falling], upper)
        if (new_low > low).any() or (new_high < high).any():
            run.enclosure = run.enclosure.replace(self._node, new_low, new_high)
        touched = np.union1d(rising, falling)
        closed = (new_low[touched] >= 0) | (new_high[touched] <= 0)
        width = high[touched] - low[touched]
        gain = 1 - (new_high[touched] - new_low[touched]) / width
        return list(zip(closed.tolist(), gain.tolist(), strict=True))


def _narrowed(before: Enclosure, after: Enclosure, node: int, mask: NDArray[np.bool_]) -> float:
    """By which fraction the bounds of the neurons in ``mask`` shrank, on average."""
    width = (before.upper[node] - before.lower[node])[mask]
    return float(np.mean(1 - (after.upper[node] - after.lower[node])[mask] / width))
