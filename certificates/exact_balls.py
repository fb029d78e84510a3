"""`certificates.balls` in exact arithmetic: only λ for ℓ₂ and μ are found in floats, as prices are data.

A Euclidean length is irrational as a rule. It is rounded up, by less than 2⁻⁶⁴ of the unit of what it is compared with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from certificates.balls import best_mu, counted, price_l0, price_l1, price_l2, pull
from certificates.dyadic import Ends, Numbers
from certificates.integers import integers, power
from certificates.maps import Rows
from networks.exact import rounded
from networks.region import Region

__all__ = ["ExactLimits", "denominators"]

Array = NDArray[Any]

_ROOT_BITS = 64
# Floats that prices are found from have at most so many binary digits before the point: the input's are squared.
_ROW_BITS, _INPUT_BITS = 900, 200


def denominators(region: Region) -> list[int]:
    """Those of the numbers beyond the box's ends that are multiplied by the common denominator."""
    ball = region.ball
    return [limit.denominator for _, limit, _ in _halfspaces(region)] + ([ball.radius.denominator] if ball else [])


@dataclass(frozen=True, eq=False)
class ExactLimits:
    """What limits a region beyond its box, all of it times ``scale``, the common denominator of the region's numbers.

    Attributes:
        center: shape ``(1, inputs)``.
        radius: shape ``(1,)``; for ℓ₀ the count, not multiplied.
        normals, bounds: G and h, ``(K, inputs)`` and ``(K,)``, each row times a factor, so that G is binary; that is
            not multiplied by ``scale``.
        factors: these, shape ``(K,)``.
    """

    region: Region
    scale: int
    center: Numbers
    radius: Numbers
    normals: Numbers
    bounds: Numbers
    factors: NDArray[np.float64]

    @classmethod
    def of(cls, region: Region, scale: int) -> Self | None:
        """None where the region is a box; ``scale`` is the common denominator."""
        if region.plain:
            return None
        ball, constraints = region.ball, _halfspaces(region)
        normals = Numbers.of_fractions([value for row, _, _ in constraints for value in row])
        normals = Numbers(normals.integers.reshape(len(constraints), region.inputs), normals.shift)
        bounds = Numbers.of_fractions([limit * scale for _, limit, _ in constraints])
        center = ball.center.tolist() if ball else [0] * region.inputs
        radius = Fraction(0) if ball is None else ball.radius * (1 if ball.norm == "l0" else scale)
        place = Numbers.of_fractions([Fraction(value) * scale for value in center])
        place = Numbers(place.integers[None], place.shift)
        factors = np.array([rounded(Fraction(factor)) for _, _, factor in constraints])
        return cls(region, scale, place, Numbers.of_fractions([radius]), normals, bounds, factors)

    def least(self, A: Rows, shift: int, ends: Ends) -> Numbers:
        """The bound of the least value of ``A·x``, with its shift, on the part of the region between ends."""
        if len(self.bounds.integers):
            A = A.whole(self.center.integers.shape[1])
        t = max(ends.shift, self.center.shift, self.radius.shift)
        whole = (ends.low * power(t - ends.shift), ends.high * power(t - ends.shift), self.center.to(t))
        low, high, center = map(A.at, whole)
        value = self._on_ball(A.values, shift, low, high, center, t)
        if len(self.bounds.integers):
            mu = self._prices(A.values, shift, low, high, t)
            b = Numbers(A.values, shift) + _times(mu, self.normals)
            paid = _times(mu, Numbers(self.bounds.integers[:, None], self.bounds.shift))
            moved = self._on_ball(b.integers, b.shift, low, high, center, t)
            value = _greater(value, moved + -Numbers(paid.integers[..., 0], paid.shift))
        return value

    def _on_ball(self, b: Array, shift: int, low: Array, high: Array, center: Array, t: int) -> Numbers:
        ends = np.minimum(b * low, b * high)
        box = Numbers(ends.sum(-1), shift + t)
        if self.region.ball is None:
            return box
        p, q, norm = low - center, high - center, self.region.ball.norm
        if norm == "l0":
            # No more than all entries can move.
            count = min(int(self.region.ball.radius), self.region.inputs)
            price = price_l0(b, p, q, count)
            inside = (low <= center) & (center <= high)
            value = counted(b * center, ends, inside, price).sum(-1) - price * count
            return _greater(box, Numbers(value, shift + t))
        (radius,) = self.radius.to(t)
        if norm == "l1":
            s = pull("l1", b, p, q, price_l1(b, p, q, radius))
            spent = np.abs(s).max(-1, initial=0) * radius
        else:
            price, more = _price_l2(b, p, q, radius)
            b, shift = b * power(more), shift + more
            s = pull("l2", b, p, q, price)
            spent = _root((s * s).sum(-1) * (radius * radius) * power(2 * _ROOT_BITS))
        rest = b + s
        value = Numbers((np.minimum(rest * low, rest * high) - s * center).sum(-1), shift + t)
        bits = _ROOT_BITS if norm == "l2" else 0
        return _greater(box, value + -Numbers(spent, shift + t + bits))

    def _prices(self, a: Array, shift: int, low: Array, high: Array, t: int) -> Numbers:
        """μ as it is best up to rounding."""
        (size,), exponent = _floats(_ROW_BITS, a)
        to_float = np.frompyfunc(lambda end: float(Fraction(int(end), self.scale << t)), 1, 1)
        least, most = (to_float(end).astype(np.float64) for end in (low, high))
        halfspaces = self.region.halfspaces
        assert halfspaces is not None
        with np.errstate(all="ignore"):
            mu = best_mu(size, least, most, self.region.ball, halfspaces)
        return _scaled(Numbers.of(mu / self.factors), exponent - shift)


def _halfspaces(region: Region) -> list[tuple[list[Fraction], Fraction, int]]:
    """Rows of G and of h, each times a factor that makes the row of G binary, and that factor."""
    out = []
    for constraint in region.constraints:
        odd = math.lcm(*(v.denominator // (v.denominator & -v.denominator) for v in constraint.values))
        row = [Fraction(0)] * region.inputs
        for i, value in zip(constraint.indices, constraint.values, strict=True):
            row[i] = value * odd
        out.append((row, constraint.bound * odd, odd))
    return out


def _greater(a: Numbers, b: Numbers) -> Numbers:
    shift = max(a.shift, b.shift)
    return Numbers(np.maximum(a.to(shift), b.to(shift)), shift)


def _times(a: Numbers, b: Numbers) -> Numbers:
    """Matrix products of a, ``(B, R, K)``, with b, ``(K, …)``."""
    columns = [(a.integers * column).sum(-1) for column in b.integers.T]
    return Numbers(np.stack(columns, -1), a.shift + b.shift)


def _scaled(numbers: Numbers, exponent: int) -> Numbers:
    """The numbers times 2^exponent."""
    shift = numbers.shift - exponent
    return Numbers(numbers.integers, shift) if shift >= 0 else Numbers(numbers.integers * power(-shift), 0)


def _floats(most: int, *values: Array) -> tuple[list[NDArray[np.float64]], int]:
    """Floats close to the integers over 2^exponent, of at most so many bits, and that exponent."""
    bits = max((int(each).bit_length() for value in values for each in value.reshape(-1)), default=0)
    exponent = max(0, bits - most)
    to_float = np.frompyfunc(lambda each: float(int(each) >> exponent), 1, 1)
    return [to_float(value).astype(np.float64) for value in values], exponent


def _price_l2(b: Array, p: Array, q: Array, radius: Any) -> tuple[Array, int]:
    """λ as integers, for b that is multiplied by a power of two, and its exponent."""
    (size,), above = _floats(_ROW_BITS, b)
    (low, high, (far,)), below = _floats(_INPUT_BITS, p, q, integers(np.array([radius], object)))
    with np.errstate(all="ignore"):
        price = Numbers.of(price_l2(size, low, high, far))
    shift = price.shift - above + below
    more = max(0, shift)
    return price.integers * power(more - shift), more


def _root(values: Array) -> Array:
    """Square roots, rounded up."""
    return integers(np.frompyfunc(lambda each: math.isqrt(int(each)) + 1, 1, 1)(values))
