"""Child processes that work for this one: a bare interpreter with one end of a socket pair.

Why bare interpreters and not ``multiprocessing``: forking after torch has started threads can deadlock; ``spawn`` and
``forkserver`` import the caller's ``__main__`` again, which breaks scripts without a main guard, and refuse to start
from a daemonic process, which a job's process may be. A child is ``python -c "from module import function; …"``.

No child outlives its parent: a thread in the child reads the socket also while native code runs (which releases the
GIL) and exits the process at its end, and on Linux the kernel kills the child when the thread that started it dies.
That thread must therefore stay alive as long as the child is needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import connection
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

__all__ = ["Child", "Team", "say", "serve_parent"]

# How long a child has to end by itself once its socket is closed.
_GRACE = 0.1
_PR_SET_PDEATHSIG = 1
# Bounds allocate and free matrices of some MiB all the time. By default glibc hands such memory back to the kernel and
# asks for it anew, which took a sixth of the CPU time of an audit; other C libraries ignore this.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**26), "MALLOC_TRIM_THRESHOLD_": str(2**28)}


class Child:
    """The parent's side of one child process.

    Args:
        function: what the child runs, as ``module:function``; called with a descriptor and the parent's process id,
            which it passes on to `serve_parent`.
        threads: that its numerical libraries may use.

    Attributes:
        link: the parent's end of the socket; pickled objects travel both ways.
        alive: whether the child is not known to be gone.

    Raises:
        OSError: the process could not be started.
    """

    def __init__(self, function: str, *, threads: int = 1) -> None:
        module, name = function.split(":")
        ours, theirs = socket.socketpair()
        code = f"from {module} import {name}; {name}({theirs.fileno()}, {os.getpid()})"
        environment = {
            **_KEEP_MEMORY,
            **os.environ,
            "PYTHONPATH": os.pathsep.join(entry or str(os.getcwd()) for entry in sys.path),  # noqa: PTH109
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)),
        }
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", code],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=environment,
                )
            except OSError:
                ours.close()
                raise
        self.link = connection.Connection(ours.detach())
        self.alive = True

    @staticmethod
    def available() -> bool:
        """Whether this platform can start children (POSIX, with an interpreter to run)."""
        return os.name == "posix" and bool(sys.executable)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Any) -> bool:
        """Sends ``message``; False, and not `alive` from then on, when the child is gone."""
        if self.alive:
            try:
                self.link.send(message)
            except OSError:
                self.alive = False
        return self.alive

    def send_bytes(self, message: bytes) -> None:
        """Sends bytes, not pickled; a child that is gone shows when its answer is received."""
        with contextlib.suppress(OSError):
            self.link.send_bytes(message)

    def receive(self) -> Any:
        """The next message; None, and not `alive` from then on, when the child is gone."""
        try:
            return self.link.recv()
        except (EOFError, OSError):
            self.alive = False
            return None

    def receive_bytes(self) -> bytes | None:
        """The next message of bytes; None, and not `alive` from then on, when the child is gone."""
        try:
            return self.link.recv_bytes()
        except (EOFError, OSError):
            self.alive = False
            return None

    def close(self) -> int:
        """Ends the child; its exit code, negative for a signal."""
        self.alive = False
        self.link.close()
        try:
            return self._process.wait(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class _Worker(Protocol):
    """The parent's side of one child, with whatever it knows of its work."""

    child: Child


WorkerT = TypeVar("WorkerT", bound=_Worker)


class Team(Generic[WorkerT]):
    """Workers with a child process each, which end together; a context manager."""

    def __init__(self) -> None:
        self._workers: list[WorkerT] = []

    def _start(self, count: int, worker: Callable[[], WorkerT]) -> None:
        """Starts so many, or raises OSError; then none is left."""
        try:
            for _ in range(count):
                self._workers.append(worker())
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Ends the workers, whatever they are doing."""
        for worker in self._workers:
            worker.child.close()
        self._workers = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve_parent(descriptor: int, parent: int, take: Callable[[Any], None]) -> connection.Connection:
    """The child's side: hands every message to ``take``, in a thread, and ends the process at the socket's end.

    Returns:
        The connection, for answers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the whole group; the parent decides
    _die_with(parent)
    link = connection.Connection(descriptor)

    def read() -> None:
        while True:
            try:
                message = link.recv()
            except (EOFError, OSError):
                os._exit(0)
            take(message)

    threading.Thread(target=read, daemon=True).start()
    return link


def say(link: connection.Connection, message: Any) -> None:
    """Sends to the parent; one that has closed the socket needs nothing more, and the reader ends this process."""
    with contextlib.suppress(OSError):
        link.send(message)


def _die_with(parent: int) -> None:
    """Asks Linux to kill this process when the thread that started it ends; elsewhere the socket's end has to do."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it ended before we could ask
