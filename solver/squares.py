"""Weighted squared distances, the one nonlinear term of these models: ``Σ_i w_i (v_i − c_i)²`` with ``w_i > 0``.

They are convex and separable, so each square has tangents of its own: ``(v − c)² ≥ 2 p (v − c) − p²`` for every p, with
equality at ``v = c + p``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["QuadraticConstraint", "Squares", "compile_squares"]


@dataclass(frozen=True, slots=True, eq=False)
class Squares:
    """``Σ_i weights_i (v[columns_i] − centers_i)²``; each column once, all arrays of shape ``(k,)``."""

    columns: NDArray[np.int64]
    weights: NDArray[np.float64]
    centers: NDArray[np.float64]

    def value(self, v: NDArray[np.float64]) -> float:
        """The sum at ``v``, shape ``(n,)``."""
        return float(self.weights @ (v[self.columns] - self.centers) ** 2)

    def most(self, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> float:
        """The largest value over the box, shapes ``(n,)``."""
        ends = np.stack([lower[self.columns], upper[self.columns]]) - self.centers
        return float(self.weights @ (ends**2).max(axis=0))

    def over(self, columns: NDArray[np.float64]) -> Squares:
        """The same in ``v' = v / columns``, shape ``(n,)``, powers of two."""
        factor = columns[self.columns]
        return Squares(self.columns, self.weights * factor**2, self.centers / factor)

    def times(self, factor: float) -> Squares:
        return Squares(self.columns, self.weights * factor, self.centers)


@dataclass(frozen=True, slots=True, eq=False)
class QuadraticConstraint:
    """The constraint ``squares ≤ limit``."""

    squares: Squares
    limit: float

    def violation(self, v: NDArray[np.float64]) -> float:
        """By how much ``v``, shape ``(n,)``, is outside; negative inside."""
        return self.squares.value(v) - self.limit


def compile_squares(expression: Any, column: dict[int, int]) -> Squares:
    """A Pyomo expression ``Σ w_i (v_i − c_i)²`` as `Squares`.

    Args:
        expression: as Pyomo wrote it.
        column: the column of each variable, by its `id`.
    """
    from pyomo.repn import generate_standard_repn

    form = generate_standard_repn(expression, quadratic=True)
    weights = {id(first): float(w) for w, (first, _) in zip(form.quadratic_coefs, form.quadratic_vars, strict=True)}
    linear = {id(v): float(w) for w, v in zip(form.linear_coefs, form.linear_vars, strict=True)}
    # −2 w c, which is exact for w = 1.
    centers = [-linear.get(v, 0.0) / (2 * w) for v, w in weights.items()]
    columns = [column[v] for v in weights]
    return Squares(np.array(columns, dtype=np.int64), np.array(list(weights.values())), np.array(centers))
