"""Small random networks for tests, as ONNX bytes and loaded.

Weights are multiples of 1/16 between -2 and 2, so that brute force over them is exact in float32.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import networks
from networks import Network

__all__ = ["conv_model", "dense_model", "model", "random_conv", "random_dense", "random_residual", "residual_model"]


def model(
    nodes: Sequence[onnx.NodeProto],
    input_shape: Sequence[int | str] | None,
    constants: dict[str, np.ndarray] | None = None,
    *,
    output: str = "y",
    output_shape: Sequence[int | str] | None = None,
    opset: int = 17,
    element: int = TensorProto.FLOAT,
) -> bytes:
    """An ONNX file whose input is "x" and whose output is "y"."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", element, input_shape)],
        [helper.make_tensor_value_info(output, element, output_shape)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return proto.SerializeToString()


def _weights(rng: np.random.Generator, *shape: int, span: float = 2.0) -> np.ndarray:
    return (rng.integers(-16, 17, shape) * (span / 16)).astype(np.float32)


def dense_model(seed: int, widths: Sequence[int] = (3, 5, 5, 2)) -> bytes:
    """Gemm layers of the given widths with ReLUs between them."""
    rng = np.random.default_rng(seed)
    nodes, constants, source = [], {}, "x"
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        last = i == len(widths) - 2
        constants[f"W{i}"], constants[f"b{i}"] = _weights(rng, after, before), _weights(rng, after, span=1.0)
        nodes.append(helper.make_node("Gemm", [source, f"W{i}", f"b{i}"], ["y" if last else f"z{i}"], transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [f"z{i}"], [f"h{i}"]))
            source = f"h{i}"
    return model(nodes, [1, widths[0]], constants)


def conv_model(seed: int, channels: int = 2, size: int = 5, outputs: int = 3) -> bytes:
    """Conv (stride 1, padded), ReLU, Conv (stride 2), ReLU, Flatten, Gemm on a ``(1, size, size)`` image."""
    rng = np.random.default_rng(seed)
    half = (size - 1) // 2
    constants = {
        "K0": _weights(rng, channels, 1, 3, 3, span=1.0),
        "c0": _weights(rng, channels, span=1.0),
        "K1": _weights(rng, channels, channels, 3, 3, span=1.0),
        "c1": _weights(rng, channels, span=1.0),
        "W": _weights(rng, outputs, channels * half * half, span=1.0),
        "b": _weights(rng, outputs, span=1.0),
    }
    nodes = [
        helper.make_node("Conv", ["x", "K0", "c0"], ["z0"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["z0"], ["h0"]),
        helper.make_node("Conv", ["h0", "K1", "c1"], ["z1"], strides=[2, 2]),
        helper.make_node("Relu", ["z1"], ["h1"]),
        helper.make_node("Flatten", ["h1"], ["f"]),
        helper.make_node("Gemm", ["f", "W", "b"], ["y"], transB=1),
    ]
    return model(nodes, [1, 1, size, size], constants)


def residual_model(seed: int, width: int = 4, blocks: int = 2, outputs: int = 2) -> bytes:
    """Residual blocks ``h + W₂ relu(W₁ h + b₁)``, a ReLU, and a Gemm."""
    rng = np.random.default_rng(seed)
    nodes, constants, source = [], {}, "x"
    for i in range(blocks):
        for name in (f"{i}a", f"{i}b"):
            constants[f"W{name}"] = _weights(rng, width, width, span=1.0)
            constants[f"b{name}"] = _weights(rng, width, span=1.0)
        nodes += [
            helper.make_node("Gemm", [source, f"W{i}a", f"b{i}a"], [f"z{i}"], transB=1),
            helper.make_node("Relu", [f"z{i}"], [f"h{i}"]),
            helper.make_node("Gemm", [f"h{i}", f"W{i}b", f"b{i}b"], [f"r{i}"], transB=1),
            helper.make_node("Add", [source, f"r{i}"], [f"s{i}"]),
        ]
        source = f"s{i}"
    constants["W"], constants["b"] = _weights(rng, outputs, width), _weights(rng, outputs, span=1.0)
    nodes += [
        helper.make_node("Relu", [source], ["top"]),
        helper.make_node("Gemm", ["top", "W", "b"], ["y"], transB=1),
    ]
    return model(nodes, [1, width], constants)


def random_dense(seed: int, widths: Sequence[int] = (3, 5, 5, 2)) -> Network:
    return networks.load_bytes(dense_model(seed, widths), f"dense-{seed}")


def random_conv(seed: int, channels: int = 2, size: int = 5, outputs: int = 3) -> Network:
    return networks.load_bytes(conv_model(seed, channels, size, outputs), f"conv-{seed}")


def random_residual(seed: int, width: int = 4, blocks: int = 2, outputs: int = 2) -> Network:
    return networks.load_bytes(residual_model(seed, width, blocks, outputs), f"residual-{seed}")
