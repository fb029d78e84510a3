"""Every engine gives the verdict that brute force gives, on both sides of the exact minimum."""

from __future__ import annotations

import numpy as np
import pytest

from networks import Network, Property, Query, Region
from solver import Backend, Budget, Engine, Options, Outcome, policy, verify
from tests.random_networks import random_conv, random_dense, random_residual
from tests.solver.oracle import minimum_margin, raised

ENGINES = {
    "auto": Options(Engine.AUTO),
    "input splits": Options(Engine.BAB),
    "relu splits": Options(Engine.BAB),
    "highs": Options(Engine.MILP, Backend.HIGHS),
    "gurobi": Options(Engine.MILP, Backend.GUROBI),
}
NETWORKS = 30


def instance(seed: int) -> tuple[Network, Region]:
    """A random network and a ball on which about eight ReLUs are unstable."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        network, radius = random_dense(seed, (2, 6, 4, 2)), 0.4
    elif seed % 3 == 1:
        network, radius = random_conv(seed, channels=1, size=3, outputs=2), 0.1
    else:
        network, radius = random_residual(seed, width=3), 0.2
    domain = (-1, 1) if seed % 2 else None
    center = np.clip(rng.normal(size=network.inputs), -0.9, 0.9)
    return network, Region.linf_ball(center, radius, domain)


@pytest.fixture(scope="module")
def minima() -> list[float]:
    """The exact minimum of ``y_0 − y_1`` for each instance."""
    return [minimum_margin(*instance(seed), raised(0)) for seed in range(NETWORKS)]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_agrees_with_brute_force(
    engine: str, minima: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "relu splits":
        monkeypatch.setattr(policy, "SPLIT_INPUTS", 0)
    if engine == "input splits":
        monkeypatch.setattr(policy, "PHASES_PER_INPUT", 0)
    for seed, least in enumerate(minima):
        network, region = instance(seed)
        for shift in (0.1, 2e-3, -2e-3, -0.1):
            asked = Query.single(region, Property((raised(shift - least),)))
            verdict = verify(network, asked, options=ENGINES[engine], budget=Budget(30, 1))
            expected = Outcome.ROBUST if shift > 0 else Outcome.COUNTEREXAMPLE
            assert verdict.outcome is expected, (seed, shift, verdict)
            # The exact minimum lies between the bounds, up to the oracle's tolerance and float32 inference.
            assert verdict.margin[0] - 1e-6 <= shift <= verdict.margin[1] + 1e-5, (seed, shift, verdict)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_tie_is_never_robust(engine: str, minima: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the exact minimum at zero, up to the oracle's tolerance, "robust" may only be claimed where it is true."""
    if engine == "relu splits":
        monkeypatch.setattr(policy, "SPLIT_INPUTS", 0)
    if engine == "input splits":
        monkeypatch.setattr(policy, "PHASES_PER_INPUT", 0)
    for seed, least in enumerate(minima[:10]):
        network, region = instance(seed)
        # A millionth below the tie, so that the property is violated beyond any doubt about the oracle.
        asked = Query.single(region, Property((raised(-least - 1e-6),)))
        verdict = verify(network, asked, options=ENGINES[engine], budget=Budget(10, 1))
        assert verdict.outcome is not Outcome.ROBUST, (seed, verdict)


def test_branch_and_bound_splits_relus_where_boxes_approach_only_from_outside() -> None:
    """Four ReLUs of five inputs, with a least margin on a kink: no number of boxes that fit into a minute closes it."""
    network, region = random_dense(1, (5, 4, 2)), Region.linf_ball(np.zeros(5), "1")
    asked = Query.single(region, Property((raised(0.02 - minimum_margin(network, region, raised(0))),)))
    verdict = verify(network, asked, options=Options(Engine.BAB), budget=Budget(60, 1))
    assert verdict.outcome is Outcome.ROBUST
    assert verdict.seconds < 30
