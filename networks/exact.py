"""Exact numbers: decimals as written, and directed rounding to float64 and float32.

A number that a user wrote in decimal is kept as the rational that it denotes. It is rounded outward where
something is to be proved, inward where a float32 counterexample must belong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Number", "enclose", "exact", "narrow_down", "narrow_up", "rounded", "shown", "written"]

Number: TypeAlias = int | float | str | Decimal | Fraction | np.floating | np.integer

_LARGEST_EXPONENT = 5000
"""Decimal exponents beyond this are refused: 1e999999999 is a few bytes of text and gigabytes of digits."""


def exact(value: Number) -> Fraction:
    """The rational that ``value`` denotes.

    Strings and Python floats are read as the decimal that was written (``0.1`` is 1/10: Python prints a float as the
    shortest decimal that denotes it); a string may also be a quotient, ``8/255``. NumPy scalars are data, not text:
    their binary value is taken exactly.

    Raises:
        ValueError: not a finite number, or one with an exponent of more than a few thousand.
    """
    try:
        if isinstance(value, np.generic):
            value = int(value) if isinstance(value, np.integer) else Fraction(float(value))
        elif isinstance(value, float):
            value = repr(value)
        if isinstance(value, str | Decimal):
            value = str(value)
            _, e, exponent = value.partition("E" if "E" in value else "e")
            if e and abs(int(exponent)) > _LARGEST_EXPONENT:
                msg = "its exponent is too large"
                raise ValueError(msg)
        return Fraction(value)
    except (ValueError, TypeError, ArithmeticError) as error:
        msg = f"expected a finite number, got {value!r}"
        raise ValueError(msg) from error


def rounded(value: Fraction) -> float:
    """The nearest float, except that what is not zero stays so, and what is beyond all floats becomes infinite."""
    sign = 1.0 if value > 0 else -1.0
    try:
        return float(value) or (sign * math.ulp(0.0) if value else 0.0)
    except OverflowError:
        return sign * math.inf


def shown(value: Fraction) -> str:
    """The value to six digits, for messages; of any size."""
    return format(Decimal(value.numerator) / value.denominator, ".6g")


def written(value: Fraction) -> str:
    """The value exactly: in decimal, or as a quotient, ``1/3``, where no decimal is exact. `exact` reads both."""
    twos = (value.denominator & -value.denominator).bit_length() - 1
    fives, rest = 0, value.denominator >> twos
    while rest % 5 == 0:
        fives, rest = fives + 1, rest // 5
    if rest != 1:
        return str(value)
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator)
    return format(Decimal((int(value < 0), tuple(map(int, digits)), -places)), "f")


def enclose(values: Iterable[Fraction]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The nearest float64 numbers at most and at least ``values``: two arrays of shape ``(N,)``.

    Raises:
        ValueError: a value is beyond the range of float64.
    """
    down, up = [], []
    for value in values:
        numerator, denominator = value.as_integer_ratio()
        try:
            # int / int is correctly rounded, so the value lies between this number and one of its neighbours.
            near = numerator / denominator
        except OverflowError as error:
            msg = "a value is beyond the range of float64"
            raise ValueError(msg) from error
        top, bottom = near.as_integer_ratio()
        excess = top * denominator - numerator * bottom
        down.append(near if excess <= 0 else math.nextafter(near, -math.inf))
        up.append(near if excess >= 0 else math.nextafter(near, math.inf))
    low, high = np.array(down, np.float64), np.array(up, np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        msg = "a value is beyond the range of float64"
        raise ValueError(msg)
    return low, high


def narrow_down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 numbers that are at most ``values``, shape kept; -inf below the range of float32."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
        return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)


def narrow_up(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The smallest float32 numbers that are at least ``values``, shape kept; inf above the range of float32."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
        return np.where(near < values, np.nextafter(near, np.float32(np.inf)), near)
