"""Specifications with conditions between inputs are decided as a grid over them says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from networks import evaluate, parse_vnnlib
from solver import Budget, Engine, Options, Outcome, verify
from tests.random_networks import random_dense

BOX = """(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)
(assert (>= X_0 -1)) (assert (<= X_0 1)) (assert (>= X_1 -1)) (assert (<= X_1 1))"""
#: What holds between the inputs: as VNNLIB, and on points of shape (N, 2).
RELATIONS = {
    "(<= X_0 X_1)": lambda x: x[:, 0] <= x[:, 1],
    "(>= (+ X_0 (* 2 X_1)) 1.5)": lambda x: x[:, 0] + 2 * x[:, 1] >= 1.5,
    "(and (= X_0 X_1) (<= X_0 0.5))": lambda x: (x[:, 0] == x[:, 1]) & (x[:, 0] <= 0.5),
    "(or (<= X_0 (- X_1 0.5)) (and (>= X_0 0.75) (<= X_1 X_0)))": lambda x: (
        (x[:, 0] <= x[:, 1] - 0.5) | ((x[:, 0] >= 0.75) & (x[:, 1] <= x[:, 0]))
    ),
}


@pytest.mark.parametrize("engine", [Engine.AUTO, Engine.MILP])
@pytest.mark.parametrize("relation", RELATIONS)
def test_relations_of_inputs(relation: str, engine: Engine) -> None:
    ticks = np.linspace(-1, 1, 257)
    grid = np.array(list(itertools.product(ticks, ticks)))
    grid = grid[RELATIONS[relation](grid)]
    for seed in range(2):
        network = random_dense(seed, (2, 5, 4, 2))
        y = evaluate(network, grid)
        # The grid is finer than 1/100, and weights are small.
        least = float((y[:, 0] - y[:, 1]).min())
        for shift, expected in ((0.4, Outcome.ROBUST), (-0.01, Outcome.COUNTEREXAMPLE)):
            text = f"{BOX} (assert {relation}) (assert (<= (- Y_0 Y_1) {least - shift:.6f}))"
            verdict = verify(network, parse_vnnlib(text, 2, 2), options=Options(engine), budget=Budget(30, 1))
            assert verdict.outcome is expected, (seed, shift, verdict)
            if verdict.counterexample is not None:
                assert RELATIONS[relation](verdict.counterexample.input.reshape(1, 2).astype(np.float64)).all()
