from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bounds.backward import specification_bounds
from bounds.linear import enclose
from bounds.phases import Cells
from bounds.program import program
from networks.region import Region
from tests.bounds.graphs import dense_network, patch_network, residual_network
from tests.bounds.test_linear import pre_activations

NETWORKS = {
    "dense": dense_network,
    "patches": patch_network,
    "residual": residual_network,
    "single": lambda rng: dense_network(rng, (3, 8, 3)),
    "wide": lambda rng: dense_network(rng, (40, 8, 3)),
}


def setting(kind: str, seed: int, radius: float = 0.4):
    rng = np.random.default_rng(seed)
    network = NETWORKS[kind](rng)
    region = Region.linf_ball(rng.normal(size=network.inputs), radius)
    compiled = program(network)
    box = enclose(compiled, torch.as_tensor(region.lower)[None], torch.as_tensor(region.upper)[None])
    return rng, network, region, compiled, box, Cells(compiled, box)


def ranges(cells: Cells, phases: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounds of the pre-activations on cells that choose ``phases``."""
    return torch.where(phases > 0, 0.0, cells.low), torch.where(phases < 0, 0.0, cells.high)


def inside(cells: Cells, phases: np.ndarray, values: dict[int, np.ndarray]) -> np.ndarray:
    """Which sampled points lie in the cell."""
    holds = np.ones(len(values[-1]), dtype=bool)
    for column, phase in enumerate(phases):
        node, neuron = cells.neuron(column)
        holds &= values[node][:, neuron] * phase >= 0
    return holds


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_the_whole_region_has_the_root_bound(kind: str) -> None:
    rng, network, _, compiled, box, cells = setting(kind, 1)
    C = torch.as_tensor(rng.normal(size=(3, network.outputs)))
    low, high = cells.low.expand(3, -1), cells.high.expand(3, -1)
    torch.testing.assert_close(cells.bound(C, low, high).value, specification_bounds(compiled, box, C).value)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 10**6), st.booleans())
def test_no_point_of_a_cell_beats_its_bound(kind: str, seed: int, wild: bool) -> None:
    rng, network, region, _, _, cells = setting(kind, seed)
    values = pre_activations(network, region.sample(400, rng).astype(np.float64))
    C = torch.as_tensor(rng.normal(size=(1, network.outputs)))
    # Phases of a sampled point, some of them forgotten, so that the cell is not empty.
    point = rng.integers(400)
    phases = np.zeros(cells.columns, dtype=np.int8)
    for column in range(cells.columns):
        node, neuron = cells.neuron(column)
        phases[column] = rng.choice([0, 1 if values[node][point, neuron] >= 0 else -1])
    cell = torch.as_tensor(phases)[None]
    parameters = {}
    if wild:
        parameters = {
            "alpha": torch.as_tensor(rng.normal(size=(1, cells.columns))),
            "beta": torch.as_tensor(rng.normal(size=(1, cells.columns))),
        }
    bound = cells.bound(C, *ranges(cells, cell), **parameters).value.item()
    least = (values[-1] @ C[0].numpy())[inside(cells, phases, values)].min()
    assert bound <= least + 1e-12
