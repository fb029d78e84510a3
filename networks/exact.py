"""Exact numbers: decimals as written, and directed rounding to float64 and float32.

A number that a user wrote in decimal is kept as the rational that it denotes. It is rounded outward where
something is to be proved, inward where a float32 counterexample must belong.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Number", "exact", "round_down", "round_up"]

Number: TypeAlias = int | float | str | Decimal | Fraction | np.floating | np.integer


def exact(value: Number) -> Fraction:
    """The rational that ``value`` denotes.

    Strings and Python floats are read as the decimal that was written (``0.1`` is 1/10: Python prints a float as the
    shortest decimal that denotes it). NumPy scalars are data, not text: their binary value is taken exactly.

    Raises:
        ValueError: not a finite number.
    """
    if isinstance(value, np.generic):
        value = value.item() if isinstance(value, np.integer) else Fraction(float(value))
    elif isinstance(value, float):
        value = repr(value)
    try:
        return Fraction(value)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        msg = f"expected a finite number, got {value!r}"
        raise ValueError(msg) from error


def _round(values: Sequence[Fraction], dtype: type[np.floating], *, up: bool) -> NDArray[np.floating]:
    towards = dtype(np.inf) if up else dtype(-np.inf)
    out = np.empty(len(values), dtype)
    limit = Fraction(float(np.finfo(dtype).max))
    for i, value in enumerate(values):
        if abs(value) > limit:
            msg = f"{float(value) if abs(value) < 10**300 else 'a value'} is beyond the range of {np.dtype(dtype).name}"
            raise ValueError(msg)
        near = dtype(value.numerator / value.denominator)
        if not np.isfinite(near):
            near = dtype(np.finfo(dtype).max) * dtype(np.sign(near))
        # int / int is correctly rounded to float64; to float32 the double rounding may be off by one unit.
        while (Fraction(float(near)) < value) if up else (Fraction(float(near)) > value):
            near = np.nextafter(near, towards)
        back = np.nextafter(near, -towards)
        if np.isfinite(back) and ((Fraction(float(back)) >= value) if up else (Fraction(float(back)) <= value)):
            near = back
        out[i] = near
    return out


def round_down(values: Sequence[Fraction], dtype: type[np.floating] = np.float64) -> NDArray[np.floating]:
    """The largest ``dtype`` numbers that are at most ``values``; shape ``(len(values),)``."""
    return _round(values, dtype, up=False)


def round_up(values: Sequence[Fraction], dtype: type[np.floating] = np.float64) -> NDArray[np.floating]:
    """The smallest ``dtype`` numbers that are at least ``values``; shape ``(len(values),)``."""
    return _round(values, dtype, up=True)
