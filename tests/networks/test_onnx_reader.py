"""Files that are read, and files that are refused with a message that helps."""

from __future__ import annotations

import dataclasses
import gzip
import json

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import networks
from networks.comparison import compare_with_runtime
from networks.graph import AffineNode, Dense
from tests.constructed import gemms
from tests.random_networks import conv_model, dense_model, model, random_dense, residual_model


def relu_model(shape, **options):
    return model([helper.make_node("Relu", ["x"], ["y"])], shape, **options)


def edited(data, edit):
    proto = onnx.load_model_from_string(data)
    edit(proto)
    return proto.SerializeToString()


def test_file_and_gzip_are_the_same_network(tmp_path):
    data = conv_model(0)
    (tmp_path / "net.onnx").write_bytes(data)
    (tmp_path / "net.onnx.gz").write_bytes(gzip.compress(data))
    plain, packed = networks.load(tmp_path / "net.onnx"), networks.load(str(tmp_path / "net.onnx.gz"))
    assert plain.model == packed.model == data
    assert plain.sha256 == packed.sha256
    assert (plain.name, packed.name) == ("net.onnx", "net.onnx.gz")


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(networks.NetworkFormatError, match="there is no network file"):
        networks.load(tmp_path / "absent.onnx")
    with pytest.raises(networks.NetworkFormatError, match="cannot be read"):
        networks.load(tmp_path)


@pytest.mark.parametrize(
    "data",
    [b"", b"not a network", b"\0" * 1000, np.random.default_rng(0).bytes(10_000_000), b"\x1f\x8b" + b"garbage" * 10],
    ids=["empty", "text", "zeros", "10 MB of garbage", "damaged gzip"],
)
def test_garbage_is_refused(data):
    with pytest.raises(networks.NetworkFormatError):
        networks.load_bytes(data)


@pytest.mark.parametrize("make", [dense_model, conv_model, residual_model])
def test_every_truncation_is_refused(make):
    data = make(1)
    for end in range(0, len(data) - 1, 7):
        with pytest.raises(networks.NetworkError):
            networks.load_bytes(data[:end])
    packed = gzip.compress(data)
    with pytest.raises(networks.NetworkFormatError, match="truncated"):
        networks.load_bytes(packed[: len(packed) // 2])


def test_size_is_limited_before_and_after_decompression():
    data = dense_model(0)
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < 100_000
    with pytest.raises(networks.NetworkFormatError, match="limit of 100000 bytes"):
        networks.load_bytes(bomb, max_bytes=100_000)
    with pytest.raises(networks.NetworkFormatError, match="limit"):
        networks.load_bytes(data, max_bytes=len(data) - 1)
    assert networks.load_bytes(data, max_bytes=len(data)).inputs == 3


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_bytes_are_refused_or_read_as_onnx_runtime_does(data):
    original = bytearray(dense_model(2, (2, 3, 2)))
    for _ in range(data.draw(st.integers(1, 3))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    try:
        network = networks.load_bytes(bytes(original), compare=False)
    except networks.InputError:
        return
    assert np.isfinite(networks.evaluate(network, np.zeros((1, network.inputs)))).all()


def test_initializers_listed_as_inputs_are_weights():
    def list_weights(proto):
        for tensor in proto.graph.initializer:
            proto.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, list(tensor.dims)))

    network = networks.load_bytes(edited(dense_model(0), list_weights))
    assert network.inputs == 3


@pytest.mark.parametrize(
    ("shape", "expected"),
    [([1, 4], (4,)), (["N", 4], (4,)), ([-1, 2, 2], (2, 2)), ([4], (4,)), ([1], (1,)), ([1, 1, 1, 5], (1, 1, 5))],
)
def test_batch_of_one_is_taken_off(shape, expected):
    network = networks.load_bytes(relu_model(shape))
    assert network.input_shape == network.output_shape == expected


@pytest.mark.parametrize(
    ("shape", "word"),
    [
        ([1, "width"], "width"),
        (["N"], "N"),
        (["N", "C", 3], "C"),
        ([2, 4], "batch of 2"),
        ([], "fixed"),
        (None, "no tensor shape"),
    ],
)
def test_shapes_that_stay_dynamic_are_refused(shape, word):
    with pytest.raises(networks.NetworkShapeError, match=word):
        networks.load_bytes(relu_model(shape))


@pytest.mark.parametrize("element", [TensorProto.INT64, TensorProto.FLOAT16, TensorProto.UINT8])
def test_inputs_that_hold_no_float32_are_refused(element):
    with pytest.raises(networks.NetworkFormatError, match="element type"):
        networks.load_bytes(relu_model([1, 2], element=element))


def test_double_networks_are_read():
    W = np.random.default_rng(0).standard_normal((2, 3))
    data = model([helper.make_node("MatMul", ["x", "W"], ["y"])], [1, 2], {"W": W}, element=TensorProto.DOUBLE)
    network = networks.load_bytes(data)
    np.testing.assert_array_equal(network.nodes[1].terms[0][1].weight, W.T)


def test_several_inputs_or_outputs_are_refused():
    def second_output(proto):
        proto.graph.output.append(helper.make_tensor_value_info("z0", TensorProto.FLOAT, None))

    def second_input(proto):
        proto.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1, 2]))

    for edit in (second_input, second_output):
        with pytest.raises(networks.NetworkFormatError, match="one input and one output"):
            networks.load_bytes(edited(dense_model(0), edit))


def test_external_data_are_refused():
    def move_out(proto):
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"

    with pytest.raises(networks.NetworkFormatError, match="external data"):
        networks.load_bytes(edited(dense_model(0), move_out))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_weights_that_are_not_finite_are_refused(value, place):
    def spoil(proto):
        weight = numpy_helper.to_array(proto.graph.initializer[place]).copy()
        weight.flat[-1] = value
        proto.graph.initializer[place].CopyFrom(numpy_helper.from_array(weight, proto.graph.initializer[place].name))

    with pytest.raises(networks.NonFiniteWeightError, match="must be finite") as caught:
        networks.load_bytes(edited(dense_model(0), spoil))
    assert "z0" in str(caught.value)


def test_operator_sets_that_are_too_old_or_missing_are_refused():
    with pytest.raises(networks.UnsupportedOperatorError, match="version_converter"):
        networks.load_bytes(relu_model([1, 2], opset=6))
    with pytest.raises(networks.NetworkFormatError, match="opset_import"):
        networks.load_bytes(edited(relu_model([1, 2]), lambda proto: proto.ClearField("opset_import")))


def test_output_that_ignores_the_input_is_refused():
    constant = helper.make_node("Constant", [], ["y"], value_floats=[1.0])
    with pytest.raises(networks.NetworkFormatError, match="does not depend"):
        networks.load_bytes(model([constant], [1, 2]))


def test_reference_to_nothing_is_refused():
    with pytest.raises(networks.NetworkFormatError, match="nothing produces"):
        networks.load_bytes(model([helper.make_node("Add", ["x", "ghost"], ["y"])], [1, 2]))


def test_nodes_that_the_output_does_not_need_are_dropped():
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["unused"]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Neg", ["y"], ["also unused"]),
    ]
    assert len(networks.load_bytes(model(nodes, [1, 2])).nodes) == 3


def test_identity_network_ends_in_an_affine_node():
    network = networks.load_bytes(model([helper.make_node("Identity", ["x"], ["y"])], [1, 3]))
    assert isinstance(network.nodes[-1], AffineNode)
    np.testing.assert_array_equal(networks.evaluate(network, [[1, -2, 3]]), [[1, -2, 3]])


def spoiled(network, change):
    """The network with the first dense weight changed."""
    nodes = list(network.nodes)
    i, node = next((i, n) for i, n in enumerate(nodes) if isinstance(n, AffineNode))
    ((parent, linear),) = node.terms
    nodes[i] = dataclasses.replace(node, terms=((parent, Dense(change(linear.weight))),))
    return dataclasses.replace(network, nodes=tuple(nodes))


@pytest.mark.parametrize("widths", [(4, 4, 2), (5, 30, 30, 30, 30, 30, 30, 30, 30, 3)])
def test_misreading_is_noticed(widths):
    network = random_dense(5, widths)
    compare_with_runtime(network)
    for change in (np.negative, lambda w: w * 1.05, lambda w: w[::-1], lambda w: np.roll(w, 1, axis=1)):
        with pytest.raises(networks.NetworkError, match="read differently"):
            compare_with_runtime(spoiled(network, change))


@pytest.mark.parametrize(
    "numbers", [(0.995, 0.405, -1.362, 0.013), (1.34, 0.992, -0.795, 0.011), (1.058, 0.682, -1.278, -0.163)]
)
def test_rounding_of_two_layers_that_cancels_in_every_sampled_direction_refuses_nothing(numbers):
    weight, bias, further, last = numbers
    networks.load_bytes(gemms([([[weight]], [bias]), ([[further]], [last])]))


def test_misreading_under_a_softmax_is_noticed():
    nodes = [helper.make_node("MatMul", ["x", "W"], ["z"]), helper.make_node("Softmax", ["z"], ["y"])]
    network = networks.load_bytes(model(nodes, [1, 3], {"W": np.float32([[1, 2], [3, 5], [0, 1]])}))
    with pytest.raises(networks.NetworkError, match="read differently"):
        compare_with_runtime(spoiled(network, np.negative))


def test_rounding_of_huge_cancelling_weights_is_not_a_misreading():
    big = np.float32(2.0**40)
    W = np.float32([[big, -big], [1, 0], [0, 1]])
    nodes = [
        helper.make_node("Gemm", ["x", "W"], ["z"]),
        helper.make_node("Relu", ["z"], ["h"]),
        helper.make_node("Gemm", ["h", "V"], ["y"]),
    ]
    data = model(nodes, [1, 3], {"W": W, "V": np.float32([[1], [-1]])})
    assert networks.load_bytes(data).outputs == 1


def test_overflow_in_float32_is_not_a_misreading():
    W = np.full((2, 2), 1e30, np.float32)
    nodes = [helper.make_node("MatMul", ["x", "W"], ["z"]), helper.make_node("MatMul", ["z", "W"], ["y"])]
    assert networks.load_bytes(model(nodes, [1, 2], {"W": W})).outputs == 2


def test_model_that_onnx_runtime_refuses_is_refused():
    data = edited(relu_model([1, 2]), lambda proto: setattr(proto, "ir_version", 9999))
    with pytest.raises(networks.NetworkError, match="ONNX Runtime"):
        networks.load_bytes(data)


@pytest.mark.data
def test_every_real_network_is_read(data_folder):
    for folder in sorted(data_folder.glob("*/onnx")):
        for path in sorted(folder.glob("**/*.onnx*"))[:3]:
            assert networks.load(path).relus > 0, path
    for path in sorted((data_folder / "mipverify").glob("*.onnx")):
        assert networks.load(path).input_shape == (1, 28, 28)


@pytest.mark.data
def test_fooling_networks_are_read_exactly_or_refused(data_folder):
    folder = data_folder / "fooling"
    for entry in json.loads((folder / "manifest.json").read_text()):
        path = folder / entry["file"]
        if entry.get("expected_real") == "REJECT":
            with pytest.raises(networks.NonFiniteWeightError):
                networks.load(path)
        elif entry["file"].startswith("c_sigmoid"):
            with pytest.raises(networks.UnsupportedOperatorError, match="Sigmoid"):
                networks.load(path)
        else:
            network = networks.load(path)
            if "ce_exact_margin" in entry and "label" in entry:
                y = networks.evaluate(network, [entry["counterexample"]])[0]
                others = np.delete(y, entry["label"])
                assert y[entry["label"]] - others.max() == eval(entry["ce_exact_margin"]), entry["file"]
            elif "ort" in entry and "softmax" not in entry["file"]:
                for point, expected in (([0.25, 0], "clean(1/4,0)"), ([0.75, 0], "ce(3/4,0)")):
                    np.testing.assert_array_equal(networks.evaluate(network, [point])[0], entry["ort"][expected])


def test_overflow_in_float64_is_not_a_misreading():
    nodes = [
        helper.make_node("MatMul", [f"h{i}" if i else "x", "W"], [f"h{i + 1}" if i < 11 else "y"]) for i in range(12)
    ]
    network = networks.load_bytes(model(nodes, [1, 2], {"W": np.full((2, 2), 1e38, np.float32)}))
    assert np.isinf(networks.evaluate(network, np.ones((1, 2)))).all()


def test_computed_weight_that_overflows_is_refused():
    W = np.full((2, 2), 1e300)
    nodes = [
        helper.make_node("Cast", ["x"], ["X"], to=TensorProto.DOUBLE),
        helper.make_node("Gemm", ["X", "W", "b"], ["Y"], beta=3e38),
        helper.make_node("Cast", ["Y"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(networks.NonFiniteWeightError, match="overflows"):
        networks.load_bytes(model(nodes, [1, 2], {"W": W, "b": np.full(2, 1e300)}))


def test_signalling_nan_is_refused():
    W = np.full((2, 2), 0x7FA00000, np.uint32).view(np.float32)
    with pytest.raises(networks.NonFiniteWeightError):
        networks.load_bytes(model([helper.make_node("MatMul", ["x", "W"], ["y"])], [1, 2], {"W": W}))
