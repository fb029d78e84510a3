"""Helpers on this machine: processes that search pieces of one query's frontier beside the search itself.

Like the workers of an audit (`solver.crew`) they are `bounds.child` processes. They start when a search has lasted a
moment, as most queries end before a process could be ready.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Collection, Iterator
from multiprocessing import connection
from typing import Any

from bounds.child import Child, Team, say, serve_parent
from networks.errors import NetproofError
from networks.graph import Network
from solver import policy
from solver.parcel import digest
from solver.verdict import Reason

__all__ = ["LocalHelpers", "local_helpers", "serve", "shares"]

#: A piece is called back when it has been searched for so long at least: less would hardly pay its way.
_RECALL_AFTER = 0.2
#: Processes that are replaced when they end by themselves; whatever ends more of them would end the next ones, too.
_LOSSES = 10


class LocalHelpers(Team["_Worker"]):
    """Processes that search pieces about one network; a context manager, see `solver.helpers.Helpers`.

    The thread that makes a search must stay alive as long as its helpers are needed.
    """

    def __init__(self, network: Network, processes: int, *, after: float = policy.HELP_AFTER) -> None:
        """``after``: seconds from the first search on until the processes start."""
        super().__init__()
        self.least = policy.HELP_CELLS
        self.seconds = policy.HELP_SECONDS
        self.delay = policy.HELP_DELAY
        self._network = network
        self._processes = processes
        self._after = after
        self._since: float | None = None
        self._done: dict[str, bytes | None] = {}
        self._losses = 0
        self._started = False

    def wanted(self) -> int:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now - self._since < self._after:
            return 0
        if not self._started and Child.available():
            self._started = True
            with contextlib.suppress(OSError):
                for _ in range(self._processes):
                    self._workers.append(_Worker(self._network))
        self._receive(0.0)
        return sum(worker.free for worker in self._workers)

    def busy(self) -> int:
        return sum(worker.piece is not None for worker in self._workers)

    def cores(self) -> int:
        return self.busy()

    def give(self, problem: bytes, piece: bytes) -> bool:
        worker = next((worker for worker in self._workers if worker.free), None)
        return worker is not None and worker.start(problem, piece)

    def take(self, pieces: Collection[str], seconds: float) -> dict[str, bytes | None]:
        if not self._done.keys() & set(pieces):
            self._receive(seconds)
        return {piece: self._done.pop(piece) for piece in pieces if piece in self._done}

    def recall(self, pieces: Collection[str], count: int) -> None:
        long_enough = time.monotonic() - _RECALL_AFTER
        running = [w for w in self._workers if w.piece in pieces and not w.hurried and w.since < long_enough]
        for worker in sorted(running, key=lambda worker: worker.since)[:count]:
            worker.hurry()

    def drop(self, pieces: Collection[str]) -> None:
        for worker in self._workers:
            if worker.piece in pieces:
                worker.hurry()
                worker.dropped = True
        for piece in pieces:
            self._done.pop(piece, None)

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [worker.child.pid for worker in self._workers]

    def _receive(self, seconds: float) -> None:
        """Takes in what processes have said, after at most so many seconds."""
        if not self._workers:
            return
        ready = connection.wait([worker.child.link for worker in self._workers], timeout=seconds)
        lost: list[int] = []
        for i, worker in enumerate(self._workers):
            if worker.child.link not in ready:
                continue
            said = worker.child.receive()
            if not worker.child.alive:
                said = (worker.piece, None)
                lost.append(i)
            piece, answer = said
            if piece is not None and not worker.dropped:
                self._done[piece] = answer
            worker.ended()
        for i in reversed(lost):
            self._workers.pop(i).child.close()
            self._losses += 1
            if self._losses <= _LOSSES:
                with contextlib.suppress(OSError):
                    self._workers.append(_Worker(self._network))


@contextlib.contextmanager
def local_helpers(network: Network, workers: int) -> Iterator[LocalHelpers | None]:
    """Helpers that make up ``workers`` processes with the search itself; None where it is to work alone."""
    if workers < 2:
        yield None
        return
    with LocalHelpers(network, workers - 1) as helpers:
        yield helpers


def shares(threads: int | None, workers: int | None) -> tuple[int, int]:
    """Threads of a search, and processes that search together, itself included; None leaves either to this machine.

    Processes take turns with threads, which work before branch and bound begins.
    """
    everything = os.cpu_count() or 1
    if workers is None:
        threads = threads or everything
        return threads, min(threads, policy.HELP_PROCESSES)
    return threads or max(1, everything // workers), workers


class _Worker:
    """The search's side of one process.

    Messages down: the network, then ``(problem or None for the last one, piece, seconds)``, or a piece's name to have
    its answer soon. Up: ``(None, None)`` when ready, then ``(name, answer)`` for each piece, None if it could not.
    """

    def __init__(self, network: Network) -> None:
        self.child = Child("solver.local_helpers:serve")
        self.child.send(network)
        self.piece: str | None = None
        self.since = 0.0
        self.hurried = self.dropped = self._ready = False
        self._problem = ""

    @property
    def free(self) -> bool:
        return self._ready and self.child.alive and self.piece is None

    def start(self, problem: bytes, piece: bytes) -> bool:
        name = digest(problem)
        known = name == self._problem
        self.piece, self.since, self._problem = digest(piece), time.monotonic(), name
        self.hurried = self.dropped = False
        return self.child.send((None if known else problem, piece, policy.HELP_SECONDS)) or self._lost()

    def hurry(self) -> None:
        self.hurried = True
        self.child.send(self.piece)

    def ended(self) -> None:
        self._ready, self.piece = True, None

    def _lost(self) -> bool:
        self.piece = None
        return False


def serve(descriptor: int, parent: int) -> None:
    """A helper's main function: search what arrives on the socket ``descriptor`` until ``parent`` closes it."""
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    hurried: set[str] = set()
    changed = threading.Lock()

    def take(message: Any) -> None:
        if isinstance(message, str):
            with changed:
                hurried.add(message)
        else:
            inbox.put(message)

    link = serve_parent(descriptor, parent, take)
    network: Network = inbox.get()
    import torch

    from solver.subtree import Helper

    torch.set_num_threads(policy.TORCH_THREADS)
    helper = Helper(network)
    problem = b""
    say(link, (None, None))
    while True:
        given, piece, seconds = inbox.get()
        problem = given or problem
        name, end = digest(piece), time.monotonic() + seconds

        def stop(name: str = name, end: float = end) -> Reason | None:
            return Reason.TIMEOUT if name in hurried or time.monotonic() >= end else None

        try:
            answer = helper.search(problem, piece, stop=stop)
        except (NetproofError, MemoryError):
            answer = None
        with changed:
            hurried.clear()
        say(link, (name, answer))
