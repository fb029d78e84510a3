from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

from bounds import backward_bounds, interval_bounds
from networks import Constraint, Property, Region, evaluate
from solver.crosscheck import margins_at
from solver.cuts import solve_root, supporting_cuts
from solver.formulation import formulate
from solver.milp import ClauseStatus, decide_milp
from solver.nearest import minimise_distance
from solver.options import Backend
from solver.replay import Replayer
from tests.random_networks import random_conv, random_dense, random_residual
from tests.solver.oracle import nearest_violation

BALLS = {"l2": Fraction(2, 5), "l1": Fraction(1, 2), "l0": Fraction(1)}
BACKENDS = [Backend.HIGHS, pytest.param(Backend.GUROBI, marks=pytest.mark.gurobi)]


def center_of(network, seed):
    return np.random.default_rng(seed).uniform(0, 1, network.inputs).round(2).astype(np.float32)


def stays(network, center):
    label = int(evaluate(network, center[None].astype(float))[0].argmax())
    return Property.classification(label, network.outputs)


def replayer(network, region, prop):
    run = Replayer(network)
    return lambda x: run.counterexample(region, prop, region.project(x))


def networks_of(seed):
    return [random_dense(seed, (3, 6, 3)), random_dense(seed, (3, 4, 3, 2)), random_residual(seed, width=3, blocks=1)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("norm", BALLS)
def test_balls_are_decided_as_brute_force_does(norm, backend):
    """A ball of a radius on either side of the nearest violation's distance."""
    decided = {ClauseStatus.PROVEN: 0, ClauseStatus.VIOLATED: 0}
    for seed in range(2):
        for network in networks_of(seed):
            center = center_of(network, seed)
            prop = stays(network, center)
            box = Region.linf_ball(center, "1", (0, 1))
            nearest = min(nearest_violation(network, box, clause, norm) for clause in prop.clauses)
            if not 0.01 < nearest < math.inf:
                continue
            radii = [nearest - 1, nearest] if norm == "l0" else [nearest * 0.98, nearest * 1.02]
            for radius, robust in zip(radii, (True, False), strict=True):
                region = Region.norm_ball(center, Fraction(radius), norm, (0, 1))
                result = decide_milp(
                    network,
                    region,
                    prop.clauses,
                    backward_bounds(network, region),
                    backend=backend,
                    replay=replayer(network, region, prop),
                )
                where = (norm, seed, radius, nearest, result)
                if robust:
                    assert all(clause.status is ClauseStatus.PROVEN for clause in result.clauses), where
                    decided[ClauseStatus.PROVEN] += 1
                elif result.counterexample is None:
                    # An l0 violation may be attained by a tie alone.
                    assert norm == "l0", where
                else:
                    assert region.contains(result.counterexample.input), where
                    decided[ClauseStatus.VIOLATED] += 1
    assert min(decided.values()) >= 3


@pytest.mark.parametrize("norm", BALLS)
def test_every_point_of_a_ball_is_in_its_model(norm):
    for seed in range(4):
        for network in (random_dense(seed, (3, 6, 6, 3)), random_conv(seed)):
            center = center_of(network, seed)
            region = Region.norm_ball(center, BALLS[norm], norm, (0, 1))
            clauses = stays(network, center).clauses
            formulation = formulate(network, region, clauses, backward_bounds(network, region), norm=norm)
            points = region.sample(20, np.random.default_rng(seed)).astype(np.float64)
            for x, margins in zip(points, margins_at(network, clauses, points), strict=True):
                v = formulation.lift(network, x, margins)
                assert formulation.common.violation(v) < 1e-9
                # What the clauses do not depend on may stay at the center.
                d = (x - center)[formulation.inputs >= 0]
                distance = np.abs(d) if norm != "l2" else d**2
                goal = formulation.distance
                value = goal.cost @ v + goal.offset + (goal.squares.value(v) if goal.squares else 0.0)
                expected = np.count_nonzero(distance) if norm == "l0" else distance.sum()
                assert value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("norm", BALLS)
def test_points_outside_a_ball_are_not_in_its_model(norm):
    network = random_dense(0, (3, 6, 6, 3))
    center = np.float32([0.5, 0.5, 0.5])
    region = Region.norm_ball(center, BALLS[norm], norm, (0, 1))
    clauses = stays(network, center).clauses
    formulation = formulate(network, region, clauses, interval_bounds(network, Region.box([0] * 3, [1] * 3)))
    corner = np.clip(center + 0.35, region.lower, region.upper)
    v = formulation.lift(network, corner, margins_at(network, clauses, corner[None])[0])
    assert not region.contains(corner.astype(np.float32))
    assert formulation.common.violation(v) > 1e-3


@pytest.mark.parametrize("norm", BALLS)
def test_bounds_at_the_root_hold_over_balls(norm):
    for seed in range(6):
        network = random_dense(seed, (3, 6, 6, 3))
        center = center_of(network, seed)
        region = Region.norm_ball(center, BALLS[norm], norm, (0, 1))
        clauses = stays(network, center).clauses
        formulation = formulate(network, region, clauses, backward_bounds(network, region))
        points = region.sample(400, np.random.default_rng(seed)).astype(np.float64)
        margins = margins_at(network, clauses, points)
        for k in range(len(clauses)):
            assert solve_root(formulation, k, seconds=10, stop=lambda: False).lower <= margins[:, k].min()


def test_supporting_halfspaces_cut_off_what_is_outside_and_nothing_inside():
    rng = np.random.default_rng(0)
    network = random_dense(0, (3, 6, 6, 3))
    center = center_of(network, 0)
    region = Region.norm_ball(center, BALLS["l2"], "l2", (0, 1))
    clauses = stays(network, center).clauses
    enclosure = interval_bounds(network, Region.box([0] * 3, [1] * 3))
    formulation = formulate(network, region, clauses, enclosure)
    assert set(formulation.inputs) >= {0, 1, 2}
    model = formulation.model(0)

    def lifted(points):
        pairs = zip(points, margins_at(network, clauses, points), strict=True)
        return np.array([formulation.lift(network, x, margins) for x, margins in pairs])

    inside = lifted(region.sample(2000, rng).astype(np.float64))
    outside = [v for v in lifted(rng.uniform(0, 1, (100, 3))) if model.quadratic[0].violation(v) > 0.01]
    assert len(outside) > 20
    for v in outside:
        cuts = supporting_cuts(model, v)
        assert len(cuts) == 1
        assert cuts.matrix @ v > cuts.sides + 1e-4
        assert (cuts.matrix @ inside.T <= cuts.sides).all()
    assert len(supporting_cuts(model, inside[0])) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_linear_constraints_are_kept(backend):
    decided = {True: 0, False: 0}
    for seed in range(8):
        network = random_dense(seed, (3, 7, 2))
        center = center_of(network, seed)
        prop = stays(network, center)
        # x0 + x1 ≤ c0 + c1 + 1/10 and x1 − x2 ≤ c1 − c2
        c = [Fraction(float(value)) for value in center]
        constraints = [
            Constraint.of({0: 1, 1: 1}, c[0] + c[1] + Fraction(1, 10)),
            Constraint.of({1: 1, 2: -1}, c[1] - c[2]),
        ]
        region = Region.linf_ball(center, "0.4", (0, 1)).constrained(constraints)
        G = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, -1.0]])
        h = np.array([float(each.bound) for each in constraints])
        truth = least_margin(network, region, prop.clauses[0], G, h)
        result = decide_milp(
            network,
            region,
            prop.clauses,
            backward_bounds(network, region),
            backend=backend,
            replay=replayer(network, region, prop),
        )
        if truth > 1e-3:
            assert result.clauses[0].status is ClauseStatus.PROVEN, (seed, truth, result)
        elif truth < -1e-3:
            assert result.counterexample is not None, (seed, truth, result)
            assert region.contains(result.counterexample.input)
        decided[truth > 0] += abs(truth) > 1e-3
    assert min(decided.values()) >= 1


def least_margin(network, region, clause, G, h):
    """The least margin over the region's box with ``G x ≤ h``, by enumeration."""
    from tests.solver.oracle import cells

    best = math.inf
    for rows, offsets, A, b in cells(network, region, clause):
        found = linprog(
            rows[0],
            A_ub=np.concatenate([A, G]),
            b_ub=np.concatenate([b, h]),
            bounds=list(zip(region.lower, region.upper, strict=True)),
        )
        best = min(best, found.fun + offsets[0]) if found.status == 0 else best
    return best


def test_a_distance_within_a_ball_of_another_norm():
    """Of the violations that change one entry only, the nearest in l2 is the nearest in linf too."""
    compared = 0
    for seed in range(6):
        network = random_dense(seed, (3, 7, 2))
        center = center_of(network, seed)
        prop = stays(network, center)
        region = Region.norm_ball(center, 1, "l0", (0, 1))
        enclosure = backward_bounds(network, region)
        results = [
            minimise_distance(
                network,
                region,
                prop.clauses,
                enclosure,
                norm,
                backend=Backend.HIGHS,
                replay=replayer(network, region, prop),
            )
            for norm in ("linf", "l2", "l1")
        ]
        lower = [result.lower for result in results]
        assert lower == pytest.approx([lower[0]] * 3, abs=1e-5)
        compared += math.isfinite(lower[0])
    assert compared >= 1
