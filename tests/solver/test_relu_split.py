from __future__ import annotations

import itertools

import highspy
import numpy as np
import pytest
import torch

from bounds import backward_bounds, relaxation
from bounds.program import program
from networks import Clause, Network, Property, Query, Region, Row, evaluate
from networks.exact import exact
from solver import Budget, Engine, Options, Outcome, Trust, leaf, policy, verify
from solver.attack import Attack
from solver.relu_split import CellSearch, ReluSplit, SplitRegion
from solver.replay import Replayer
from solver.verdict import Reason
from tests.formulas import encoded, query, unsatisfiable
from tests.random_networks import random_conv, random_dense, random_residual
from tests.solver.oracle import DIFFERENCE, known_margins, minimum_margin, raised

#: Builders of networks, and the radius at which about eight of their ReLUs are unstable: brute force tries 2^8
#: patterns.
BUILDERS = {
    "dense": (lambda seed: random_dense(seed, (3, 5, 4, 2)), 0.4),
    "conv": (lambda seed: random_conv(seed, channels=1, size=4, outputs=2), 0.1),
    "residual": (lambda seed: random_residual(seed, width=3), 0.2),
}


def search(network: Network, region: Region, clause: Clause, *, steps: int, attack: bool = True) -> CellSearch:
    enclosure = backward_bounds(network, region)
    attacker = (
        Attack(program(network), Replayer(network), region, Property((clause,)), lambda: False) if attack else None
    )
    over = SplitRegion(network, region, enclosure)
    return ReluSplit(over, clause, attacker, steps=steps).run(lambda: None, lambda *_: None)


@pytest.mark.parametrize("kind", sorted(BUILDERS))
@pytest.mark.parametrize("steps", [0, 3])
def test_agrees_with_brute_force_on_both_sides_of_the_minimum(kind: str, steps: int) -> None:
    """Moving the offset puts the exact minimum just above or just below zero, where only a complete search decides."""
    for network, region, least in known_margins(*BUILDERS[kind], seeds=range(8)):
        for shift in (0.3, 1e-3, -1e-3, -0.3):
            clause = raised(shift - least)
            found = search(network, region, clause, steps=steps)
            if shift > 0:
                assert found.reason is None
                assert found.counterexample is None
                assert 0 < found.lower <= shift + 1e-6
            else:
                assert found.counterexample is not None
                assert region.contains(found.counterexample.input)


def test_conjunctions_are_decided_where_no_single_row_is_positive_everywhere() -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        network = random_dense(seed, (2, 6, 3))
        region = Region.linf_ball(rng.normal(size=2), 0.8)
        pairs = DIFFERENCE, ((0, exact(1)), (2, exact(-1)))
        least = minimum_margin(network, region, raised(0, *pairs, outputs=3))
        for shift in (1e-2, -1e-2):
            clause = raised(shift - least, *pairs, outputs=3)
            found = search(network, region, clause, steps=0)
            assert (found.counterexample is None) == (shift > 0), (seed, shift)
            assert found.reason is None


def test_a_tie_is_never_proven() -> None:
    """Where the exact minimum is 0 no proof exists, and without an attack nothing may be concluded."""
    network = random_dense(3, (2, 4, 2))
    region = Region.linf_ball(np.zeros(2), 0.5)
    least = minimum_margin(network, region, raised(0))
    tie = Clause((Row(DIFFERENCE, exact(-np.float64(least))),), 2)
    found = search(network, region, tie, steps=0, attack=False)
    assert found.lower <= 1e-9


def test_networks_that_would_fill_the_memory_are_left_to_other_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "BAB_COEFFICIENTS", 10)
    network = random_dense(0, (3, 5, 4, 2))
    found = verify(network, Query.single(Region.linf_ball(np.zeros(3), 0.4), Property.classification(0, 2)))
    assert found.decided_by != "bab"


def test_batches_change_nothing_that_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_dense(1, (3, 5, 4, 2))
    region = Region.linf_ball(np.zeros(3), 0.4)
    least = minimum_margin(network, region, raised(0))
    clause = raised(1e-3 - least)
    for products in (1, 2**25):
        monkeypatch.setattr(policy, "BAB_PRODUCTS", products)
        found = search(network, region, clause, steps=3)
        assert found.reason is None
        assert 0 < found.lower <= 1e-3 + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_encoded_formulas_are_decided_by_propagation_and_certified(seed: int) -> None:
    variables, clauses = 20, 24
    formula = unsatisfiable(seed, variables, clauses)
    options = Options(Engine.BAB, certificate=True)
    found = verify(encoded(formula, variables), query(variables), options=options, budget=Budget(60, 1))
    assert found.outcome is Outcome.ROBUST, found
    assert found.trust is Trust.CERTIFIED, found
    assert found.decided_by == "bab"
    (stage,) = [stage for stage in found.stages if stage.name == "bab"]
    assert stage.detail["nodes"] < 8 * clauses
    del formula[seed]
    found = verify(encoded(formula, variables), query(variables), options=options, budget=Budget(60, 1))
    assert found.outcome is Outcome.COUNTEREXAMPLE, found


def leaves_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell goes to the LP, which chooses what to split."""
    monkeypatch.setattr(ReluSplit, "_choose", lambda self, found, low, *_: torch.full((len(low),), -1))


def test_cells_whose_lps_fail_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves_only(monkeypatch)
    status, unknown, recovered = highspy.Highs.getModelStatus, highspy.HighsModelStatus.kUnknown, 0
    for network, region, least in known_margins(*BUILDERS["dense"], seeds=range(8)):
        # The LPs of the root and of one child, each by every method.
        calls = itertools.count()
        failing = 2 * len(leaf._METHODS)
        monkeypatch.setattr(
            highspy.Highs, "getModelStatus", lambda h, c=calls, n=failing: unknown if next(c) < n else status(h)
        )
        found = search(network, region, raised(0.01 - least), steps=3, attack=False)
        assert found.reason is None
        assert 0 < found.lower <= 0.01 + 1e-6
        recovered += next(calls) > failing
    assert recovered


def test_where_an_lp_would_be_too_large_cells_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves_only(monkeypatch)
    monkeypatch.setattr(relaxation, "_LARGEST_MODEL", 1)
    nodes = 0
    for network, region, least in known_margins(*BUILDERS["dense"], seeds=range(4)):
        found = search(network, region, raised(0.3 - least), steps=3, attack=False)
        assert found.reason in {None, Reason.NUMERICS}
        nodes += found.nodes
    assert nodes > 4


def test_a_search_that_is_stopped_between_or_in_lps_goes_on_where_it_was() -> None:
    network = encoded(unsatisfiable(1, 20, 24), 20)
    ((region, prop),) = query(20).cases
    over = SplitRegion(network, region, backward_bounds(network, region))
    split = ReluSplit(over, prop.clauses[0], None, steps=0)
    for runs in itertools.count():
        calls = itertools.count()
        # An LP that takes long asks often, so ever more is allowed.
        found = split.run(lambda c=calls, n=runs: Reason.TIMEOUT if next(c) > n else None, lambda *_: None)
        if found.reason is None:
            break
        assert found.lower <= 0
    assert runs > 5
    assert found.lower > 0


def test_a_conjunction_without_an_open_relu_is_closed_by_its_leaf() -> None:
    """An output is not both above and below its middle by a little, which only both rows together tell."""
    network = random_dense(0, (20, 5, 2))
    region = Region.linf_ball(np.full(20, 0.3), "0.0001")
    enclosure = backward_bounds(network, region)
    assert enclosure.unstable_count == 0
    middle = round(float(evaluate(network, np.full((1, 20), 0.3))[0, 0]), 6)
    above, below = exact(middle) + exact("0.00001"), exact(middle) - exact("0.00001")
    rows = (Row(((0, exact(-1)),), above), Row(((0, exact(1)),), -below))
    verdict = verify(
        network, Query.single(region, Property((Clause(rows, 2),))), options=Options(Engine.BAB), budget=Budget(20, 1)
    )
    assert verdict.outcome is Outcome.ROBUST
    assert verdict.decided_by == "bab"
