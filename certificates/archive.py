"""Files in zip archives and arrays in .npy files, read without trusting what they say about themselves."""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from certificates.errors import CertificateError, require

__all__ = ["add", "add_array", "array", "files"]

#: Flags of a zip archive's file that say how hard a writer tried to compress.
_LEVEL = 0b110
_SIZE = rb"[0-9]{1,18}"
_HEADER = re.compile(
    rb"\{'descr': '(<f4|<f8|<i8)', 'fortran_order': False, 'shape': \((%b,|%b(?:, %b)+)\), \} *\n" % ((_SIZE,) * 3)
)


def add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Adds a file that always has the same bytes for the same data."""
    archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


def add_array(archive: zipfile.ZipFile, name: str, values: NDArray[Any]) -> None:
    """Adds an array as an .npy file of format 1.0."""
    buffer = io.BytesIO()
    npy.write_array(buffer, np.ascontiguousarray(values), (1, 0), allow_pickle=False)
    add(archive, f"{name}.npy", buffer.getvalue())


def files(data: bytes, names: re.Pattern[str], limit: int) -> dict[str, bytes]:
    """The files of a zip archive, together at most ``limit`` bytes, whatever the archive says about their sizes.

    There is one way to read the archive: its files lie one after the other from the first byte on, each with a header
    that says what the directory says, then come the directory and its end. So nobody sees other files with another
    program, and nothing is hidden between them, behind them or in comments. Times and attributes mean nothing.

    Raises:
        CertificateError: something else is in it.
        zipfile.BadZipFile, zlib.error: it is damaged.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries, start = archive.infolist(), archive.start_dir
    out: dict[str, bytes] = {}
    at = size = 0
    for entry in entries:
        name = entry.filename
        plain = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not entry.flag_bits & ~_LEVEL
        if not names.fullmatch(name) or name in out or not plain:
            msg = f"the archive holds an unknown, repeated or encrypted file {name!r}"
            raise CertificateError(msg)
        if entry.file_size > limit:
            msg = "the certificate unpacks to more bytes than are read"
            raise CertificateError(msg)
        lengths = struct.unpack_from("<3H", data, start + size + 28)
        require(lengths == (len(name), 0, 0), "a file with a name and no more about it", name)
        header = _header(entry, data, at)
        at += len(header) + entry.compress_size
        out[name] = _content(entry, data[at - entry.compress_size : at])
        limit -= entry.file_size
        size += 46 + len(name)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, len(entries), len(entries), size, at, 0)
    whole = start == at and len(data) == at + size + len(end) and data.endswith(end)
    require(whole, "an archive of files, their directory and its end, without other bytes", f"{len(data)} bytes")
    return out


def _header(entry: zipfile.ZipInfo, data: bytes, at: int) -> bytes:
    """The header in front of a file, which must say what the directory says; numpy.savez says sizes in 64 bits."""
    require(entry.compress_size <= len(data), "a file within the archive", entry.filename)
    for large in (False, True):
        header = entry.FileHeader(zip64=large)
        if entry.header_offset == at and entry.volume == 0 and data.startswith(header, at):
            return header
    msg = f"the archive's directory and its file {entry.filename!r} say different things"
    raise CertificateError(msg)


def _content(entry: zipfile.ZipInfo, packed: bytes) -> bytes:
    """What a file holds, which must be of the size that the archive says."""
    content, ended = packed, True
    if entry.compress_type == zipfile.ZIP_DEFLATED:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        content = stream.decompress(packed, entry.file_size + 1)
        ended = stream.eof and not stream.unused_data
    if not ended or len(content) != entry.file_size or zlib.crc32(content) != entry.CRC:
        msg = f"Bad size or checksum of {entry.filename!r}"
        raise zipfile.BadZipFile(msg)
    return content


def array(name: str, data: bytes) -> NDArray[Any]:
    """The array of an .npy file of format 1.0, whose header is what NumPy writes and which holds what that says.

    NumPy's own reader takes headers of other forms, and fails on some of them with errors of Python's tokenizer.
    """
    require(data[:8] == b"\x93NUMPY\x01\x00", "an array in .npy format 1.0", name)
    begin = 10 + int.from_bytes(data[8:10], "little")
    header = _HEADER.fullmatch(data[10:begin])
    if header is None:
        msg = f"{name} has no header of a float32, float64 or int64 array in C order as NumPy writes it"
        raise CertificateError(msg)
    dtype, shape = np.dtype(header[1].decode()), tuple(map(int, header[2].rstrip(b",").split(b",")))
    content = data[begin:]
    require(math.prod(shape) * dtype.itemsize == len(content), f"{shape} numbers in {name}", len(content))
    values = np.frombuffer(content, dtype).reshape(shape)
    require(bool(np.isfinite(values).all()), "finite numbers", name)
    return values
