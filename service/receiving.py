"""What uploads of networks and data sets have in common: bytes from a stream to a file, and what the file is called."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable
from pathlib import PurePosixPath

from starlette.concurrency import run_in_threadpool

from networks.errors import InputError
from service.artifacts import Upload
from service.inflating import Inflating

__all__ = ["file_label", "receive"]


async def receive(
    chunks: AsyncIterable[bytes], upload: Upload, label: str, error: type[InputError], *, empty: str
) -> None:
    """Write what comes to ``upload``, unpacked.

    Args:
        chunks: a file, or its gzip.
        upload: takes it.
        label: what the user calls it.
        error: raised where it cannot be unpacked or, with the message ``empty``, where nothing comes.
    """
    writer = Inflating(upload.write, label, error)
    async for chunk in chunks:
        await run_in_threadpool(writer.write, chunk)
    writer.close()
    if upload.size == 0:
        raise error(empty)


def file_label(name: str, otherwise: str) -> str:
    """The file name that the user gave, short, and with nothing that a terminal or a command line could trip over."""
    base = PurePosixPath(name.replace("\\", "/")).name
    return re.sub(r"[^\w.+-]+", "_", base).lstrip("-")[:100] or otherwise
