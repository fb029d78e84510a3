"""Labelled inputs: an ``.npz`` file with ``images`` (or ``x``) and ``labels`` (or ``y``)."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from networks.errors import DatasetError
from networks.graph import Network
from networks.layout import layout_refusal

__all__ = ["Dataset"]

MAX_BYTES = 2**32
"""Default limit on a data set's size, unpacked."""

_IMAGE_NAMES = ("images", "x")
_LABEL_NAMES = ("labels", "y")
_HOW = "numpy.savez(FILE, images=…, labels=…) writes one"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and labels as stored; an input is converted when it is asked for.

    Attributes:
        stored: shape ``(N, ...)``, uint8 (divided by 255 on the way out) or floating point (taken as it is).
        labels: shape ``(N,)``, int64.
        name: the file's name, for messages.
    """

    stored: NDArray[Any]
    labels: NDArray[np.int64]
    name: str = ""

    @classmethod
    def read(cls, path: str | Path, *, max_bytes: int = MAX_BYTES) -> Self:
        """Read an ``.npz`` file of at most ``max_bytes`` unpacked; pickled objects in it are refused.

        Raises:
            DatasetError: too large, not an ``.npz`` file, or arrays that are missing or of the wrong type or shape.
        """
        name = Path(path).name
        try:
            # NumPy leaves a file that it cannot read open; this one is ours to close.
            with Path(path).open("rb") as stream:
                if not stream.read(4).startswith((b"PK", b"\x93NUM")):
                    msg = f"data set {name} is not an .npz file: it does not begin as one"
                    raise DatasetError(msg)
                stream.seek(0)
                file = np.load(stream, allow_pickle=False)
                if not isinstance(file, np.lib.npyio.NpzFile):
                    msg = f"data set {name} is a single array; an .npz file with images and labels is needed: {_HOW}"
                    raise DatasetError(msg)
                with zipfile.ZipFile(path) as archive:
                    size = sum(int(member.file_size) for member in archive.infolist())
                if size > max_bytes:
                    msg = f"data set {name} unpacks to {size} bytes, more than the limit of {max_bytes}; split it"
                    raise DatasetError(msg)
                images = _member(file, _IMAGE_NAMES, name)
                labels = _member(file, _LABEL_NAMES, name)
        except DatasetError:
            raise
        except FileNotFoundError as error:
            msg = f"there is no data set {path}; give the path of an .npz file"
            raise DatasetError(msg) from error
        except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
            msg = f"data set {name} is not a readable .npz file: {error}; {_HOW}"
            raise DatasetError(msg) from error
        return cls.of(images, labels, name)

    @classmethod
    def of(cls, images: NDArray[Any], labels: NDArray[Any], name: str = "") -> Self:
        """A data set from arrays in memory, with the checks of `read`.

        Raises:
            DatasetError: the arrays are of the wrong type or shape.
        """
        if images.ndim < 2:
            msg = f"data set {name}: images must have shape (N, ...), got {images.shape}"
            raise DatasetError(msg)
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            msg = (
                f"data set {name}: images have element type {images.dtype}; uint8 (divided by 255) or floating point "
                "is needed"
            )
            raise DatasetError(msg)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            msg = (
                f"data set {name}: labels must be integers of shape (N,), the numbers of the classes, got "
                f"{labels.dtype} of shape {labels.shape}"
            )
            raise DatasetError(msg)
        if len(images) != len(labels):
            msg = f"data set {name} has {len(images)} images but {len(labels)} labels; each image needs one"
            raise DatasetError(msg)
        return cls(images, labels.astype(np.int64), name)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def features(self) -> int:
        """Number of entries of one input."""
        return math.prod(self.stored.shape[1:])

    @cached_property
    def sha256(self) -> str:
        """Of the content: element types, shapes and values of images and labels."""
        digest = hashlib.sha256()
        for array in (self.stored, self.labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def input(self, i: int) -> NDArray[np.float32]:
        """Input ``i`` in network units, shape ``(features,)``: float32(k) / float32(255) for uint8.

        Raises:
            DatasetError: there is no input ``i``, or it is not finite in float32.
        """
        x = self._converted(self.stored[self._checked(i)]).reshape(-1)
        if not np.isfinite(x).all():
            bad = int(np.flatnonzero(~np.isfinite(x))[0])
            msg = f"input {i} of data set {self.name} is not finite: entry {bad} is {x[bad]}"
            raise DatasetError(msg)
        return x

    def label(self, i: int) -> int:
        """Label of input ``i``.

        Raises:
            DatasetError: there is no input ``i``.
        """
        return int(self.labels[self._checked(i)])

    @cached_property
    def images(self) -> NDArray[np.float32]:
        """All inputs in network units, shape ``(N, features)``."""
        return self._converted(self.stored).reshape(len(self), -1)

    def check(self, network: Network) -> None:
        """Refuse a data set whose inputs are not of the network's size and axes, or whose labels are not outputs.

        Raises:
            DatasetError: they do not fit.
        """
        if self.features != network.inputs:
            msg = (
                f"data set {self.name} has inputs of shape {self.stored.shape[1:]} ({self.features} entries), but "
                f"network {network.name} takes {network.input_shape} ({network.inputs} entries)"
            )
            raise DatasetError(msg)
        if refusal := layout_refusal(self.stored.shape[1:], network.input_shape):
            msg = f"data set {self.name} has inputs of {refusal}"
            raise DatasetError(msg)
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= network.outputs))
        if wrong.size:
            i = int(wrong[0])
            msg = (
                f"data set {self.name} gives input {i} the label {self.labels[i]}, but network {network.name} has "
                f"{network.outputs} outputs, labels 0 to {network.outputs - 1}"
            )
            raise DatasetError(msg)

    def _checked(self, i: int) -> int:
        if not 0 <= i < len(self):
            msg = f"index {i} does not exist: data set {self.name} has {len(self)} inputs, 0 to {len(self) - 1}"
            raise DatasetError(msg)
        return i

    @staticmethod
    def _converted(stored: NDArray[Any]) -> NDArray[np.float32]:
        if stored.dtype == np.uint8:
            return stored.astype(np.float32) / np.float32(255)
        with np.errstate(over="ignore"):
            return stored.astype(np.float32)


def _member(file: Any, names: tuple[str, ...], dataset: str) -> NDArray[Any]:
    for name in names:
        if name in file.files:
            return np.asarray(file[name])
    msg = f"data set {dataset} has no array {' or '.join(map(repr, names))}, only {sorted(file.files)[:10]}; {_HOW}"
    raise DatasetError(msg)
