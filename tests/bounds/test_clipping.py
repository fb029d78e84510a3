from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from bounds.clipping import Clipper
from tests.bounds.test_linear import pre_activations
from tests.bounds.test_phases import NETWORKS, inside, ranges, setting


def clipped(kind: str, seed: int, radius: float):
    """A random cell, a linear bound of a random row on it, and the cell clipped to where that bound is at most 0."""
    rng, network, region, compiled, box, cells = setting(kind, seed, radius)
    values = pre_activations(network, region.sample(400, rng).astype(np.float64))
    point = rng.integers(400)
    phases = np.zeros(cells.columns, dtype=np.int8)
    for column in range(cells.columns):
        node, neuron = cells.neuron(column)
        phases[column] = rng.choice([0, 0, 1 if values[node][point, neuron] >= 0 else -1])
    low, high = ranges(cells, torch.as_tensor(phases)[None])
    linear = cells.bound(torch.as_tensor(rng.normal(size=(1, network.outputs))), low, high)
    reach = float(linear.coefficients[0].abs() @ ((box.upper - box.lower)[0] / 2))
    constant = linear.constant - linear.value - reach * rng.choice([1e-3, 0.1, 0.5, 1.5])
    clipper = Clipper(compiled, box, cells)
    after = low.clone(), high.clone()
    wanted = (low < 0) & (high > 0)
    clipper.clip(*after, wanted, linear.coefficients, constant)
    return network, region, cells, phases, (low, high), after, linear.coefficients, constant, clipper


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 10**6), st.sampled_from([1e-6, 0.4, 30.0]))
def test_no_point_under_the_linear_bound_leaves_the_clipped_ranges(kind: str, seed: int, radius: float) -> None:
    network, region, cells, phases, before, after, d, c, _ = clipped(kind, seed, radius)
    assert (after[0] >= before[0]).all()
    assert (after[1] <= before[1]).all()
    rng = np.random.default_rng(seed)
    # Points near the corner where the linear bound is smallest are the ones that it keeps.
    corner = np.where(d[0].numpy() > 0, region.lower, region.upper)
    x = region.sample(600, rng).astype(np.float64)
    x = np.concatenate([x, corner + (x - corner) * rng.random((600, 1)) ** 4, corner[None]])
    values = pre_activations(network, x)
    kept = inside(cells, phases, values) & (x @ d[0].numpy() + float(c[0]) <= 0)
    for column in range(cells.columns):
        node, neuron = cells.neuron(column)
        z = values[node][kept, neuron]
        assert (z >= float(after[0][0, column]) - 1e-9 * radius).all()
        assert (z <= float(after[1][0, column]) + 1e-9 * radius).all()


def test_ranges_are_never_tighter_than_the_linear_program_and_often_close_to_it() -> None:
    ratios = []
    for seed in range(40):
        network, region, cells, _, before, after, d, c, clipper = clipped("wide", seed, 0.4)
        for column in clipper.columns.tolist():
            if not before[0][0, column] < 0 < before[1][0, column]:
                continue
            node, neuron = cells.neuron(column)
            zero, unit = np.zeros((1, network.inputs)), np.eye(network.inputs)
            offset = pre_activations(network, zero)[node][0, neuron]
            row = pre_activations(network, unit)[node][:, neuron] - offset
            for sign, side in ((-1, 1), (1, 0)):
                best = linprog(
                    sign * row,
                    A_ub=d.numpy(),
                    b_ub=[-float(c[0])],
                    bounds=np.stack([region.lower, region.upper], axis=1),
                )
                if best.status != 0:
                    continue
                exact = sign * best.fun + offset
                found, start = float(after[side][0, column]), float(before[side][0, column])
                assert sign * found <= sign * exact + 1e-6
                if abs(exact) < abs(start):
                    ratios.append((start - found) / (start - exact))
    assert len(ratios) > 50
    assert np.median(ratios) > 0.6


def test_sums_over_few_entries_are_sums_over_all() -> None:
    rng, *_, compiled, box, cells = setting("patches", 3)
    few = Clipper(compiled, box, cells)
    assert few._few is not None
    every = Clipper(compiled, box, cells)
    every._few = None
    j = torch.arange(len(few.columns)).repeat(3)
    cell = torch.arange(3).repeat_interleave(len(few.columns))
    s = torch.as_tensor(rng.normal(size=(3, box.lower.shape[1])))
    for found, expected in zip(few._distances(j, cell, s), every._distances(j, cell, s), strict=True):
        torch.testing.assert_close(found, expected.double(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_only_what_is_wanted_and_linear_in_the_input_is_clipped(kind: str) -> None:
    *_, compiled, box, cells = setting(kind, 2)
    clipper = Clipper(compiled, box, cells)
    assert all(cells.neuron(column)[0] == min(cells.places) for column in clipper.columns.tolist())
    assert (len(clipper.columns) == cells.columns) == (len(cells.places) == 1)
    low, high = cells.low[None].clone(), cells.high[None].clone()
    d = torch.ones((1, box.lower.shape[1]), dtype=torch.float64)
    least = -(d @ box.lower[0])
    clipper.clip(low, high, torch.zeros_like(low, dtype=torch.bool), d, least)
    assert (low == cells.low).all()
    assert (high == cells.high).all()


def test_what_is_not_a_number_changes_nothing() -> None:
    *_, compiled, box, cells = setting("single", 2)
    low, high = cells.low[None].clone(), cells.high[None].clone()
    d = torch.full((1, box.lower.shape[1]), torch.nan, dtype=torch.float64)
    Clipper(compiled, box, cells).clip(low, high, torch.ones_like(low, dtype=torch.bool), d, d[:, 0])
    assert (low == cells.low).all()
    assert (high == cells.high).all()
