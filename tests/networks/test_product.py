"""Product networks: what they compute, that their bytes are always the same, and what is refused."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import networks
from networks import NetworkError, PropertyError, Region, RegionError, equivalence, evaluate, monotone, product_model
from networks.constraints import Constraint
from networks.product_model import equivalence_model, monotone_model
from tests.random_networks import conv_model, dense_model, model, random_conv, random_dense, residual_model

RNG = np.random.default_rng(5)


def points(inputs: int) -> np.ndarray:
    return RNG.normal(size=(20, inputs)).astype(np.float32)


def check_pair(first: bytes, second: bytes) -> networks.Network:
    """That the product computes both; loading compares it with ONNX Runtime as well."""
    product = networks.load_bytes(equivalence_model(first, second))
    f, g = (networks.load_bytes(data) for data in (first, second))
    x = points(f.inputs)
    y, z = evaluate(f, x), evaluate(g, x)
    expected = np.hstack([y, z, z] if product.outputs == 3 * f.outputs else [y, z])
    assert np.allclose(evaluate(product, x), expected, rtol=1e-12, atol=1e-12)
    return product


def relu_model(opset: int, shape: tuple[int | str, ...], operator: str = "Relu", **attributes: object) -> bytes:
    nodes = [helper.make_node("MatMul", ["x", "W"], ["z"]), helper.make_node(operator, ["z"], ["y"], **attributes)]
    return model(nodes, shape, {"W": RNG.integers(-4, 5, (3, 3)).astype(np.float32)}, opset=opset)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (dense_model(1), dense_model(2, (3, 4, 2))),
        (conv_model(1, channels=1, size=3, outputs=2), conv_model(2, channels=1, size=3, outputs=2)),
        (residual_model(1, width=3), residual_model(1, width=3)),
        (relu_model(17, (1, 3)), relu_model(17, ("N", 3))),
    ],
    ids=["dense", "conv", "the same", "dynamic batch"],
)
def test_a_pair_computes_both_networks(first, second):
    product = check_pair(first, second)
    assert product.input_shape == (networks.load_bytes(first).inputs,)


@pytest.mark.parametrize("index", range(3))
def test_a_raised_copy_reads_the_larger_of_two_inputs(index):
    data = dense_model(3)
    f, product = networks.load_bytes(data), networks.load_bytes(monotone_model(data, index))
    x = points(4)
    raised = x[:, :3].copy()
    raised[:, index] = np.maximum(x[:, index], x[:, 3])
    expected = np.hstack([evaluate(f, x[:, :3]), evaluate(f, raised), evaluate(f, raised)])
    assert np.allclose(evaluate(product, x), expected, rtol=1e-12, atol=1e-12)
    stored = {tensor.name for tensor in onnx.load_from_string(product.model).graph.initializer}
    assert {name.split("/")[0] for name in stored if "W" in name} == {"weights"}


def test_large_networks_have_pairs_only_if_asked(monkeypatch):
    monkeypatch.setattr(product_model, "PAIRED_RELUS", 9)
    data = dense_model(1)
    assert networks.load_bytes(equivalence_model(data, data)).outputs == 4
    assert networks.load_bytes(equivalence_model(data, data, paired=True)).outputs == 6
    assert networks.load_bytes(monotone_model(data, 0)).outputs == 4
    assert networks.load_bytes(monotone_model(data, 0, paired=True)).outputs == 6


def test_networks_with_other_layers_have_no_pairs():
    f, g = dense_model(1), dense_model(2, (3, 4, 2))
    assert networks.load_bytes(equivalence_model(f, f)).outputs == 6
    assert networks.load_bytes(equivalence_model(f, f, paired=False)).outputs == 4
    assert networks.load_bytes(equivalence_model(f, g)).outputs == 4


@pytest.mark.parametrize("shift", [0.0, 0.01, 3.0])
def test_pairs_are_exact_however_far_apart_the_weights_are(shift):
    first = dense_model(1)
    proto = onnx.load_from_string(first)
    for tensor in proto.graph.initializer:
        moved = numpy_helper.to_array(tensor) + np.float32(shift) * RNG.normal(size=tuple(tensor.dims))
        tensor.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), tensor.name))
    assert check_pair(first, proto.SerializeToString()).outputs == 6


def test_images_keep_their_shape_inside():
    f = random_conv(4, channels=2, size=3, outputs=2)
    product = monotone(f, 7, 1, tolerance=1)
    assert (product.network.inputs, product.network.outputs) == (f.inputs + 1, 3 * f.outputs)


def test_bytes_are_the_same_everywhere():
    """A digest from another machine must be found again; whoever changes the models changes it knowingly."""
    first, second = dense_model(1), dense_model(2)
    digest = hashlib.sha256(equivalence_model(first, second)).hexdigest()
    assert digest == "a31c0d313419f422d1b0ac0911302f24ee689cdd54fafb00de32cffcebc60470"
    assert (
        hashlib.sha256(monotone_model(first, 0)).hexdigest()
        == "35a61f44d06a3195a4a90a9ceb0b6ac2589871d474a23856a25f7db2d897bebf"
    )
    assert equivalence(networks.load_bytes(first), networks.load_bytes(second), tolerance=1).network.sha256 == digest


def test_what_a_file_says_beside_its_function_changes_nothing():
    plain = dense_model(1)
    proto = onnx.load_from_string(plain)
    proto.doc_string = proto.graph.doc_string = proto.graph.node[0].doc_string = "trained on a Monday"
    proto.producer_name = "someone"
    proto.graph.node.append(helper.make_node("Sin", ["x"], ["unused"]))
    assert equivalence_model(proto.SerializeToString(), plain) == equivalence_model(plain, plain)


def test_a_final_softmax_is_left_out_of_both():
    nodes = [helper.make_node("Gemm", ["x", "W"], ["z"]), helper.make_node("Softmax", ["z"], ["y"], axis=1)]
    soft = model(nodes, [1, 3], {"W": np.eye(3, dtype=np.float32)})
    product = check_pair(soft, dense_model(1, (3, 4, 3)))
    assert not product.stripped
    first, second = (networks.load_bytes(data) for data in (soft, dense_model(1, (3, 4, 3))))
    assert len(equivalence(first, second, same_decision=True).prop.clauses) == 6
    with pytest.raises(PropertyError, match="Softmax"):
        equivalence(first, second, tolerance=1)
    with pytest.raises(PropertyError, match="Softmax"):
        monotone(first, 0, tolerance=1)


def test_operator_sets_are_joined_where_they_mean_the_same():
    check_pair(relu_model(11, (1, 3)), relu_model(17, (1, 3)))
    check_pair(relu_model(17, (1, 3)), relu_model(9, (1, 3)))
    # Before opset 13, Squeeze had its axes as an attribute.
    nodes = [helper.make_node("Squeeze", ["x"], ["y0"], axes=[0]), helper.make_node("Relu", ["y0"], ["y"])]
    with pytest.raises(NetworkError, match=r"versions 11 and 17 .* convert it to version 17"):
        equivalence_model(model(nodes, [1, 3], opset=11), relu_model(17, (1, 3)))


def test_float64_weights_are_joined_exactly():
    nodes = [helper.make_node("Gemm", ["x", "W"], ["y"])]
    double = model(nodes, [1, 3], {"W": np.full((3, 2), 0.1)}, element=onnx.TensorProto.DOUBLE)
    product = check_pair(double, dense_model(1))
    assert onnx.load_from_string(product.model).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    check_pair(double, double)


def test_equivalence_means_every_output_or_the_decision():
    f, g = random_dense(1), random_dense(2)
    close, same = equivalence(f, g, tolerance="0.1"), equivalence(f, g, same_decision=True)
    for y in np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32):
        exact = [Fraction(float(v)) for v in y]
        assert close.prop.violated(np.append(y, y[2:])) == any(
            abs(exact[i] - exact[2 + i]) >= Fraction(1, 10) for i in range(2)
        )
        assert same.prop.violated(y) == (y[:2].argmax() != y[2:].argmax())
    assert same.prop.violated(np.float32([1, 1, 2, 0]))
    region = Region.linf_ball([0, 0, 0], "0.1")
    asked = close.query(region)
    assert asked.cases[0][0] is region
    assert asked.statement["property"] == {
        "kind": "equivalence",
        "first": f.sha256,
        "second": g.sha256,
        "tolerance": "0.1",
    }


def test_three_classes_agree_where_one_pair_is_swapped_below_the_best():
    f = random_dense(1, (2, 4, 3))
    prop = equivalence(f, f, same_decision=True).prop
    assert not prop.violated(np.float32([5, 1, 2, 5, 2, 1]))
    assert prop.violated(np.float32([5, 1, 2, 5, 2, 6]))


@pytest.mark.parametrize(("direction", "sign"), [("increasing", 1), ("decreasing", -1)])
def test_monotone_compares_the_two_copies(direction, sign):
    asked = monotone(random_dense(1), 1, 1, direction=direction, tolerance="0.25")
    for y in np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32):
        fall = sign * (Fraction(float(y[1])) - Fraction(float(y[3])))
        assert asked.prop.violated(np.append(y, y[2:])) == (fall >= Fraction(1, 4))
        # The networks themselves have to show it, not their pairs alone.
        assert not asked.prop.violated(np.append(y, y[:2]))


def test_raised_inputs_stay_in_the_region():
    asked = monotone(random_dense(1), 1, tolerance=1)
    box = Region.box([0, 0, 0], [1, "0.3", 1])
    assert asked.query(box).cases[0][0].exact_upper == (1, Fraction(3, 10), 1, Fraction(3, 10))
    ((lifted, _),) = asked.query(box.constrained([Constraint.of([1, 1, 1], "1.5")])).cases
    assert lifted.exact_upper == (1, Fraction(3, 10), 1, Fraction(3, 10))
    inside = [Fraction(1), Fraction(1, 10), Fraction(1, 5), Fraction(1, 4)]
    assert lifted.contains_exactly(inside)
    assert not lifted.contains_exactly([*inside[:3], Fraction(9, 100)])
    assert not lifted.contains_exactly([*inside[:3], Fraction(31, 100)])
    # The raised copy breaks the constraint that the first copy keeps.
    assert not lifted.contains_exactly([Fraction(1), Fraction(1, 10), Fraction(2, 5), Fraction(1, 4)])


@pytest.mark.parametrize(
    ("make", "error", "word"),
    [
        (lambda f: equivalence(f, f), PropertyError, "give one of them"),
        (lambda f: equivalence(f, f, tolerance=1, same_decision=True), PropertyError, "give one of them"),
        (lambda f: equivalence(f, f, tolerance=0), PropertyError, "above 0"),
        (lambda f: equivalence(f, f, tolerance="x"), PropertyError, "finite number"),
        (lambda f: equivalence(f, random_dense(1, (2, 4, 2)), tolerance=1), NetworkError, "3 and 2"),
        (lambda f: equivalence(f, random_dense(1, (3, 4, 3)), tolerance=1), NetworkError, "outputs"),
        (lambda _: equivalence(*[random_dense(1, (3, 1))] * 2, same_decision=True), PropertyError, "one output"),
        (lambda _: equivalence(*[random_dense(1, (1, 40))] * 2, same_decision=True), PropertyError, "121680 rows"),
        (lambda f: monotone(f, 3, tolerance=1), PropertyError, "input 3 does not exist"),
        (lambda f: monotone(f, 0, 2, tolerance=1), PropertyError, "output 2 does not exist"),
        (lambda f: monotone(f, 0, tolerance=-1), PropertyError, "above 0"),
        (lambda f: monotone(f, 0, tolerance=1, direction="up"), PropertyError, "increasing or decreasing"),
        (
            lambda f: monotone(f, 0, tolerance=1).query(Region.norm_ball([0, 0, 0], 1, "l2")),
            RegionError,
            "not about l2 balls",
        ),
        (lambda f: monotone(f, 2, tolerance=1).query(Region.box([0], [1])), RegionError, "1 input entries"),
        (lambda _: monotone_model(b"nonsense", 0), NetworkError, "not an ONNX model"),
    ],
)
def test_refusals_say_what_to_do(make, error, word):
    with pytest.raises(error, match=word):
        make(random_dense(1))
