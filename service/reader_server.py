"""The readers' server: a small process that has the parsers loaded and forks one confined reader for each request.

::

    web process ─── readers' server ─┬─ reader of one network
                                     ├─ reader of one data set
                                     └─ reader of one certificate

Loading ONNX Runtime takes half a second, forking a process that has it a few milliseconds; so each stranger's file is
read in a process of its own that has seen no other. The server itself reads no such file. It has one thread, no
descriptor but its connection to the web process, and an environment without the service's settings; it ends with the
web process, and its readers end with it.

A request is one line on a socket of its own, whose descriptor comes over the connection: ``{"program", "arguments"}``.
The answer is what the program prints, and after it a line ``{"status", "log"}`` of the server. The socket's end closes
the other way, too: when the web process lets go of it, the reader is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import tempfile
import traceback
from dataclasses import dataclass
from typing import BinaryIO

from networks.runtime import onnx_runtime
from service.limits import die_with_parent
from service.sandbox import confine

__all__ = ["PROGRAMS", "main"]

#: Modules whose ``main(arguments)`` reads one upload, confines itself, and prints one JSON object.
PROGRAMS = ("service.inspection", "service.dataset_reading", "service.checking")
#: Loaded before the first fork, beside `PROGRAMS`; they import these where they use them.
_PARSERS = ("certificates.command", "networks.comparison", "networks.summary", "numpy.random", "onnx")

_LOG_TAIL = 4096
#: The web process reads what it asked for at once; one that does not is not waited for.
_SEND_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Reader:
    """A running reader: its process, the socket that its answer goes to, and what it writes to standard error."""

    pid: int
    reply: socket.socket
    log: BinaryIO


class _Server:
    """Forks a reader for each descriptor that comes over ``connection``, until that closes."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._readers: dict[int, _Reader] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)

    def run(self) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._connection, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._connection:
                    if not self._accept():
                        return
                elif key.fileobj is self._woken:
                    self._woken.recv(4096)
                else:  # the web process let go of the answer, or takes it; a reader that has ended is reaped below
                    self._selector.unregister(key.fileobj)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(key.data.pid, signal.SIGKILL)
            self._reap()

    def _accept(self) -> bool:
        """Fork a reader for the next descriptor; False when there will be none."""
        data, descriptors, _, _ = socket.recv_fds(self._connection, 1, 1)
        if not data:
            return False
        reply = socket.socket(fileno=descriptors[0])
        reply.settimeout(_SEND_SECONDS)
        with reply.makefile("rb") as stream:
            request = json.loads(stream.readline())
        log = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the reader)
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_reader(request, reply, log, server)
        reader = _Reader(pid, reply, log)
        self._readers[pid] = reader
        self._selector.register(reply, selectors.EVENT_READ, reader)
        return True

    def _become_reader(self, request: dict[str, object], reply: socket.socket, log: BinaryIO, server: int) -> None:
        """Run one program and end; never returns."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent(server)
            reply.settimeout(None)
            os.dup2(reply.fileno(), 1)
            os.dup2(log.fileno(), 2)
            os.closerange(3, 2**16)  # the sockets and logs of other readers, and this one's second names
            program = str(request["program"])
            if program not in PROGRAMS:
                msg = f"{program} is not one of the readers {PROGRAMS}"
                raise ValueError(msg)
            status = importlib.import_module(program).main(request["arguments"])
        except BaseException:  # noqa: BLE001 (whatever it is, it is told and ends this process)
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        """Say how each reader ended that has, and let go of it."""
        while self._readers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            reader = self._readers.pop(pid)
            with contextlib.suppress(KeyError):
                self._selector.unregister(reader.reply)
            reader.log.seek(max(0, reader.log.seek(0, os.SEEK_END) - _LOG_TAIL))
            told = {"status": os.waitstatus_to_exitcode(status), "log": reader.log.read().decode(errors="replace")}
            with contextlib.suppress(OSError):
                reader.reply.sendall(b"\n" + json.dumps(told).encode())
            reader.reply.close()
            reader.log.close()


def _tell_missing_layers() -> None:
    """Log what `confine` does without here, from a process that is confined for nothing else."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        for layer in confine(memory_mb=64, seconds=1):
            sys.stderr.write(f"uploads are read without a layer of the sandbox: {layer}\n")
        sys.stderr.flush()
    finally:
        os._exit(0)


def main(arguments: list[str] | None = None) -> int:
    """Serve requests on an inherited connection until it closes."""
    parser = argparse.ArgumentParser(prog="python -m service.reader_server", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="connection to the web process")
    parser.add_argument(
        "--parent", type=int, required=True, help="end when this process, which must be the parent, does"
    )
    options = parser.parse_args(arguments)
    die_with_parent(options.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the supervisor
    for module in (*PROGRAMS, *_PARSERS):
        importlib.import_module(module)
    onnx_runtime()
    _tell_missing_layers()
    with socket.socket(fileno=options.fd) as connection:
        _Server(connection).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
