from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import networks
from networks import Property, Query, Region
from networks.vnnlib import parse_vnnlib
from solver import Outcome, verify
from solver.replay import Replayer
from tests.random_networks import random_conv, random_dense


def softmax_model() -> bytes:
    """Two logits x and -x, then Softmax."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 2], [1.0, -1.0])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"], axis=1)],
        "softmax",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def test_replay_runs_the_original_file() -> None:
    network = random_conv(3)
    points = np.random.default_rng(0).random((4, network.inputs)).astype(np.float32)
    outputs = Replayer(network)(points)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, networks.evaluate(network, points.astype(np.float64)), rtol=1e-4, atol=1e-5)


def test_a_point_counts_only_inside_the_region_and_only_if_it_violates() -> None:
    network = random_dense(0)
    replayer = Replayer(network)
    x = np.full(network.inputs, 0.1, np.float32)
    winner = int(replayer(x).argmax())
    wrong = Property.classification(1 - winner, network.outputs)
    right = Property.classification(winner, network.outputs)
    region = Region.linf_ball(x, 0.0)
    found = replayer.counterexample(region, wrong, x)
    assert found is not None
    assert found.margin <= 0
    assert found.clause == f"class {winner}"
    assert replayer.counterexample(region, right, x) is None
    outside = np.nextafter(x, np.float32(1))
    assert replayer.counterexample(region, wrong, outside) is None
    assert replayer.counterexample(region, wrong, np.full_like(x, np.nan)) is None


def test_ties_violate() -> None:
    graph = helper.make_graph(
        [helper.make_node("Concat", ["x", "x"], ["y"], axis=1)],
        "tie",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    network = networks.load_bytes(model.SerializeToString())
    verdict = verify(network, Query.single(Region.box([0], [1]), Property.classification(0, 2)))
    assert verdict.outcome is Outcome.COUNTEREXAMPLE
    assert verdict.margin[1] == 0


def test_a_stripped_softmax_is_compared_through_logits_only() -> None:
    network = networks.load_bytes(softmax_model())
    assert network.stripped == "Softmax"
    verdict = verify(network, Query.single(Region.box([1], [2]), Property.classification(0, 2)))
    assert verdict.outcome is Outcome.ROBUST
    # The margin is about logits: x − (−x) at least 2, though probabilities never differ by more than 1.
    assert verdict.margin[0] == pytest.approx(2)
    assert verdict.margin[0] <= verdict.margin[1]
    threshold = parse_vnnlib(
        "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
        "(assert (<= X_0 2))(assert (>= X_0 1))(assert (<= Y_0 0.5))",
        1,
        2,
    )
    with pytest.raises(networks.PropertyError, match="Softmax"):
        verify(network, threshold)
