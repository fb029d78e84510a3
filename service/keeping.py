"""Storing the evidence of a running job: certificates, and networks that were built for a question.

A disk that is full, or a store that is away, may be back in a moment, while the proof took minutes; so it is tried
again for as long as the job's own deadline allows. Then the job goes back to the queue with its attempts as they were.
"""

from __future__ import annotations

import logging
import time

from service.artifacts import Artifacts
from service.errors import StorageDamagedError, StorageError
from service.lease import Lease

__all__ = ["Keeper"]

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.5


class Keeper:
    """Puts bytes among the artifacts, and puts them again once the ledger names them, should they be gone by then."""

    def __init__(self, artifacts: Artifacts, lease: Lease, *, patience: float = _PATIENCE_SECONDS) -> None:
        self._artifacts = artifacts
        self._lease = lease
        self._patience = patience
        self._kept: list[bytes] = []

    def put(self, data: bytes) -> None:
        """Store ``data``.

        Raises:
            StorageError: it cannot be stored, and waiting any longer does not help, or the job is to stop.
        """
        end = time.monotonic() + min(self._patience, self._lease.remaining / 2)
        while True:
            try:
                self._artifacts.put(data)
            except StorageDamagedError:
                raise
            except StorageError as error:
                if self._lease.stop() or time.monotonic() + _PAUSE_SECONDS > end:
                    raise
                logger.warning("%s; tried again in %g s", error, _PAUSE_SECONDS)
                time.sleep(_PAUSE_SECONDS)
            else:
                self._kept.append(data)
                return

    def confirm(self) -> None:
        """After the ledger has what names them: make sure that no collection took them in between."""
        while self._kept:
            data = self._kept.pop()
            try:
                self._artifacts.confirm(data)
            except StorageError as error:
                logger.warning("evidence was stored, but it cannot be seen whether it still is: %s", error)
