"""Every rewrite rule against ONNX Runtime, on one tiny model each."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import networks
from networks.graph import AffineNode, Conv, ConvTranspose, Dense, Gather, ReluNode, Scale
from networks.operators import supported
from networks.supported import document
from tests.networks.operator_cases import CASES, ints, node, weights
from tests.random_networks import model


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


def test_every_rule_says_how_it_rewrites_and_what_it_refuses():
    for op, entry in supported().items():
        assert entry.text, op
        refuses = ".refuse(" in inspect.getsource(entry.rule) or ".constant(" in inspect.getsource(entry.rule)
        if refuses:
            assert "Refused: " in entry.text, op


def test_page_of_supported_operators_is_current():
    page = (Path(__file__).resolve().parents[2] / "docs" / "supported.md").read_text(encoding="utf-8")
    assert page == document(), "run make supported"
    assert {op for op in supported() if f"| `{op}` |" not in page} == set()


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


def test_shape_may_change_after_the_softmax():
    nodes = [
        node("MatMul", "x", "W", outputs=["z"]),
        node("Softmax", "z", outputs=["p"]),
        node("Identity", "p", outputs=["i"]),
        node("Reshape", "i", "s"),
    ]
    W = weights(3, 4)
    network = load(nodes, [1, 3], {"W": W, "s": ints(2, 2)})
    assert network.stripped == "Softmax"
    x = np.ones((1, 3))
    np.testing.assert_allclose(networks.evaluate(network, x), x @ W, rtol=1e-6)


REFUSED = [
    ("unknown op", [node("Sigmoid", "x")], [1, 2], {}, "Sigmoid"),
    ("softmax inside", [node("Softmax", "x", outputs=["p"]), node("Relu", "p")], [1, 2], {}, "Softmax"),
    (
        "softmax of half of a sum",
        [node("Softmax", "x", outputs=["p"]), node("Identity", "p", outputs=["i"]), node("Add", "i", "x")],
        [1, 2],
        {},
        "at the end",
    ),
    ("softmax over a part", [node("Softmax", "x", axis=2)], [1, 2, 3], {}, "normalise"),
    ("product of paths", [node("Mul", "x", "x")], [1, 2], {}, "both factors"),
    ("matmul of paths", [node("MatMul", "x", "x")], [1, 1], {}, "both factors"),
    ("gemm of paths", [node("Gemm", "x", "x")], [1, 1], {}, "constant"),
    ("division by a path", [node("Div", "c", "x")], [1, 2], {"c": weights(2)}, "divisor"),
    ("division by zero", [node("Div", "x", "c")], [1, 2], {"c": np.float32([1, 0])}, "zero"),
    ("cast to integers", [node("Cast", "x", to=TensorProto.INT64)], [1, 2], {}, "int64"),
    ("cast to half", [node("Cast", "x", to=TensorProto.FLOAT16)], [1, 2], {}, "float16"),
    ("clip upside down", [node("Clip", "x", "a", "b")], [1, 2], {"a": np.float32(1), "b": np.float32(0)}, "above"),
    ("weights from the input", [node("Conv", "x", "x")], [1, 1, 3, 3], {}, "constant"),
    ("3-d convolution", [node("Conv", "x", "K")], [1, 1, 3, 3, 3], {"K": weights(1, 1, 2, 2, 2)}, "image"),
    ("negative pads", [node("Pad", "x", "p", mode="edge")], [1, 3], {"p": ints(0, -1, 0, 0)}, "nonnegative"),
    ("window beyond the image", [node("MaxPool", "x", kernel_shape=[9])], [1, 1, 4], {}, "does not fit"),
    ("indices from the input", [node("Gather", "c", "x")], [1, 3], {"c": weights(3)}, "constant"),
    ("unknown attribute", [node("Relu", "x", slope=2.0)], [1, 3], {}, "slope"),
    ("quantised", [node("DequantizeLinear", "x", "s")], [1, 3], {"s": weights(1)}, "DequantizeLinear"),
    ("sign of a path", [node("Sign", "x")], [1, 3], {}, "jumps"),
    ("hard shrinkage", [node("Shrink", "x", lambd=0.5)], [1, 3], {}, "continuous"),
    ("condition from the input", [node("Greater", "x", "c")], [1, 3], {"c": weights(3)}, "constant"),
    ("square", [node("Pow", "x", "c")], [1, 3], {"c": np.float32(2)}, "constant"),
    ("linear resize", [node("Resize", "x", "", "s", mode="linear")], [1, 3], {"s": np.float32([1, 2])}, "nearest"),
    ("argmax", [node("ArgMax", "x")], [1, 3], {}, "scores"),
    ("norm of a layer", [node("LayerNormalization", "x", "s")], [1, 3], {"s": weights(3)}, "statistics"),
    ("axes that are not there", [node("ReduceMax", "x", axes=[5])], [1, 3], {}, "axes"),
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
