from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import csr_array

from solver.backends import BACKENDS, MilpStatus
from solver.compiled import CompiledModel, scale
from solver.options import Backend
from solver.outer_approximation import minimise_convex
from solver.squares import QuadraticConstraint, Squares
from tests.solver.oracle import nearest_point

HIGHS = BACKENDS[Backend.HIGHS]


def convex(seed, *, limited=False, continuous=6, binaries=5, rows=8):
    """Random rows around a feasible point: squares are minimised, or limited by their value there."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, continuous + binaries))
    point = np.concatenate([rng.uniform(-1, 1, continuous), rng.integers(0, 2, binaries)])
    squares = Squares(np.arange(continuous), rng.uniform(0.5, 2, continuous), rng.uniform(-1, 1, continuous))
    return CompiledModel(
        cost=rng.normal(size=continuous + binaries) if limited else np.zeros(continuous + binaries),
        offset=0.5,
        matrix=csr_array(matrix),
        row_lower=np.full(rows, -np.inf),
        row_upper=matrix @ point + 0.1,
        lower=np.concatenate([-np.ones(continuous), np.zeros(binaries)]),
        upper=np.ones(continuous + binaries),
        integral=np.arange(continuous + binaries) >= continuous,
        squares=None if limited else squares,
        quadratic=(QuadraticConstraint(squares, squares.value(point) * 1.01),) if limited else (),
    )


def brute_force(model):
    """The least value of the squares over all integers, each an exact projection."""
    continuous = ~model.integral
    weight = np.sqrt(model.squares.weights)
    best = math.inf
    for bits in itertools.product((0.0, 1.0), repeat=int(model.integral.sum())):
        A = np.concatenate([model.matrix.toarray()[:, continuous], np.eye(len(weight)), -np.eye(len(weight))])
        side = model.row_upper - model.matrix.toarray()[:, ~continuous] @ np.array(bits)
        b = np.concatenate([side, model.upper[continuous], -model.lower[continuous]])
        if linprog(np.zeros(len(weight)), A_ub=A, b_ub=b, bounds=(None, None)).status == 2:
            continue
        found = nearest_point(model.squares.centers * weight, A / weight, b)
        best = min(best, float(((found - model.squares.centers * weight) ** 2).sum()) + model.offset)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_highs_minimises_squares_as_brute_force_does(seed):
    model = convex(seed)
    scaled = scale(model)
    outcome = minimise_convex(HIGHS, scaled.model)
    least = brute_force(model)
    assert outcome.status is MilpStatus.OPTIMAL
    assert outcome.primal * scaled.unit == pytest.approx(least, abs=1e-6)
    assert least - 1e-6 <= outcome.dual * scaled.unit <= least + 1e-9
    assert model.violation(scaled.restore(outcome.v)) < 1e-7
    assert model.objective(scaled.restore(outcome.v)) == pytest.approx(outcome.primal * scaled.unit)


@pytest.mark.gurobi
@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_gurobi_and_outer_approximation_agree(seed, limited):
    scaled = scale(convex(seed, limited=limited))
    by_gurobi = minimise_convex(BACKENDS[Backend.GUROBI], scaled.model)
    by_highs = minimise_convex(HIGHS, scaled.model)
    assert by_gurobi.status is by_highs.status is MilpStatus.OPTIMAL
    assert by_highs.primal == pytest.approx(by_gurobi.primal, abs=1e-6)
    assert by_highs.dual <= by_gurobi.primal + 1e-8
    if limited:
        assert scaled.model.quadratic[0].violation(by_highs.v) <= 1e-7


def test_tangents_cut_off_no_point_of_the_model():
    """A dual bound holds although tangents are rounded: no feasible point has a smaller objective."""
    rng = np.random.default_rng(0)
    model = convex(1, binaries=0, rows=3)
    scaled = scale(model)
    outcome = minimise_convex(HIGHS, scaled.model)
    points = rng.uniform(-1, 1, (20_000, model.columns))
    inside = points[(points @ model.matrix.toarray().T <= model.row_upper).all(axis=1)]
    assert len(inside) > 50
    assert min(map(model.objective, inside)) >= outcome.dual * scaled.unit


def test_an_empty_model_is_infeasible():
    model = convex(0)
    none = CompiledModel(**{**vars(model), "row_upper": np.full(model.rows, -100.0)})
    assert minimise_convex(HIGHS, scale(none).model).status is MilpStatus.INFEASIBLE


def test_a_limit_that_nothing_keeps_is_infeasible():
    model = convex(0, limited=True)
    row = model.quadratic[0]
    least = brute_force(CompiledModel(**{**vars(model), "quadratic": (), "squares": row.squares, "offset": 0.0}))
    tight = QuadraticConstraint(row.squares, least * 0.99)
    assert least > 0.01
    none = CompiledModel(**{**vars(model), "quadratic": (tight,)})
    assert minimise_convex(HIGHS, scale(none).model).status is MilpStatus.INFEASIBLE


def test_it_stops_where_the_bound_is_good_enough():
    scaled = scale(convex(3))
    full = minimise_convex(HIGHS, scaled.model)
    early = minimise_convex(HIGHS, scaled.model, stop_above=full.primal - 0.1)
    assert early.status in {MilpStatus.BOUND, MilpStatus.OPTIMAL}
    assert early.dual >= full.primal - 0.1
    over = minimise_convex(HIGHS, scaled.model, deadline=time.monotonic() - 1)
    assert over.status is MilpStatus.TIMEOUT
    assert over.dual <= full.primal


def test_incumbents_are_points_of_the_model_itself():
    scaled = scale(convex(2))
    seen = []

    def take(v, objective):
        seen.append((v, objective))
        return False

    minimise_convex(HIGHS, scaled.model, on_incumbent=take)
    assert seen
    assert all(len(v) == scaled.model.columns for v, _ in seen)
    assert all(objective == scaled.model.objective(v) for v, objective in seen)
