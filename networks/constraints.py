"""Linear constraints on a network's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from networks.errors import RegionError
from networks.exact import Number, enclose, exact, written

__all__ = ["Constraint", "Halfspaces"]

_SMALLEST = 1e-280


@dataclass(frozen=True)
class Constraint:
    """``Σ_k values[k] · x[indices[k]] ≤ bound``, with rational coefficients.

    Attributes:
        indices: input entries, ascending, each at most once.
        values: their coefficients, none of them zero.
        bound: the right-hand side.
    """

    indices: tuple[int, ...]
    values: tuple[Fraction, ...]
    bound: Fraction

    @classmethod
    def of(cls, coefficients: Mapping[int, Number] | Sequence[Number], bound: Number) -> Self:
        """The constraint with these coefficients, by input entry or one for each; decimals are taken as written.

        Raises:
            RegionError: a number is not finite, an entry's index is negative, or all coefficients are zero.
        """
        pairs = coefficients.items() if isinstance(coefficients, Mapping) else enumerate(coefficients)
        try:
            found = sorted((int(i), exact(value)) for i, value in pairs)
            limit = exact(bound)
        except (ValueError, TypeError) as error:
            msg = f"a constraint needs finite numbers as coefficients and as its bound: {error}"
            raise RegionError(msg) from error
        found = [(i, value) for i, value in found if value]
        if not found:
            msg = "a constraint needs a coefficient that is not zero"
            raise RegionError(msg)
        if found[0][0] < 0:
            msg = f"a constraint names input entries by indices of at least 0, got {found[0][0]}"
            raise RegionError(msg)
        return cls(tuple(i for i, _ in found), tuple(value for _, value in found), limit)

    def holds(self, x: Sequence[Fraction] | Sequence[float]) -> bool:
        """Whether the point with these rational entries, or with these floats taken exactly, keeps the constraint."""
        entries = zip(self.indices, self.values, strict=True)
        return sum((value * Fraction(x[i]) for i, value in entries), Fraction(0)) <= self.bound

    def least(self, lower: Sequence[Fraction], upper: Sequence[Fraction]) -> Fraction:
        """The least value of the left-hand side over a box."""
        entries = zip(self.indices, self.values, strict=True)
        return sum((value * (lower[i] if value > 0 else upper[i]) for i, value in entries), Fraction(0))

    @property
    def statement(self) -> dict[str, Any]:
        """The constraint in JSON, as `of` reads it."""
        entries = zip(self.indices, self.values, strict=True)
        return {"coefficients": {str(i): written(value) for i, value in entries}, "bound": written(self.bound)}


@dataclass(frozen=True, eq=False)
class Halfspaces:
    """Constraints ``G x ≤ h`` in float64.

    Attributes:
        G: the coefficients, shape ``(constraints, inputs)``, each off by at most 2⁻⁵³ of itself.
        h: right-hand sides rounded up, shape ``(constraints,)``.
    """

    G: NDArray[np.float64]
    h: NDArray[np.float64]

    @classmethod
    def of(cls, constraints: Sequence[Constraint], inputs: int) -> Self:
        G = np.zeros((len(constraints), inputs))
        try:
            for row, constraint in enumerate(constraints):
                values = [float(value) for value in constraint.values]
                if min(map(abs, values)) < _SMALLEST:
                    raise OverflowError
                G[row, list(constraint.indices)] = values
            h = enclose(constraint.bound for constraint in constraints)[1]
        except (OverflowError, ValueError) as error:
            msg = f"the numbers of a constraint must be within float64, and its coefficients at least {_SMALLEST:g}"
            raise RegionError(msg) from error
        return cls(G, h)
