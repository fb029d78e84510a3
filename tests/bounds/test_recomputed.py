from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bounds.columns import Columns
from bounds.optimised import SlopeSearch, optimised_bounds
from bounds.program import program
from bounds.recomputed import Recomputed
from tests.bounds.test_linear import pre_activations
from tests.bounds.test_optimised import NETWORKS, setting


def cells_of(kind: str, seed: int, *, optimise: bool = True):
    rng, network, (region,), compiled, bounds = setting(kind, seed)
    search = SlopeSearch(program(network, dtype=torch.float32), 4)
    recomputed = Recomputed(compiled, *(optimised_bounds(compiled, bounds, search) if optimise else (bounds,)))
    return rng, network, region, search, recomputed


def choose(recomputed: Recomputed, phases: np.ndarray) -> Columns:
    """Cells with these phases, and the root's bounds narrowed by them alone."""
    chosen = torch.as_tensor(phases)
    low = torch.where(chosen > 0, recomputed.root.low.clamp(min=0), recomputed.root.low)
    high = torch.where(chosen < 0, recomputed.root.high.clamp(max=0), recomputed.root.high)
    return Columns(recomputed.layout, low, high, chosen)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 10**6), st.booleans(), st.booleans())
def test_no_point_of_a_cell_beats_its_bounds(kind: str, seed: int, optimise: bool, wild: bool) -> None:
    rng, network, region, search, recomputed = cells_of(kind, seed, optimise=optimise)
    values = pre_activations(network, region.sample(400, rng).astype(np.float64))
    places = [recomputed.neuron(column) for column in range(recomputed.layout.count)]
    z = np.stack([values[node][:, neuron] for node, neuron in places], 1) if places else np.zeros((400, 0))
    # Phases of sampled points, some of them forgotten, so that the cells are not empty.
    points = rng.integers(400, size=3)
    phases = np.where(z[points] >= 0, 1, -1) * rng.integers(0, 2, size=(3, len(places)))
    cells = choose(recomputed, phases.astype(np.int8))
    before = cells.low.clone(), cells.high.clone()
    recomputed.bound_neurons(cells)
    C = torch.as_tensor(rng.normal(size=(3, network.outputs)))
    start = rng.normal(size=phases.shape) if wild else np.full(phases.shape, 0.5)
    offsets = torch.as_tensor(rng.normal(size=3))
    found = recomputed.bound_rows(cells, C, offsets, torch.arange(3), search, torch.as_tensor(start))
    assert (cells.low >= before[0]).all()
    assert (cells.high <= before[1]).all()
    for b in range(3):
        inside = (z * phases[b] >= 0).all(1)
        assert inside[points[b]]
        assert (cells.low[b].numpy() <= z[inside].min(0, initial=np.inf) + 1e-12).all()
        assert (cells.high[b].numpy() >= z[inside].max(0, initial=-np.inf) - 1e-12).all()
        least = (values[-1][inside] @ C[b].numpy()).min() + float(offsets[b])
        assert float(found.value[b]) <= least + 1e-12


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_the_root_has_the_bounds_that_its_slopes_were_found_with(kind: str) -> None:
    _, _, _, _, recomputed = cells_of(kind, 5)
    low, high = recomputed.root.low.clone(), recomputed.root.high.clone()
    # From wider bounds of the last node, the stored slopes lead back to those of the root.
    for place in list(recomputed.layout.places.values())[1:]:
        cells = Columns(recomputed.layout, low.clone(), high.clone())
        cells.low[:, place] -= 1
        cells.high[:, place] += 1
        cells.refresh()
        recomputed.bound_neurons(cells)
        # Where intervals are the better bounds, nothing leads back to them.
        assert ((cells.low - low)[:, place].abs() < 1e-4).double().mean() > 0.6
        assert ((cells.high - high)[:, place].abs() < 1e-4).double().mean() > 0.6


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_a_phase_never_widens_bounds_and_multipliers_only_help(kind: str) -> None:
    rng, network, _, search, recomputed = cells_of(kind, 2)
    K = recomputed.layout.count
    phases = np.zeros((2, K), np.int8)
    phases[0, 0], phases[1, 0] = 1, -1
    cells = choose(recomputed, phases)
    recomputed.bound_neurons(cells)
    assert (cells.low >= recomputed.root.low).all()
    assert (cells.high <= recomputed.root.high).all()
    C = torch.as_tensor(rng.normal(size=(2, network.outputs)))
    start = torch.where(cells.free, cells.slope, 0.0)
    zero = torch.zeros(2, dtype=torch.float64)
    none = SlopeSearch(search.program, 0)
    default = recomputed.bound_rows(cells, C, zero, torch.arange(2), none, start).value
    climbed = recomputed.bound_rows(cells, C, zero, torch.arange(2), search, start)
    assert (climbed.value >= default - 1e-5).all()
    chosen = cells.phases != 0
    assert (climbed.theta[chosen] >= 0).all()


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_importance_is_that_of_free_columns(kind: str) -> None:
    total = 0.0
    for seed in range(4):
        rng, network, _, search, recomputed = cells_of(kind, seed)
        phases = np.zeros((1, recomputed.layout.count), np.int8)
        phases[0, 0] = 1
        cells = choose(recomputed, phases)
        traces = recomputed.bound_neurons(cells)
        C = torch.as_tensor(rng.normal(size=(1, network.outputs)))
        start = torch.where(cells.free, cells.slope, 0.0)
        zero = torch.zeros(1, dtype=torch.float64)
        found = recomputed.bound_rows(cells, C, zero, torch.zeros(1, dtype=torch.int64), search, start)
        importance = recomputed.importance(cells, found.arriving, traces)
        assert (importance >= 0).all()
        assert (importance[~cells.free] == 0).all()
        total += float(importance.sum())
    assert total > 0


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 10**6))
def test_no_point_of_a_cell_that_became_a_root_beats_its_bounds(kind: str, seed: int) -> None:
    rng, network, region, search, recomputed = cells_of(kind, seed)
    values = pre_activations(network, region.sample(400, rng).astype(np.float64))
    places = [recomputed.neuron(column) for column in range(recomputed.layout.count)]
    z = np.stack([values[node][:, neuron] for node, neuron in places], 1) if places else np.zeros((400, 0))
    point = int(rng.integers(400))
    phases = np.zeros((1, len(places)), np.int8)
    new: Recomputed | None = recomputed
    # Roots within roots, each with one more phase of the same point.
    for _ in range(3):
        if places:
            column = int(rng.integers(len(places)))
            phases[0, column] = 1 if z[point, column] >= 0 else -1
        assert new is not None
        chosen = choose(new, phases.copy())
        new.bound_neurons(chosen)
        new = new.anew(chosen, search)
        assert new is not None
        assert (new.root.low >= chosen.low).all()
        assert (new.root.high <= chosen.high).all()
        assert (new.root.phases.numpy() == phases).all()
    inside = (z * phases[0] >= 0).all(1)
    assert (new.root.low[0].numpy() <= z[inside].min(0, initial=np.inf) + 1e-12).all()
    assert (new.root.high[0].numpy() >= z[inside].max(0, initial=-np.inf) - 1e-12).all()
    C, zero = torch.as_tensor(rng.normal(size=(1, network.outputs))), torch.zeros(1, dtype=torch.int64)
    start = torch.as_tensor(rng.normal(size=phases.shape))
    found = new.bound_rows(new.root, C, torch.zeros(1, dtype=torch.float64), zero, search, start)
    assert float(found.value[0]) <= (values[-1][inside] @ C[0].numpy()).min() + 1e-12


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_new_roots_go_on_from_the_slopes_that_were_found(kind: str) -> None:
    for seed in range(3):
        _, _, _, search, recomputed = cells_of(kind, seed)
        phases = np.zeros((1, recomputed.layout.count), np.int8)
        phases[:, :1] = 1
        cell = choose(recomputed, phases)
        cells = choose(recomputed, phases)
        recomputed.bound_neurons(cells)
        still = SlopeSearch(search.program, 0)
        new = recomputed.anew(cell, still)
        assert new is not None
        assert (new.root.low >= cells.low - 1e-4).all()
        assert (new.root.high <= cells.high + 1e-4).all()
