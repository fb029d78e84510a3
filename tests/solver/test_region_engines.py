"""In norm balls and under constraints, too, every engine gives the verdict that brute force gives."""

from __future__ import annotations

import numpy as np
import pytest

from networks import Constraint, Network, Property, Query, Region
from solver import Budget, Engine, Options, Outcome, policy, verify
from tests.random_networks import random_dense, random_residual
from tests.solver.oracle import minimum_margin, raised

KINDS = ("l2", "l1", "l0", "linf constrained", "l2 constrained")
ENGINES = {
    "auto": Options(Engine.AUTO),
    "input splits": Options(Engine.BAB),
    "relu splits": Options(Engine.BAB),
}
NETWORKS = 4
SHIFTS = (0.01, -0.01)


def instance(kind: str, seed: int) -> tuple[Network, Region]:
    """A random network and a region on which about eight ReLUs are unstable."""
    rng = np.random.default_rng(seed)
    if seed % 3 == 0:
        network, reach = random_dense(seed, (3, 6, 4, 2)), 0.4
    elif seed % 3 == 1:
        network, reach = random_dense(seed, (4, 6, 4, 2)), 0.3
    else:
        network, reach = random_residual(seed, width=3), 0.2
    center = np.clip(rng.normal(size=network.inputs), -0.9, 0.9)
    norm = kind.split(maxsplit=1)[0]
    n = network.inputs
    size = {"linf": reach, "l2": reach * n**0.5 * 0.8, "l1": reach * n * 0.6, "l0": max(1, n // 4)}[norm]
    radii = [1.5 * reach] * n if norm == "l0" else None
    region = Region.norm_ball(center, size if norm == "l0" else round(size, 3), norm, (-1, 1), radii=radii)
    if kind == norm:
        return network, region
    slopes = np.round(rng.normal(size=(2, n)), 2)
    limits = slopes @ center.astype(np.float32) + 0.3 * reach
    pairs = zip(slopes.tolist(), limits.tolist(), strict=True)
    return network, region.constrained([Constraint.of(row, round(limit, 4)) for row, limit in pairs])


@pytest.fixture(scope="module")
def minima() -> dict[str, list[float]]:
    """The exact minimum of ``y_0 − y_1`` for each kind and instance."""
    clause = raised(0)
    return {kind: [minimum_margin(*instance(kind, seed), clause) for seed in range(NETWORKS)] for kind in KINDS}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_agrees_with_brute_force(
    engine: str, kind: str, minima: dict[str, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "relu splits":
        monkeypatch.setattr(policy, "SPLIT_INPUTS", 0)
    for seed, least in enumerate(minima[kind]):
        network, region = instance(kind, seed)
        if engine == "input splits" and network.inputs > 3:
            continue
        for shift in SHIFTS:
            clause = raised(shift - least)
            asked = Query.single(region, Property((clause,)))
            verdict = verify(network, asked, options=ENGINES[engine], budget=Budget(20, 1))
            wrong = Outcome.COUNTEREXAMPLE if shift > 0 else Outcome.ROBUST
            assert verdict.outcome is not wrong, (seed, shift, verdict)
            assert verdict.margin[0] - 1e-5 <= shift <= verdict.margin[1] + 1e-5, (seed, shift, verdict)
            if verdict.counterexample is not None:
                assert region.contains(verdict.counterexample.input)
            # Splits of ReLUs know the convex hull of an ℓ0 ball only, and leave what that leaves open to others.
            if (engine, kind) != ("relu splits", "l0"):
                assert verdict.outcome is not Outcome.UNKNOWN, (seed, shift, verdict)
