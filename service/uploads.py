"""A network's way in: from a stream of bytes, plain or gzipped, to an artifact and a record.

Bytes go to disk as they come, under limits on what was sent and on what it unpacks to. The network is looked up by its
hash first; only one that is new is read, by a child process, and only one that can be verified is kept.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterable, Callable
from pathlib import PurePosixPath

from starlette.concurrency import run_in_threadpool

from networks.errors import NetworkFormatError
from service.artifacts import Artifacts
from service.errors import NotFoundError
from service.inspection import inspect
from service.ledger import Ledger
from service.models import NetworkRecord
from service.settings import Settings
from service.states import NetworkState

__all__ = ["Intake"]

_GZIP_MAGIC = b"\x1f\x8b"
_PIECE = 2**20
#: Networks that are read at the same time; each reader is a process that loads ONNX Runtime.
_READERS = 2


class Intake:
    """Takes networks in, for one process."""

    def __init__(self, settings: Settings, ledger: Ledger, artifacts: Artifacts) -> None:
        self._settings = settings
        self._ledger = ledger
        self._artifacts = artifacts
        self._readers = asyncio.Semaphore(_READERS)

    async def take(self, chunks: AsyncIterable[bytes], *, name: str = "") -> tuple[NetworkRecord, bool]:
        """Keep the network that ``chunks`` hold; returns its record and whether it is new.

        Args:
            chunks: an ONNX file, or its gzip.
            name: what the user calls it; used in messages and lists, never as a path.

        Raises:
            NetworkError: it cannot be read or not be verified.
            TooLargeError: it has more bytes than the settings allow.
        """
        label = _label(name)
        with self._artifacts.upload(limit=self._settings.max_model_bytes) as upload:
            writer = _Inflating(upload.write, label)
            async for chunk in chunks:
                await run_in_threadpool(writer.write, chunk)
            writer.close()
            if upload.size == 0:
                msg = "the request has no network in it; send the bytes of an .onnx or .onnx.gz file as the body"
                raise NetworkFormatError(msg)
            try:
                record = await run_in_threadpool(self._ledger.network, upload.sha256)
            except NotFoundError:
                pass
            else:
                await run_in_threadpool(upload.commit)  # repairs an artifact that was lost
                return record, False
            async with self._readers:
                summary = await inspect(
                    upload.path,
                    name=label,
                    seconds=self._settings.inspect_seconds,
                    memory_mb=self._settings.memory_limit_mb,
                    max_bytes=self._settings.max_model_bytes,
                )
            artifact = await run_in_threadpool(upload.commit)
        return await run_in_threadpool(
            self._ledger.add_network,
            artifact.sha256,
            size=artifact.size,
            name=label,
            state=NetworkState.READY,
            summary=summary,
        )


class _Inflating:
    """Passes bytes on to ``write``, unpacked if they begin like gzip; never more than a piece at a time in memory."""

    def __init__(self, write: Callable[[bytes], None], label: str) -> None:
        self._write = write
        self._label = label
        self._head = b""
        self._gzip: bool | None = None
        self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    def write(self, chunk: bytes) -> None:
        if self._gzip is None:
            self._head += chunk
            if len(self._head) < len(_GZIP_MAGIC):
                return
            chunk, self._head = self._head, b""
            self._gzip = chunk.startswith(_GZIP_MAGIC)
        if self._gzip:
            self._inflate(chunk)
        else:
            self._write(chunk)

    def close(self) -> None:
        """Say that all has come.

        Raises:
            NetworkFormatError: the gzip stream is cut short.
        """
        if self._gzip is None:
            self._write(self._head)
        elif self._gzip:
            self._write(self._inflater.flush())
            if self._inflater.eof:
                return
            msg = (
                f"{self._label} is a gzip file that ends too early; compress it again, or send the .onnx file as it is"
            )
            raise NetworkFormatError(msg)

    def _inflate(self, data: bytes) -> None:
        while data:
            if self._inflater.eof:  # gzip files may be several streams in a row, and padded with zeros
                if not data.strip(b"\0"):
                    return
                self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            try:
                self._write(self._inflater.decompress(data, _PIECE))
            except zlib.error as error:
                msg = f"{self._label} begins like a gzip file but cannot be unpacked: {error}"
                raise NetworkFormatError(msg) from error
            data = self._inflater.unconsumed_tail or self._inflater.unused_data


def _label(name: str) -> str:
    """The file name that the user gave, short, and with nothing that a terminal or a command line could trip over."""
    base = PurePosixPath(name.replace("\\", "/")).name
    return re.sub(r"[^\w.+-]+", "_", base).lstrip("-")[:100] or "network"
