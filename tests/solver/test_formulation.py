from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from bounds import backward_bounds, interval_bounds
from networks import Clause, Property, Region, Row, evaluate
from solver import linear_forms as module
from solver.compiled import scale
from solver.errors import ModelSizeError, NumericsError
from solver.formulation import formulate
from tests.random_networks import dense_model, random_conv, random_dense, random_residual

NETWORKS = {
    "dense": (lambda seed: random_dense(seed, (3, 6, 6, 3)), 0.25),
    "conv": (random_conv, 0.05),
    "residual": (lambda seed: random_residual(seed, outputs=3), 0.2),
}
ONE = Fraction(1)


def conjunction(outputs):
    """Output 0 is the smallest of outputs 0 to 2, as in ACAS Xu's properties."""
    return Clause((Row(((0, ONE), (1, -ONE))), Row(((0, ONE), (2, -ONE)), Fraction(1, 4))), outputs)


def query(kind, seed):
    make, epsilon = NETWORKS[kind]
    network = make(seed)
    center = np.random.default_rng(seed).uniform(-1, 1, network.inputs)
    region = Region.linf_ball(center, str(epsilon))
    clauses = [*Property.classification(0, network.outputs).clauses, conjunction(network.outputs)]
    return network, region, clauses


def margins(clauses, y):
    return np.array([(clause.matrix @ y + clause.offsets).max() for clause in clauses])


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("bounds", [interval_bounds, backward_bounds])
def test_every_point_of_the_network_is_in_the_model_with_its_margins(kind, bounds):
    for seed in range(8):
        network, region, clauses = query(kind, seed)
        formulation = formulate(network, region, clauses, bounds(network, region))
        for x in region.sample(20, np.random.default_rng(seed)).astype(np.float64):
            expected = margins(clauses, evaluate(network, x[None])[0])
            v = formulation.lift(network, x, expected)
            assert formulation.common.violation(v) < 1e-9
            for k, margin in enumerate(expected):
                assert formulation.model(k).objective(v) == pytest.approx(margin, abs=1e-9)
                assert formulation.model(k).objective(v) <= margin + 1e-12
            kept = formulation.inputs >= 0
            assert np.array_equal(formulation.point(v)[kept], x[kept])
            phases = v[formulation.phases[2]]
            assert np.all((phases == 0) | (phases == 1))


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_point_off_the_network_is_not_in_the_model(kind):
    network, region, clauses = query(kind, 3)
    formulation = formulate(network, region, clauses, interval_bounds(network, region))
    x = region.center.astype(np.float64)
    v = formulation.lift(network, x, margins(clauses, evaluate(network, x[None])[0]))
    assert len(formulation.relus) > 0
    for column in formulation.phases[:2].reshape(-1):
        moved = v.copy()
        moved[column] += 0.01
        assert formulation.common.violation(moved) > 1e-6


def test_only_unstable_relus_have_variables():
    network, region, clauses = query("dense", 0)
    enclosure = interval_bounds(network, region)
    formulation = formulate(network, region, clauses, enclosure)
    assert formulation.common.binaries == len(formulation.relus) <= enclosure.unstable_count
    assert all(enclosure.unstable(node)[neuron] for node, neuron in formulation.relus)


def test_relus_that_the_property_does_not_depend_on_are_left_out():
    network, region, _ = query("dense", 1)
    enclosure = interval_bounds(network, region)
    constant = Clause((Row((), ONE),), network.outputs)
    assert formulate(network, region, [constant], enclosure).relus == ()


def test_a_region_without_unstable_relus_gives_a_linear_model():
    network = random_dense(4)
    region = Region.linf_ball(np.full(3, 0.3), "0")
    clauses = Property.classification(0, 2).clauses
    formulation = formulate(network, region, clauses, interval_bounds(network, region))
    assert formulation.common.binaries == 0
    expected = margins(clauses, evaluate(network, region.center[None])[0])[0]
    v = formulation.lift(network, region.center.astype(np.float64), np.array([expected]))
    assert formulation.model(0).objective(v) == pytest.approx(expected, abs=1e-9)


def test_big_m_are_the_asymmetric_bounds():
    network, region, clauses = query("dense", 2)
    enclosure = backward_bounds(network, region)
    formulation = formulate(network, region, clauses, enclosure)
    for j, (node, neuron) in enumerate(formulation.relus):
        h, s, _ = formulation.phases[:, j]
        assert formulation.common.upper[h] == enclosure.upper[node][neuron]
        assert formulation.common.upper[s] == -enclosure.lower[node][neuron]


def test_allowances_grow_with_the_network_s_amplification():
    network, region, clauses = query("dense", 5)
    formulation = formulate(network, region, clauses, interval_bounds(network, region))
    assert np.all(formulation.allowances > 0)
    assert np.all(formulation.allowances < 1e-2)


def test_scaled_models_stay_in_the_range_that_solvers_handle():
    network, region, clauses = query("conv", 6)
    formulation = formulate(network, region, clauses, interval_bounds(network, region))
    data = np.abs(scale(formulation.model(0)).model.matrix.data)
    assert data.min() >= 1e-9
    assert data.max() <= 1


def test_a_model_that_is_too_large_is_not_built(monkeypatch):
    network, region, clauses = query("dense", 0)
    monkeypatch.setattr(module, "LARGEST_MODEL", 10)
    with pytest.raises(ModelSizeError, match="unstable ReLUs"):
        formulate(network, region, clauses, interval_bounds(network, region))


def test_overflowing_weights_are_refused():
    import dataclasses

    import networks
    from networks.graph import AffineNode, Dense

    network = networks.load_bytes(dense_model(0))
    huge = tuple(
        dataclasses.replace(node, terms=tuple((p, Dense(m.weight * 1e160)) for p, m in node.terms))
        if isinstance(node, AffineNode)
        else node
        for node in network.nodes
    )
    network = dataclasses.replace(network, nodes=huge)
    region = Region.linf_ball(np.zeros(3), "1")
    enclosure = interval_bounds(network, region)
    with np.errstate(all="ignore"), pytest.raises(NumericsError):
        formulate(network, region, Property.classification(0, 2).clauses, enclosure)
