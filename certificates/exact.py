"""The formula of `certificates.enclosure` in exact arithmetic, one claim at a time: no rounding, nothing charged.

Every number is dyadic, an integer times a power of two, because weights, multipliers and bounds are binary floats. So
vectors of Python integers with one common exponent are all that is needed. Pre-activation bounds are those of
`certificates.enclosure`, which are rigorous; what is exact is what they, the multipliers and the weights imply.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certificates.enclosure import Boxes, Cell, choose, default, supplied
from certificates.maps import rows
from networks.graph import AffineNode, LinearMap, Network, ReluNode

__all__ = ["exact_lower_bound"]

Array = NDArray[np.float64]

# Rows of a linear map that are written out at a time.
_ROWS = 128


@dataclass(frozen=True, eq=False)
class _Dyadic:
    """``integers · 2^-shift``; ``integers`` is an object array of Python integers."""

    integers: NDArray[Any]
    shift: int

    @classmethod
    def of(cls, values: Array) -> _Dyadic:
        mantissa, exponent = np.frexp(values)
        integers = (mantissa * 2.0**53).astype(np.int64).astype(object)
        low = int(exponent[values != 0].min(initial=2000))
        up = np.where(values != 0, exponent - low, 0).astype(object)
        return cls(np.left_shift(integers, up), 53 - low)

    def at(self, shift: int) -> NDArray[Any]:
        """The integers for a greater shift."""
        integers: NDArray[Any] = self.integers * 2 ** (shift - self.shift)
        return integers

    def nearest(self) -> Array:
        """Floats near the values, for choosing multipliers."""
        scale = 2**self.shift if self.shift >= 0 else Fraction(1, 2**-self.shift)
        return np.array([_float(Fraction(v) / scale) for v in self.integers.tolist()])

    def __add__(self, other: _Dyadic) -> _Dyadic:
        shift = max(self.shift, other.shift)
        return _Dyadic(self.at(shift) + other.at(shift), shift)

    def __mul__(self, other: _Dyadic) -> _Dyadic:
        return _Dyadic(self.integers * other.integers, self.shift + other.shift)

    def __neg__(self) -> _Dyadic:
        return _Dyadic(-self.integers, self.shift)

    def total(self) -> Fraction:
        return Fraction(int(self.integers.sum())) / Fraction(2) ** self.shift


def _float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def _least(a: _Dyadic, b: _Dyadic) -> _Dyadic:
    shift = max(a.shift, b.shift)
    return _Dyadic(np.minimum(a.at(shift), b.at(shift)), shift)


def exact_lower_bound(network: Network, bounds: Boxes, C: Array, box: int, cell: Cell) -> Fraction | None:
    """The formula's exact value for ``C · output`` on a cell; None where a bound that it needs is infinite.

    Multipliers that the certificate does not supply are those of the default slopes, rounded to floats.
    """
    pending = {len(network.nodes) - 1: _Dyadic.of(C)}
    value = Fraction(0)
    for index in range(len(network.nodes) - 1, 0, -1):
        A = pending.pop(index, None)
        if A is None:
            continue
        node = network.nodes[index]
        passed: list[tuple[int, _Dyadic]]
        if isinstance(node, AffineNode):
            value += (A * _Dyadic.of(node.bias)).total()
            passed = [(parent, _adjoint(linear, A)) for parent, linear in node.terms]
        else:
            assert isinstance(node, ReluNode)
            low, high = bounds.pre_lower[index][box].copy(), bounds.pre_upper[index][box].copy()
            if not (np.isfinite(low).all() and np.isfinite(high).all()):
                return None
            choose(low, high, cell, index)
            L = _multipliers(A, low, high, cell, index)
            if L is None:
                return None
            value += _relu(A, L, low, high)
            passed = [(node.parent, L)]
        for parent, row in passed:
            pending[parent] = pending[parent] + row if parent in pending else row
    A = pending.pop(0, _Dyadic.of(np.zeros(network.inputs)))
    return value + _least(A * _Dyadic.of(cell.lower), A * _Dyadic.of(cell.upper)).total()


def _multipliers(A: _Dyadic, low: Array, high: Array, cell: Cell, index: int) -> _Dyadic | None:
    """Λ: floats near what `certificates.enclosure` uses; exactly A where the sign is known to be positive."""
    near = A.nearest()
    if not np.isfinite(near).all():
        return None
    L = default(near[None], low[None], high[None])[0]
    supplied(L, near, low, high, cell, index)
    if not np.isfinite(L).all():
        return None
    rounded = _Dyadic.of(L)
    shift = max(A.shift, rounded.shift)
    return _Dyadic(np.where((low >= 0) & (near == L), A.at(shift), rounded.at(shift)), shift)


def _relu(A: _Dyadic, L: _Dyadic, low: Array, high: Array) -> Fraction:
    """``Σ_j min{A_j relu(z) − Λ_j z : z ∈ {l_j, u_j, 0 if l_j < 0 < u_j}}``."""

    def vertex(z: Array) -> _Dyadic:
        return A * _Dyadic.of(np.maximum(z, 0)) + -(L * _Dyadic.of(z))

    least = _least(vertex(low), vertex(high))
    inside = (low < 0) & (high > 0)
    return _Dyadic(np.where(inside, np.minimum(least.integers, 0), least.integers), least.shift).total()


def _adjoint(linear: LinearMap, A: _Dyadic) -> _Dyadic:
    """``A L``, from the rows of L where A is not zero."""
    total = _Dyadic.of(np.zeros(linear.in_features))
    used = np.flatnonzero(A.integers != 0)
    for begin in range(0, len(used), _ROWS):
        part = used[begin : begin + _ROWS]
        matrix = _Dyadic.of(rows(linear, part))
        total = total + _Dyadic(A.integers[part] @ matrix.integers, A.shift + matrix.shift)
    return total
