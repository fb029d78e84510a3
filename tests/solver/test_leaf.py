"""The LPs of cells: what their duals prove, in whatever order the cells come, and when they are cut short."""

from __future__ import annotations

import highspy
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, linprog

from bounds import backward_bounds
from bounds.relaxation import objectives
from networks import Constraint, Network, Region, evaluate
from networks.exact import exact
from solver import leaf
from solver.leaf import CellProgram, Leaf
from solver.split_region import SplitRegion
from tests.random_networks import random_dense
from tests.solver.oracle import DIFFERENCE, raised

CLAUSE = raised(0.1, DIFFERENCE, ((0, exact(1)), (2, exact(-1))), outputs=3)
INPUTS = 4


def region(norm: str, *, constrained: bool = False) -> Region:
    size = {"linf": "0.4", "l1": "0.8", "l2": "0.5", "l0": 2}[norm]
    found = Region.norm_ball([0.1, -0.2, 0.3, 0.0], size, norm, (-1, 1), radii=[1.0] * INPUTS if norm == "l0" else None)
    return found.constrained([Constraint.of([1.0, -2.0, 0.5, 1.0], 0.2)]) if constrained else found


REGIONS = {norm: region(norm) for norm in ("linf", "l1", "l2", "l0")}
REGIONS |= {f"{norm} constrained": region(norm, constrained=True) for norm in ("linf", "l2")}


def reference(network: Network, region: Region, over: SplitRegion, phases: NDArray[np.int8]) -> OptimizeResult:
    """The same LP by SciPy, in the units of the network; of an ℓ2 ball the box alone."""
    r = over.relaxation
    m, k = r.m, r.k
    G = np.zeros((k, m + k))
    for j in range(k):
        G[j, r.index[r.start[j] : r.start[j + 1]]] = r.value[r.start[j] : r.start[j + 1]]
    costs, constants = objectives(network, over.enclosure, r, -1, np.arange(3))
    rows = CLAUSE.matrix @ costs
    equal = np.hstack([-G[:, :m], np.diag(r.above) - G[:, m:], -np.diag(r.below), np.zeros((k, 1 + m))])
    upper = [np.hstack([rows, np.zeros((2, k)), -np.ones((2, 1)), np.zeros((2, m))])]
    limits = [-(CLAUSE.matrix @ constants + CLAUSE.offsets)]
    upper.append(np.hstack([np.zeros((k, m)), np.eye(k), np.eye(k), np.zeros((k, 1 + m))]))
    limits.append(np.ones(k))
    if region.halfspaces is not None:
        G, h = region.halfspaces.G, region.halfspaces.h
        upper.append(np.hstack([G * r.radius, np.zeros((len(h), 2 * k + 1 + m))]))
        limits.append(h - G @ r.middle)
    ball = region.ball
    if ball is not None and ball.norm in {"l1", "l0"}:
        # e_i ≥ |x_i − c_i|, in an ℓ0 ball as a share of the way to that end; Σ e ≤ ε.
        center = ball.center.astype(np.float64)
        for sign, way in ((1.0, region.upper - center), (-1.0, center - region.lower)):
            unit = way if ball.norm == "l0" else np.ones(m)
            upper.append(np.hstack([sign * np.diag(r.radius / unit), np.zeros((m, 2 * k + 1)), -np.eye(m)]))
            limits.append(-sign * (r.middle - center) / unit)
        upper.append(np.append(np.zeros(m + 2 * k + 1), np.ones(m))[None])
        limits.append(np.array([float(ball.radius)]))
    ends = [(-1, 1)] * m + [(0, float(phase >= 0)) for phase in phases] + [(0, float(phase <= 0)) for phase in phases]
    ends += [(None, None)] + [(0, None)] * m
    cost = np.append(np.zeros(m + 2 * k), np.append(1.0, np.zeros(m)))
    return linprog(cost, np.concatenate(upper), np.concatenate(limits), equal, r.rhs, ends)


def proven(found: Leaf, over: SplitRegion, phases: NDArray[np.int8]) -> float:
    cells = over.cells
    on, off = torch.as_tensor(phases > 0)[None], torch.as_tensor(phases < 0)[None]
    weights = torch.as_tensor(found.weights)
    bound = cells.bound(
        (weights @ torch.as_tensor(CLAUSE.matrix))[None],
        torch.where(on, 0.0, cells.low),
        torch.where(off, 0.0, cells.high),
        multipliers=torch.as_tensor(found.multipliers)[None],
        mu=torch.as_tensor(found.constraints),
    )
    return float(bound.value[0]) + float(found.weights @ CLAUSE.offsets)


def instance(seed: int, region: Region) -> tuple[Network, SplitRegion, CellProgram]:
    network = random_dense(seed, (INPUTS, 8, 6, 3))
    over = SplitRegion(network, region, backward_bounds(network, region))
    return network, over, CellProgram(over, over.relaxation, CLAUSE)


@pytest.mark.parametrize("kind", REGIONS)
def test_duals_prove_what_each_lp_says(kind: str) -> None:
    rng = np.random.default_rng(0)
    empty = feasible = 0
    for seed in range(3):
        network, over, program = instance(seed, REGIONS[kind])
        for chosen in (0.0, 0.2, 0.5, 0.8) * 3:
            phases = rng.choice([-1, 0, 1], over.cells.columns, p=[chosen / 2, 1 - chosen, chosen / 2]).astype(np.int8)
            found, truth = program.solve(phases), reference(network, REGIONS[kind], over, phases)
            value = proven(found, over, phases)
            if truth.status == 2 or found.point is None:
                # An ℓ2 ball may miss a cell that the box meets.
                assert truth.status == 2 or kind.startswith("l2")
                assert found.point is None
                assert value > 0
                empty += 1
                continue
            feasible += 1
            assert found.weights.sum() == pytest.approx(1, abs=1e-6)
            if kind.startswith("l2"):
                assert value >= truth.fun - 1e-6
                x = REGIONS[kind].project(found.point).astype(np.float64)
                assert np.abs(x - found.point).max() < 1e-5
            else:
                assert value == pytest.approx(truth.fun, abs=1e-6)
            if not len(found.loose):
                y = evaluate(network, found.point[None])[0]
                assert (CLAUSE.matrix @ y + CLAUSE.offsets).max() == pytest.approx(value, abs=1e-4)
    assert empty
    assert feasible


def test_every_method_comes_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    _, over, program = instance(0, REGIONS["linf"])
    cells = [rng.choice([-1, 0, 1], over.cells.columns, p=[0.2, 0.6, 0.2]).astype(np.int8) for _ in range(8)]
    first = [program.solve(phases) for phases in cells]
    for method in leaf._METHODS[1:]:
        monkeypatch.setattr(leaf, "_METHODS", ({}, method))
        program = CellProgram(over, over.relaxation, CLAUSE)
        for phases, before in zip(cells, first, strict=True):
            unknown, status = iter([highspy.HighsModelStatus.kUnknown]), highspy.Highs.getModelStatus
            with monkeypatch.context() as patch:
                patch.setattr(highspy.Highs, "getModelStatus", lambda h, s=unknown, f=status: next(s, None) or f(h))
                found = program.solve(phases)
            assert (found.point is None) == (before.point is None)
            if found.point is not None:
                assert proven(found, over, phases) == pytest.approx(proven(before, over, phases), abs=1e-6)


def test_a_stop_ends_an_lp_and_the_next_one_is_whole() -> None:
    _, over, program = instance(2, REGIONS["linf"])
    phases = np.zeros(over.cells.columns, np.int8)
    assert program.solve(phases, lambda: True) is None
    found = program.solve(phases)
    assert found is not None
    fresh = instance(2, REGIONS["linf"])[2].solve(phases)
    assert proven(found, over, phases) == pytest.approx(proven(fresh, over, phases), abs=1e-6)
