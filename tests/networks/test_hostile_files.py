"""Mutated models: whatever a file holds, it is read or refused, quickly and within memory."""

from __future__ import annotations

import random
import resource

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, helper, numpy_helper

import networks
from networks import NetworkError
from tests.networks.operator_cases import CASES

NUMBERS = [0, 1, -1, 2, 3, -2, 7, 100, 10**6, 2**20, 2**24, 2**31 - 1, -(2**31), 2**62, -(2**63), 2**63 - 1]
FLOATS = [0.0, -1.0, 1e38, 1e-45, float("nan"), float("inf")]
STRINGS = [b"", b"SAME_UPPER", b"VALID", b"edge", b"wrap", b"linear", b"\xff"]
OPERATORS = sorted({node.op_type for case in CASES for node in case.nodes})


def attribute(rng: random.Random, node: onnx.NodeProto) -> None:
    if not node.attribute:
        return
    chosen = rng.choice(node.attribute)
    if chosen.ints and rng.random() < 0.7:
        chosen.ints[rng.randrange(len(chosen.ints))] = rng.choice(NUMBERS)
    elif chosen.type == AttributeProto.FLOAT:
        chosen.f = rng.choice(FLOATS)
    else:
        values = [rng.choice(NUMBERS), [rng.choice(NUMBERS)] * rng.randrange(1, 5), 1.5, rng.choice(STRINGS)]
        chosen.CopyFrom(helper.make_attribute(chosen.name, rng.choice(values)))


def constant(rng: random.Random, graph: onnx.GraphProto) -> None:
    if not graph.initializer:
        return
    tensor = rng.choice(graph.initializer)
    if rng.random() < 0.3 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
    elif rng.random() < 0.2:
        tensor.data_type = rng.randrange(24)
    else:
        values = np.array(numpy_helper.to_array(tensor))
        if values.size and values.dtype.kind in "if":
            values.flat[rng.randrange(values.size)] = rng.choice(NUMBERS if values.dtype.kind == "i" else FLOATS)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def rewired(rng: random.Random, node: onnx.NodeProto) -> None:
    match rng.randrange(4):
        case 0:
            node.op_type = rng.choice(OPERATORS)
        case 1 if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(["x", "", "y", "c0", "nowhere"])
        case 2 if node.input:
            node.input.pop()
        case _:
            node.input.append(rng.choice(["x", "c0", ""]))


def mutated(rng: random.Random, data: bytes) -> bytes:
    proto = onnx.load_from_string(data)
    graph = proto.graph
    for _ in range(rng.choice([1, 1, 2, 3])):
        try:
            match rng.randrange(6):
                case 0 | 1:
                    attribute(rng, rng.choice(graph.node))
                case 2:
                    constant(rng, graph)
                case 3:
                    rewired(rng, rng.choice(graph.node))
                case 4:
                    rng.choice(graph.input[0].type.tensor_type.shape.dim).dim_value = rng.choice(NUMBERS)
                case 5:
                    proto.opset_import[0].version = rng.choice([-1, 0, 6, 7, 9, 11, 13, 18, 21, 99])
        except (TypeError, ValueError):
            pass  # the message's own types forbid this mutation, or an earlier one broke the tensor
    out = bytearray(proto.SerializeToString())
    if rng.random() < 0.3:
        for _ in range(rng.choice([1, 4])):
            out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_models_are_read_or_refused(seed: int) -> None:
    rng = random.Random(seed)
    read, refused = 0, 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in CASES:
        try:
            networks.load_bytes(mutated(rng, case.bytes()), compare=False)
            read += 1
        except NetworkError:
            refused += 1
    assert min(read, refused) > 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**21  # KiB


def test_absurd_sizes_are_refused_before_they_are_allocated() -> None:
    from tests.networks.operator_cases import Case, ints, node, one

    for case in (
        one("parts", "Split", (1, 4), num_outputs=2**31, opset=18),
        one("blocks", "DepthToSpace", (1, 4, 2, 2), blocksize=0),
        one("crops", "ConvTranspose", (1, 1, 4), np.ones((1, 1, 2), np.float32), strides=[2**24], pads=[2**25, 2**24]),
        one("repeats", "Tile", (1, 4), ints(1, 2**40)),
        Case(
            "range",
            [node("Range", "a", "b", "c", outputs=["r"]), node("Add", "x", "r")],
            (1, 4),
            {"a": np.array(0), "b": np.array(2**40), "c": np.array(1)},
        ),
        one("enlarged", "Resize", (1, 4), np.float32([]), np.float32([1, 1e12])),
    ):
        with pytest.raises(NetworkError):
            networks.load_bytes(case.bytes(), compare=False)
