"""Whatever rungs run, in whatever order and with whatever numbers, verdicts are those of brute force.

Time shares decide which rung has a query at last, so on a slow machine every rung may meet every query.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import certificates
from networks import Constraint, Network, Property, Query, Region
from solver import Backend, Budget, Engine, Options, Outcome, policy, root, rungs, verify
from tests.random_networks import random_conv, random_dense, random_residual
from tests.solver.oracle import minimum_margin, raised
from tests.solver.sharing import Inline

ENGINES = (Options(), Options(Engine.BAB), Options(backend=Backend.HIGHS), Options(Engine.MILP, Backend.HIGHS))
#: Rungs that decide by themselves, with what a certificate may rest on, and others that may run before.
LAST = (rungs.split_inputs, rungs.split_relus, rungs.milp)
BEFORE = (*LAST, rungs.deep, rungs.optimise, rungs.tighten)
SHARES = [
    "ALPHA_SHARE",
    "BAB_FIRST_SHARE",
    "BAB_NEAR_SHARE",
    "BAB_SHALLOW_SHARE",
    "BAB_SHARE",
    "BOX_SHARE",
    "DEEP_SHARE",
    "MILP_FIRST_SHARE",
    "TIGHTEN_SHARE",
]
NUMBERS = {
    "ALPHA_STEPS": (0, 1),
    "ATTACK_STEPS": (0,),
    "BAB_BATCH": (1,),
    "BAB_CANDIDATES": (1,),
    "BAB_CLIPS": (0, 4),
    "BAB_FIRST_SECONDS": ((0.0, 0.0), (0.0, 1e-3)),
    "BAB_LP_AFTER": (0.0,),
    "BAB_MEMORY": (1,),
    "BAB_ROOT_STEPS": (0,),
    "BAB_ROUNDS": (1,),
    "BAB_STEPS": (0,),
    "BOX_BATCH": (1,),
    "BOX_POOL": (1,),
    "BOX_STEPS": (0,),
    "BOX_TRY_ONE_IN": (1,),
    "CUT_ROUNDS": (0,),
    "DEEP_BATCH": (1,),
    "DEEP_COLUMNS": (0,),
    "DEEP_STEPS": (0,),
    "DEEP_TURN": (1,),
    "MILP_FIRST_RELUS": (0,),
    "MILP_RELUS": (0,),
    "MILP_UNSTABLE": (0,),
    "PHASES_PER_INPUT": (0, 100),
    "POPULATION_SHARE": (0,),
    "SPLIT_INPUTS": (0,),
    "STORED_SLOPES": (0,),
    "TIGHTEN_MIP_SHARE": (0.5,),
}

BUILDERS: tuple[Callable[[int], Network], ...] = (
    lambda seed: random_dense(seed, (2, 5, 2)),
    lambda seed: random_dense(seed, (3, 4, 3, 2)),
    lambda seed: random_residual(seed, width=2, blocks=1),
    lambda seed: random_conv(seed, channels=1, size=3, outputs=2),
)


def region(norm: str, inputs: int, rng: np.random.Generator) -> Region:
    center = (rng.integers(-8, 9, inputs) / 8).astype(np.float32)
    if norm == "halfspace":
        row = rng.integers(1, 4, inputs).tolist()
        return Region.linf_ball(center, "0.25").constrained([Constraint.of(row, float(row @ center))])
    return Region.norm_ball(center, {"linf": "0.25", "l2": "0.5", "l1": "0.5"}[norm], norm)


def choose(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random numbers; or random rungs; and a start that may leave everything to them."""
    for name in SHARES:
        if rng.random() < 0.5:
            monkeypatch.setattr(policy, name, float(rng.choice([0.0, 1e-3, 0.1])))
    for name, values in NUMBERS.items():
        if rng.random() < 0.3:
            monkeypatch.setattr(policy, name, values[int(rng.integers(len(values)))])
    if rng.random() < 0.6:
        order = [(BEFORE[i], 0.01) for i in rng.permutation(len(BEFORE))[: int(rng.integers(0, 3))]]
        order.append((LAST[int(rng.integers(len(LAST)))], 1.0))
        monkeypatch.setattr(rungs, "_rungs", lambda climb, case, seconds: order)
    if rng.random() < 0.6:
        bound = root.bound
        monkeypatch.setattr(root, "bound", lambda climb, *, prove: bound(climb, prove=False))
        monkeypatch.setattr(root, "attack", lambda climb: None)


def settle(seed: int) -> None:
    """Asks on both sides of one network's least margin, with settings of their own."""
    rng = np.random.default_rng(seed)
    network = BUILDERS[seed % len(BUILDERS)](seed)
    around = region(("linf", "l2", "l1", "halfspace")[seed // len(BUILDERS) % 4], network.inputs, rng)
    least = minimum_margin(network, around, raised(0))
    assert math.isfinite(least)
    for shift, expected in ((0.01, Outcome.ROBUST), (-0.01, Outcome.COUNTEREXAMPLE)):
        with pytest.MonkeyPatch.context() as monkeypatch:
            choose(rng, monkeypatch)
            options = ENGINES[int(rng.integers(len(ENGINES)))]
            helpers = Inline(network, rng) if rng.random() < 0.3 else None
            asked = Query.single(around, Property((raised(shift - least),)))
            verdict = verify(network, asked, options=options, budget=Budget(120, 1, helpers))
        assert verdict.outcome is expected, (seed, shift, verdict)
        assert verdict.margin[0] - 1e-6 <= shift <= verdict.margin[1] + 1e-5, (seed, shift, verdict)


@pytest.mark.parametrize("first", range(0, 24, 8))
def test_every_setting_agrees_with_brute_force(first: int) -> None:
    for seed in range(first, first + 8):
        settle(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 1400, 40))
def test_many_settings_agree_with_brute_force(first: int) -> None:
    for seed in range(first, first + 40):
        settle(seed)


@pytest.mark.parametrize("norm", ["l2", "l1", "halfspace"])
def test_input_splits_of_every_region_are_certified(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their boxes lie anywhere in the region, also where little of it is left."""
    monkeypatch.setattr(rungs, "_rungs", lambda climb, case, seconds: [(rungs.split_inputs, 1.0)])
    network = random_dense(7, (2, 6, 4, 2))
    around = region(norm, 2, np.random.default_rng(7))
    asked = Query.single(around, Property((raised(0.02 - minimum_margin(network, around, raised(0))),)))
    verdict = verify(network, asked, options=Options(Engine.BAB, certificate=True), budget=Budget(120, 1))
    assert verdict.outcome is Outcome.ROBUST, verdict
    assert verdict.certificate is not None, verdict
    assert certificates.check(verdict.certificate, network).proven
