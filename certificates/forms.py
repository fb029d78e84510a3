"""Linear forms of the outputs, which claims say to be positive."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np
from numpy.typing import NDArray

from networks.exact import enclose
from networks.property import Clause

__all__ = ["Form", "rounded_down"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Form:
    """A nonnegative combination of a clause's rows, to be shown positive.

    Attributes:
        exact, constant: coefficients and offset.
        C: the coefficients rounded down, shape ``(outputs,)``; ``error``: by how much at most.
        offset: the constant rounded down.
        total: the sum of the weights.
    """

    label: str
    exact: list[Fraction]
    constant: Fraction
    C: Array
    error: Array
    offset: float
    total: Fraction

    @classmethod
    def of(cls, clause: Clause, weights: tuple[float, ...]) -> Self:
        """The combination with these weights, or a positive multiple of it."""
        scale = [Fraction(w) for w in weights]
        if sum(w > 0 for w in scale) == 1:
            scale = [Fraction(int(w > 0)) for w in scale]  # a positive factor changes no sign
        constant = sum((w * row.offset for w, row in zip(scale, clause.rows, strict=True)), Fraction(0))
        coefficients = [Fraction(0)] * clause.outputs
        for w, row in zip(scale, clause.rows, strict=True):
            for i, c in row.coefficients:
                coefficients[i] += w * c
        try:
            low, high = enclose(coefficients)
        except ValueError:  # beyond float64, which then claims nothing
            low, high = np.zeros(clause.outputs), np.full(clause.outputs, np.inf)
        return cls(
            clause.label, coefficients, constant, low, high - low, rounded_down(constant), sum(scale, Fraction(0))
        )

    def of_unit_weight(self, bound: float) -> float:
        """What a bound of the form comes to, rounded down, with weights that sum to 1.

        So it is a bound of the largest row, too, and no certificate makes it greater by greater weights.
        """
        if self.total in (0, 1) or not np.isfinite(bound):
            return bound
        return rounded_down(Fraction(bound) / self.total)


def rounded_down(value: Fraction) -> float:
    """The largest float at most the value, -inf for none."""
    try:
        return float(enclose([value])[0][0])
    except ValueError:
        return -np.inf if value < 0 else float(np.finfo(np.float64).max)
