"""Populations find violations that are rare, and report only what replays."""

from __future__ import annotations

import numpy as np

from bounds.program import program
from networks import Property, Region
from solver.attack import Attack
from solver.population import Population
from solver.replay import Replayer
from tests.random_networks import random_dense
from tests.solver.oracle import minimum_margin, raised


def test_a_population_comes_close_to_the_minimum() -> None:
    network = random_dense(4, (3, 5, 4, 2))
    region = Region.linf_ball(np.zeros(3), 1)
    least = minimum_margin(network, region, raised(0))
    for shift, found in ((-1e-3, True), (1e-3, False)):
        clause = raised(shift - least)
        attack = Attack(program(network), Replayer(network), region, Property((clause,)), lambda: False)
        result = Population(attack, [clause]).evolve(40_000)
        assert (result.counterexample is not None) == found
        if result.counterexample is not None:
            assert region.contains(result.counterexample.input)


def test_every_clause_has_its_turn() -> None:
    network = random_dense(4, (3, 5, 4, 2))
    region = Region.linf_ball(np.zeros(3), 1)
    least = minimum_margin(network, region, raised(0))
    never = raised(1 - least)
    clause = raised(-0.01 - least)
    attack = Attack(program(network), Replayer(network), region, Property((never, clause)), lambda: False)
    population = Population(attack, [never, clause])
    results = [population.evolve(1_000) for _ in range(60)]
    assert any(result.counterexample is not None for result in results)
