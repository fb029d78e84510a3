"""Processes that decide inputs of a data set, each one input at a time on one thread.

One input in each process is what was measured to be fastest: see PERFORMANCE.md. A process that dies or overruns its
limit costs the input that it was deciding, never the audit.
"""

from __future__ import annotations

import dataclasses
import math
import pickle
import queue
import time
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bounds.child import Child, Team, say, serve_parent
from networks.errors import InputError, NetproofError
from networks.exact import Number
from networks.graph import Network
from networks.property import Property, Query
from networks.region import Region
from solver.options import Budget, Engine, Options
from solver.verdict import Outcome, Reason, Verdict

__all__ = ["Ball", "Crew", "Item", "Setup", "Task", "serve"]

# An input may take this much longer than its limit, and as many seconds more, before its process is killed.
_OVERRUN = 1.5
_OVERRUN_SECONDS = 30.0
_SIGKILL = -9


@dataclass(frozen=True, slots=True)
class Ball:
    """What is asked about every input: does the class stay the same within ``epsilon`` in ``norm``?

    Attributes:
        epsilon: radius in input units; a decimal is taken as written.
        norm: ``linf``, ``l2``, ``l1``, or ``l0``, where epsilon counts the entries that may change.
        domain: least and greatest value of every input entry; None for unlimited.
    """

    epsilon: Number
    norm: str = "linf"
    domain: tuple[Number, Number] | None = None

    def query(self, center: NDArray[np.float32], label: int, outputs: int) -> Query:
        """The query about one input. Raises RegionError or PropertyError where the parts do not fit."""
        region = Region.norm_ball(center, self.epsilon, self.norm, self.domain)
        return Query.single(region, Property.classification(label, outputs))


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One input of a data set: its index, its label and the input itself, shape ``(inputs,)``."""

    index: int
    label: int
    input: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """An input, and the engine that is to decide it."""

    item: Item
    engine: Engine


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """What all tasks share; ``seconds`` limits each of them."""

    network: Network
    ball: Ball
    options: Options
    seconds: float


class Crew(Team["_Worker"]):
    """Worker processes for one audit; a context manager.

    Raises:
        OSError: no process could be started.
        NetproofError: the platform has no such processes, or they end before they are ready.
    """

    def __init__(self, setup: Setup, processes: int) -> None:
        if not Child.available():
            msg = "audits need worker processes, which need POSIX; call verify for one input after the other"
            raise NetproofError(msg)
        super().__init__()
        self._setup = setup
        self._start(processes, lambda: _Worker(setup))

    @property
    def free(self) -> bool:
        """Whether a worker waits for a task."""
        return any(worker.free for worker in self._workers)

    @property
    def running(self) -> list[tuple[Task, float]]:
        """The tasks at work, each with the seconds since it was given out."""
        now = time.monotonic()
        return [(w.task, now - w.since) for w in self._workers if w.task is not None]

    def give(self, task: Task) -> None:
        """Hands ``task`` to a worker that is free."""
        next(worker for worker in self._workers if worker.free).start(task)

    def wait(self, seconds: float) -> list[tuple[Task, Verdict]]:
        """What was decided since the last call, after at most ``seconds``.

        Raises:
            InputError, BackendError, SoundnessError: what `solver.verify` raised.
        """
        done = []
        ready = connection.wait([worker.child.link for worker in self._workers], timeout=seconds)
        for i, worker in enumerate(self._workers):
            if worker.child.link in ready:
                verdict = worker.receive()
                if worker.child.alive:
                    if verdict is not None and worker.task is not None:
                        done.append((worker.task, verdict))
                        worker.task = None
                    continue
                done += self._replace(i, "")
            elif worker.overdue(self._setup.seconds):
                done += self._replace(i, "it did not heed its time limit and was stopped")
        return done

    def _replace(self, i: int, why: str) -> list[tuple[Task, Verdict]]:
        """Puts a new worker in the place of one that is gone or has to go; what is to be said of its task."""
        worker = self._workers[i]
        seconds = time.monotonic() - worker.since
        code = worker.child.close()
        if worker.task is None:
            msg = f"a worker process of the audit ended with code {code} before it was given an input"
            raise NetproofError(msg)
        self._workers[i] = _Worker(self._setup)
        hint = why or f"its process ended with code {code}" + (", perhaps for lack of memory" * (code == _SIGKILL))
        reason = Reason.TIMEOUT if why else Reason.MEMORY
        return [(worker.task, Verdict(Outcome.UNKNOWN, None, (-math.inf, math.inf), seconds, reason=reason, hint=hint))]


class _Worker:
    """The parent's side of one process.

    Messages down: the setup, then tasks. Up: None when ready for tasks, then a verdict or an exception for each.
    """

    def __init__(self, setup: Setup) -> None:
        self.child = Child("solver.crew:serve")
        self.child.send(setup)
        self.ready = False
        self.task: Task | None = None
        self.since = time.monotonic()

    @property
    def free(self) -> bool:
        return self.child.alive and self.ready and self.task is None

    def overdue(self, limit: float) -> bool:
        elapsed = time.monotonic() - self.since
        return self.task is not None and elapsed > _OVERRUN * limit + _OVERRUN_SECONDS

    def start(self, task: Task) -> None:
        self.task = task
        self.since = time.monotonic()
        self.child.send(task)

    def receive(self) -> Verdict | None:
        answer = self.child.receive()
        if isinstance(answer, Verdict):
            return answer
        if isinstance(answer, InputError) and self.task is not None:
            msg = f"input {self.task.item.index}: {answer}"
            raise InputError(msg) from answer
        if isinstance(answer, BaseException):
            raise answer
        self.ready = True
        return None


def serve(descriptor: int, parent: int) -> None:
    """A worker's main function: decide what arrives on the socket ``descriptor`` until ``parent`` closes it."""
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    link = serve_parent(descriptor, parent, inbox.put)
    setup: Setup = inbox.get()
    from solver.checking import Checker
    from solver.ladder import verify  # torch and ONNX Runtime load before the first task's clock starts

    checker = Checker(setup.network)  # ends with this process, whose end of its socket closes then
    if setup.options.certificate:
        checker.start()
    say(link, None)
    while True:
        task: Task = inbox.get()
        answer: Verdict | BaseException
        begin = time.monotonic()
        try:
            query = setup.ball.query(task.item.input, task.item.label, setup.network.outputs)
            answer = verify(
                setup.network,
                query,
                options=dataclasses.replace(setup.options, engine=task.engine),
                budget=Budget(setup.seconds, threads=1),
                checker=checker,
            )
        except MemoryError:
            seconds = time.monotonic() - begin
            answer = Verdict(Outcome.UNKNOWN, None, (-math.inf, math.inf), seconds, reason=Reason.MEMORY)
        except Exception as error:  # noqa: BLE001  raised again by the parent
            answer = _portable(error)
        say(link, answer)


def _portable(error: Exception) -> Exception:
    """``error``, or its text where it cannot travel between processes."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    except Exception:  # noqa: BLE001  whatever an exception's own pickling raises
        return NetproofError(f"{type(error).__name__}: {error}")
    return error
