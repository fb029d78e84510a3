"""Bounds over norm balls and linear constraints: never beaten by a point, never worse than the bounding box's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bounds import backward_bounds, lower_bounds
from bounds.backward import specification_bounds
from bounds.inside import Inside
from bounds.linear import enclose
from bounds.optimised import SlopeSearch, optimised_bounds, optimised_rows
from bounds.program import program
from bounds.relus import BoxBounds
from networks.constraints import Constraint
from networks.region import Region
from tests.bounds.graphs import dense_network, residual_network
from tests.bounds.test_linear import pre_activations
from tests.random_networks import random_conv

NETWORKS = {
    "dense": dense_network,
    "residual": residual_network,
    "conv": lambda rng: random_conv(int(rng.integers(2**31))),
}
KINDS = ["l2", "l1", "l0", "linf", "l2 constrained", "l1 constrained", "linf constrained"]
SEEDS = st.integers(0, 10**6)


def drawn(kind, rng, inputs):
    norm, *rest = kind.split()
    center = (rng.standard_normal(inputs) * rng.choice([0.1, 1])).astype(np.float32)
    radius = int(rng.integers(1, inputs + 1)) if norm == "l0" else f"{rng.choice([0.01, 0.3, 2.0])}"
    radii = np.full(inputs, 0.5) if norm == "l0" else None
    region = Region.norm_ball(center, radius, norm, radii=radii, frozen=[0] if inputs > 2 else [])
    if not rest:
        return region
    made = []
    for _ in range(rng.integers(1, 4)):
        g = np.round(rng.standard_normal(inputs), 2)
        g[0] = g[0] or 1
        made.append(Constraint.of(g.tolist(), str(round(float(g @ center) + 0.05, 3))))
    return region.constrained(made)


def bounding_box(region):
    return Region(region.exact_lower, region.exact_upper)


def points_of(region, rng, count=60):
    points = [point for point in region.sample(count, rng) if region.contains(point)]
    return np.array(points).astype(np.float64).reshape(-1, region.inputs)


def check(enclosure, values):
    for node in enclosure.lower:
        assert (values[node] >= enclosure.lower[node]).all()
        assert (values[node] <= enclosure.upper[node]).all()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(network=st.sampled_from(sorted(NETWORKS)), seed=SEEDS)
def test_no_point_beats_a_bound_and_none_is_worse_than_the_boxs(kind, network, seed):
    rng = np.random.default_rng(seed)
    network = NETWORKS[network](rng)
    region = drawn(kind, rng, network.inputs)
    values = pre_activations(network, points_of(region, rng))
    enclosure, box = backward_bounds(network, region), backward_bounds(network, bounding_box(region))
    check(enclosure, values)
    # Slopes follow bounds, so behind the first ReLUs a tighter start may end in a looser bound of some neuron.
    compiled = program(network)
    for node in (node for node in box.lower if compiled.boxed[compiled.parent(node)]):
        assert (enclosure.lower[node] >= box.lower[node]).all()
        assert (enclosure.upper[node] <= box.upper[node]).all()
    C = rng.standard_normal((4, network.outputs))
    found = lower_bounds(network, region, enclosure, C)
    assert (values[-1] @ C.T >= found).all()
    assert (found >= lower_bounds(network, bounding_box(region), enclosure, C)).all()


@pytest.mark.parametrize("kind", ["l2", "l1", "l0", "linf constrained"])
@settings(max_examples=5, deadline=None)
@given(network=st.sampled_from(sorted(NETWORKS)), seed=SEEDS)
def test_no_point_beats_optimised_bounds(kind, network, seed):
    rng = np.random.default_rng(seed)
    network = NETWORKS[network](rng)
    region = drawn(kind, rng, network.inputs)
    values = pre_activations(network, points_of(region, rng))
    compiled = program(network)
    lower, upper = torch.as_tensor(region.lower)[None], torch.as_tensor(region.upper)[None]
    with torch.no_grad():
        bounds = enclose(compiled, lower, upper, inside=Inside.of(region))
    search = SlopeSearch(program(network, dtype=torch.float32), 5)
    C = torch.as_tensor(rng.standard_normal((3, network.outputs)))
    rows, _ = optimised_rows(compiled, bounds, C, search)
    assert (values[-1] @ C.numpy().T >= rows.value.numpy()).all()
    neurons, _ = optimised_bounds(compiled, bounds, search)
    for node in neurons.pre_lower:
        assert (values[node] >= neurons.pre_lower[node][0].numpy()).all()
        assert (values[node] <= neurons.pre_upper[node][0].numpy()).all()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(seed=SEEDS)
def test_the_last_term_is_as_good_as_the_regions_own(kind, seed):
    rng = np.random.default_rng(seed)
    region = drawn(kind, rng, int(rng.integers(1, 9)))
    inside = Inside.of(region)
    if inside is None:
        return
    A = rng.standard_normal((5, region.inputs)) * rng.choice([1e-3, 1, 1e3])
    lower, upper = torch.as_tensor(region.lower)[None], torch.as_tensor(region.upper)[None]
    found = inside.bound(torch.as_tensor(A), lower, upper).numpy()
    expected, _ = region.minimise(A)
    if not region.constraints:
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-8)
        where = inside.minimiser(torch.as_tensor(A), lower, upper).numpy()
        assert (A * where).sum(1) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    for point in points_of(region, rng):
        assert (A @ point >= found).all()


@pytest.mark.parametrize("kind", ["l2", "l1", "l0", "l2 constrained"])
@settings(max_examples=12, deadline=None)
@given(seed=SEEDS)
def test_sub_boxes(kind, seed):
    """Bounds hold on parts of the bounding box too, center inside or not, and what is called empty holds no point."""
    rng = np.random.default_rng(seed)
    region = drawn(kind, rng, 4)
    inside = Inside.of(region)
    ends = np.sort(rng.random((2, 6, 4)), axis=0) * (region.upper - region.lower) + region.lower
    lower, upper = torch.as_tensor(ends)
    A = torch.as_tensor(rng.standard_normal((6, 4)))
    found, misses = inside.bound(A, lower, upper), inside.misses(lower, upper)
    points = points_of(region, rng, 200)
    for b in range(6):
        held = points[((points >= ends[0, b]) & (points <= ends[1, b])).all(1)]
        assert not (len(held) and misses[b])
        assert (held @ A[b].numpy() >= found[b].item()).all()


def test_a_box_far_from_the_center_misses_the_ball():
    inside = Inside.of(Region.norm_ball([0, 0], 1, "l2"))
    lower = torch.tensor([[0.8, 0.8], [0.5, 0.5], [-1, -1]], dtype=torch.float64)
    assert inside.misses(lower, torch.ones(3, 2, dtype=torch.float64)).tolist() == [True, False, False]


def test_specification_bounds_differ_for_each_box_of_one_ball():
    region = Region.norm_ball([0, 0], 1, "l1")
    network = dense_network(np.random.default_rng(0))
    region = Region.norm_ball(np.zeros(network.inputs), 1, "l1")
    lower = torch.as_tensor(np.stack([region.lower, np.zeros(network.inputs)]))
    upper = torch.as_tensor(np.stack([region.upper, region.upper]))
    compiled = program(network)
    with torch.no_grad():
        bounds = enclose(compiled, lower, upper, inside=Inside.of(region))
        plain = BoxBounds(lower, upper, bounds.pre_lower, bounds.pre_upper, bounds.magnitude)
        C = torch.ones((2, network.outputs), dtype=torch.float64)
        found = specification_bounds(compiled, bounds, C, torch.tensor([0, 1])).value
        assert (found >= specification_bounds(compiled, plain, C, torch.tensor([0, 1])).value).all()
        assert found[1] >= found[0]
