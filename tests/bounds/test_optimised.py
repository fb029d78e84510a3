from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bounds.backward import backward_pass, specification_bounds
from bounds.columns import Columns, Layout
from bounds.linear import enclose
from bounds.optimised import Climb, SlopeSearch, _Rows, optimised_bounds, optimised_rows
from bounds.program import Program, program
from bounds.relus import BoxBounds
from bounds.windows import Frame
from networks.graph import Network
from networks.region import Region
from tests.bounds.graphs import dense_network, residual_network
from tests.bounds.test_linear import pre_activations

NETWORKS = {
    "dense": dense_network,
    "deep": lambda rng: dense_network(rng, (3, 8, 8, 8, 3)),
    "residual": residual_network,
    "single": lambda rng: dense_network(rng, (3, 8, 3)),
}
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


def setting(
    kind: str, seed: int, radii: tuple[float, ...] = (0.4,)
) -> tuple[np.random.Generator, Network, list[Region], Program, BoxBounds]:
    rng = np.random.default_rng(seed)
    network = NETWORKS[kind](rng)
    regions = [Region.linf_ball(rng.normal(size=network.inputs), radius) for radius in radii]
    lower, upper = (torch.as_tensor(np.stack([getattr(r, k) for r in regions])) for k in ("lower", "upper"))
    compiled = program(network)
    return rng, network, regions, compiled, enclose(compiled, lower, upper)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.5, 2.0]))
def test_no_sampled_point_beats_an_optimised_bound(kind: str, seed: int, radius: float) -> None:
    rng, network, regions, compiled, start = setting(kind, seed, (radius, radius / 2))
    search = SlopeSearch(program(network, dtype=torch.float32), 5)
    bounds, _ = optimised_bounds(compiled, start, search)
    C = torch.as_tensor(rng.normal(size=(3, network.outputs)))
    box = torch.arange(2).repeat_interleave(3)
    rows, _ = optimised_rows(compiled, bounds, C.repeat(2, 1), search, box=box)
    for b, region in enumerate(regions):
        samples = pre_activations(network, region.sample(300, rng).astype(np.float64))
        for node in network.relu_nodes:
            assert (bounds.pre_lower[node][b].numpy() <= samples[node].min(0) + 1e-12).all()
            assert (bounds.pre_upper[node][b].numpy() >= samples[node].max(0) - 1e-12).all()
            assert (bounds.pre_lower[node][b] >= start.pre_lower[node][b]).all()
            assert (bounds.pre_upper[node][b] <= start.pre_upper[node][b]).all()
        assert (rows.value[box == b].numpy() <= (samples[-1] @ C.numpy().T).min(0) + 1e-12).all()


@pytest.mark.parametrize("precision", sorted(PRECISIONS))
@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_steps_improve_on_the_default_slopes(kind: str, precision: str) -> None:
    gained = 0.0
    for seed in range(5):
        rng, network, _, compiled, bounds = setting(kind, seed, (0.6,))
        C = torch.as_tensor(rng.normal(size=(4, network.outputs)))
        search = SlopeSearch(program(network, dtype=PRECISIONS[precision]), 20)
        found, alpha = optimised_rows(compiled, bounds, C, search)
        default = specification_bounds(compiled, bounds, C).value
        assert (found.value >= default - 1e-5).all()
        assert ((alpha >= 0) & (alpha <= 1)).all()
        gained += float((found.value - default).sum())
    assert gained > 0.1


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_the_estimate_is_the_rigorous_bound_and_the_gradient_its_slope(kind: str) -> None:
    rng, network, _, compiled, bounds = setting(kind, 3, (0.5, 0.3))
    last = len(compiled.steps) - 1
    columns = Columns.of(bounds, Layout.of(bounds))
    climb = Climb(compiled, bounds, columns)
    box = torch.tensor([0, 1, 1])
    C = torch.as_tensor(rng.normal(size=(3, network.outputs)))
    rows = _Rows({last: C}, torch.zeros(3, dtype=torch.float64), box, torch.arange(3))
    free = columns.free[box]
    theta = torch.where(free, torch.as_tensor(rng.uniform(0.1, 0.9, size=free.shape)), columns.slope[box])
    one = torch.ones_like(theta)
    value, gradient, _ = climb._pass(theta, one, rows)

    relus = columns.relus(box, theta)
    rigorous = backward_pass(compiled, bounds, {last: C}, Frame(box), last, relus)
    torch.testing.assert_close(value, rigorous.value)
    for column in range(columns.layout.count):
        step = torch.zeros_like(theta)
        step[:, column] = 1e-6 * free[:, column]
        slope = (climb._pass(theta + step, one, rows)[0] - climb._pass(theta - step, one, rows)[0]) / 2e-6
        expected = gradient[:, column] * free[:, column]
        # Piecewise linear: a row may stand next to a kink.
        assert ((slope - expected).abs() < 1e-4 * (1 + slope.abs())).double().mean() > 0.6


def test_rows_that_are_decided_leave_and_the_others_go_on_as_if_alone() -> None:
    rng, network, _, compiled, bounds = setting("deep", 2, (0.5,))
    C = torch.as_tensor(rng.normal(size=(6, network.outputs)))
    offsets = torch.tensor([50.0, 50.0, 50.0, 0.0, -50.0, -50.0], dtype=torch.float64)
    search = SlopeSearch(program(network, dtype=torch.float64), 12)
    together, alpha = optimised_rows(compiled, bounds, C, search, offsets=offsets)
    alone, own = optimised_rows(compiled, bounds, C[4:], search, offsets=offsets[4:])
    torch.testing.assert_close(together.value[4:], alone.value)
    torch.testing.assert_close(alpha[4:], own)


def test_a_search_that_is_stopped_keeps_what_was_known() -> None:
    _, network, _, compiled, start = setting("deep", 1)
    search = SlopeSearch(program(network, dtype=torch.float32), 12, stop=lambda: True)
    bounds, _ = optimised_bounds(compiled, start, search)
    for node in network.relu_nodes:
        assert (bounds.pre_lower[node] >= start.pre_lower[node]).all()
        assert (bounds.pre_upper[node] <= start.pre_upper[node]).all()
