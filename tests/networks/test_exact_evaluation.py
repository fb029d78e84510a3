"""Exact evaluation against rational arithmetic on written-out matrices."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import networks
from networks.errors import NetworkShapeError
from networks.evaluation import apply, evaluate
from networks.exact_evaluation import evaluate_exactly
from networks.graph import AffineNode, Dense, ReluNode, Scale
from tests.random_networks import random_conv, random_dense, random_residual


def rational(network, x):
    """The outputs by the definition, one product of fractions at a time."""
    values = [[v if isinstance(v, Fraction) else Fraction(float(v)) for v in x]]
    for node in network.nodes[1:]:
        if isinstance(node, ReluNode):
            values.append([max(v, Fraction(0)) for v in values[node.parent]])
            continue
        total = [Fraction(b) for b in node.bias.tolist()]
        for parent, linear in node.terms:
            matrix = apply(linear, np.eye(linear.in_features)).T
            for i, row in enumerate(matrix.tolist()):
                total[i] += sum(Fraction(w) * values[parent][j] for j, w in enumerate(row) if w)
        values.append(total)
    return values[-1]


@given(st.sampled_from([random_dense, random_conv, random_residual]), st.integers(0, 2**32 - 1))
def test_it_is_rational_arithmetic(make, seed):
    network = make(seed)
    x = np.random.default_rng(seed).normal(size=network.inputs).astype(np.float32)
    assert evaluate_exactly(network, x) == rational(network, x)


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.lists(st.fractions(-2, 2, max_denominator=10**9), min_size=64, max_size=64))
def test_inputs_may_be_any_rationals(seed, entries):
    for make in (random_dense, random_conv, random_residual):
        network = make(seed % 100)
        x = tuple(entries[: network.inputs])
        assert evaluate_exactly(network, x) == rational(network, x)


@given(st.integers(0, 2**32 - 1), st.integers(-140, 100), st.integers(-140, 100))
def test_scales_subnormals_and_cancellation_are_exact(seed, first, second):
    network = random_dense(seed)
    rng = np.random.default_rng(seed)

    def scaled(weight, exponent):
        return np.ldexp(weight, exponent + rng.integers(-20, 20, weight.shape)).astype(np.float32).astype(np.float64)

    nodes = [
        dataclasses.replace(node, terms=tuple((p, Dense(scaled(m.weight, first))) for p, m in node.terms))
        if isinstance(node, AffineNode)
        else node
        for node in network.nodes
    ]
    network = dataclasses.replace(network, nodes=tuple(nodes))
    x = np.ldexp(rng.normal(size=network.inputs), second).astype(np.float32)
    assert evaluate_exactly(network, x) == rational(network, x)


def test_what_float64_gets_wrong():
    identity = AffineNode(((0, Dense(np.array([[2.0**70, 1.0, -(2.0**70)]]))),), np.zeros(1), (1,))
    scaled = AffineNode(((1, Scale(np.array([3.0]))),), np.array([2.0**-60]), (1,))
    network = networks.Network((networks.graph.InputNode((3,)), identity, scaled), b"", "")
    assert evaluate(network, np.ones((1, 3)))[0, 0] == 2.0**-60
    assert evaluate_exactly(network, np.ones(3)) == [3 + Fraction(2) ** -60]


def test_zero_weights_and_zero_inputs():
    network = random_dense(3)
    assert evaluate_exactly(network, np.zeros(network.inputs)) == rational(network, np.zeros(network.inputs))
    nothing = AffineNode(((0, Dense(np.zeros((2, 3)))),), np.zeros(2), (2,))
    empty = networks.Network((networks.graph.InputNode((3,)), nothing), b"", "")
    assert evaluate_exactly(empty, np.ones(3)) == [0, 0]


def test_the_number_of_inputs_is_checked():
    network = random_dense(3)
    with pytest.raises(NetworkShapeError, match="inputs are needed"):
        evaluate_exactly(network, np.zeros(network.inputs + 1))
