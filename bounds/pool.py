"""Solving many small LPs and MIPs over one relaxation: in this process, or on a pool of worker processes.

A worker gets arrays and returns arrays (duals, points, dual bounds). It is an untrusted prover: bounds are computed
from what it returns by whoever asked (`bounds.lp.safe_bounds`), so a worker needs neither the network nor torch and
starts in a fraction of a second.

Workers are `bounds.child` processes, which says why; the thread that made the pool must stay alive as long as the pool.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bounds.child import Child, Team, say, serve_parent
from bounds.lp import Optimum, Simplex
from bounds.mip import SignSearch, decide_sign
from bounds.relaxation import Relaxation

__all__ = ["Answer", "Pool", "Solver", "Task", "serve"]

Array: TypeAlias = NDArray[np.float64]

# How long a parent waits before it looks at its cancel flag again.
_POLL = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Neurons whose bounds one solver is to find, one after the other.

    Attributes:
        neurons: shape ``(n,)``.
        costs: their values as ``cost · (t, p) + constant``, shape ``(n, m + k)``.
        constants: shape ``(n,)``.
        signs: for each neuron the directions to minimise (1: lower bound, −1: upper bound), the likelier to close it
            first. The second is skipped when the first seems to have closed it.
        seconds: time limit of each LP or MIP.
        mip: whether binaries are imposed.
    """

    neurons: NDArray[np.int64]
    costs: Array
    constants: Array
    signs: tuple[tuple[int, ...], ...]
    seconds: float
    mip: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What came out for ``sign · z`` of one neuron.

    ``found`` is an `Optimum` (LP), a `SignSearch` (MIP), or None where the solver gave up.
    """

    neuron: int
    sign: int
    found: Optimum | SignSearch | None
    seconds: float


class Solver:
    """Solves tasks in this process, keeping the LP of the relaxation at hand."""

    def __init__(self, relaxation: Relaxation) -> None:
        self._relaxation = relaxation
        self._simplex: Simplex | None = None

    def solve(self, task: Task, interrupted: Callable[[], bool] = bool) -> list[Answer]:
        """The answers to ``task``; fewer when ``interrupted`` said so."""
        answers: list[Answer] = []
        if self._simplex is None and not task.mip:
            self._simplex = Simplex(self._relaxation)
        for neuron, cost, constant, signs in zip(task.neurons, task.costs, task.constants, task.signs, strict=True):
            for sign in signs:
                if interrupted():
                    return answers
                begin = time.monotonic()
                found: Optimum | SignSearch | None
                if task.mip:
                    found = decide_sign(
                        self._relaxation, sign * cost, sign * constant, seconds=task.seconds, interrupted=interrupted
                    )
                    closed = found.lower > 0
                else:
                    assert self._simplex is not None
                    found = self._simplex.minimise(sign * cost, seconds=task.seconds, interrupted=interrupted)
                    closed = found is not None and found.value + sign * constant > 0
                answers.append(Answer(int(neuron), sign, found, time.monotonic() - begin))
                if closed:
                    break
        return answers


class Pool(Team["_Worker"]):
    """Worker processes that solve tasks over one relaxation at a time; a context manager.

    Raises:
        OSError: no worker could be started.
    """

    def __init__(self, processes: int) -> None:
        super().__init__()
        self._start(processes, _Worker)

    @property
    def processes(self) -> int:
        """Workers that are alive, as far as is known."""
        return sum(worker.alive for worker in self._workers)

    @staticmethod
    def available() -> bool:
        """Whether this platform can start workers (POSIX, with an interpreter to run)."""
        return Child.available()

    def solve(
        self, relaxation: Relaxation, tasks: Iterator[Task], interrupted: Callable[[], bool] = bool
    ) -> Iterator[list[Answer]]:
        """Answers to ``tasks`` as they come, in any order, until ``interrupted`` says so or no worker is left.

        A task is drawn when a worker is free for it. What is still running when the caller stops iterating is
        abandoned. A task whose worker dies is lost.
        """
        for worker in self._workers:
            worker.send(("relaxation", relaxation))
        pending = True
        try:
            while not interrupted():
                while pending and (free := next((w for w in self._workers if w.idle), None)) is not None:
                    task = next(tasks, None)
                    if task is None:
                        pending = False
                    else:
                        free.send(("task", task))
                busy = {w.link: w for w in self._workers if w.busy}
                if not busy:
                    return
                for link in connection.wait(list(busy), timeout=_POLL):
                    answers = busy[link].receive()  # type: ignore[index]
                    if answers is not None:
                        yield answers
        finally:
            for worker in self._workers:
                worker.abandon()


class _Worker:
    """The parent's side of one worker process.

    Messages down: ("relaxation", r), ("task", task), ("abandon", None). Up: a list of answers for each task, in
    order, also for abandoned ones.
    """

    def __init__(self) -> None:
        self.child = Child("bounds.pool:serve")
        self._running = 0
        self._abandoned = 0

    @property
    def link(self) -> connection.Connection:
        return self.child.link

    @property
    def alive(self) -> bool:
        return self.child.alive

    @property
    def idle(self) -> bool:
        return self.alive and self._running == 0

    @property
    def busy(self) -> bool:
        return self.alive and self._running > 0

    def send(self, message: tuple[str, Any]) -> None:
        if self.child.send(message):
            self._running += message[0] == "task"

    def receive(self) -> list[Answer] | None:
        """The answers that are waiting; None for those of an abandoned task and for a dead worker."""
        answers: list[Answer] | None = self.child.receive()
        if answers is None:
            return None
        self._running -= 1
        if self._abandoned:
            self._abandoned -= 1
            return None
        return answers

    def abandon(self) -> None:
        if self.busy and self._abandoned < self._running:
            self._abandoned = self._running
            self.send(("abandon", None))


def serve(descriptor: int, parent: int) -> None:
    """A worker's main function: solve what arrives on the socket ``descriptor`` until ``parent`` closes it."""
    inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    abandoned = threading.Event()

    def take(message: tuple[str, Any]) -> None:
        if message[0] == "abandon":
            abandoned.set()
            return
        if message[0] == "task":
            abandoned.clear()  # the parent sends a task only after the previous one was answered
        inbox.put(message)

    link = serve_parent(descriptor, parent, take)
    solver: Solver | None = None
    while True:
        kind, content = inbox.get()
        if kind == "relaxation":
            solver = Solver(content)
            continue
        assert solver is not None, "a task came before its relaxation"
        say(link, solver.solve(content, abandoned.is_set))
