"""Many inputs of a data set, one verdict each: a sweep over all of them, then exact search for those it leaves open.

The sweep climbs the ladder's cheap rungs (replay, bounds, a short attack), which decide most inputs in a fraction of a
second. What they leave open goes through the whole ladder, the inputs whose proven bound is nearest to zero first:
the hard ones come last, so that the interval of the robust accuracy closes early. An engine that is named is used
alone, as in `solver.ladder`: ``bounds`` ends with the sweep, ``milp`` and ``bab`` do without it.

Soundness. An audit decides nothing itself: each verdict is one of `solver.ladder.verify` on one input.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from networks.dataset import Dataset
from networks.errors import DatasetError
from networks.graph import Network
from solver.crew import Ball, Crew, Item, Setup, Task
from solver.options import Engine, Options
from solver.verdict import Outcome, Verdict

__all__ = ["Ball", "Outlook", "Record", "audit", "check"]

Record: TypeAlias = dict[str, Any]
"""One input's verdict: ``index`` and ``label``, then `Verdict.to_json`, then ``engine`` and ``limit`` (seconds)."""

# Between two looks at whether to stop, and two progress reports.
_POLL = 0.1


@dataclass
class Outlook:
    """How much of an audit is left, and how long that may take.

    Attributes:
        processes: workers.
        limit: seconds that one input may take.
        sweeping: inputs that the sweep has not seen.
        searching: inputs that await exact search or are in it.
        swept, searched: inputs that these stages are done with.
        sweep_seconds, search_seconds: what they cost, summed.
        at_work: seconds that the searches at work have run so far, summed.
        opened: inputs that the sweep left open.
    """

    processes: int
    limit: float
    sweeping: int = 0
    searching: int = 0
    swept: int = 0
    searched: int = 0
    opened: int = 0
    sweep_seconds: float = 0.0
    search_seconds: float = 0.0
    at_work: float = 0.0

    def seconds_left(self) -> tuple[float, bool] | None:
        """An estimate, and whether it is only an upper bound; None before there is anything to go by.

        What is left costs what inputs have cost so far on average. Before the first exact search has ended, each is
        taken to need all of its limit, which makes the estimate an upper bound.
        """
        if self.sweeping and not self.swept:
            return None
        sweep = self.sweeping * self.sweep_seconds / max(1, self.swept)
        share = self.opened / self.swept if self.swept else 0.0
        searches = self.searching + self.sweeping * share
        each = self.limit
        if self.searched:
            each = min(each, (self.search_seconds + self.at_work) / self.searched)
        shared = (sweep + searches * each) / self.processes
        return max(shared, each) if searches else shared, searches > 0 and not self.searched


@dataclass(eq=False)
class _Plan:
    """Which input is next, and on which engine."""

    outlook: Outlook
    engine: Engine
    sweep: deque[int]
    search: list[tuple[float, int]] = field(default_factory=list)
    known: dict[int, Verdict] = field(default_factory=dict)

    @classmethod
    def of(cls, indices: Sequence[int], engine: Engine, outlook: Outlook) -> _Plan:
        if engine in {Engine.AUTO, Engine.BOUNDS}:
            outlook.sweeping = len(indices)
            return cls(outlook, engine, deque(indices))
        outlook.searching = len(indices)
        return cls(outlook, engine, deque(), [(0.0, index) for index in sorted(indices)])

    def next(self) -> tuple[int, Engine] | None:
        if self.sweep:
            return self.sweep.popleft(), Engine.BOUNDS
        return (heapq.heappop(self.search)[1], self.engine) if self.search else None

    def done(self, task: Task, verdict: Verdict) -> Verdict | None:
        """Takes note of a verdict; what is final of it."""
        index, look = task.item.index, self.outlook
        if task.engine is Engine.BOUNDS:
            look.sweeping, look.swept = look.sweeping - 1, look.swept + 1
            look.sweep_seconds += verdict.seconds
            if verdict.outcome is not Outcome.UNKNOWN or self.engine is Engine.BOUNDS:
                return verdict
            look.opened, look.searching = look.opened + 1, look.searching + 1
            self.known[index] = verdict
            heapq.heappush(self.search, (-verdict.margin[0], index))
            return None
        look.searching, look.searched = look.searching - 1, look.searched + 1
        look.search_seconds += verdict.seconds
        before = self.known.pop(index, None)
        if before is None:
            return verdict
        margin = (max(before.margin[0], verdict.margin[0]), min(before.margin[1], verdict.margin[1]))
        return dataclasses.replace(verdict, margin=margin, seconds=before.seconds + verdict.seconds)


def audit(
    network: Network,
    dataset: Dataset,
    indices: Sequence[int],
    ball: Ball,
    *,
    options: Options | None = None,
    seconds: float = 60.0,
    processes: int = 1,
    certificates: Path | None = None,
    progress: Callable[[Outlook], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Generator[Record, None, None]:
    """Decides the inputs ``indices`` of ``dataset`` and yields a record for each, as they come.

    The iterator must be used by one thread, which must live as long as it; closing it ends the processes.

    Args:
        network: the loaded network.
        dataset: inputs and labels.
        indices: each at most once.
        ball: what is asked about each input.
        options: engine, back end and seed.
        seconds: for each input, in the sweep and again in the search.
        processes: workers, each with one thread.
        certificates: a folder that gets the certificate of each robust input, as ``INDEX.zip``, before the record
            comes that names it; None asks for no certificates.
        progress: called a few times a second with what is left.
        cancel: polled; once it returns True, what is at work is dropped and the iterator ends.

    Raises:
        InputError: the data set or an input does not fit the network or the ball.
        BackendError: the back end that was asked for cannot serve.
        OSError: a certificate cannot be written.
    """
    options = dataclasses.replace(options or Options(), certificate=certificates is not None)
    check(network, dataset, indices, ball)
    if certificates is not None:
        certificates.mkdir(parents=True, exist_ok=True)
    setup = Setup(network, ball, options, seconds)
    return _decide(setup, dataset, indices, processes, certificates, progress, cancel or (lambda: False))


def _decide(
    setup: Setup,
    dataset: Dataset,
    indices: Sequence[int],
    processes: int,
    certificates: Path | None,
    progress: Callable[[Outlook], None] | None,
    cancel: Callable[[], bool],
) -> Generator[Record, None, None]:
    if not indices:
        return
    outlook = Outlook(min(processes, len(indices)), setup.seconds)
    plan = _Plan.of(indices, setup.options.engine, outlook)
    with Crew(setup, outlook.processes) as crew:
        left = len(indices)
        while left and not cancel():
            while crew.free and (chosen := plan.next()) is not None:
                index, engine = chosen
                crew.give(Task(Item(index, dataset.label(index), dataset.input(index)), engine))
            for task, verdict in crew.wait(_POLL):
                final = plan.done(task, verdict)
                if final is not None:
                    left -= 1
                    yield _record(task.item, final, setup, certificates)
            outlook.at_work = sum(elapsed for task, elapsed in crew.running if task.engine is not Engine.BOUNDS)
            if progress is not None:
                progress(outlook)


def _record(item: Item, verdict: Verdict, setup: Setup, certificates: Path | None) -> Record:
    """The record of a verdict; its certificate goes to a file first."""
    found = verdict.to_json()
    if verdict.certificate is not None and certificates is not None:
        path = certificates / f"{item.index}.zip"
        path.write_bytes(verdict.certificate)
        found["certificate"]["file"] = path.name
    return {
        "index": item.index,
        "label": item.label,
        **found,
        "engine": str(setup.options.engine),
        "limit": setup.seconds,
    }


def check(network: Network, dataset: Dataset, indices: Sequence[int], ball: Ball) -> None:
    """Refuses at once, with an InputError, what would otherwise be refused somewhere in the middle."""
    dataset.check(network)
    if not indices:
        return
    ball.query(dataset.input(indices[0]), dataset.label(indices[0]), network.outputs)
    chosen = dataset.stored[np.asarray(indices)]
    if chosen.dtype.kind == "f" and not np.isfinite(chosen).all():
        wrong = next(i for i in indices if not np.isfinite(dataset.stored[i]).all())
        dataset.input(wrong)  # says which entry
        msg = f"input {wrong} of data set {dataset.name} is not finite"
        raise DatasetError(msg)
    if ball.domain is not None:
        # The extreme inputs stand for the others; building every region would take longer than many a sweep.
        flat = chosen.reshape(len(indices), -1)
        for position in {int(flat.min(1).argmin()), int(flat.max(1).argmax())}:
            i = indices[position]
            ball.query(dataset.input(i), dataset.label(i), network.outputs)
