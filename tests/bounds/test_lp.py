from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bounds import backward_bounds
from bounds.lp import Simplex, safe_bounds
from bounds.relaxation import Relaxation, RelaxationTooLargeError, objectives, relax
from networks.evaluation import values
from networks.graph import Network, ReluNode
from networks.region import Region
from tests.bounds.graphs import dense_network, residual_network
from tests.random_networks import random_conv


def network_of(kind: str, seed: int) -> Network:
    rng = np.random.default_rng(seed)
    if kind == "conv":
        return random_conv(seed)
    return residual_network(rng) if kind == "residual" else dense_network(rng, (4, 9, 8, 7, 3), scale=1.5)


def around(network: Network, seed: int, radius: float) -> Region:
    center = np.random.default_rng(seed + 1).normal(size=network.inputs).astype(np.float32) * 0.3
    return Region.linf_ball(center, radius)


def parent(network: Network, node: int) -> int:
    relu = network.nodes[node]
    assert isinstance(relu, ReluNode)
    return relu.parent


def last_relaxation(network: Network, region: Region):
    """The enclosure, the last ReLU node, its relaxation and its unstable neurons."""
    enclosure = backward_bounds(network, region)
    node = network.relu_nodes[-1]
    return enclosure, node, relax(network, region, enclosure, node), np.flatnonzero(enclosure.unstable(node))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["dense", "residual", "conv"]), st.integers(0, 10**6), st.sampled_from([0.05, 0.3, 1.5]))
def test_safe_bounds_reach_the_objective_and_never_pass_it(kind: str, seed: int, radius: float) -> None:
    network = network_of(kind, seed)
    region = around(network, seed, radius)
    enclosure, node, relaxation, chosen = last_relaxation(network, region)
    if not relaxation.k or not len(chosen):
        return
    before = parent(network, node)
    costs, constants = objectives(network, enclosure, relaxation, before, chosen)
    simplex = Simplex(relaxation)
    sampled = values(network, region.sample(200, np.random.default_rng(0)).astype(np.float64))[before][:, chosen]
    for sign in (1.0, -1.0):
        optima = [simplex.minimise(sign * cost, seconds=10) for cost in costs]
        assert all(optimum is not None and optimum.optimal for optimum in optima)
        objective = np.array([optimum.value for optimum in optima]) + sign * constants
        duals = np.array([optimum.duals for optimum in optima])
        safe = safe_bounds(network, region, enclosure, relaxation, before, chosen, np.full(len(chosen), sign), duals)
        scale = 1 + np.abs(objective) + np.abs(costs).sum(1)
        assert (safe <= objective + 1e-9 * scale).all()
        # The solver calls duals optimal when no reduced cost is off by more than 1e-7.
        assert (safe >= objective - 1e-7 * scale).all()
        assert (sign * sampled >= safe - 1e-12 * scale).all()
        backward = enclosure.lower[node][chosen] if sign > 0 else -enclosure.upper[node][chosen]
        assert (safe >= backward - 1e-9 * scale).all()


def test_arbitrary_duals_give_valid_bounds() -> None:
    network = network_of("dense", 3)
    region = around(network, 3, 0.4)
    enclosure, node, relaxation, chosen = last_relaxation(network, region)
    rng = np.random.default_rng(0)
    before = parent(network, node)
    sampled = values(network, region.sample(500, rng).astype(np.float64))[before][:, chosen]
    for scale in (0.0, 0.1, 1.0, 1e3, 1e300):
        duals = rng.normal(size=(len(chosen), relaxation.k)) * scale
        signs = np.ones(len(chosen))
        safe = safe_bounds(network, region, enclosure, relaxation, before, chosen, signs, duals)
        assert (sampled >= safe).all()
    # Perturbed optimal duals: near the optimum, so that a wrong sign or a missing term would show.
    costs, _ = objectives(network, enclosure, relaxation, before, chosen)
    simplex = Simplex(relaxation)
    best = np.array([simplex.minimise(cost, seconds=10).duals for cost in costs])
    tight = safe_bounds(network, region, enclosure, relaxation, before, chosen, np.ones(len(chosen)), best)
    shaken = best * rng.uniform(0.9, 1.1, best.shape)
    loose = safe_bounds(network, region, enclosure, relaxation, before, chosen, np.ones(len(chosen)), shaken)
    assert (loose <= tight + 1e-9).all()
    assert (sampled >= loose).all()


def evaluated(relaxation: Relaxation, network: Network, x: np.ndarray) -> np.ndarray:
    """The point (t, p, q) that the network's own values at ``x`` are."""
    found = values(network, x[None])
    z = np.concatenate(
        [
            found[parent(network, node)][0, chosen]
            for node, chosen in zip(relaxation.nodes, relaxation.neurons, strict=True)
        ]
    )
    t = (x - relaxation.middle)[relaxation.kept] / relaxation.radius
    scaled = z / relaxation.scale
    return np.concatenate([t, np.maximum(scaled, 0) / relaxation.above, np.maximum(-scaled, 0) / relaxation.below])


@pytest.mark.parametrize("kind", ["dense", "residual", "conv"])
def test_the_networks_own_values_satisfy_every_row(kind: str) -> None:
    network = network_of(kind, 11)
    region = around(network, 11, 0.3)
    enclosure, node, relaxation, chosen = last_relaxation(network, region)
    costs, constants = objectives(network, enclosure, relaxation, parent(network, node), chosen)
    m, k = relaxation.m, relaxation.k
    for x in region.sample(50, np.random.default_rng(1)).astype(np.float64):
        point = evaluated(relaxation, network, x)
        t, p, q = point[:m], point[m : m + k], point[m + k :]
        assert (np.abs(t) <= 1 + 1e-9).all()
        assert (p >= 0).all()
        assert (q >= 0).all()
        assert (p + q <= 1 + 1e-9).all()
        rows = np.repeat(np.arange(k), np.diff(relaxation.start))
        passed = np.bincount(rows, relaxation.value * point[relaxation.index], k)
        np.testing.assert_allclose(relaxation.above * p - relaxation.below * q - passed, relaxation.rhs, atol=1e-9)
        value = values(network, x[None])[parent(network, node)][0, chosen]
        np.testing.assert_allclose(costs @ point[: m + k] + constants, value, atol=1e-9)
        np.testing.assert_allclose(relaxation.point(t), x, atol=1e-12)


def test_fixed_inputs_have_no_column() -> None:
    network = network_of("dense", 5)
    region = Region.box([-0.4, 0.25, -0.4, 0.1], [0.4, 0.25, 0.4, 0.1])
    enclosure, node, relaxation, chosen = last_relaxation(network, region)
    assert relaxation.kept.tolist() == [0, 2]
    costs, constants = objectives(network, enclosure, relaxation, parent(network, node), chosen)
    optimum = Simplex(relaxation).minimise(costs[0], seconds=10)
    assert optimum is not None
    assert optimum.point[1] == 0.25
    assert np.abs(optimum.point[[0, 2]]).max() <= 0.4 + 1e-12
    value = values(network, optimum.point[None])[parent(network, node)][0, chosen[0]]
    assert value >= optimum.value + constants[0] - 1e-9


def test_the_time_limit_of_each_lp_is_its_own() -> None:
    # HiGHS adds up the time of all runs of an instance: without care the second LP would find none left.
    network = network_of("dense", 7)
    enclosure, node, relaxation, chosen = last_relaxation(network, around(network, 7, 0.5))
    costs, _ = objectives(network, enclosure, relaxation, parent(network, node), chosen)
    simplex = Simplex(relaxation)
    begin = time.monotonic()
    while time.monotonic() - begin < 0.3:
        assert simplex.minimise(costs[0], seconds=0.1).optimal


def test_an_interrupted_lp_still_gives_valid_bounds() -> None:
    network = dense_network(np.random.default_rng(0), (40, 120, 120, 2), scale=1.5)
    region = around(network, 0, 0.3)
    enclosure, node, relaxation, chosen = last_relaxation(network, region)
    before, chosen = parent(network, node), chosen[:3]
    costs, _ = objectives(network, enclosure, relaxation, before, chosen)
    simplex = Simplex(relaxation)
    optima = [simplex.minimise(cost, seconds=10, interrupted=lambda: True) for cost in costs]
    assert not any(optimum.optimal for optimum in optima if optimum is not None)
    duals = np.array([optimum.duals for optimum in optima if optimum is not None])
    safe = safe_bounds(network, region, enclosure, relaxation, before, chosen[: len(duals)], np.ones(len(duals)), duals)
    sampled = values(network, region.sample(200, np.random.default_rng(0)).astype(np.float64))[before]
    assert (sampled[:, chosen[: len(duals)]] >= safe).all()


def test_absurd_weights_never_give_a_wrong_bound() -> None:
    # Weights of 1e-12 and 1e12 in turn: HiGHS would drop or refuse them unscaled.
    network = dense_network(np.random.default_rng(4), (3, 6, 6, 2))
    nodes = list(network.nodes)
    for index, factor, bias in ((1, 1e-12, 1e-12), (3, 1e12, 1.0)):
        node = nodes[index]
        ((source, linear),) = node.terms
        nodes[index] = type(node)(((source, type(linear)(linear.weight * factor)),), node.bias * bias, node.shape)
    network = Network(tuple(nodes), b"", "")
    region = around(network, 4, 0.5)
    enclosure, node, relaxation, chosen = last_relaxation(network, region)
    before = parent(network, node)
    costs, constants = objectives(network, enclosure, relaxation, before, chosen)
    optima = [Simplex(relaxation).minimise(cost, seconds=10) for cost in costs]
    assert all(optimum is not None for optimum in optima)
    duals = np.array([optimum.duals for optimum in optima])
    safe = safe_bounds(network, region, enclosure, relaxation, before, chosen, np.ones(len(chosen)), duals)
    sampled = values(network, region.sample(500, np.random.default_rng(0)).astype(np.float64))[before][:, chosen]
    assert (sampled >= safe).all()
    np.testing.assert_allclose(safe, [o.value for o in optima] + constants, rtol=1e-6, atol=1e-3)


def test_a_relaxation_without_unstable_relus_is_empty() -> None:
    network = network_of("dense", 1)
    region = around(network, 1, 0.3)
    first = network.relu_nodes[0]
    assert relax(network, region, backward_bounds(network, region), first).k == 0


def test_a_relaxation_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bounds.relaxation._LARGEST_MODEL", 10)
    network = network_of("dense", 1)
    region = around(network, 1, 1.0)
    with pytest.raises(RelaxationTooLargeError, match="over 10 coefficients"):
        relax(network, region, backward_bounds(network, region), network.relu_nodes[-1])
