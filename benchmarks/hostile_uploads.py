"""Files that somebody who wants to break the service would upload, made from real ones; the same for the same seed."""

from __future__ import annotations

import gzip
import io
import itertools
import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

__all__ = ["Upload", "certificates", "datasets", "networks"]

_NUMBERS = (0, 1, -1, 2, 7, 10**6, 2**24, 2**31 - 1, -(2**31), 2**31, 2**62, -(2**63), 2**63 - 1)
_FLOATS = (0.0, -1.0, 1e38, 1e-45, float("nan"), float("inf"))
_TEXTS = (
    "",
    "x",
    "../../../../etc/passwd",
    "/dev/zero",
    "http://127.0.0.1/",
    "\x00",
    "\x1b[2J",
    "é" * 1000,
    "a" * 10**5,
)
_OPERATORS = ("Relu", "Gemm", "Conv", "Add", "MatMul", "Reshape", "Resize", "Tile", "Pad", "If", "Loop", "Nonsense")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file, and how it was made."""

    kind: str
    content: bytes


def networks(seed: int, real: Sequence[bytes]) -> Iterator[Upload]:
    """Without end: mutations of the ``real`` ONNX files, most of them small, and every so often a constructed trap."""
    rng = random.Random(seed)
    parsed = [onnx.load_from_string(data) for data in real]
    while True:
        if rng.random() < 0.05:
            trap = rng.choice(_TRAPS)
            yield Upload(trap.__name__.strip("_"), trap(rng, rng.choice(real)))
        elif rng.random() < 0.55:
            model = ModelProto()
            model.CopyFrom(rng.choice(parsed))
            kinds = [_edit(rng, model) for _ in range(rng.choice((1, 1, 1, 2, 4)))]
            data = model.SerializeToString()
            yield Upload(kinds[0], _damaged(rng, data)[1] if rng.random() < 0.15 else data)
        else:
            kind, data = _damaged(rng, rng.choice(real), rng.choice(real))
            yield Upload(kind, gzip.compress(data, 1) if rng.random() < 0.1 else data)


def datasets(seed: int, real: Sequence[bytes]) -> Iterator[Upload]:
    """Without end: mutations of ``real`` data sets, of any form, and traps."""
    rng = random.Random(seed)
    while True:
        if rng.random() < 0.1:
            trap = rng.choice((_gzip_bomb, _zip_bomb, _npy_that_promises, _npy_with_objects, _csv_of_one_line))
            yield Upload(trap.__name__.strip("_"), trap(rng, rng.choice(real)))
        else:
            kind, data = _damaged(rng, rng.choice(real), rng.choice(real))
            yield Upload(kind, data)


def certificates(seed: int, real: Sequence[bytes]) -> Iterator[Upload]:
    """Without end: mutations of ``real`` certificates, on the archive and inside it."""
    rng = random.Random(seed)
    while True:
        data = rng.choice(real)
        if rng.random() < 0.1:
            yield Upload("zip_bomb", _zip_bomb(rng, data))
        elif rng.random() < 0.5:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
            name = rng.choice(sorted(members))
            kind, members[name] = _damaged(rng, members[name])
            yield Upload(f"{kind} inside", _zipped(members))
        else:
            yield Upload(*_damaged(rng, data))


# --- bytes ------------------------------------------------------------------------------------------------------------


def _damaged(rng: random.Random, data: bytes, other: bytes = b"") -> tuple[str, bytes]:
    out = bytearray(data)
    at, length = rng.randrange(len(out)), rng.choice((1, 2, 8, 64, 1000))
    match rng.randrange(7):
        case 0:
            for _ in range(rng.choice((1, 1, 2, 8, 64))):
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
            return "bits flipped", bytes(out)
        case 1:
            return "truncated", bytes(out[:at])
        case 2 if other:
            return "spliced", bytes(out[:at]) + other[rng.randrange(len(other)) :]
        case 3:
            del out[at : at + length]
            return "cut out", bytes(out)
        case 4:
            return "repeated", bytes(out[:at]) + bytes(out[at : at + length]) * rng.choice((2, 10, 100)) + bytes(
                out[at:]
            )
        case 5:
            out[at : at + length] = rng.choice((b"\xff", b"\x00", b"\x80", b"\x7f")) * length
            return "overwritten", bytes(out)
        case _:
            head = min(200, len(out))
            out[rng.randrange(head)] = rng.randrange(256)
            return "head changed", bytes(out)


def _zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# --- models -----------------------------------------------------------------------------------------------------------


def _edit(rng: random.Random, model: ModelProto) -> str:
    """Change one thing that the message allows; returns what."""
    edits: tuple[Callable[[random.Random, ModelProto], object], ...] = (
        *(_attribute, _attribute, _dimensions, _weights, _operator, _wiring, _cycle, _renamed, _input_shape, _opset),
        *(_external_data, _sparse, _nodes_reordered),
    )
    chosen = rng.choice(edits)
    try:
        chosen(rng, model)
    except (TypeError, ValueError, IndexError, OverflowError):
        return "unchanged"  # the message's types forbid it, or an earlier edit took away what it needs
    return chosen.__name__.strip("_")


def _attribute(rng: random.Random, model: ModelProto) -> None:
    node = rng.choice(model.graph.node)
    values = (
        rng.choice(_NUMBERS),
        [rng.choice(_NUMBERS)] * rng.randrange(1, 9),
        rng.choice(_FLOATS),
        rng.choice(_TEXTS),
    )
    if node.attribute and rng.random() < 0.8:
        chosen = rng.choice(node.attribute)
        if chosen.type == AttributeProto.INTS and chosen.ints:
            chosen.ints[rng.randrange(len(chosen.ints))] = rng.choice(_NUMBERS)
        else:
            chosen.CopyFrom(helper.make_attribute(chosen.name, rng.choice(values)))
    else:
        name = rng.choice(("axis", "pads", "strides", "alpha", "perm", "group", "transB", "to"))
        node.attribute.append(helper.make_attribute(name, rng.choice(values)))


def _dimensions(rng: random.Random, model: ModelProto) -> None:
    tensor = rng.choice(model.graph.initializer)
    if rng.random() < 0.3:
        tensor.dims.append(rng.choice(_NUMBERS))
    else:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_NUMBERS)


def _weights(rng: random.Random, model: ModelProto) -> None:
    tensor = rng.choice(model.graph.initializer)
    if rng.random() < 0.3:
        tensor.data_type = rng.randrange(30)
        return
    if tensor.data_location == TensorProto.EXTERNAL:
        raise ValueError(tensor.name)  # an earlier edit sent its values elsewhere
    values = np.array(numpy_helper.to_array(tensor))
    values.flat[rng.randrange(values.size)] = rng.choice(_FLOATS)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _operator(rng: random.Random, model: ModelProto) -> None:
    rng.choice(model.graph.node).op_type = rng.choice(_OPERATORS)


def _wiring(rng: random.Random, model: ModelProto) -> None:
    names = [name for node in model.graph.node for name in (*node.input, *node.output)] + [*_TEXTS]
    node = rng.choice(model.graph.node)
    if rng.random() < 0.5:
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    else:
        node.input.append(rng.choice(names))


def _cycle(rng: random.Random, model: ModelProto) -> None:
    """A node reads what a later one, or itself, makes."""
    at = rng.randrange(len(model.graph.node))
    later = rng.choice(model.graph.node[at:])
    model.graph.node[at].input[0] = later.output[0]


def _renamed(rng: random.Random, model: ModelProto) -> None:
    text = rng.choice(_TEXTS)
    match rng.randrange(4):
        case 0:
            rng.choice(model.graph.node).name = text
        case 1:
            model.graph.name = text
        case 2:
            model.graph.input[0].name = text
        case _:
            model.graph.output[0].name = text


def _input_shape(rng: random.Random, model: ModelProto) -> None:
    shape = model.graph.input[0].type.tensor_type.shape
    rng.choice(shape.dim).dim_value = rng.choice(_NUMBERS)


def _opset(rng: random.Random, model: ModelProto) -> None:
    model.opset_import[0].version = rng.choice((-1, 0, 6, 7, 11, 13, 18, 21, 99, 2**62))


def _external_data(rng: random.Random, model: ModelProto) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", rng.choice(_TEXTS)), ("offset", "0"), ("length", "100")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _sparse(rng: random.Random, model: ModelProto) -> None:
    tensor = model.graph.sparse_initializer.add()
    tensor.values.CopyFrom(rng.choice(model.graph.initializer))
    tensor.dims.extend([rng.choice(_NUMBERS)] * 3)


def _nodes_reordered(rng: random.Random, model: ModelProto) -> None:
    nodes = list(model.graph.node)
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


# --- traps ------------------------------------------------------------------------------------------------------------


def _graph(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray] | None = None, inputs: int = 4) -> bytes:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "trap",
        [value("x", TensorProto.FLOAT, [1, inputs])],
        [value("y", TensorProto.FLOAT, [1, inputs])],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def _gzip_bomb(rng: random.Random, real: bytes) -> bytes:
    return gzip.compress(real[:100] + bytes(rng.choice((2**24, 2**27))), 9)


def _nested_gzip(rng: random.Random, real: bytes) -> bytes:
    for _ in range(rng.choice((2, 50))):
        real = gzip.compress(real, 1)
    return real


def _zip_bomb(rng: random.Random, real: bytes) -> bytes:
    name = rng.choice(("images.npy", "manifest.json", "../../x.npy", "multipliers.npz", "x.npy"))
    return _zipped({name: real[:100] + bytes(2**26), "labels.npy": bytes(2**20), "x" * 5000: b""})


def _many_tiny_nodes(rng: random.Random, real: bytes) -> bytes:  # noqa: ARG001
    count = rng.choice((2_000, 20_000))
    names = ["x", *(f"t{i}" for i in range(count - 1)), "y"]
    kind = rng.choice(("Relu", "Identity", "Neg"))
    return _graph([helper.make_node(kind, [a], [b]) for a, b in itertools.pairwise(names)])


def _doubling(rng: random.Random, real: bytes) -> bytes:  # noqa: ARG001
    """Each node is twice as long as the one before: 2**40 numbers after forty nodes."""
    names = ["x", *(f"t{i}" for i in range(40)), "y"]
    return _graph([helper.make_node("Concat", [a, a], [b], axis=1) for a, b in itertools.pairwise(names)])


def _squares(rng: random.Random, real: bytes) -> bytes:  # noqa: ARG001
    """The same tensor added to itself: exponentially many paths."""
    names = ["x", *(f"t{i}" for i in range(200)), "y"]
    return _graph([helper.make_node("Add", [a, a], [b]) for a, b in itertools.pairwise(names)])


def _deep_nesting(rng: random.Random, real: bytes) -> bytes:  # noqa: ARG001
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "leaf", [], [])
    for _ in range(rng.choice((20, 90))):
        body = helper.make_graph(
            [helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)], "g", [], []
        )
        if body.ByteSize() > 2**20:
            break
    return _graph([helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)])


def _broadcast(rng: random.Random, real: bytes) -> bytes:  # noqa: ARG001
    shape = np.array([2**20, 2**10, 4], np.int64)
    return _graph([helper.make_node("Expand", ["x", "s"], ["z"]), helper.make_node("Relu", ["z"], ["y"])], {"s": shape})


def _wide_layer(rng: random.Random, real: bytes) -> bytes:  # noqa: ARG001
    """A small file that asks for a large matrix: ConstantOfShape of a gigabyte."""
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["W"]),
        helper.make_node("MatMul", ["x", "W"], ["z"]),
        helper.make_node("Relu", ["z"], ["y"]),
    ]
    return _graph(nodes, {"s": np.array([4, rng.choice((2**20, 2**26, 2**40))], np.int64)})


def _recursive_function(rng: random.Random, real: bytes) -> bytes:  # noqa: ARG001
    model = onnx.load_from_string(real)
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    node = helper.make_node("Again", ["a"], ["b"], domain="own")
    model.functions.append(helper.make_function("own", "Again", ["a"], ["b"], [node], opset))
    model.graph.node[0].domain, model.graph.node[0].op_type = "own", "Again"
    return model.SerializeToString()


def _unknown_fields(rng: random.Random, real: bytes) -> bytes:
    """Length-delimited groups inside one another, which a parser may follow by recursion."""
    return real + b"\xfa\x3f\x80\x80\x04" + b"\x0b" * 10_000 + bytes(rng.randrange(100))


def _other_magic(rng: random.Random, real: bytes) -> bytes:
    return (
        rng.choice((b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"BZh9", b"\xfd7zXZ\x00", b"\x80\x04\x95", b"", b"\x1f")) + real
    )


def _npy_that_promises(rng: random.Random, real: bytes) -> bytes:  # noqa: ARG001
    shape = rng.choice(("(99999999999, 784)", "(-1, 4)", "(1, 2**70)", "(" * 2000))
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(100)


def _npy_with_objects(rng: random.Random, real: bytes) -> bytes:  # noqa: ARG001
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"
    pickled = b"cposix\nsystem\n(S'touch /tmp/netproof-was-here'\ntR."
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + pickled


def _csv_of_one_line(rng: random.Random, real: bytes) -> bytes:  # noqa: ARG001
    return rng.choice((b"0," * 300_000, b'"' + b"x" * 500_000, b"1e999999,2\n" * 100, b"0,nan\n1,inf\n"))


_TRAPS = (
    *(_gzip_bomb, _nested_gzip, _zip_bomb, _many_tiny_nodes, _doubling, _squares, _deep_nesting, _broadcast),
    *(_wide_layer, _recursive_function, _unknown_fields, _other_magic),
)
