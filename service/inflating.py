"""Unpacking what strangers send, a piece at a time, so that a small upload cannot become a large memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from networks.errors import InputError

__all__ = ["Inflating"]

_GZIP_MAGIC = b"\x1f\x8b"
_WINDOW = zlib.MAX_WBITS | 16  # gzip's header and trailer around the stream
_PIECE = 2**20


class Inflating:
    """Passes bytes on to ``write``, unpacked if they begin like gzip, at most a mebibyte at a time.

    Args:
        write: takes the bytes; it may raise to stop.
        label: what the user calls them, for messages.
        error: what to raise for a broken gzip stream.
    """

    def __init__(self, write: Callable[[bytes], None], label: str, error: type[InputError]) -> None:
        self._write = write
        self._label = label
        self._error = error
        self._head = b""
        self._gzip: bool | None = None
        self._inflater = zlib.decompressobj(_WINDOW)

    def write(self, chunk: bytes) -> None:
        """Pass on what ``chunk`` holds. Raises the error of a broken stream, or whatever the target raises."""
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
        """Say that all has come. Raises the error of a stream that is cut short."""
        if self._gzip is None:
            self._write(self._head)
        elif self._gzip:
            self._write(self._inflater.flush())
            if not self._inflater.eof:
                msg = f"{self._label} is a gzip file that ends too early; compress it again, or send it unpacked"
                raise self._error(msg)

    def _inflate(self, data: bytes) -> None:
        while data:
            if self._inflater.eof:  # gzip files may be several streams in a row, and padded with zeros
                if not data.strip(b"\0"):
                    return
                self._inflater = zlib.decompressobj(_WINDOW)
            try:
                self._write(self._inflater.decompress(data, _PIECE))
            except zlib.error as error:
                msg = f"{self._label} begins like a gzip file but cannot be unpacked: {error}"
                raise self._error(msg) from error
            data = self._inflater.unconsumed_tail or self._inflater.unused_data
