"""The web process's side of reading strangers' files: a request to the readers' server, an answer or an error.

The server (`service.reader_server`) is started by the first request and again if it should end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
from typing import Any

__all__ = ["ReaderError", "Readers"]

logger = logging.getLogger(__name__)

#: The longest answer: the summary of a network of very many layers.
_MAX_ANSWER = 2**24
#: What of this process's environment the readers' server may see: how to find programs and libraries, and no secret.
_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH", "TMPDIR", "TZ")
#: One reader takes one core, and a process with one thread can be forked safely.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class ReaderError(Exception):
    """The reader ended with ``status`` and without an answer; caught by who asked."""

    def __init__(self, status: int | None) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Readers:
    """Has uploads read by processes of their own; to be closed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    async def ask(self, program: str, *arguments: str, seconds: float) -> dict[str, Any]:
        """What ``program``, one of `service.reader_server.PROGRAMS`, prints.

        Raises:
            TimeoutError: it did not answer within ``seconds``, and was killed.
            ReaderError: it crashed, was killed, or answered with something else than one JSON object.
        """
        request = json.dumps({"program": program, "arguments": arguments}).encode() + b"\n"
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(ours, request)
            self._hand_over(theirs)
            theirs.close()
            async with asyncio.timeout(seconds):
                reply = await _read(ours)
        answer, _, trailer = reply.rpartition(b"\n")
        told = _object(trailer) or {}
        for line in str(told.get("log", "")).splitlines():
            # a stranger's file may choose these words, so nothing in them may steer a terminal or forge a line
            logger.warning(
                "%s: %s", program, "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
            )
        document = _object(answer)
        if document is None or told.get("status") != 0:
            raise ReaderError(told.get("status"))
        return document

    def close(self) -> None:
        """End the server and its readers."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _hand_over(self, end: socket.socket) -> None:
        """Give the server a socket to answer on; a server that has ended is started anew."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                socket.send_fds(self._connection, [b"+"], [end.fileno()])
                return
            logger.warning("the readers' server is gone; it is started again")
            self.close()
        self._connection = self._start()
        socket.send_fds(self._connection, [b"+"], [end.fileno()])

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        known = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT}
        with theirs:
            # on this thread, with which it ends: a pool's thread may end at any time
            self._process = subprocess.Popen(
                (
                    *(sys.executable, "-m", "service.reader_server"),
                    *("--fd", str(theirs.fileno()), "--parent", str(os.getpid())),
                ),
                env=known | _ONE_THREAD,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        return ours


async def _read(end: socket.socket) -> bytes:
    """All that comes, up to `_MAX_ANSWER` bytes; a longer answer is cut and so is none."""
    loop = asyncio.get_running_loop()
    pieces, size = [], 0
    while size <= _MAX_ANSWER and (piece := await loop.sock_recv(end, 2**16)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
