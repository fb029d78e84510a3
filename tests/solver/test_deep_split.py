from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from bounds.linear import enclose
from bounds.optimised import SlopeSearch, optimised_bounds
from bounds.program import program
from bounds.recomputed import Recomputed
from certificates import check
from networks import Clause, Network, Property, Query, Region, Row
from networks.exact import exact
from solver import policy
from solver.attack import Attack
from solver.certify import Record, certificate
from solver.deep_split import DeepSearch, decide_by_deep_split
from solver.replay import Replayer
from solver.verdict import Reason
from tests.random_networks import random_dense
from tests.solver.oracle import DIFFERENCE, known_margins, minimum_margin, raised
from tests.solver.test_relu_split import BUILDERS


def search(
    network: Network,
    region: Region,
    clauses: Sequence[Clause],
    *,
    attack: bool = True,
    turns: int = 10**6,
    progress: Callable[[float, float, int, int], None] = lambda *_: None,
) -> DeepSearch:
    compiled = program(network)
    steps = SlopeSearch(program(network, dtype=torch.float32), 10)
    lower, upper = torch.as_tensor(region.lower)[None], torch.as_tensor(region.upper)[None]
    cells = Recomputed(compiled, *optimised_bounds(compiled, enclose(compiled, lower, upper), steps))
    attacker = Attack(compiled, Replayer(network), region, Property(tuple(clauses)), lambda: False) if attack else None
    left = iter([None] * turns)
    return decide_by_deep_split(
        cells, clauses, attacker, steps, steps, stop=lambda: next(left, Reason.TIMEOUT), progress=progress
    )


@pytest.mark.parametrize("kind", sorted(BUILDERS))
def test_agrees_with_brute_force_on_both_sides_of_the_minimum(kind: str) -> None:
    decided = []
    for network, region, least in known_margins(*BUILDERS[kind], seeds=range(8)):
        for shift in (0.3, 1e-2, -1e-2, -0.3):
            clause = raised(shift - least)
            found = search(network, region, [clause])
            decided.append(found.reason is None)
            if shift > 0:
                assert found.counterexample is None
                assert found.lower[0] <= shift + 1e-6
                assert found.proven == [found.reason is None]
                assert not found.proven[0] or found.lower[0] > 0
            else:
                assert not found.proven[0]
                assert found.counterexample is None or region.contains(found.counterexample.input)
    # The search is not complete, but little is left to others.
    assert np.mean(decided) > 0.8


def test_clauses_share_a_tree_and_each_keeps_its_own_verdict() -> None:
    proven = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        network = random_dense(seed, (3, 5, 4, 3))
        region = Region.linf_ball(rng.normal(size=3), 0.4)
        pairs = [DIFFERENCE, ((0, exact(1)), (2, exact(-1))), ((1, exact(1)), (2, exact(-1)))]
        least = [minimum_margin(network, region, raised(0, pair, outputs=3)) for pair in pairs]
        shifts = (0.1, 0.02, -0.05)
        clauses = [raised(shift - low, pair, outputs=3) for pair, shift, low in zip(pairs, shifts, least, strict=True)]
        found = search(network, region, clauses, attack=False, turns=200)
        assert not found.proven[2]
        for lower, shift in zip(found.lower, shifts, strict=True):
            assert lower <= shift + 1e-6
        proven += sum(found.proven)
    assert proven > 6


def test_conjunctions_hold_where_one_row_is_positive_on_each_cell() -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        network = random_dense(seed, (2, 6, 4, 3))
        region = Region.linf_ball(rng.normal(size=2), 0.5)
        pairs = DIFFERENCE, ((0, exact(1)), (2, exact(-1)))
        least = minimum_margin(network, region, raised(0, *pairs, outputs=3))
        for shift in (0.2, -1e-2):
            clause = raised(shift - least, *pairs, outputs=3)
            found = search(network, region, [clause])
            assert found.proven[0] <= (shift > 0)
            assert found.lower[0] <= shift + 1e-6


def test_stopping_and_small_batches_and_full_memory_keep_what_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_dense(1, (3, 6, 6, 2))
    region = Region.linf_ball(np.zeros(3), 0.6)
    least = minimum_margin(network, region, raised(0))
    clause = raised(1e-3 - least)
    for turns in range(6):
        found = search(network, region, [clause], attack=False, turns=turns)
        assert found.lower[0] <= 1e-3 + 1e-6
        assert found.proven[0] == (found.reason is None)
    monkeypatch.setattr(policy, "DEEP_ENTRIES", 1)
    monkeypatch.setattr(policy, "DEEP_TURN", 1)
    found = search(network, region, [clause], attack=False)
    assert found.lower[0] <= 1e-3 + 1e-6
    assert found.reason in {None, Reason.NUMERICS}


def test_reports_count_cells_that_are_given_up() -> None:
    """No lower bound that is told on the way is above the exact margin, where only undecided cells hold it down."""
    told: list[float] = []
    for seed in (1, 8, 12):
        network = random_dense(seed, (3, 5, 4, 2))
        region = Region.linf_ball(np.random.default_rng(seed).normal(size=3), 0.6)
        clause = raised(-0.3 - minimum_margin(network, region, raised(0)))
        search(network, region, [clause], attack=False, progress=lambda lower, *_: told.append(lower))
    assert max(told) <= -0.3 + 1e-6


@pytest.mark.parametrize("kind", sorted(BUILDERS))
def test_records_are_certificates(kind: str) -> None:
    proven, split = 0, 0
    for network, region, least in known_margins(*BUILDERS[kind], seeds=range(8)):
        # A margin of 0.02, and a conjunction of it with what never holds.
        clauses = tuple(
            Clause((*raised(0.02 - least).rows, *more), network.outputs, label)
            for label, more in (("one", ()), ("both", (Row((), exact(-1)),)))
        )
        compiled = program(network)
        lower, upper = torch.as_tensor(region.lower)[None], torch.as_tensor(region.upper)[None]
        cells = Recomputed(compiled, enclose(compiled, lower, upper))
        record = Record([0, 1])
        steps = SlopeSearch(program(network, dtype=torch.float32), 10)
        found = decide_by_deep_split(
            cells,
            clauses,
            None,
            steps,
            steps,
            stop=lambda: None,
            progress=lambda *_: None,
            record=record,
        )
        if not all(found.proven):
            continue
        tree = record.tree(0)
        assert tree is not None
        proven, split = proven + 1, split + (len(tree.nodes) > 1)
        data = certificate(network, Query.single(region, Property(clauses)), [tree])
        for exactly in (False, True):
            report = check(data, network, exact=exactly)
            assert report.proven, report.reason
            assert report.weakest <= 0.02 + 1e-6
    assert proven >= 4
    assert split >= (kind != "conv")
