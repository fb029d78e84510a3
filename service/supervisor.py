"""``netproof serve``: every process of the service on one machine, kept running and stopped together.

::

    supervisor ─┬─ queue server   (unless NETPROOF_REDIS_URL names one)
                ├─ web × N        answer HTTP on one socket, which the supervisor holds
                ├─ reaper
                └─ worker × N ─── job (forked child)

Processes that end are started again, with growing pauses while they keep ending. Workers are asked to drain first and
the queue server goes last, so that a job that is given back finds its queue.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from service.connections import connect
from service.embedded import EmbeddedServer
from service.errors import EmbeddedServerError
from service.ledger import Ledger
from service.settings import Settings

__all__ = ["serve"]

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
_LONGEST_PAUSE = 30.0
_STABLE_SECONDS = 30.0
#: Connections that wait while web processes start, or start again.
_BACKLOG = 1024


@dataclass
class _Child:
    """One supervised process: started, and started again when it ends."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    pause: float = field(default=0.5)

    def tend(self, now: float) -> None:
        """Start the process if it is not running and its pause is over."""
        if self.process is not None and self.process.poll() is not None:
            status = self.process.returncode
            self.pause = 0.5 if now - self.started > _STABLE_SECONDS else min(2 * self.pause, _LONGEST_PAUSE)
            logger.warning("%s ended with status %d; it is started again in %g s", self.name, status, self.pause)
            self.process = None
            self.due = now + self.pause
        if self.process is None and now >= self.due:
            self.started = now
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                pass_fds=self.fds,
                start_new_session=True,  # a terminal's Ctrl-C is for the supervisor
            )

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, deadline: float) -> bool:
        """Whether the process ended before ``deadline`` (monotonic)."""
        if self.process is None:
            return True
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True


def serve(
    settings: Settings, *, ready: Callable[[str], None] | None = None, stop: threading.Event | None = None
) -> None:
    """Run the service until SIGINT or SIGTERM, or until ``stop`` is set.

    Args:
        settings: of every process.
        ready: called with the base URL once requests can be sent.
        stop: for callers that are not in the main thread, where no signal arrives.

    Raises:
        OSError: the address cannot be bound.
        redis.RedisError: the queue server that the settings name does not answer.
        EmbeddedServerError: no queue server could be started.
    """
    stop = stop or threading.Event()
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.callback(signal.signal, number, signal.signal(number, lambda *_: stop.set()))
        listener = stack.enter_context(_listen(settings))
        _prepare(settings)
        embedded = None
        if settings.redis_url is None:
            embedded = stack.enter_context(EmbeddedServer(settings))
        else:
            with connect(settings.redis_url) as queue:
                queue.ping()
        shared = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="netproof-metrics-", ignore_cleanup_errors=True)
        )
        children = _children(settings, listener, shared)
        stack.callback(_shut_down, children, settings)
        host, port = listener.getsockname()[:2]
        for child in children:
            child.tend(time.monotonic())
        if ready is not None:
            ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        while not stop.wait(_TICK_SECONDS):
            if embedded is not None and not embedded.alive():
                _revive(embedded)
            for child in children:
                child.tend(time.monotonic())


def _revive(embedded: EmbeddedServer) -> None:
    logger.warning("the queue server is gone; it is started again")
    try:
        embedded.start()
    except EmbeddedServerError:
        # jobs go on and their verdicts are kept meanwhile: the ledger does not need the queue
        logger.exception("the queue server cannot be started now; tried again")


def _listen(settings: Settings) -> socket.socket:
    """The listening socket; held here, it outlives a web process, and a port in use is reported at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
            stack.pop_all()
    except OSError as error:
        msg = f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; choose another with --port"
        raise OSError(error.errno, msg) from error
    return listener


def _prepare(settings: Settings) -> None:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(settings.ledger_url)
    ledger.create()
    if settings.access_on and not ledger.keys.any_admin():
        logger.warning("nobody has a key yet; make the first with `netproof keys create --owner NAME --scope admin`")
    elif not settings.access_on and not settings.loopback:
        logger.warning("whoever reaches %s may do everything here, as NETPROOF_ACCESS is off", settings.host)
    ledger.close()


def _children(settings: Settings, listener: socket.socket, shared: str) -> list[_Child]:
    """Every process; the web processes count requests in the folder ``shared``, so that each can tell of all."""
    environment = {"PROMETHEUS_MULTIPROC_DIR": shared, **os.environ, **settings.environment()}
    parent = ("--parent", str(os.getpid()))
    descriptor = listener.fileno()

    def child(name: str, module: str, *arguments: str, fds: tuple[int, ...] = ()) -> _Child:
        return _Child(name, (sys.executable, "-m", module, *arguments, *parent), environment, fds)

    return [
        *(
            child(f"web {number + 1}", "service.web", "--fd", str(descriptor), fds=(descriptor,))
            for number in range(settings.webs)
        ),
        child("reaper", "service.reaper"),
        *(child(f"worker {number + 1}", "service.worker") for number in range(settings.workers)),
    ]


def _shut_down(children: list[_Child], settings: Settings) -> None:
    """Ask every process to end, wait for as long as a draining job may take, end what is left."""
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + settings.drain_seconds + settings.cancel_seconds + 5.0
    for child in children:
        if not child.wait(deadline):
            logger.warning("%s did not end when asked and is killed", child.name)
            child.signal(signal.SIGKILL)
            child.wait(time.monotonic() + 5.0)
