"""The independent checker in a process of its own, from the prover's side.

The process (`certificates.serving`) imports NumPy and the reading of ONNX files, reads the network once and checks one
certificate after another, so that only the first pays for its start.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from types import TracebackType
from typing import Self

from bounds.child import Child
from certificates import Report
from certificates.reading import MAX_FILE
from networks.graph import Network

__all__ = ["Checker"]

# Between two looks at whether to stop.
_POLL = 0.1


class Checker:
    """A checker for certificates about one network; a context manager. It starts when it is first needed.

    Soundness. Nothing here is trusted but the answer's coming from the process that was started.
    """

    def __init__(self, network: Network, *, threads: int = 1) -> None:
        self._network = network
        self._threads = threads
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """The process, if one is at work."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Starts the process, if none is at work; it is ready about half a second later.

        A failure shows in what `check` says.
        """
        if self._child is not None:
            return
        with contextlib.suppress(OSError):
            self._child = Child("certificates.serving:serve", threads=self._threads)
            self._child.send_bytes(self._network.model)

    def check(self, certificate: bytes, stop: Callable[[], bool]) -> Report | str:
        """What the checker says of a certificate; a text where it has said nothing.

        Args:
            certificate: the file.
            stop: asked about ten times a second; once it returns true, the check is given up.
        """
        if len(certificate) > MAX_FILE:
            return f"the certificate has {len(certificate)} bytes, more than a checker reads"
        self.start()
        if self._child is None:
            return "the checker's process could not be started"
        self._child.send_bytes(certificate)
        while not self._child.link.poll(_POLL):
            if stop():
                self.close()
                return "the check did not end within the budget"
        answer = self._child.receive_bytes()
        if answer is None:
            return f"the checker ended with code {self._close()}"
        said = json.loads(answer)
        return Report(**said["report"]) if "report" in said else str(said["refused"])

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._close()

    def _close(self) -> int:
        child, self._child = self._child, None
        return child.close() if child is not None else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
