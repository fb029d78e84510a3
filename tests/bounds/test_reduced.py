from __future__ import annotations

import numpy as np
import pytest
import torch

from bounds import Enclosure
from bounds.reduced import Forms, Reduced, _Phases
from networks.evaluation import evaluate
from networks.exact import exact
from networks.property import Clause, Row
from tests.bounds.test_phases import NETWORKS, ranges, setting


def reduced_setting(kind: str, seed: int, radius: float = 0.4):
    """A network with a clause of two rows, and random cells and parameters for both rows."""
    rng, network, region, _, box, cells = setting(kind, seed, radius)
    enclosure = Enclosure(
        {k: v[0].numpy() for k, v in box.pre_lower.items()}, {k: v[0].numpy() for k, v in box.pre_upper.items()}
    )
    rows = (Row(((0, exact(1)), (1, exact(-1)))), Row(((0, exact(1)),), exact(0.25)))
    clause = Clause(rows, network.outputs)
    reduced = Reduced(network, enclosure, Forms(network, region, enclosure, cells), clause)
    row = torch.tensor([0, 1]).repeat(6)
    phases = torch.as_tensor(rng.integers(-1, 2, size=(6, cells.columns)).astype(np.int8)).repeat_interleave(2, 0)
    theta = torch.as_tensor(rng.uniform(0.1, 0.9, size=(12, cells.columns)), dtype=torch.float32)
    low, high = (values.float() for values in ranges(cells, phases))
    return network, cells, clause, reduced, low, high, theta, row


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_estimates_are_the_rigorous_bounds_up_to_rounding(kind: str) -> None:
    for seed in range(5):
        _, cells, clause, reduced, low, high, theta, row = reduced_setting(kind, seed)
        alpha, beta = reduced.multipliers(low, high, theta)
        rigorous = cells.bound(torch.as_tensor(clause.matrix)[row], low.double(), high.double(), alpha, beta).value
        rigorous = rigorous + torch.as_tensor(clause.offsets)[row]
        estimate = reduced.estimate(low, high, theta, row).value
        torch.testing.assert_close(estimate.double(), rigorous, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_the_gradient_is_that_of_the_estimate(kind: str) -> None:
    _, _, _, reduced, low, high, theta, row = reduced_setting(kind, 3)
    _, gradient = reduced._pass(_Phases.of(low, high), theta, row)
    for column in range(reduced.columns):
        step = torch.zeros_like(theta)
        step[:, column] = 1e-3
        ahead, behind = (reduced.estimate(low, high, theta + s, row) for s in (step, -step))
        slope = (ahead.value - behind.value) / 2e-3
        # The bound is piecewise smooth: a few of the cells may stand next to a kink.
        close = (slope - gradient[:, column]).abs() < 1e-2 * (1 + slope.abs())
        assert close.float().mean() > 0.8


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_children_are_what_estimates_of_them_say_and_never_worse(kind: str) -> None:
    _, cells, _, reduced, low, high, theta, row = reduced_setting(kind, 4)
    half = reduced.columns // 2
    low[:, :half], high[:, :half] = cells.low[:half], cells.high[:half]
    parent = reduced.estimate(low, high, theta, row)
    columns = torch.arange(half).expand(len(row), -1)
    values = reduced.children(parent, low, high, theta, row, columns)
    assert (values >= parent.value[:, None, None]).all()
    for i in range(columns.shape[1]):
        for side in range(2):
            child, start = (low.clone(), high.clone()), theta.clone()
            child[side][:, i], start[:, i] = 0, 0
            expected = torch.maximum(reduced.estimate(*child, start, row).value, parent.value)
            torch.testing.assert_close(values[:, i, side], expected, atol=1e-4, rtol=1e-4)


def test_a_single_layer_takes_a_shortcut_to_the_same_children() -> None:
    _, cells, _, reduced, low, high, theta, row = reduced_setting("single", 5)
    assert len(reduced.layers) == 1
    low[:], high[:] = cells.low, cells.high
    parent = reduced.estimate(low, high, theta, row)
    columns = torch.arange(reduced.columns).expand(len(row), -1)
    values = reduced.children(parent, low, high, theta, row, columns)
    for i in range(reduced.columns):
        for side in range(2):
            child, start = (low.clone(), high.clone()), theta.clone()
            child[side][:, i], start[:, i] = 0, 0
            expected = torch.maximum(reduced.estimate(*child, start, row).value, parent.value)
            torch.testing.assert_close(values[:, i, side], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_margins_are_the_network_s_at_the_points(kind: str) -> None:
    network, _, clause, reduced, low, high, theta, row = reduced_setting(kind, 6)
    direction = reduced.estimate(low, high, theta, row).direction
    points = reduced.points(direction).numpy()
    expected = (evaluate(network, points) @ clause.matrix.T + clause.offsets).max(1)
    np.testing.assert_allclose(reduced.margins(direction).numpy(), expected, atol=1e-4, rtol=1e-4)


def test_optimising_helps_and_never_harms() -> None:
    gains = []
    for seed in range(12):
        _, _, _, reduced, low, high, _, row = reduced_setting("dense", seed, 1.0)
        start = reduced.start(low, high, row)
        before = reduced.estimate(low, high, start, row).value
        value, theta = reduced.optimise(low, high, start, row, steps=30, rate=0.2)
        assert (value >= before - 1e-5).all()
        torch.testing.assert_close(reduced.estimate(low, high, theta, row).value, value, atol=1e-4, rtol=1e-4)
        gains.append((value - before).max().item())
    assert max(gains) > 0.05
