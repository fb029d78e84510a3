"""What exact arithmetic says of counterexamples."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

import networks
from networks import Property, Query, Region
from networks.errors import SoundnessError
from networks.exact_evaluation import evaluate_exactly
from solver import Counterexample, Outcome, verify
from solver.case import Case
from solver.facts import examined
from tests.random_networks import model, random_conv, random_dense, random_residual


@pytest.mark.parametrize("make", [random_dense, random_conv, random_residual])
def test_a_counterexample_carries_three_facts(make):
    network = make(4)
    center = np.random.default_rng(4).uniform(-1, 1, network.inputs)
    label = int(networks.evaluate(network, center[None])[0].argmin())
    region = Region.linf_ball(center, "0.1")
    prop = Property.classification(label, network.outputs)
    verdict = verify(network, Query.single(region, prop))
    found = verdict.counterexample
    assert verdict.outcome is Outcome.COUNTEREXAMPLE
    assert found.margin <= 0
    assert found.exact_margin == float(prop.margin(evaluate_exactly(network, found.input))) <= 0
    assert abs(found.exact_margin - found.margin) < 1e-4
    assert region.contains(found.input)
    document = verdict.to_json()
    assert document["counterexample"]["in_region"] is True
    assert document["counterexample"]["exact_margin"] == found.exact_margin
    assert document["semantics"] is None
    assert verdict.hint == ""
    assert Counterexample.from_json(document["counterexample"]).exact_margin == found.exact_margin


def test_a_violation_of_float32_alone_says_so():
    # (2^25 + x) − 2^25 is 0 in float32 for small x, and positive over the reals
    nodes = [
        helper.make_node("Add", ["x", "big"], ["a"]),
        helper.make_node("Sub", ["a", "big"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    weights = {"big": np.full((1, 1), 2.0**25, np.float32), "w": np.array([[1, 0]], np.float32)}
    network = networks.load_bytes(model(nodes, [1, 1], weights))
    verdict = verify(network, Query.single(Region.box(["0.25"], ["0.5"]), Property.classification(0, 2)))
    assert verdict.outcome is Outcome.COUNTEREXAMPLE
    assert verdict.counterexample.margin == 0
    assert verdict.counterexample.exact_margin >= 0.25
    assert "rounding alone changes the decision" in verdict.hint


def test_a_proven_clause_that_a_point_violates_is_a_contradiction():
    network = random_dense(2)
    x = np.zeros(network.inputs, np.float32)
    label = int(networks.evaluate(network, x[None])[0].argmin())
    case = Case.of(Region.linf_ball(x, "0.1"), Property.classification(label, network.outputs))
    case.proven[:] = True
    with pytest.raises(SoundnessError, match="exact margin"):
        examined(Counterexample(x, np.zeros(2, np.float32), "class 0", 0.0), network, [case])
