from __future__ import annotations

import numpy as np
import pytest
import torch

from bounds import backward_bounds
from bounds.contraction import contract
from bounds.phases import Cells
from bounds.program import program
from bounds.reduced import Forms, Reduced
from bounds.single import box_bounds
from networks import Clause, Network, Region, Row
from networks.evaluation import evaluate
from networks.exact import exact
from tests.bounds.test_linear import pre_activations
from tests.bounds.test_phases import NETWORKS, inside
from tests.formulas import encoded, query


def contracted(network: Network, region: Region, clause: Clause, phases: np.ndarray | None = None, rounds: int = 16):
    """The whole region, or a cell of it, contracted."""
    enclosure = backward_bounds(network, region)
    cells = Cells(program(network), box_bounds(network, region, enclosure))
    forms = Forms(network, region, enclosure, cells)
    chosen = torch.zeros(cells.columns) if phases is None else torch.as_tensor(phases)
    low, high = torch.where(chosen > 0, 0.0, forms.low)[None], torch.where(chosen < 0, 0.0, forms.high)[None]
    return contract(forms, Reduced(network, enclosure, forms, clause), low, high, rounds=rounds), cells


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_points_that_violate_all_rows_stay_in_the_box(kind: str) -> None:
    shrunk = 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        network = NETWORKS[kind](rng)
        region = Region.linf_ball(rng.normal(size=network.inputs), 0.4)
        x = region.sample(400, rng).astype(np.float64)
        y, values = evaluate(network, x), pre_activations(network, x)
        # Both rows hold at the point that is best for the worse of them, and hardly anywhere else.
        rows = [((0, exact(1)), (1, exact(-1))), ((0, exact(-1)), (2, exact(-1)))]
        margins = np.stack([y[:, 0] - y[:, 1], -y[:, 0] - y[:, 2]], 1)
        point = int((margins - margins.mean(0)).max(1).argmin())
        offsets = [exact(float(-margin - 1e-3)) for margin in margins[point]]
        clause = Clause(tuple(map(Row, rows, offsets)), network.outputs)
        violate = (margins <= margins[point]).all(1)
        for share in (0.0, 0.3):
            cells = contracted(network, region, clause, rounds=1)[1]
            phases = np.zeros(cells.columns)
            for column in range(cells.columns):
                node, neuron = cells.neuron(column)
                phases[column] = np.sign(values[node][point, neuron]) * (rng.random() < share)
            found, _ = contracted(network, region, clause, phases)
            kept = violate & inside(cells, phases, values)
            assert kept[point]
            assert not found.empty[0]
            units = (x[kept] - (region.lower + region.upper) / 2) / ((region.upper - region.lower) / 2)
            assert (units >= found.least.numpy() - 1e-3).all()
            assert (units <= found.most.numpy() + 1e-3).all()
            shrunk += bool((found.most - found.least).min() < 1.9)
    assert shrunk > 5 or kind != "single"


def formula(*clauses: tuple[int, ...]):
    """Clauses as signed numbers of variables, from 1."""
    return [{abs(v) - 1: v > 0 for v in clause} for clause in clauses]


def contracted_formula(clauses, chosen: dict[int, int]):
    """The contraction of an encoded formula over four variables with some of them chosen."""
    network = encoded(clauses, 4)
    ((region, prop),) = query(4).cases
    _, cells = contracted(network, region, prop.clauses[0])
    phases = np.zeros(cells.columns)
    for column in range(cells.columns):
        variable = cells.neuron(column)[1] - len(clauses) - 4
        phases[column] = chosen.get(variable + 1, 0)
    found, _ = contracted(network, region, prop.clauses[0], phases)
    best = cells.neuron(int(found.score[0].argmax()))[1] - len(clauses) - 3
    return found, best


def test_contraction_is_unit_propagation() -> None:
    chain = formula((-1, 2), (-2, 3), (-3, 4))
    found, _ = contracted_formula(chain, {1: 1})
    assert not found.empty[0]
    torch.testing.assert_close(found.least[0], torch.ones(4))
    found, _ = contracted_formula(chain, {4: -1})
    torch.testing.assert_close(found.most[0], -torch.ones(4))
    found, _ = contracted_formula(chain, {1: 1, 4: -1})
    assert found.empty[0]
    found, _ = contracted_formula(chain, {2: 1})
    torch.testing.assert_close(found.least[0], torch.tensor([-1.0, 1, 1, 1]))
    torch.testing.assert_close(found.most[0], torch.ones(4))


def test_what_most_columns_share_comes_first_and_what_is_decided_never() -> None:
    clauses = formula((1, 2), (-1, 2, 3), (2, 4, 1), (-2, 3, 4))
    found, best = contracted_formula(clauses, {})
    assert best == 2
    found, best = contracted_formula(clauses, {2: 1})
    assert best in (3, 4)
    assert int((found.score[0] > 0).sum()) <= 1 + 3  # the clause that is left, and three variables
