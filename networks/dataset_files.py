"""Data sets in the forms in which they are shared: ``.npz``, ``.npy``, CSV and IDX (the format of MNIST's own files).

The form is told by the first bytes, not by the name. ``.npy`` and IDX hold one array, so images and labels come as two
files. A CSV file has one input on each line, the label first or in a column that its heading calls ``label`` or ``y``.

No form is read by running anything: pickled objects are refused, and sizes are compared with what a header promises
before memory is taken for them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.dataset import MAX_BYTES, Dataset
from networks.errors import DatasetError

__all__ = ["read_dataset"]

_NPZ = b"PK\x03\x04"
_NPY = b"\x93NUMPY"
#: Element types of IDX, by the third byte of the file.
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS = 8
_LABEL_COLUMNS = frozenset({"label", "labels", "y", "class"})


def read_dataset(
    path: Path,
    labels: Path | None = None,
    *,
    name: str = "",
    as_bytes: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """Read a data set of any form.

    Args:
        path: the data set, or its images where the labels come apart.
        labels: the labels, in the same form.
        name: how messages call it.
        as_bytes: take whole numbers of a CSV file as bytes of images, 0 to 255, which are divided by 255.
        max_bytes: most that it may take unpacked.

    Raises:
        DatasetError: not of one of the forms, too large, or without what a data set needs.
    """
    name = name or path.name
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_NPY))
    except OSError as error:
        msg = f"data set {path} cannot be read: {error.strerror}; give the path of an .npz or CSV file"
        raise DatasetError(msg) from error
    if head.startswith(_NPZ):
        if labels is not None:
            msg = f"data set {name} is an .npz file, which holds its labels itself; send it alone"
            raise DatasetError(msg)
        return _npz(path, name, max_bytes)
    if head.startswith(_NPY) or _is_idx(head):
        if labels is None:
            kind = "an .npy array" if head.startswith(_NPY) else "an IDX file"
            msg = (
                f"data set {name} is {kind}, which holds no labels; give the labels beside it as a file of their own "
                "where two can be given, or put both into one .npz file"
            )
            raise DatasetError(msg)
        images, numbers = (_array(each, name, max_bytes) for each in (path, labels))
        return Dataset.of(images, numbers, name)
    if labels is not None:
        msg = f"data set {name} is not an .npy or IDX file, the forms whose labels come apart; send one file"
        raise DatasetError(msg)
    return _csv(path, name, as_bytes=as_bytes, max_bytes=max_bytes)


def _npz(path: Path, name: str, max_bytes: int) -> Dataset:
    try:
        found = Dataset.read(path, max_bytes=max_bytes)
    except DatasetError:
        raise
    except Exception as error:  # as in `_array`: each member has a header
        msg = f"data set {name} is not a readable .npz file: {error}"
        raise DatasetError(msg) from error
    return Dataset(found.stored, found.labels, name)


def _is_idx(head: bytes) -> bool:
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _IDX_TYPES and 0 < head[3] <= _MOST_DIMENSIONS


def _array(path: Path, name: str, max_bytes: int) -> NDArray[Any]:
    """The one array of an ``.npy`` or IDX file."""
    with path.open("rb") as stream:
        head = stream.read(len(_NPY))
        stream.seek(0)
        if _is_idx(head):
            return _idx(stream, path.stat().st_size, name)
        try:
            # memory-mapped first: the header may promise more than there is
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if array.nbytes > max_bytes:
                msg = f"data set {name} unpacks to {array.nbytes} bytes, more than the limit of {max_bytes}; split it"
                raise DatasetError(msg)
            return np.array(array)
        except DatasetError:
            raise
        except Exception as error:  # a header is a Python literal, and NumPy lets out whatever its parser raises
            msg = f"data set {name}: {path.suffix or 'a file'} is not a readable array: {error}"
            raise DatasetError(msg) from error


def _idx(stream: io.BufferedReader, size: int, name: str) -> NDArray[Any]:
    """An IDX file: two zero bytes, element type, number of dimensions, each of them as uint32, the values."""
    magic = stream.read(4)
    kind, dimensions = np.dtype(_IDX_TYPES[magic[2]]), magic[3]
    header = stream.read(4 * dimensions)
    shape = tuple(int(n) for n in np.frombuffer(header, dtype=">u4", count=len(header) // 4))
    wanted = 4 + 4 * dimensions + math.prod(shape) * kind.itemsize
    if len(shape) != dimensions or wanted != size:
        msg = f"data set {name}: an IDX file of shape {shape} has {wanted} bytes, but this one has {size}"
        raise DatasetError(msg)
    values = np.frombuffer(stream.read(), dtype=kind).reshape(shape)
    return values.astype(kind.newbyteorder("="))


def _csv(path: Path, name: str, *, as_bytes: bool, max_bytes: int) -> Dataset:
    labels: list[int] = []
    rows: list[NDArray[np.float32]] = []
    place, width, taken = 0, 0, 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for line, cells in _lines(stream):
                if not rows and not _is_number(cells[0]):
                    if width:
                        msg = f"data set {name}, line {line}: {cells[0]!r} is not a number"
                        raise DatasetError(msg)
                    place, width = _label_column(cells, name), len(cells)
                    continue
                width = width or len(cells)
                if len(cells) != width or width < 2:
                    msg = (
                        f"data set {name}, line {line} has {len(cells)} values; expected a label and the input's "
                        f"entries, {max(width, 2)} in all"
                    )
                    raise DatasetError(msg)
                labels.append(_whole(cells[place], name, line))
                row = np.array(cells[:place] + cells[place + 1 :], dtype=np.float64)
                rows.append(row.astype(np.float32))
                taken += rows[-1].nbytes
                if taken > max_bytes:
                    msg = f"data set {name} unpacks to more than the limit of {max_bytes} bytes; split it"
                    raise DatasetError(msg)
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        msg = f"data set {name} is no .npz, .npy or IDX file, and as CSV it cannot be read: {error}"
        raise DatasetError(msg) from error
    if not rows:
        msg = f"data set {name} holds no input; a CSV file has one on each line, the label first"
        raise DatasetError(msg)
    images: NDArray[Any] = np.stack(rows)
    if as_bytes:
        if not ((images >= 0) & (images <= 255) & (images == np.floor(images))).all():
            msg = f"data set {name} has entries that are no whole numbers from 0 to 255; leave out dtype=uint8"
            raise DatasetError(msg)
        images = images.astype(np.uint8)
    return Dataset.of(images, np.array(labels), name)


def _lines(stream: io.TextIOWrapper) -> Iterator[tuple[int, list[str]]]:
    for line, cells in enumerate(csv.reader(stream), 1):
        if any(cell.strip() for cell in cells):
            yield line, [cell.strip() for cell in cells]


def _label_column(heading: list[str], name: str) -> int:
    found = [place for place, cell in enumerate(heading) if cell.lower() in _LABEL_COLUMNS]
    if len(found) != 1:
        msg = (
            f"data set {name}, which is no .npz, .npy or IDX file and so taken for CSV: its heading names {len(found)} "
            "label columns; call one of them label"
        )
        raise DatasetError(msg)
    return found[0]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _whole(text: str, name: str, line: int) -> int:
    value = float(text)
    if not value.is_integer():
        msg = f"data set {name}, line {line}: the label is {text}, which is no class; labels are whole numbers"
        raise DatasetError(msg)
    return int(value)
