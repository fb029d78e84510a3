"""Some inputs of a stored data set, without reading the others.

The service keeps data sets as uncompressed ``.npz`` files, so an input is at a place in the file that its index gives.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from networks.dataset import Dataset

__all__ = ["read_rows"]


def read_rows(path: Path, begin: int, end: int, *, name: str = "") -> Dataset:
    """Inputs ``begin`` to ``end`` (excluded) of a data set in the service's own form; fewer if it ends before."""
    with zipfile.ZipFile(path) as archive:
        images, labels = (_rows(archive, f"{part}.npy", begin, end) for part in ("images", "labels"))
    return Dataset.of(images, labels, name)


def _rows(archive: zipfile.ZipFile, member: str, begin: int, end: int) -> NDArray[Any]:
    with archive.open(member) as stream:
        shape, by_columns, dtype = _header(stream)
        if by_columns:  # the entries of an input lie far apart
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)[begin:end]
        width = math.prod(shape[1:]) * dtype.itemsize
        count = max(0, min(end, shape[0]) - begin)
        stream.seek(begin * width, 1)
        return np.frombuffer(stream.read(count * width), dtype).reshape(count, *shape[1:])


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)
