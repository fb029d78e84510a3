"""A network's way in: from a stream of bytes, plain or gzipped, to an artifact and a record.

Bytes go to disk as they come, under limits on what was sent and on what it unpacks to. The network is looked up by its
hash first; only one that is new is read, by a process of its own, and only one that can be verified is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable

from starlette.concurrency import run_in_threadpool

from networks.errors import NetworkFormatError
from service.access.principal import Principal
from service.artifacts import Artifacts
from service.errors import NotFoundError
from service.inspection import inspect
from service.ledger import Ledger
from service.models import NetworkRecord
from service.readers import Readers
from service.receiving import file_label, receive
from service.settings import Settings
from service.states import NetworkState

__all__ = ["Intake"]

_EMPTY = "the request has no network in it; send the bytes of an .onnx or .onnx.gz file as the body"
#: Networks that are read at the same time, each by a process of its own.
_READERS = 2


class Intake:
    """Takes networks in, for one process."""

    def __init__(self, settings: Settings, ledger: Ledger, artifacts: Artifacts, readers: Readers) -> None:
        self._settings = settings
        self._ledger = ledger
        self._artifacts = artifacts
        self._readers = readers
        self._places = asyncio.Semaphore(_READERS)

    async def take(
        self, chunks: AsyncIterable[bytes], caller: Principal, *, name: str = ""
    ) -> tuple[NetworkRecord, bool]:
        """Keep the network that ``chunks`` hold; returns its record and whether it is new to the caller's owner.

        What others have uploaded is read once more: an answer in no time would say that they have.

        Args:
            chunks: an ONNX file, or its gzip.
            caller: whose it becomes.
            name: what the user calls it; used in messages and lists, never as a path.

        Raises:
            NetworkError: it cannot be read or not be verified.
            TooLargeError: it has more bytes than the settings allow.
        """
        label = file_label(name, "network")
        limit = min(self._settings.max_model_bytes, caller.quota.model_bytes or self._settings.max_model_bytes)
        with self._artifacts.upload(limit=limit) as upload:
            await receive(chunks, upload, label, NetworkFormatError, empty=_EMPTY)
            try:
                record = await run_in_threadpool(self._ledger.network, upload.sha256, owner=caller.owner)
            except NotFoundError:
                pass
            else:
                await run_in_threadpool(upload.commit)  # repairs an artifact that was lost
                await run_in_threadpool(self._ledger.retention.touch, "network", upload.sha256)
                return record, False
            async with self._places:
                summary = await inspect(
                    self._readers,
                    upload.path,
                    name=label,
                    seconds=self._settings.inspect_seconds,
                    memory_mb=self._settings.memory_limit_mb,
                    max_bytes=self._settings.max_model_bytes,
                )
            artifact = await run_in_threadpool(upload.commit)
            found = await run_in_threadpool(
                self._ledger.add_network,
                artifact.sha256,
                size=artifact.size,
                name=label,
                state=NetworkState.READY,
                summary=summary,
                owner=caller.owner,
            )
            await run_in_threadpool(upload.confirm)
            return found
