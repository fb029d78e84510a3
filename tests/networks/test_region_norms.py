"""Norm balls and linear constraints: exact membership, points inside, and the least values of linear forms."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from networks import Region, RegionError
from networks.constraints import Constraint, Halfspaces
from networks.exact import exact
from networks.minimum import best_lambda, dual_bound
from networks.norms import NORMS, Ball

SEEDS = st.integers(0, 2**32 - 1)


def drawn(norm, rng, inputs=None):
    """A random ball in the unit box, some entries frozen; centers on edges and at small and large magnitudes."""
    inputs = inputs or int(rng.integers(1, 9))
    center = np.round(rng.random(inputs), int(rng.integers(0, 9))).astype(np.float32)
    epsilon = int(rng.integers(0, inputs + 1)) if norm == "l0" else f"{rng.choice([1e-4, 0.03, 0.4, 3]):.5f}"
    frozen = np.flatnonzero(rng.random(inputs) < 0.2).tolist()
    return Region.norm_ball(center, epsilon, norm, (0, 1), frozen=frozen)


def in_region(region, x):
    """Membership from its definition."""
    point = [Fraction(float(v)) for v in x]
    d = [value - Fraction(float(c)) for value, c in zip(point, region.ball.center, strict=True)]
    spent = {"l2": sum(v * v for v in d), "l1": sum(map(abs, d)), "l0": sum(v != 0 for v in d)}[region.ball.norm]
    budget = region.ball.radius**2 if region.ball.norm == "l2" else region.ball.radius
    entries = zip(point, region.exact_lower, region.exact_upper, strict=True)
    return spent <= budget and all(low <= v <= high for v, low, high in entries)


@pytest.mark.parametrize("norm", ["l2", "l1", "l0"])
@given(seed=SEEDS)
def test_points_lie_inside_exactly(norm, seed):
    rng = np.random.default_rng(seed)
    region = drawn(norm, rng)
    wild = rng.standard_normal((6, region.inputs)) * rng.choice([1e-3, 1, 1e6])
    points = [region.center, *region.sample(8, rng), *region.project(wild)]
    for point in points:
        assert point.dtype == np.float32
        assert region.contains(point)
        assert in_region(region, point)
        assert region.contains_exactly([Fraction(float(v)) for v in point])


@pytest.mark.parametrize("norm", ["l2", "l1"])
@given(seed=SEEDS)
def test_membership_is_exact_at_the_edge(norm, seed):
    rng = np.random.default_rng(seed)
    region = drawn(norm, rng)
    for point in region.sample(4, rng):
        for way in (-np.inf, np.inf):
            near = np.nextafter(point, np.float32(way))
            assert region.contains(near) == in_region(region, near)


def test_membership_has_no_tolerance():
    # 0.6² + 0.8² is 1, but the float32 numbers nearest to them are not 0.6 and 0.8.
    region = Region.norm_ball([0, 0], 1, "l2")
    assert region.contains(np.array([1, 0], np.float32))
    assert not region.contains(np.array([1, 2**-100], np.float32))
    assert region.contains_exactly([Fraction(3, 5), Fraction(4, 5)])
    assert not region.contains_exactly([Fraction(3, 5), Fraction(4, 5) + Fraction(1, 10**40)])
    assert region.contains(np.array([0.6, 0.8], np.float32)) == (
        Fraction(float(np.float32(0.6))) ** 2 + Fraction(float(np.float32(0.8))) ** 2 <= 1
    )


@pytest.mark.parametrize("norm", ["l2", "l1", "l0"])
@given(seed=SEEDS)
def test_projections_are_nearest(norm, seed):
    rng = np.random.default_rng(seed)
    region = drawn(norm, rng, inputs=4)
    y = rng.standard_normal(4) * 2
    distance = np.linalg.norm(region.project(y) - y)
    others = np.linalg.norm(region.sample(200, rng) - y, axis=1)
    assert distance <= others.min() + 1e-6 * (1 + distance)


@pytest.mark.parametrize("norm", ["l2", "l1", "l0"])
def test_samples_reach_the_sphere_and_the_inside(norm):
    rng = np.random.default_rng(0)
    region = Region.norm_ball(np.full(6, 0.5), 3 if norm == "l0" else "0.25", norm, (0, 1))
    spent = region.ball.spent(region.sample(200, rng) - region.ball.center.astype(np.float64))
    full = spent >= float(region.ball.budget) * (1 - 1e-5)
    assert 0.3 < full.mean() < 1
    assert (spent < 0.9 * float(region.ball.budget)).any()


def brute_minimum(region, a):
    """The least value of a·x over box ∩ ball, by other means."""
    c = region.ball.center.astype(np.float64)
    low, high = region.lower, region.upper
    if region.ball.norm == "l0":
        count, values = int(region.ball.radius), []
        for chosen in itertools.combinations(range(len(a)), min(count, len(a))):
            x = c.copy()
            x[list(chosen)] = np.where(a > 0, low, high)[list(chosen)]
            values.append(a @ x)
        return min(values)
    if region.ball.norm == "l1":
        # x = c + p - q
        both = np.concatenate([a, -a])
        bounds = [*zip(np.zeros(len(a)), high - c, strict=True), *zip(np.zeros(len(a)), c - low, strict=True)]
        found = linprog(both, A_ub=np.ones((1, 2 * len(a))), b_ub=[float(region.ball.radius)], bounds=bounds)
        return a @ c + found.fun
    # The sphere's arc that the box leaves, by bisection on how much of -a is followed.
    least, most = 0.0, 1e12
    for _ in range(200):
        t = (least + most) / 2
        d = np.clip(-t * a, low - c, high - c)
        least, most = (t, most) if d @ d <= float(region.ball.budget) else (least, t)
    return a @ (c + np.clip(-least * a, low - c, high - c))


@pytest.mark.parametrize("norm", ["l2", "l1", "l0"])
@given(seed=SEEDS)
def test_minima_are_proven_and_attained(norm, seed):
    rng = np.random.default_rng(seed)
    region = drawn(norm, rng)
    A = rng.standard_normal((3, region.inputs)) * rng.choice([1e-3, 1, 1e4], (3, 1))
    A[rng.random(A.shape) < 0.2] = 0
    A[0] = np.round(A[0])
    values, points = region.minimise(A)
    assert (values[:, None] <= A @ region.sample(20, rng).astype(np.float64).T).all()
    for a, value, point in zip(A, values, points, strict=True):
        size = 1e-11 * (1 + np.abs(a).sum())
        assert abs(a @ point - value) <= size
        assert abs(brute_minimum(region, a) - value) <= size + 1e-8 * np.abs(a).sum()
        assert region.ball.spent(point - region.ball.center) <= float(region.ball.budget) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("norm", ["l2", "l1", "l0"])
@given(seed=SEEDS)
def test_any_multiplier_gives_a_valid_bound_on_any_box(norm, seed):
    rng = np.random.default_rng(seed)
    whole = drawn(norm, rng)
    # A sub-box, which may leave the center outside or miss the ball.
    low = np.minimum(
        whole.lower + rng.random(whole.inputs) * (whole.upper - whole.lower) * rng.integers(0, 2), whole.upper
    )
    A = rng.standard_normal((4, whole.inputs))
    lam = rng.exponential(size=4) * rng.choice([0, 1e-3, 1, 1e3], 4)
    best, minimisers = best_lambda(A, low, whole.upper, whole.ball)
    points = [p for p in whole.sample(60, rng).astype(np.float64) if (p >= low).all()]
    for multiplier in (lam, best):
        values = dual_bound(A, low, whole.upper, whole.ball, multiplier)
        for point in points:
            assert (A @ point >= values).all()
    reached = np.clip(minimisers, low, whole.upper)
    inside = whole.ball.spent(reached - whole.ball.center.astype(np.float64)) <= float(whole.ball.budget) * (1 + 1e-12)
    gap = (A * reached).sum(-1) - dual_bound(A, low, whole.upper, whole.ball, best)
    nearest = np.clip(whole.ball.center.astype(np.float64), low, whole.upper)
    if whole.ball.spent(nearest - whole.ball.center) < float(whole.ball.budget) * 0.999:
        assert (gap[inside] <= 1e-9).all()


def constrained(norm, rng):
    region = drawn(norm, rng, inputs=int(rng.integers(2, 6))) if norm != "linf" else Region.box([0] * 4, [1] * 4)
    inside = region.sample(1, rng)[0].astype(np.float64)
    made = []
    for _ in range(rng.integers(1, 4)):
        g = np.round(rng.standard_normal(region.inputs), 2)
        g[0] = g[0] or 1
        made.append(Constraint.of(g.tolist(), str(round(float(g @ inside) + 0.02, 3))))
    return region.constrained(made)


@pytest.mark.parametrize("norm", NORMS)
@given(seed=SEEDS)
@settings(max_examples=40)
def test_constrained_regions(norm, seed):
    rng = np.random.default_rng(seed)
    region = constrained(norm, rng)
    points = region.sample(10, rng)
    A = rng.standard_normal((2, region.inputs))
    values, _ = region.minimise(A)
    for point in points if region.center is not None else ():
        assert region.contains(point)
        exactly = [Fraction(float(v)) for v in point]
        assert region.contains_exactly(exactly)
        for constraint in region.constraints:
            total = sum(v * exactly[i] for i, v in zip(constraint.indices, constraint.values, strict=True))
            assert total <= constraint.bound
        assert (A @ point.astype(np.float64) >= values).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_center_is_found_where_constraints_leave_room(norm):
    centers = [constrained(norm, np.random.default_rng(seed)).center for seed in range(60)]
    assert sum(center is not None for center in centers) >= 58


@given(seed=SEEDS)
def test_one_constraint_on_a_box_is_met_exactly(seed):
    rng = np.random.default_rng(seed)
    g, b = np.round(rng.standard_normal(5), 3), round(float(rng.standard_normal()), 3)
    region = Region.box([-1] * 5, [1] * 5)
    halfspace = Constraint.of(g.tolist(), b)
    if halfspace.least(region.exact_lower, region.exact_upper) > halfspace.bound:
        return
    a = rng.standard_normal(5)
    found = linprog(a, A_ub=g[None], b_ub=[b], bounds=[(-1, 1)] * 5)
    value = region.constrained([halfspace]).minimise(a[None])[0][0]
    assert value == pytest.approx(found.fun, abs=1e-7)


def test_linf_balls_are_boxes():
    region = Region.norm_ball([0.25, 0.5], "0.1", "linf", (0, 1))
    assert region.ball is None
    assert region.plain
    assert region.exact_lower == (Fraction(3, 20), Fraction(2, 5))
    assert region.statement == {"kind": "ball", "norm": "linf", "epsilon": "0.1", "domain": ["0", "1"]}


def test_radii_and_frozen_entries():
    region = Region.norm_ball([0.25, 0.5, 1], None, "linf", (0, 1), radii=["0.1", "0.5", "0.25"], frozen=[1])
    assert region.exact_lower == (Fraction(3, 20), Fraction(1, 2), Fraction(3, 4))
    assert region.exact_upper == (Fraction(7, 20), Fraction(1, 2), 1)
    assert region.statement["radii"] == ["0.1", "0.5", "0.25"]
    assert region.statement["frozen"] == [1]
    both = Region.norm_ball([0.25, 0.5], "0.2", "l2", radii=["0.1", 1])
    assert both.exact_upper == (Fraction(7, 20), Fraction(7, 10))
    assert Region.norm_ball([0, 0], 1, "l0", radii=[1, 2]).exact_upper == (1, 2)
    assert Region.norm_ball([3, 4], 0, "l0").exact_upper == (3, 4)


def test_statements_say_what_was_asked():
    region = Region.norm_ball([0.5, 0.5], "1.5", "l2", (0, 1)).constrained([Constraint.of({1: "-1/3"}, "0.5")])
    assert region.statement == {
        "kind": "ball",
        "norm": "l2",
        "epsilon": "1.5",
        "domain": ["0", "1"],
        "constraints": [{"coefficients": {"1": "-1/3"}, "bound": "0.5"}],
    }
    assert Region.box([0], [1]).statement == {"kind": "box"}


def test_constraints_read_decimals_as_written():
    constraint = Constraint.of([0.1, 0, "1/3"], 0.3)
    assert constraint == Constraint.of({2: "1/3", 0: "0.1"}, "0.3")
    assert constraint.values == (Fraction(1, 10), Fraction(1, 3))
    assert Halfspaces.of([constraint], 3).h[0] >= exact("0.3")


def refusals():
    ball = Region.norm_ball
    return [
        (lambda: ball([0.5], -1, "l2"), "at least 0"),
        (lambda: ball([0.5], "0.5", "l0", (0, 1)), "whole number"),
        (lambda: ball([0.5], 1, "l0"), "give a domain"),
        (lambda: ball([0.5], None, "l2"), "epsilon must be a finite number"),
        (lambda: ball([0.5], 1, "l3"), "linf, l2, l1, l0"),
        (lambda: ball([1.5], 1, "l2", (0, 1)), "outside the domain"),
        (lambda: ball([0.5], None, "linf", radii=[1, 2]), "2 radii"),
        (lambda: ball([0.5], None, "linf", radii=[-1]), "radius -1"),
        (lambda: ball([0.5], 1, "l1", frozen=[1]), "frozen names input entry 1"),
        (lambda: ball([np.nan], 1, "l1"), "finite"),
        (lambda: Ball("linf", np.zeros(1, np.float32), Fraction(1)), "one of l2, l1, l0"),
        (
            lambda: Region((Fraction(1),), (Fraction(2),), ball=Ball("l2", np.zeros(1, np.float32), Fraction(1))),
            "bounding",
        ),
        (lambda: Constraint.of([0, 0], 1), "not zero"),
        (lambda: Constraint.of([float("nan")], 1), "finite"),
        (lambda: Constraint.of({-1: 1}, 1), "at least 0"),
        (lambda: Region.box([0], [1]).constrained([Constraint.of({1: 1}, 0)]), "names input entry 1"),
        (lambda: Region.box([0], [1]).constrained([Constraint.of({0: 1}, -1)]), "empty"),
        (
            lambda: Region.box([0], [1]).constrained([Constraint.of({0: 1}, "0.3"), Constraint.of({0: -1}, "-0.5")]),
            "contradict",
        ),
        (lambda: ball([0.5, 0.5], "0.1", "l2").constrained([Constraint.of([1, 1], "0.8")]), "contradict"),
        (lambda: Region.box([0], [1]).constrained([Constraint.of({0: "1e-300"}, 1)]), "float64"),
    ]


@pytest.mark.parametrize(("make", "words"), refusals())
def test_refusals_say_what_to_do(make, words):
    with pytest.raises(RegionError, match=words):
        make()
