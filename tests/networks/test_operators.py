"""Every rewrite rule against ONNX Runtime, on one tiny model each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import networks
from networks.graph import AffineNode, Conv, ConvTranspose, Dense, Gather, ReluNode, Scale
from networks.operators import supported
from tests.random_networks import model

RNG = np.random.default_rng(7)


def weights(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Case:
    """One node (or a few) from input "x" of ``shape`` to output "y"."""

    name: str
    nodes: list
    shape: tuple
    constants: dict = field(default_factory=dict)
    opset: int = 17

    def bytes(self):
        return model(self.nodes, list(self.shape), self.constants, opset=self.opset)


def node(op, *inputs, outputs=("y",), **attributes):
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def one(name, op, shape, *constants, opset=17, first=False, **attributes):
    """A single node: x and then the constants (or the constants first)."""
    named = {f"c{i}": np.asarray(c) for i, c in enumerate(constants)}
    inputs = [*named, "x"] if first else ["x", *named]
    return Case(name, [node(op, *inputs, **attributes)], shape, named, opset)


CASES = [
    one("gemm", "Gemm", (1, 4), weights(4, 3), weights(3)),
    one("gemm transB alpha beta", "Gemm", (1, 4), weights(3, 4), weights(3), alpha=0.3, beta=-2.5, transB=1),
    one("gemm transA", "Gemm", (4, 1)[::-1], weights(3, 4), transB=1),
    one("gemm without bias", "Gemm", (1, 4), weights(4, 3), alpha=2.0),
    one("gemm constant left", "Gemm", (1, 4), weights(3, 1), first=True),
    one("gemm scalar bias", "Gemm", (1, 4), weights(4, 3), weights(1)),
    Case(
        "gemm path as bias",
        [node("Relu", "x", outputs=["h"]), node("Gemm", "x", "W", "h", beta=0.5)],
        (1, 4),
        {"W": weights(4, 4)},
    ),
    one("matmul right", "MatMul", (1, 4), weights(4, 3)),
    one("matmul left", "MatMul", (1, 3, 5), weights(4, 3), first=True),
    one("matmul rows", "MatMul", (1, 3, 5), weights(5, 2)),
    one("matmul stack right", "MatMul", (1, 2, 3, 5), weights(1, 5, 2)),
    one("matmul stack left", "MatMul", (1, 2, 3, 5), weights(4, 3), first=True),
    one("matmul rank one", "MatMul", (5,), weights(5, 2)),
    one("matmul vector", "MatMul", (1, 5), weights(5)),
    one("matmul rank one left", "MatMul", (5,), weights(2, 5), first=True),
    one("add constant", "Add", (1, 2, 3), weights(2, 1)),
    one("add constant first", "Add", (1, 3), weights(1, 3), first=True),
    one("add broadcasts x", "Add", (1, 1), weights(1, 4)),
    Case("add paths", [node("Relu", "x", outputs=["h"]), node("Add", "x", "h")], (1, 4)),
    Case("add itself", [node("Add", "x", "x")], (1, 4)),
    Case(
        "add transposed paths",
        [node("Transpose", "x", outputs=["t"], perm=[0, 2, 1]), node("Add", "x", "t")],
        (1, 3, 3),
    ),
    one("sub constant", "Sub", (1, 2, 3), weights(3)),
    one("sub from constant", "Sub", (1, 3), weights(3), first=True),
    Case("sub paths", [node("Relu", "x", outputs=["h"]), node("Sub", "x", "h")], (1, 4)),
    one("mul", "Mul", (1, 2, 3), weights(2, 1)),
    one("mul first", "Mul", (1, 3), weights(3), first=True),
    one("div", "Div", (1, 3), np.float32([3, -7, 0.5])),
    one("neg", "Neg", (1, 3)),
    one("conv", "Conv", (1, 2, 5, 6), weights(3, 2, 3, 2), weights(3), strides=[2, 1], pads=[1, 0, 2, 1]),
    one("conv 1-d", "Conv", (1, 2, 9), weights(3, 2, 3), dilations=[2], pads=[1, 2]),
    one("conv groups", "Conv", (1, 4, 5, 5), weights(6, 2, 3, 3), weights(6), group=2),
    one("conv depthwise dilated", "Conv", (1, 3, 7, 7), weights(3, 1, 3, 3), group=3, dilations=[2, 1]),
    one("conv same upper", "Conv", (1, 1, 5, 4), weights(2, 1, 2, 3), auto_pad="SAME_UPPER", strides=[2, 1]),
    one("conv same lower", "Conv", (1, 1, 5, 4), weights(2, 1, 2, 4), auto_pad="SAME_LOWER"),
    one("conv valid", "Conv", (1, 1, 5, 5), weights(2, 1, 2, 3), auto_pad="VALID"),
    one("conv transpose", "ConvTranspose", (1, 2, 3, 4), weights(2, 3, 3, 2), weights(3), strides=[2, 1]),
    one(
        "conv transpose padded",
        "ConvTranspose",
        (1, 2, 4, 4),
        weights(2, 3, 3, 3),
        strides=[2, 2],
        pads=[1, 0, 0, 1],
        output_padding=[1, 1],
    ),
    one("conv transpose groups", "ConvTranspose", (1, 4, 3, 3), weights(4, 2, 2, 2), group=2, dilations=[2, 1]),
    one("conv transpose 1-d", "ConvTranspose", (1, 2, 4), weights(2, 1, 3), strides=[3], output_shape=[11]),
    one("conv transpose same lower", "ConvTranspose", (1, 1, 3), weights(1, 1, 4), strides=[1], auto_pad="SAME_LOWER"),
    one(
        "conv transpose same upper",
        "ConvTranspose",
        (1, 1, 3, 3),
        weights(1, 1, 3, 3),
        strides=[2, 2],
        auto_pad="SAME_UPPER",
    ),
    one(
        "batch normalisation",
        "BatchNormalization",
        (1, 3, 2, 2),
        weights(3),
        weights(3),
        weights(3),
        np.abs(weights(3)) + np.float32(0.1),
        epsilon=1e-3,
    ),
    one("average pool", "AveragePool", (1, 2, 4, 6), kernel_shape=[2, 3], strides=[2, 1]),
    one("average pool 1-d", "AveragePool", (1, 2, 7), kernel_shape=[3], strides=[2]),
    one("average pool padded", "AveragePool", (1, 1, 4, 4), kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    one(
        "average pool counts pads",
        "AveragePool",
        (1, 1, 4, 4),
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
        count_include_pad=1,
    ),
    one("average pool same", "AveragePool", (1, 1, 5, 5), kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
    one("global average pool", "GlobalAveragePool", (1, 3, 3, 4)),
    one("max pool", "MaxPool", (1, 2, 4, 6), kernel_shape=[2, 3], strides=[2, 2]),
    one("max pool padded", "MaxPool", (1, 1, 5, 5), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    one("max pool 1-d dilated", "MaxPool", (1, 2, 9), kernel_shape=[3], dilations=[2]),
    one("max pool ceil", "MaxPool", (1, 1, 6, 6), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    one("max pool same", "MaxPool", (1, 1, 5, 5), kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
    one("global max pool", "GlobalMaxPool", (1, 2, 3, 3)),
    one("relu", "Relu", (1, 4)),
    one("leaky relu", "LeakyRelu", (1, 4), alpha=0.1),
    one("leaky relu default", "LeakyRelu", (1, 4)),
    one("leaky relu steep", "LeakyRelu", (1, 4), alpha=1.7),
    one("leaky relu negative", "LeakyRelu", (1, 4), alpha=-0.3),
    one("prelu", "PRelu", (1, 3, 2, 2), weights(3, 1, 1)),
    one("clip", "Clip", (1, 6), np.float32(-0.5), np.float32(0.75)),
    one("clip of old opsets", "Clip", (1, 6), opset=7, min=0.0, max=0.5),
    one("clip below", "Clip", (1, 6), np.float32(0.25)),
    Case("clip above", [node("Clip", "x", "", "h")], (1, 6), {"h": np.float32(0.25)}),
    one("clip without bounds", "Clip", (1, 6), np.float32(-np.inf), np.float32(np.inf)),
    one("abs", "Abs", (1, 4)),
    one("max constant", "Max", (1, 4), weights(4)),
    one("min constant", "Min", (1, 4), weights(4), first=True),
    Case("max paths", [node("Neg", "x", outputs=["h"]), node("Max", "x", "h", "c")], (1, 4), {"c": np.float32([0.2])}),
    Case("min paths", [node("Neg", "x", outputs=["h"]), node("Min", "x", "h", "c")], (1, 4), {"c": np.float32([-0.2])}),
    one("flatten", "Flatten", (1, 2, 3)),
    one("flatten axis", "Flatten", (1, 2, 3), axis=-1),
    one("reshape", "Reshape", (1, 2, 6), ints(0, -1, 3)),
    one("squeeze", "Squeeze", (1, 3, 1), ints(2)),
    one("squeeze all", "Squeeze", (1, 3, 1)),
    one("squeeze of old opsets", "Squeeze", (1, 3, 1), axes=[2], opset=11),
    one("unsqueeze", "Unsqueeze", (1, 3), ints(0, 3)),
    one("unsqueeze of old opsets", "Unsqueeze", (1, 3), axes=[1], opset=11),
    one("transpose", "Transpose", (1, 2, 3, 4), perm=[0, 3, 1, 2]),
    one("transpose default", "Transpose", (1, 2, 3)),
    one("expand", "Expand", (1, 1, 3), ints(1, 2, 3)),
    one("identity", "Identity", (1, 3)),
    one("dropout", "Dropout", (1, 3)),
    one("dropout of old opsets", "Dropout", (1, 3), ratio=0.5, opset=9),
    one("cast", "Cast", (1, 3), to=TensorProto.FLOAT),
    Case(
        "cast of weights",
        [node("Cast", "w", outputs=["W"], to=TensorProto.FLOAT), node("MatMul", "x", "W")],
        (1, 3),
        {"w": weights(3, 2).astype(np.float16)},
    ),
    Case(
        "constant",
        [node("Constant", outputs=["c"], value=numpy_helper.from_array(weights(3))), node("Add", "x", "c")],
        (1, 3),
    ),
    Case("constant floats", [node("Constant", outputs=["c"], value_floats=[1.5, 2.0]), node("Add", "x", "c")], (1, 2)),
    Case(
        "constant of shape",
        [
            node("Shape", "x", outputs=["s"]),
            node("ConstantOfShape", "s", outputs=["c"], value=numpy_helper.from_array(np.float32([2.5]))),
            node("Add", "x", "c"),
        ],
        (1, 3),
    ),
    Case(
        "shape arithmetic",
        [
            node("Shape", "x", outputs=["s"]),
            node("Gather", "s", "zero", outputs=["n"]),
            node("Unsqueeze", "n", "axes", outputs=["m"]),
            node("Concat", "m", "rest", outputs=["target"], axis=0),
            node("Reshape", "x", "target"),
        ],
        ("N", 2, 3),
        {"zero": np.array(0), "axes": ints(0), "rest": ints(-1)},
    ),
    Case(
        "arithmetic of constants",
        [
            node("Mul", "a", "b", outputs=["ab"]),
            node("Sub", "ab", "b", outputs=["c"]),
            node("Div", "c", "b", outputs=["d"]),
            node("Add", "d", "a", outputs=["e"]),
            node("Neg", "e", outputs=["f"]),
            node("Add", "x", "f"),
        ],
        (1, 3),
        {"a": weights(3), "b": np.abs(weights(3)) + np.float32(0.5)},
    ),
    Case(
        "matmul of constants",
        [node("MatMul", "a", "b", outputs=["W"]), node("MatMul", "x", "W")],
        (1, 3),
        {"a": weights(3, 4), "b": weights(4, 2)},
    ),
    Case(
        "concat",
        [node("Relu", "x", outputs=["h"]), node("Concat", "h", "c", "x", axis=1)],
        (1, 3, 2),
        {"c": weights(1, 1, 2)},
    ),
    Case(
        "concat of one source",
        [node("Split", "x", outputs=["a", "b"], axis=1), node("Concat", "b", "a", axis=1)],
        (1, 4),
    ),
    one("slice", "Slice", (1, 6, 3), ints(1), ints(5), ints(1), ints(2)),
    one("slice backwards", "Slice", (1, 6), ints(-1), ints(-(2**63)), ints(1), ints(-2)),
    one("slice of old opsets", "Slice", (1, 6), starts=[2], ends=[2**31], axes=[1], opset=9),
    Case("split", [node("Split", "x", "sizes", outputs=["a", "y"], axis=1)], (1, 5), {"sizes": ints(2, 3)}),
    Case("split of old opsets", [node("Split", "x", outputs=["a", "y"], axis=1, split=[1, 4])], (1, 5), opset=11),
    Case("split uneven", [node("Split", "x", outputs=["a", "y"], axis=1, num_outputs=2)], (1, 5), opset=18),
    one("gather", "Gather", (1, 4, 3), ints(2, 0, 2), axis=1),
    one("pad", "Pad", (1, 1, 2, 3), ints(0, 0, 1, 0, 0, 0, 2, 1)),
    one("pad with a value", "Pad", (1, 3), ints(0, 1, 0, 2), np.float32(1.5)),
    one("pad of old opsets", "Pad", (1, 3), pads=[0, 1, 0, 2], mode="constant", opset=9),
    one("pad reflect", "Pad", (1, 4), ints(0, 2, 0, 1), mode="reflect"),
    one("pad edge", "Pad", (1, 4), ints(0, 2, 0, 1), mode="edge"),
    one("reduce sum", "ReduceSum", (1, 2, 3, 4), ints(1, 3)),
    one("reduce sum of all", "ReduceSum", (1, 2, 3), keepdims=0),
    one("reduce mean", "ReduceMean", (1, 2, 3, 4), axes=[-2], keepdims=0),
    one("reduce mean of channels last", "ReduceMean", (1, 4, 4, 2), axes=[1, 2]),
    Case(
        "relu of a transpose",
        [node("Transpose", "x", outputs=["t"], perm=[0, 2, 1]), node("Relu", "t", outputs=["h"]), node("Flatten", "h")],
        (1, 2, 3),
    ),
    Case(
        "matmul of a slice",
        [node("Split", "x", outputs=["a", "b"], axis=1), node("MatMul", "b", "W")],
        (1, 6),
        {"W": weights(3, 2)},
    ),
    Case(
        "matmul of repeated entries",
        [node("Gather", "x", "i", outputs=["g"], axis=1), node("MatMul", "g", "W")],
        (1, 3),
        {"i": ints(0, 0, 2), "W": weights(3, 2)},
    ),
]


def runtime(data: bytes, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.stack([session.run(["y"], {"x": row})[0].reshape(-1) for row in x])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rewrite_computes_what_onnx_runtime_computes(case):
    data = case.bytes()
    network = networks.load_bytes(data, compare=False)
    shape = tuple(1 if isinstance(d, str) else d for d in case.shape)
    x = np.random.default_rng(1).standard_normal((16, *shape)).astype(np.float32)
    ours = networks.evaluate(network, x.reshape(len(x), -1))
    np.testing.assert_allclose(ours, runtime(data, x), rtol=2e-5, atol=2e-5)
    networks.load_bytes(data)


def test_every_rule_has_a_case():
    used = {n.op_type for case in CASES for n in case.nodes}
    assert set(supported()) == used


def test_every_rule_is_documented():
    text = (Path(__file__).resolve().parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
    assert {op for op in supported() if f"`{op}`" not in text} == set()


def terms(network):
    return [[type(linear) for _, linear in n.terms] for n in network.nodes if isinstance(n, AffineNode)]


def load(nodes, shape, constants=None, **options):
    return networks.load_bytes(model(nodes, shape, constants, **options))


def test_bias_after_matmul_is_merged_and_reshapes_make_no_node():
    network = load(
        [
            node("Flatten", "x", outputs=["f"]),
            node("MatMul", "f", "W", outputs=["m"]),
            node("Add", "b", "m", outputs=["z"]),
            node("Identity", "z", outputs=["i"]),
            node("Relu", "i", outputs=["h"]),
            node("Dropout", "h", outputs=["d"]),
            node("Reshape", "d", "s"),
        ],
        [1, 2, 2],
        {"W": weights(4, 3), "b": weights(3), "s": ints(1, 3, 1)},
    )
    assert [type(n).__name__ for n in network.nodes] == ["InputNode", "AffineNode", "ReluNode"]
    assert network.nodes[1].bias.any()


def test_bias_is_not_merged_twice():
    network = load(
        [node("Gemm", "x", "W", "b", outputs=["z"]), node("Add", "z", "b")],
        [1, 2],
        {"W": weights(2, 2), "b": weights(2)},
    )
    assert len(network.nodes) == 3


def test_product_used_with_and_without_bias_keeps_both():
    network = load(
        [
            node("MatMul", "x", "W", outputs=["m"]),
            node("Add", "m", "b", outputs=["z"]),
            node("Sub", "z", "m"),
        ],
        [1, 2],
        {"W": weights(2, 2), "b": np.float32([0.5, -2])},
    )
    assert networks.evaluate(network, np.ones((1, 2))) == pytest.approx(np.array([[0.5, -2]]))


def test_convolutions_stay_operators():
    network = load([node("Conv", "x", "K")], [1, 1, 5, 5], {"K": weights(2, 1, 3, 3)})
    assert terms(network) == [[Conv]]
    network = load([node("ConvTranspose", "x", "K")], [1, 1, 5, 5], {"K": weights(1, 2, 3, 3)})
    assert terms(network) == [[ConvTranspose]]


def test_transposes_compose_to_nothing():
    network = load(
        [
            node("Transpose", "x", outputs=["t"], perm=[0, 3, 1, 2]),
            node("Transpose", "t", outputs=["u"], perm=[0, 2, 3, 1]),
            node("Relu", "u"),
        ],
        [1, 2, 3, 4],
    )
    assert terms(network) == [[networks.graph.Identity]]


def test_permutation_before_a_product_moves_columns():
    network = load(
        [node("Transpose", "x", outputs=["t"]), node("Flatten", "t", outputs=["f"], axis=0), node("MatMul", "f", "W")],
        [1, 2, 3],
        {"W": weights(6, 2)},
    )
    assert terms(network) == [[Dense]]


def test_alpha_that_would_round_stays_apart():
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((3, 2)) / 3
    nodes = [
        node("Cast", "W", outputs=["V"], to=TensorProto.DOUBLE),
        node("Cast", "x", outputs=["X"], to=TensorProto.DOUBLE),
        node("Gemm", "X", "V", outputs=["z"], alpha=0.3),
        node("Cast", "z", to=TensorProto.FLOAT),
    ]
    network = load(nodes, [1, 3], {"W": wide})
    assert terms(network) == [[Dense], [Scale]]
    assert (network.nodes[1].terms[0][1].weight == wide.T).all()
    network = load(nodes, [1, 3], {"W": wide.astype(np.float32)})
    assert terms(network) == [[Dense]]


def test_half_and_double_weights_are_exact():
    half = weights(3, 2).astype(np.float16)
    double = np.random.default_rng(0).standard_normal((3, 2))
    for stored in (half, double):
        nodes = [node("Cast", "W", outputs=["V"], to=TensorProto.FLOAT), node("MatMul", "x", "V")]
        network = load(nodes, [1, 3], {"W": stored})
        assert (network.nodes[1].terms[0][1].weight == stored.astype(np.float32).T).all()


def test_relu_always_follows_an_affine_node():
    network = load([node("Relu", "x", outputs=["a"]), node("Relu", "a")], [1, 3])
    assert [type(n).__name__ for n in network.nodes] == ["InputNode", "AffineNode", "ReluNode"]
    assert isinstance(network.nodes[network.nodes[-1].parent], AffineNode)


def test_max_pool_is_one_relu_node_per_round():
    network = load([node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2])], [1, 1, 4, 4])
    relus = [n for n in network.nodes if isinstance(n, ReluNode)]
    assert [n.features for n in relus] == [8, 4]
    assert all(isinstance(linear, Gather | Scale) for t in network.nodes[1:2] for _, linear in t.terms)


@pytest.mark.parametrize(
    ("nodes", "shape", "constants", "word"),
    [
        ([node("Div", "x", "c")], [1, 2], {"c": np.float32([3, 2])}, "division"),
        ([node("AveragePool", "x", kernel_shape=[3])], [1, 1, 6], {}, "AveragePool"),
        (
            [node("BatchNormalization", "x", "s", "b", "m", "v")],
            [1, 2, 2],
            {"s": weights(2), "b": weights(2), "m": weights(2), "v": np.float32([2, 3])},
            "BatchNormalization",
        ),
    ],
)
def test_rounded_weights_are_noted(nodes, shape, constants, word):
    network = load(nodes, shape, constants)
    assert any("rounded" in note and word in note for note in network.notes)


def test_powers_of_two_leave_no_note():
    assert load([node("Div", "x", "c")], [1, 2], {"c": np.float32([4, 0.5])}).notes == ()
    assert load([node("AveragePool", "x", kernel_shape=[2, 2])], [1, 1, 4, 4]).notes == ()


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("opset", [11, 17])
def test_final_softmax_is_stripped_and_noted(op, opset):
    W = weights(3, 4)
    network = load([node("MatMul", "x", "W", outputs=["z"]), node(op, "z", axis=1)], [1, 3], {"W": W}, opset=opset)
    assert network.stripped == op
    assert "logits" in network.notes[0]
    x = np.ones((1, 3))
    np.testing.assert_allclose(networks.evaluate(network, x), x @ W, rtol=1e-6)


REFUSED = [
    ("unknown op", [node("Sigmoid", "x")], [1, 2], {}, "Sigmoid"),
    ("softmax inside", [node("Softmax", "x", outputs=["p"]), node("Relu", "p")], [1, 2], {}, "Softmax"),
    ("softmax over a part", [node("Softmax", "x", axis=2)], [1, 2, 3], {}, "normalise"),
    ("product of paths", [node("Mul", "x", "x")], [1, 2], {}, "both factors"),
    ("matmul of paths", [node("MatMul", "x", "x")], [1, 1], {}, "both factors"),
    ("gemm of paths", [node("Gemm", "x", "x")], [1, 1], {}, "constant"),
    ("division by a path", [node("Div", "c", "x")], [1, 2], {"c": weights(2)}, "divisor"),
    ("division by zero", [node("Div", "x", "c")], [1, 2], {"c": np.float32([1, 0])}, "zero"),
    ("cast to integers", [node("Cast", "x", to=TensorProto.INT64)], [1, 2], {}, "int64"),
    ("cast to half", [node("Cast", "x", to=TensorProto.FLOAT16)], [1, 2], {}, "float16"),
    ("clip upside down", [node("Clip", "x", "a", "b")], [1, 2], {"a": np.float32(1), "b": np.float32(0)}, "above"),
    ("stack of weights", [node("MatMul", "x", "W")], [1, 2, 3], {"W": weights(2, 3, 4)}, "stack"),
    ("weights from the input", [node("Conv", "x", "x")], [1, 1, 3, 3], {}, "constant"),
    ("3-d convolution", [node("Conv", "x", "K")], [1, 1, 3, 3, 3], {"K": weights(1, 1, 2, 2, 2)}, "image"),
    ("negative pads", [node("Pad", "x", "p")], [1, 3], {"p": ints(0, -1, 0, 0)}, "nonnegative"),
    ("window beyond the image", [node("MaxPool", "x", kernel_shape=[9])], [1, 1, 4], {}, "does not fit"),
    ("indices from the input", [node("Gather", "c", "x")], [1, 3], {"c": weights(3)}, "constant"),
    ("unknown attribute", [node("Relu", "x", slope=2.0)], [1, 3], {}, "slope"),
    ("quantised", [node("DequantizeLinear", "x", "s")], [1, 3], {"s": weights(1)}, "DequantizeLinear"),
    (
        "average pool ceil",
        [node("AveragePool", "x", kernel_shape=[3], strides=[2], ceil_mode=1)],
        [1, 1, 6],
        {},
        "ceil",
    ),
]


@pytest.mark.parametrize(("nodes", "shape", "constants", "word"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_refusal_names_node_op_opset_and_shape(nodes, shape, constants, word):
    with pytest.raises(networks.UnsupportedOperatorError, match=word) as caught:
        load(nodes, shape, constants)
    error = caught.value
    assert error.op in [n.op_type for n in nodes]
    assert error.opset == 17
    assert error.node
    assert "opset 17" in str(error)


def test_domain_of_an_operator_counts():
    custom = helper.make_node("Relu", ["x"], ["y"], domain="my.own")
    with pytest.raises(networks.UnsupportedOperatorError, match=r"my\.own\.Relu"):
        load([custom], [1, 3])


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(networks.NetworkError, match="does not fit"):
        load([node("Reshape", "x", "s")], [1, 3], {"s": ints(1, 5)})
    for op in ("MatMul", "Gemm"):
        with pytest.raises(networks.NetworkShapeError, match="inner dimensions 3 and 4"):
            load([node(op, "x", "W")], [1, 3], {"W": weights(4, 2)})


def test_a_few_bytes_cannot_ask_for_all_memory():
    with pytest.raises(networks.NetworkShapeError, match="entries"):
        load([node("ConstantOfShape", "s", outputs=["c"]), node("Add", "x", "c")], [1, 3], {"s": ints(2**20, 2**20, 3)})
    with pytest.raises(networks.NetworkShapeError, match="entries"):
        load([node("Pad", "x", "p")], [1, 3], {"p": ints(0, 0, 0, 2**40)})
    with pytest.raises(networks.NetworkShapeError, match="entries"):
        load([node("Relu", "x")], [1, 2**20, 2**20])
    with pytest.raises(networks.NetworkShapeError, match="entries"):
        load([node("Gather", "x", "i", axis=1)], [1, 2**10, 2**10], {"i": np.zeros(2**10, np.int64).repeat(2**5)})
    with pytest.raises(networks.NetworkShapeError, match="entries in all"):
        load(
            [
                node("Relu", "x" if i == 0 else f"n{i}", outputs=[f"r{i}"])
                if j == 0
                else node("Neg", f"r{i}", outputs=[f"n{i + 1}" if i < 4 else "y"])
                for i in range(5)
                for j in range(2)
            ],
            [1, 2**21],
        )
    with pytest.raises(networks.NetworkShapeError, match="entries"):
        load([node("MaxPool", "x", kernel_shape=[2**30], pads=[2**30, 2**30])], [1, 1, 4])
    with pytest.raises(networks.NetworkShapeError, match="entries"):
        load([node("Conv", "x", "K", pads=[2**30, 0])], [1, 1, 4], {"K": weights(1, 1, 2)})
    with pytest.raises(networks.NetworkShapeError, match="entries"):
        load([node("Expand", "x", "s")], [1, 3], {"s": ints(2**30, 3)})
