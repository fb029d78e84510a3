"""A mixed-integer model as matrices, scaled so that a solver's absolute tolerances mean the same everywhere.

Solvers work with absolute tolerances around 1e-9, ignore coefficients near that size and refuse very large ones.
`scale` therefore brings every column and row to a range of about one by powers of two, which is exact. It corresponds
to rescaling the layers of a ReLU network: ReLU is positively homogeneous.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from solver.errors import NumericsError
from solver.squares import QuadraticConstraint, Squares

__all__ = ["LARGEST", "SMALLEST", "TOLERANCE", "CompiledModel", "ScaledModel", "scale", "scale_rows"]

#: Feasibility, optimality and integrality tolerance that every back end sets.
TOLERANCE = 1e-9

#: Terms of a scaled row that are smaller than this are below what solvers resolve; HiGHS would drop them.
SMALLEST = 1e-9

#: Coefficients and sides beyond this cannot be told apart from infinity; HiGHS refuses them from 1e15 on.
LARGEST = 1e12


@dataclass(frozen=True, eq=False)
class CompiledModel:
    """``min c·v + d`` subject to ``row_lower ≤ A v ≤ row_upper``, ``lower ≤ v ≤ upper``, v_j integral where
    ``integral``; with `Squares` added to the objective, and in constraints, where the question is about an ℓ2 norm.

    Attributes:
        cost: c, shape ``(n,)``.
        offset: d.
        matrix: A, CSR, shape ``(m, n)``, int32 indices.
        row_lower, row_upper: shape ``(m,)``; −inf and +inf where a row has no such side.
        lower, upper: shape ``(n,)``, finite.
        integral: bool, shape ``(n,)``.
        squares: a convex term of the objective; None in a linear model.
        quadratic: convex constraints; empty in a linear model.
    """

    cost: NDArray[np.float64]
    offset: float
    matrix: csr_array
    row_lower: NDArray[np.float64]
    row_upper: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    integral: NDArray[np.bool_]
    squares: Squares | None = None
    quadratic: tuple[QuadraticConstraint, ...] = ()

    @property
    def linear(self) -> bool:
        """Whether a solver for linear models will do."""
        return self.squares is None and not self.quadratic

    @property
    def columns(self) -> int:
        return int(self.lower.shape[0])

    @property
    def rows(self) -> int:
        return int(self.row_lower.shape[0])

    @property
    def binaries(self) -> int:
        return int(self.integral.sum())

    @property
    def magnitude(self) -> float:
        """``Σ |c_j|·max|v_j| + |d|``: the largest size that the objective's terms can sum to."""
        return float(np.abs(self.cost) @ np.maximum(np.abs(self.lower), np.abs(self.upper)) + abs(self.offset))

    def extended(self, matrix: csr_array, sides: NDArray[np.float64]) -> CompiledModel:
        """The model with the rows ``matrix · v ≤ sides`` too; shapes ``(R, n)`` and ``(R,)``."""
        return replace(
            self,
            matrix=csr_array(vstack([self.matrix, matrix])),
            row_lower=np.append(self.row_lower, np.full(len(sides), -np.inf)),
            row_upper=np.append(self.row_upper, sides),
        )

    def below(self, limit: float) -> CompiledModel:
        """The model with the row ``objective ≤ limit``: what lies above is of no interest and need not be searched.

        The objective must be linear.
        """
        return self.extended(csr_array(self.cost[None]), np.array([limit - self.offset]))

    def dual_bound(self, multipliers: NDArray[np.float64]) -> float:
        """Rigorous lower bound of the objective without integrality, from any row multipliers, shape ``(m,)``.

        Squares are left out: they are nonnegative in the objective, and only restrict as constraints.

        ``y·s + Σ_j min{(c − Aᵀy)_j v : v ∈ [lower_j, upper_j]} + d``, s_i the side of row i that y_i's sign asks for (0
        where there is none), less the rounding of these sums: all of them together have at most ``m + n + 16`` terms
        one after the other (Neumaier & Shcherbina, *Math. Programming* 2004; Higham §3.1).
        """
        side = np.where(multipliers > 0, self.row_lower, self.row_upper)
        y = np.where(np.isfinite(side) & np.isfinite(multipliers), multipliers, 0.0)
        side = np.where(y == 0, 0.0, side)
        reduced = self.cost - self.matrix.T @ y
        value = y @ side + np.minimum(reduced * self.lower, reduced * self.upper).sum() + self.offset
        reach = np.maximum(np.abs(self.lower), np.abs(self.upper))
        magnitude = np.abs(y) @ np.abs(side) + (np.abs(self.cost) + abs(self.matrix).T @ np.abs(y)) @ reach
        bound = float(value - 2.0**-51 * (self.rows + self.columns + 16) * (magnitude + abs(self.offset)))
        return bound if np.isfinite(bound) else -np.inf

    def objective(self, v: NDArray[np.float64]) -> float:
        """``c·v + d`` and the squares at ``v``, shape ``(n,)``."""
        return float(self.cost @ v + self.offset) + (self.squares.value(v) if self.squares is not None else 0.0)

    def violation(self, v: NDArray[np.float64]) -> float:
        """By how much ``v``, shape ``(n,)``, breaks the worst constraint or bound; integrality is not looked at."""
        activity = self.matrix @ v
        outside = np.array([row.violation(v) for row in self.quadratic])
        gaps = (self.row_lower - activity, activity - self.row_upper, self.lower - v, v - self.upper, outside)
        return max((float(gap.max(initial=0.0)) for gap in gaps), default=0.0)


@dataclass(frozen=True, eq=False)
class ScaledModel:
    """``model`` in scaled columns v' and objective: ``v = columns·v'`` and ``objective = unit·objective'``."""

    model: CompiledModel
    columns: NDArray[np.float64]
    unit: float

    def restore(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """A scaled point in the original columns, shape ``(n,)``."""
        return self.columns * v

    def shrink(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """A point of the original model in scaled columns, shape ``(n,)``."""
        return v / self.columns


def scale(model: CompiledModel) -> ScaledModel:
    """``model`` with columns, rows and objective scaled by powers of two.

    Every continuous column is divided by the power of two just above ``max(|lower|, |upper|)``, so that ``|v'| ≤ 1``;
    then every row and the objective by the one just above its largest coefficient, and every quadratic constraint by
    the one just above its limit. Terms that remain below `SMALLEST` are replaced by the interval of the values that
    they take, moved to the row's sides.

    Soundness: scaling by powers of two is exact (coefficients are far from the subnormal range, or are treated as
    vanishing terms); replacing terms by their interval only adds feasible points. So the scaled model's
    minimum is at most ``1/unit`` times the original's.

    Raises:
        NumericsError: a number is not finite or cannot be scaled into the range that solvers handle faithfully.
    """
    for values in (model.matrix.data, model.lower, model.upper, model.cost):
        if not np.isfinite(values).all():
            msg = "the MILP model has numbers that are not finite: weights or region are too large; use --engine bab"
            raise NumericsError(msg)
    reach = np.maximum(np.abs(model.lower), np.abs(model.upper))
    columns = np.where(model.integral, 1.0, _power_above(reach))
    matrix, row_lower, row_upper = scale_rows(model.matrix @ _diagonal(columns), model.row_lower, model.row_upper)
    lower, upper = model.lower / columns, model.upper / columns
    matrix, row_lower, row_upper = _absorb_small_terms(matrix, row_lower, row_upper, lower, upper)
    cost = model.cost * columns
    squares = model.squares.over(columns) if model.squares is not None else None
    weights = squares.weights if squares is not None else np.zeros(0)
    unit = float(_power_above(np.abs(np.append(cost, weights)).max(initial=0.0, keepdims=True))[0])
    cost = cost / unit
    sides = np.abs(np.concatenate([row_lower, row_upper]))
    if sides[np.isfinite(sides)].max(initial=0.0) > LARGEST:
        msg = (
            f"a constant of the MILP model is {sides[np.isfinite(sides)].max():.3g} times larger than everything that "
            f"varies in its row (the limit is {LARGEST:g}), beyond what MIP solvers represent; use --engine bab"
        )
        raise NumericsError(msg)
    scaled = replace(
        model,
        cost=cost,
        offset=model.offset / unit,
        matrix=matrix,
        row_lower=row_lower,
        row_upper=row_upper,
        lower=lower,
        upper=upper,
        squares=squares.times(1 / unit) if squares is not None else None,
        quadratic=tuple(_scale_quadratic(row, columns) for row in model.quadratic),
    )
    return ScaledModel(scaled, columns, unit)


def scale_rows(matrix: csr_array, *sides: NDArray[np.float64]) -> tuple[Any, ...]:
    """Rows and their sides, each divided by the power of two just above its largest coefficient."""
    rows = 1.0 / _power_above(_row_maxima(matrix))
    return csr_array(_diagonal(rows) @ matrix), *(side * rows for side in sides)


def _scale_quadratic(row: QuadraticConstraint, columns: NDArray[np.float64]) -> QuadraticConstraint:
    squares = row.squares.over(columns)
    size = row.limit if row.limit > 0 else float(squares.weights.max(initial=0.0))
    factor = 1.0 / float(_power_above(np.array([size]))[0])
    return QuadraticConstraint(squares.times(factor), row.limit * factor)


def _power_above(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The power of two in ``[x, 2x)`` for each x > 0, and 1 for 0."""
    mantissa, exponent = np.frexp(values)
    exponent = np.where(mantissa == 0.5, exponent - 1, exponent)
    return np.where(values > 0, np.ldexp(1.0, np.clip(exponent, -1000, 1000)), 1.0)


def _diagonal(values: NDArray[np.float64]) -> csr_array:
    size = values.shape[0]
    steps = np.arange(size + 1, dtype=np.int32)
    return csr_array((values, steps[:-1], steps), shape=(size, size))


def _row_maxima(matrix: csr_array) -> NDArray[np.float64]:
    if matrix.shape[0] == 0 or matrix.nnz == 0:
        return np.zeros(matrix.shape[0])
    return np.asarray(abs(matrix).max(axis=1).todense()).reshape(-1)


def _absorb_small_terms(
    matrix: csr_array,
    row_lower: NDArray[np.float64],
    row_upper: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> tuple[csr_array, NDArray[np.float64], NDArray[np.float64]]:
    small = np.abs(matrix.data) < SMALLEST
    if not small.any():
        return matrix, row_lower, row_upper
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))[small]
    value, column = matrix.data[small], matrix.indices[small]
    ends = np.stack([value * lower[column], value * upper[column]])
    least = np.zeros(matrix.shape[0])
    most = np.zeros(matrix.shape[0])
    np.add.at(least, row, ends.min(axis=0))
    np.add.at(most, row, ends.max(axis=0))
    # A row's interval is widened a little more than by the terms' own, which covers the rounding of these sums.
    slack = 2**-40 * np.maximum(np.abs(least), np.abs(most))
    data = np.where(small, 0.0, matrix.data)
    kept = csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
    kept.eliminate_zeros()
    return kept, row_lower - most - slack, row_upper - least + slack
