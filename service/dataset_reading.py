"""Reading an uploaded data set, away from the web process; and the form in which the service keeps it.

`main` is the reader, a process of its own that is confined as `service.sandbox` says: it reads a stranger's files,
writes them to a file of ours as an uncompressed ``.npz``, and prints one JSON object: the summary, or the refusal.
Workers read that file, never what was uploaded.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from networks.dataset import Dataset
from networks.dataset_files import read_dataset
from networks.errors import DatasetError
from service.readers import ReaderError, Readers
from service.sandbox import confine
from solver.sizes import is_memory_error

__all__ = ["convert", "main", "read_upload", "stored_labels", "summary_of"]

#: What the headers of an ``.npz`` take beside its arrays, and labels that grew to int64.
_MARGIN_BYTES = 64 * 2**20


async def read_upload(
    readers: Readers,
    files: tuple[Path, ...],
    out: Path,
    *,
    name: str,
    as_bytes: bool,
    seconds: float,
    memory_mb: int,
    max_bytes: int,
) -> dict[str, Any]:
    """Convert the uploaded ``files`` (a data set, or its images and its labels) to ``out``; their summary.

    Raises:
        DatasetError: they are no data set, or cannot be read within the limits.
    """
    limits = ("--memory-mb", str(memory_mb), "--max-bytes", str(max_bytes), "--seconds", f"{seconds:g}")
    names = ("--name", name, *(["--as-bytes"] if as_bytes else []))
    try:
        reply = await readers.ask(__name__, str(out), *map(str, files), *names, *limits, seconds=seconds)
    except TimeoutError as error:
        msg = f"data set {name} could not be read within {seconds:g} seconds; split it, or send it as .npz"
        raise DatasetError(msg) from error
    except ReaderError as error:
        msg = f"data set {name} could not be read: its reader ended with {error}; send it as .npz"
        raise DatasetError(msg) from error
    if "refused" in reply:
        raise DatasetError(reply["refused"])
    return reply


def convert(
    files: tuple[Path, ...], out: Path, *, name: str = "", as_bytes: bool = False, max_bytes: int
) -> dict[str, Any]:
    """Read a data set and write it to ``out``; its summary, see `summary_of`.

    Raises:
        DatasetError: the files are no data set.
    """
    dataset = read_dataset(*files, name=name, as_bytes=as_bytes, max_bytes=max_bytes)
    with out.open("wb") as stream:
        np.savez(stream, images=dataset.stored, labels=dataset.labels)
    return summary_of(dataset)


def summary_of(dataset: Dataset) -> dict[str, Any]:
    """What the ledger keeps of a data set: ``sha256``, ``count``, ``shape``, ``dtype``, the range of ``labels``."""
    if not len(dataset):
        msg = f"data set {dataset.name} holds no input"
        raise DatasetError(msg)
    return {
        "sha256": dataset.sha256,
        "count": len(dataset),
        "shape": list(dataset.stored.shape[1:]),
        "features": dataset.features,
        "dtype": str(dataset.stored.dtype),
        "labels": [int(dataset.labels.min()), int(dataset.labels.max())],
    }


def stored_labels(path: Path) -> list[int]:
    """The labels of a data set in the service's own form."""
    with np.load(path, allow_pickle=False) as file:
        return [int(label) for label in file["labels"]]


def main(arguments: list[str] | None = None) -> int:
    """Print the summary or the refusal; status 0 either way, since both are answers."""
    parser = argparse.ArgumentParser(prog="service.dataset_reading", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--name", default="")
    parser.add_argument("--as-bytes", action="store_true")
    parser.add_argument("--memory-mb", type=int, default=4096)
    parser.add_argument("--max-bytes", type=int, default=2**32)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args(arguments)
    confine(
        memory_mb=options.memory_mb,
        seconds=options.seconds,
        reads=options.files,
        writes=[options.out],
        most_bytes=options.max_bytes + _MARGIN_BYTES,
    )
    try:
        reply = convert(
            tuple(options.files),
            options.out,
            name=options.name,
            as_bytes=options.as_bytes,
            max_bytes=options.max_bytes,
        )
    except DatasetError as error:
        reply = {"refused": str(error)}
    except MemoryError as error:
        if not is_memory_error(error):
            raise
        reply = {"refused": f"reading the data set takes more than {options.memory_mb} MB of memory; split it"}
    print(json.dumps(reply))
    return 0
