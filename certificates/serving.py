"""A checker that stays: one network, read once, then certificate after certificate.

The messages on its socket are bytes, and nothing in them is run or unpickled: first the ONNX file, then certificates.
Each is answered with a JSON object: ``{"report": …}``, or ``{"refused": why}`` for what cannot be read.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
from dataclasses import asdict
from multiprocessing import connection
from typing import Any

from certificates.checker import check
from certificates.reading import MAX_FILE
from networks.errors import InputError
from networks.graph import Network
from networks.onnx_reader import load_bytes

__all__ = ["serve"]


def serve(descriptor: int, parent: int) -> None:
    """Checks what arrives on the socket ``descriptor`` until ``parent``, the process that holds its other end, ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the whole group; the parent decides
    if os.getppid() != parent:
        os._exit(0)
    link = connection.Connection(descriptor)
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    model = link.recv_bytes()
    threading.Thread(target=_read, args=(link, inbox), daemon=True).start()
    network: Network | None = None
    while True:
        data = inbox.get()
        try:
            network = network or load_bytes(model, compare=False)
            answer: dict[str, Any] = {"report": asdict(check(data, network, semantics="strongest"))}
        except InputError as error:
            answer = {"refused": str(error)}
        except MemoryError:
            answer = {"refused": "the checker ran out of memory"}
        link.send_bytes(json.dumps(answer).encode())


def _read(link: connection.Connection, inbox: queue.SimpleQueue[bytes]) -> None:
    """Hands messages on; ends the process with the socket, also in the middle of a check."""
    while True:
        try:
            inbox.put(link.recv_bytes(MAX_FILE))
        except (EOFError, OSError):
            os._exit(0)
