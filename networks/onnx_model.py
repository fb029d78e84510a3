"""ONNX files: bytes to a parsed model, within limits.

The only module that reads protobuf messages; ``onnx`` is imported when the first file is read.
"""

from __future__ import annotations

import gzip
import io
import zlib
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from networks.errors import NetworkFormatError, UnsupportedOperatorError

__all__ = [
    "MAX_BYTES",
    "array",
    "attributes",
    "decompressed",
    "element_type",
    "opset",
    "parse",
    "read_bytes",
    "read_most",
]

MAX_BYTES = 512 * 2**20
"""Default limit on a network file's size, after decompression."""

_PIECE = 2**20
_ZIP = b"PK\x03\x04"

OLDEST_OPSET = 7
"""The first operator set in which arithmetic broadcasts as NumPy does."""


def read_bytes(path: str | Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The file's bytes, at most ``max_bytes`` and one more.

    Raises:
        NetworkFormatError: this is no path, there is no such file, or it cannot be read.
    """
    if not isinstance(path, str | PathLike):
        msg = (
            f"a network is a file or what netproof.load or netproof.from_torch(module, example) return, got "
            f"{type(path).__name__}"
        )
        raise NetworkFormatError(msg)
    try:
        with Path(path).open("rb") as file:
            return read_most(file, max_bytes)
    except FileNotFoundError as error:
        msg = f"there is no network file {path}; give the path of an .onnx or .onnx.gz file"
        raise NetworkFormatError(msg) from error
    except OSError as error:
        msg = f"the network file {path} cannot be read: {error.strerror or error}"
        raise NetworkFormatError(msg) from error


def read_most(file: BinaryIO, max_bytes: int) -> bytes:
    """What is left of ``file``, at most ``max_bytes`` and one more; unlike ``read(n)``, it takes only what there is."""
    pieces, left = [], max_bytes + 1
    while left and (piece := file.read(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def decompressed(data: bytes, max_bytes: int = MAX_BYTES) -> bytes:
    """``data``, decompressed where it is gzip; never more than ``max_bytes`` are produced.

    Raises:
        NetworkFormatError: it is larger than ``max_bytes``, or the compressed data are damaged.
    """
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                data = stream.read(max_bytes + 1)
        except (OSError, EOFError, zlib.error) as error:
            msg = f"the compressed network is damaged or truncated: {error}; compress it with gzip again"
            raise NetworkFormatError(msg) from error
    if len(data) > max_bytes:
        msg = f"the network is larger than the limit of {max_bytes} bytes; raise the limit if that is intended"
        raise NetworkFormatError(msg)
    return data


def parse(data: bytes) -> Any:
    """The ``onnx.ModelProto`` in ``data``.

    Raises:
        NetworkFormatError: not an ONNX model, without nodes, or with weights outside the file.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RuntimeError, ValueError) as error:
        msg = f"this is not an ONNX model, or it is truncated ({len(data)} bytes): {error}"
        if data.startswith(_ZIP):
            msg = (
                f"this is a zip archive, not an ONNX model ({len(data)} bytes); netproof.from_torch makes a network of "
                "what a PyTorch checkpoint is loaded into, and a certificate is named before its network"
            )
        raise NetworkFormatError(msg) from error
    if not model.graph.node or not model.graph.output:
        msg = f"this is not an ONNX model with a graph ({len(data)} bytes, {len(model.graph.node)} nodes)"
        raise NetworkFormatError(msg)
    if model.graph.sparse_initializer:
        msg = "the model has sparse initializers, which are not supported; store the weights densely"
        raise NetworkFormatError(msg)
    return model


def opset(model: Any) -> int:
    """Version of the standard operator set that the model uses.

    Raises:
        NetworkFormatError: none is named.
        UnsupportedOperatorError: it is too old.
    """
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            if entry.version < OLDEST_OPSET:
                msg = (
                    f"the model uses opset {entry.version}; {OLDEST_OPSET} or later is needed: convert it with "
                    "onnx.version_converter"
                )
                raise UnsupportedOperatorError(msg, opset=entry.version)
            return int(entry.version)
    msg = "the model does not say which version of the ONNX operators it uses (opset_import is missing)"
    raise NetworkFormatError(msg)


def element_type(code: int) -> str:
    """Name of an ONNX element type, as NumPy spells it where NumPy has it."""
    import onnx

    try:
        name = str(onnx.TensorProto.DataType.Name(code))
    except ValueError:
        return f"unknown type {code}"
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(name, name.lower())


def array(tensor: Any) -> NDArray[Any]:
    """The values of an ``onnx.TensorProto``.

    Raises:
        NetworkFormatError: the values are outside the file, or damaged.
    """
    import onnx
    from onnx import numpy_helper

    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        msg = (
            f"tensor {tensor.name!r} is stored in another file (external data); save the network as one file, with "
            "onnx.save(..., save_as_external_data=False)"
        )
        raise NetworkFormatError(msg)
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        msg = (
            f"tensor {tensor.name!r} ({element_type(tensor.data_type)}, shape {list(tensor.dims)}) is damaged: {error}"
        )
        raise NetworkFormatError(msg) from error


def attributes(node: Any) -> dict[str, Any]:
    """The node's attributes as Python values, strings decoded, tensors as arrays."""
    import onnx

    out: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.type == onnx.AttributeProto.TENSOR:
            value = array(value)
        elif isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif attribute.type in (onnx.AttributeProto.FLOATS, onnx.AttributeProto.INTS):
            value = list(value)
        # A name that is not UTF-8 comes as bytes.
        out[str(attribute.name)] = value
    return out
