from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from solver.compiled import CompiledModel, scale
from solver.errors import NumericsError


def build(matrix, row_lower, row_upper, lower, upper, cost, offset=0.0, integral=None):
    columns = len(lower)
    return CompiledModel(
        np.asarray(cost, float),
        offset,
        csr_array(np.asarray(matrix, float)),
        np.asarray(row_lower, float),
        np.asarray(row_upper, float),
        np.asarray(lower, float),
        np.asarray(upper, float),
        np.zeros(columns, bool) if integral is None else np.asarray(integral, bool),
    )


def test_scaling_is_exact_and_brings_columns_and_rows_to_one():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(5, 4)) * 10.0 ** rng.integers(-5, 6, (5, 1))
    model = build(
        matrix, [-np.inf] * 5, rng.normal(size=5), -(2.0 ** np.arange(4)), 1e6 * np.ones(4), rng.normal(size=4), 3.0
    )
    scaled = scale(model)
    assert np.abs(scaled.model.upper).max() <= 1
    assert np.all(np.abs(scaled.model.matrix.toarray()).max(axis=1) > 0.5)
    assert np.abs(scaled.model.matrix.toarray()).max() <= 1
    v = rng.uniform(-1, 1, 4)
    assert scaled.model.objective(scaled.shrink(v)) * scaled.unit == pytest.approx(model.objective(v), rel=1e-15)
    assert np.array_equal(scaled.restore(scaled.shrink(v)), v)
    mantissas = np.frexp(scaled.columns)[0]
    assert np.all(mantissas == 0.5)


def test_binaries_are_not_scaled():
    scaled = scale(build([[4.0, 100.0]], [-np.inf], [8.0], [0, 0], [64, 1], [1, 1], integral=[False, True]))
    assert scaled.columns.tolist() == [64.0, 1.0]


def test_a_vanishing_term_widens_its_row_instead_of_being_lost():
    # x + 1e-12 y = 0.5 with y up to 1: without y, x may be anything in [0.5 − 1e-12, 0.5].
    scaled = scale(build([[1.0, 1e-12]], [0.5], [0.5], [0, 0], [1, 1], [1, 0]))
    assert scaled.model.matrix.nnz == 1
    assert scaled.model.row_lower[0] <= 0.5 - 1e-12
    assert scaled.model.row_upper[0] >= 0.5


def test_below_adds_the_objective_as_a_row():
    model = build([[1.0, 1.0]], [0.5], [np.inf], [0, 0], [1, 1], [1, 2], offset=0.25).below(1.0)
    assert model.rows == 2
    assert model.violation(np.array([0.5, 0.125])) == 0
    assert model.violation(np.array([0.5, 0.5])) == pytest.approx(0.75)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_numbers_that_are_not_finite_are_refused(bad):
    with pytest.raises(NumericsError, match="not finite"):
        scale(build([[bad]], [0], [1], [0], [1], [1]))


def test_a_constant_that_dwarfs_its_row_is_refused():
    with pytest.raises(NumericsError, match="times larger"):
        scale(build([[1.0]], [1e15], [np.inf], [0], [1], [1]))
