"""Files in zip archives and arrays in .npy files, read without trusting what they say about themselves."""

from __future__ import annotations

import io
import math
import re
import zipfile
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from certificates.errors import CertificateError, require

__all__ = ["add", "add_array", "array", "files"]


def add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Adds a file that always has the same bytes for the same data."""
    archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


def add_array(archive: zipfile.ZipFile, name: str, values: NDArray[Any]) -> None:
    """Adds an array as an .npy file of format 1.0."""
    buffer = io.BytesIO()
    npy.write_array(buffer, np.ascontiguousarray(values), (1, 0), allow_pickle=False)
    add(archive, f"{name}.npy", buffer.getvalue())


def files(data: bytes, names: re.Pattern[str], limit: int) -> dict[str, bytes]:
    """The files of a zip archive, together at most ``limit`` bytes, whatever the archive says about their sizes."""
    out: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            name = entry.filename
            plain = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not entry.flag_bits & 1
            if not names.fullmatch(name) or name in out or not plain:
                msg = f"the archive holds an unknown, repeated or encrypted file {name!r}"
                raise CertificateError(msg)
            with archive.open(entry) as stream:
                out[name] = stream.read(limit + 1)
            limit -= len(out[name])
            if limit < 0:
                msg = "the certificate unpacks to more bytes than are read"
                raise CertificateError(msg)
    return out


def array(name: str, data: bytes) -> NDArray[Any]:
    """The array of an .npy file of format 1.0, which must hold exactly what its header says; no pickles."""
    stream = io.BytesIO(data)
    require(npy.read_magic(stream) == (1, 0), "an array in .npy format 1.0", name)
    shape, fortran, dtype = npy.read_array_header_1_0(stream)
    content = stream.read()
    known = dtype in (np.float32, np.float64, np.int64) and dtype.isnative and not fortran
    require(known, "a float32, float64 or int64 array in C order", name)
    require(math.prod(shape) * dtype.itemsize == len(content), f"{shape} numbers in {name}", len(content))
    values = np.frombuffer(content, dtype).reshape(shape)
    require(bool(np.isfinite(values).all()), "finite numbers", name)
    return values
