"""Documents that travel between processes of one search: a zip archive of JSON, arrays and files, without pickles.

They come from processes of ours, so reading checks that a document is whole and what it belongs to, not whether its
author lies: an answer that names another problem or piece is refused (`Parcel.require`).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from networks.errors import NetproofError

__all__ = ["Parcel", "ParcelError", "digest"]

_HEADER = "header.json"
_ARRAY = ".npy"
#: Bounds of neurons are nearly incompressible; what does compress, as zeros and repeated signs, does so at any level.
_LEVEL = 1


class ParcelError(NetproofError, ValueError):
    """A document of a search is damaged, or belongs to another one."""


def digest(data: bytes) -> str:
    """The name of a document: the sha256 of its bytes."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """A document: what it is about, its numbers, and files of other formats."""

    header: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    files: Mapping[str, bytes] = field(default_factory=dict)

    def pack(self) -> bytes:
        """The archive; the same parcel always gives the same bytes."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
            entries = {_HEADER: json.dumps(self.header, allow_nan=False, sort_keys=True).encode(), **self.files}
            for name, values in self.arrays.items():
                stream = io.BytesIO()
                np.save(stream, np.ascontiguousarray(values), allow_pickle=False)
                entries[name + _ARRAY] = stream.getvalue()
            for name, data in entries.items():
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, _LEVEL)
        return out.getvalue()

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Raises ParcelError for what `pack` did not write."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                entries = {name: archive.read(name) for name in archive.namelist()}
            header = json.loads(entries.pop(_HEADER))
            arrays = {
                name.removesuffix(_ARRAY): np.load(io.BytesIO(entries.pop(name)), allow_pickle=False)
                for name in [name for name in entries if name.endswith(_ARRAY)]
            }
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, OSError) as error:
            msg = f"this is not a document of a search, or it is damaged: {error}"
            raise ParcelError(msg) from error
        if not isinstance(header, dict):
            msg = f"the header of a document must be an object, this one is {header!r:.40}"
            raise ParcelError(msg)
        return cls(header, arrays, entries)

    def require(self, **expected: Any) -> None:
        """Raises ParcelError where the header says something else."""
        for name, value in expected.items():
            if self.header.get(name) != value:
                msg = f"the document has {name} {self.header.get(name)!r}, but {value!r} was expected; it is not used"
                raise ParcelError(msg)

    def number(self, name: str) -> int:
        """A count in the header. Raises ParcelError where there is none."""
        value = self.header.get(name)
        if not isinstance(value, int) or value < 0:
            msg = f"the document has {name} {value!r:.40}, but a count was expected; it is not used"
            raise ParcelError(msg)
        return value

    def array(self, name: str, dtype: type[Any], shape: tuple[int | None, ...]) -> NDArray[Any]:
        """An array of this type and shape, where None stands for any length. Raises ParcelError for another."""
        values = self.arrays.get(name)
        fits = values is not None and values.dtype == dtype and len(values.shape) == len(shape)
        if values is None or not fits or any(n not in {None, k} for n, k in zip(shape, values.shape, strict=True)):
            got = None if values is None else (str(values.dtype), values.shape)
            msg = f"the document's {name} is {got}, but {np.dtype(dtype)} of shape {shape} was expected; it is not used"
            raise ParcelError(msg)
        return values
