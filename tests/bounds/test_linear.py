from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bounds import backward_bounds, encode, interval_bounds, lower_bounds
from bounds.backward import specification_bounds
from bounds.linear import enclose
from bounds.program import program
from networks.graph import AffineNode, Dense, InputNode, Network, ReluNode
from networks.region import Region
from tests.bounds.graphs import dense_network, residual_network

NETWORKS = {"dense": dense_network, "residual": residual_network}


def pre_activations(network: Network, x: np.ndarray) -> dict[int, np.ndarray]:
    """Values of every ReLU's pre-activation, and of the output under key -1, in float64."""
    compiled = program(network)
    values = []
    for step in compiled.steps:
        if step is None:
            values.append(torch.as_tensor(x))
        elif isinstance(step, int):
            values.append(values[step].clamp(min=0))
        else:
            values.append(
                step.bias + sum(op.forward(values[p]) for p, op in zip(step.parents, step.operators, strict=True))
            )
    found = {i: values[node.parent].numpy() for i, node in enumerate(network.nodes) if isinstance(node, ReluNode)}
    return {**found, -1: values[-1].numpy()}


def exact_output(network: Network, x: list[Fraction]) -> list[Fraction]:
    """A dense network's output in rational arithmetic."""
    values: list[list[Fraction]] = [x]
    for node in network.nodes[1:]:
        if isinstance(node, ReluNode):
            values.append([max(v, Fraction(0)) for v in values[node.parent]])
        else:
            assert isinstance(node, AffineNode)
            ((parent, linear),) = node.terms
            assert isinstance(linear, Dense)
            values.append(
                [
                    sum((Fraction(w) * v for w, v in zip(row, values[parent], strict=True)), Fraction(b))
                    for row, b in zip(linear.weight.tolist(), node.bias.tolist(), strict=True)
                ]
            )
    return values[-1]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 10**6), st.sampled_from([0.0, 0.01, 0.3, 2.0]))
def test_no_sampled_point_beats_a_proven_bound(kind: str, seed: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    network = NETWORKS[kind](rng)
    center = rng.normal(size=network.inputs)
    region = Region.linf_ball(center, radius)
    samples = pre_activations(network, region.sample(300, rng).astype(np.float64))
    intervals = interval_bounds(network, region)
    linear = backward_bounds(network, region)
    C = rng.normal(size=(4, network.outputs))
    values = lower_bounds(network, region, linear, C)
    for node in network.relu_nodes:
        for found in (intervals, linear):
            # The samples are computed in float64 themselves, hence the last few units.
            assert (found.lower[node] <= samples[node].min(0) + 1e-12).all()
            assert (found.upper[node] >= samples[node].max(0) - 1e-12).all()
        # Intervals around tighter values are no looser, up to the rounding of their end points.
        assert (linear.lower[node] >= intervals.lower[node] - 1e-12).all()
        assert (linear.upper[node] <= intervals.upper[node] + 1e-12).all()
    assert (values <= (samples[-1] @ C.T).min(0) + 1e-12).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2.0**-80, 1.0, 2.0**40]))
def test_bounds_hold_in_rational_arithmetic_where_rounding_is_all_there_is(seed: int, scale: float) -> None:
    """On a single point the true value is known exactly, and the bounds are as wide as the charged rounding."""
    rng = np.random.default_rng(seed)
    network = dense_network(rng, (4, 30, 30, 2), scale)
    point = rng.normal(size=4).astype(np.float32)
    region = Region.linf_ball(point, 0)
    truth = exact_output(network, [Fraction(float(v)) for v in point])
    C = np.array([[1.0, 0.0], [-1.0, 0.0], [1.0, -1.0]])
    exact = [sum(Fraction(c) * t for c, t in zip(row, truth, strict=True)) for row in C.tolist()]
    for enclosure in (interval_bounds(network, region), backward_bounds(network, region)):
        for bound, value in zip(lower_bounds(network, region, enclosure, C), exact, strict=True):
            assert Fraction(float(bound)) <= value
            assert float(value - Fraction(float(bound))) <= 1e-9 * max(1.0, *(abs(float(t)) for t in truth))


def test_absorbed_terms_are_charged() -> None:
    """2^57 + 1 − 2^57 is 0 in float64 and 1 in truth; no bound may exclude the truth."""
    big = 2.0**57
    network = Network(
        (
            dense_network(np.random.default_rng(0), (1, 1)).nodes[0],
            AffineNode(((0, Dense(np.array([[big], [big]]))),), np.array([1.0, 0.0]), (2,)),
            ReluNode(1, (2,)),
            AffineNode(((2, Dense(np.array([[1.0, -1.0]]))),), np.zeros(1), (1,)),
        ),
        b"",
        "",
    )
    region = Region.box([0.5], [1.0])
    enclosure = backward_bounds(network, region)
    assert -lower_bounds(network, region, enclosure, [[-1.0]])[0] >= 1
    assert lower_bounds(network, region, enclosure, [[1.0]])[0] <= 1


def test_overflow_claims_nothing() -> None:
    network = dense_network(np.random.default_rng(0), (2, 3, 3, 1), scale=1e200)
    region = Region.box([-1, -1], [1, 1])
    enclosure = backward_bounds(network, region)
    assert lower_bounds(network, region, enclosure, [[1.0]])[0] == -np.inf


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_a_batch_of_boxes_gives_what_each_box_gives_alone(kind: str) -> None:
    rng = np.random.default_rng(7)
    network = NETWORKS[kind](rng)
    compiled = program(network)
    centers = rng.normal(size=(5, network.inputs))
    radius = rng.uniform(0, 0.4, size=(5, 1))
    lower, upper = torch.as_tensor(centers - radius), torch.as_tensor(centers + radius)
    C = torch.as_tensor(rng.normal(size=(3, network.outputs)))
    batch = enclose(compiled, lower, upper)
    box = torch.arange(5).repeat_interleave(3)
    together = specification_bounds(compiled, batch, C.repeat(5, 1), box).value.reshape(5, 3)
    for b in range(5):
        alone = enclose(compiled, lower[b : b + 1], upper[b : b + 1])
        for node in network.relu_nodes:
            torch.testing.assert_close(batch.pre_lower[node][b], alone.pre_lower[node][0])
            torch.testing.assert_close(batch.pre_upper[node][b], alone.pre_upper[node][0])
        torch.testing.assert_close(together[b], specification_bounds(compiled, alone, C).value)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 10**6))
def test_any_multipliers_give_a_valid_bound(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = NETWORKS[kind](rng)
    region = Region.linf_ball(rng.normal(size=network.inputs), 0.3)
    enclosure = backward_bounds(network, region)
    C = rng.normal(size=(2, network.outputs))
    wild = {node: rng.normal(size=(2, network.nodes[node].features)) for node in network.relu_nodes}
    outputs = pre_activations(network, region.sample(200, rng).astype(np.float64))[-1]
    assert (lower_bounds(network, region, enclosure, C, multipliers=wild) <= (outputs @ C.T).min(0) + 1e-12).all()


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_encoding_reproduces_the_network_where_stable_relus_are_stable(kind: str) -> None:
    rng = np.random.default_rng(3)
    network = NETWORKS[kind](rng)
    region = Region.linf_ball(rng.normal(size=network.inputs), 0.2)
    enclosure = backward_bounds(network, region)
    C = rng.normal(size=(2, network.outputs))
    form = encode(network, enclosure, C)
    x = region.sample(50, rng).astype(np.float64)
    values = pre_activations(network, x)
    total = x @ form.inputs.T + form.constant
    for node, coefficients in form.relus.items():
        assert coefficients.shape[1] == enclosure.unstable(node).sum()
        total += np.maximum(values[node][:, enclosure.unstable(node)], 0) @ coefficients.T
    np.testing.assert_allclose(total, values[-1] @ C.T, rtol=1e-9, atol=1e-9)


def test_the_kink_is_a_vertex_too() -> None:
    """relu(x) on [-1, 1] is 0 at x = 0, which multipliers between 0 and 1 must not overlook."""
    network = Network(
        (
            InputNode((1,)),
            AffineNode(((0, Dense(np.array([[1.0]]))),), np.zeros(1), (1,)),
            ReluNode(1, (1,)),
            AffineNode(((2, Dense(np.array([[1.0]]))),), np.zeros(1), (1,)),
        ),
        b"",
        "",
    )
    region = Region.box([-1], [1])
    enclosure = backward_bounds(network, region)
    for multiplier in (0.0, 0.3, 0.5, 1.0):
        bound = lower_bounds(network, region, enclosure, [[1.0]], multipliers={2: [[multiplier]]})[0]
        assert bound <= 0
        assert bound == pytest.approx(-multiplier, abs=1e-9)


def test_bounds_that_are_stopped_early_are_those_of_intervals() -> None:
    network = dense_network(np.random.default_rng(3), (4, 12, 12, 3))
    compiled = program(network)
    lower, upper = torch.full((1, 4), -1.0, dtype=torch.float64), torch.full((1, 4), 1.0, dtype=torch.float64)
    interval = enclose(compiled, lower, upper, backward=False)
    full = enclose(compiled, lower, upper)
    stopped = enclose(compiled, lower, upper, stop=lambda: True)
    last = compiled.relus[-1]
    assert torch.equal(stopped.pre_lower[last], interval.pre_lower[last])
    assert torch.equal(stopped.pre_upper[last], interval.pre_upper[last])
    assert (full.pre_lower[last] > interval.pre_lower[last]).any()
