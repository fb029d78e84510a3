"""Binary rationals of any size: arrays of integers with one exponent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certificates.integers import integers as integers_of
from certificates.integers import power

__all__ = ["Ends", "Numbers"]


@dataclass(frozen=True, eq=False)
class Numbers:
    """``integers · 2^-shift``, an array of integers with one exponent."""

    integers: NDArray[Any]
    shift: int

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> Numbers:
        """Finite floats, exactly."""
        mantissa, exponent = np.frexp(np.asarray(values, np.float64))
        integers = (mantissa * 2.0**53).astype(np.int64).astype(object)
        low = int(exponent[values != 0].min(initial=2000))
        up = np.where(values != 0, exponent - low, 0).astype(object)
        return cls(integers_of(np.left_shift(integers, up)), 53 - low)

    @classmethod
    def of_fractions(cls, values: Sequence[Fraction]) -> Numbers:
        """Integers over powers of two."""
        shift = max((value.denominator.bit_length() - 1 for value in values), default=0)
        integers = np.empty(len(values), object)
        integers[:] = [int(value * 2**shift) for value in values]
        return cls(integers_of(integers), shift)

    def to(self, shift: int) -> NDArray[Any]:
        """The integers for a shift that is at least as great."""
        integers: NDArray[Any] = self.integers * power(shift - self.shift) if shift != self.shift else self.integers
        return integers

    def take(self, part: NDArray[np.intp]) -> Numbers:
        """Some entries of a vector, as one row."""
        return Numbers(self.integers[None, part], self.shift)

    def __add__(self, other: Numbers) -> Numbers:
        shift = max(self.shift, other.shift)
        return Numbers(self.to(shift) + other.to(shift), shift)

    def __neg__(self) -> Numbers:
        return Numbers(-self.integers, self.shift)


@dataclass(frozen=True, eq=False)
class Ends:
    """Intervals: ``low`` and ``high`` of shape ``(1, features)``, times 2^-shift."""

    low: NDArray[Any]
    high: NDArray[Any]
    shift: int

    @classmethod
    def of(cls, low: Numbers, high: Numbers) -> Ends:
        shift = max(low.shift, high.shift)
        return cls(low.to(shift), high.to(shift), shift)

    @classmethod
    def of_fractions(cls, low: Sequence[Fraction], high: Sequence[Fraction], scale: int) -> Ends:
        """The intervals times ``scale``, which makes their ends integers over powers of two."""
        both = Numbers.of_fractions([value * scale for value in (*low, *high)])
        return cls(both.integers[None, : len(low)], both.integers[None, len(low) :], both.shift)
