"""The exact numbers that a region is made from, read from what a user gives."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from networks.errors import RegionError
from networks.exact import Number, exact, shown

__all__ = ["ends_around", "exact_entries", "exact_radius", "float32_point"]


def exact_entries(values: Sequence[Number] | ArrayLike, what: str) -> tuple[Fraction, ...]:
    """Numbers exactly, of any shape in C order; ``what`` names them in the error.

    Raises:
        RegionError: one is not finite.
    """
    entries = values.reshape(-1) if isinstance(values, np.ndarray) else values
    out = []
    for i, value in enumerate(entries):  # type: ignore[arg-type]
        try:
            out.append(exact(value))
        except ValueError as error:
            msg = f"the {what} of input {i} must be a finite number, got {value!r}"
            raise RegionError(msg) from error
    return tuple(out)


def float32_point(center: ArrayLike) -> NDArray[np.float32]:
    """The nearest float32 point, shape ``(inputs,)``.

    Raises:
        RegionError: it has no entries, or they are not finite.
    """
    with np.errstate(over="ignore"):
        point = np.asarray(center, dtype=np.float64).astype(np.float32).reshape(-1)
    if not point.size:
        msg = "the input has no entries; give one number for each input of the network"
        raise RegionError(msg)
    if not np.isfinite(point).all():
        bad = int(np.flatnonzero(~np.isfinite(point))[0])
        msg = f"the input must be finite numbers, but entry {bad} is {point[bad]}"
        raise RegionError(msg)
    return point


def exact_radius(epsilon: Number | None, norm: str, *, given: bool) -> Fraction | None:
    """The radius exactly; None where only radii of single entries are given, as ``given`` says.

    Raises:
        RegionError: it is negative or not a finite number.
    """
    if epsilon is None and norm == "linf" and given:
        return None
    try:
        radius = exact(epsilon)  # type: ignore[arg-type]
    except ValueError as error:
        msg = f"epsilon must be a finite number of at least 0, got {epsilon!r}"
        raise RegionError(msg) from error
    if radius < 0:
        msg = f"epsilon must be at least 0, got {epsilon}"
        raise RegionError(msg)
    return radius


def ends_around(
    point: NDArray[np.float32], reach: Fraction | None, domain: tuple[Number, Number] | None
) -> tuple[list[Fraction] | None, list[Fraction] | None]:
    """The end points of the entries at most ``reach`` from ``point`` and in the domain; None without either.

    Raises:
        RegionError: the domain is not two finite numbers, or the point lies outside.
    """
    # Images have few distinct values; arithmetic on rationals is what takes the time.
    distinct, place = np.unique(point, return_inverse=True)
    values = [Fraction(v) for v in distinct.tolist()]
    low = None if reach is None else [v - reach for v in values]
    high = None if reach is None else [v + reach for v in values]
    if domain is not None:
        try:
            least, most = exact(domain[0]), exact(domain[1])
        except ValueError as error:
            msg = f"the domain must be two finite numbers, got {list(domain)!r}"
            raise RegionError(msg) from error
        if not least <= values[0] <= values[-1] <= most:
            i = int(np.argmin(point)) if values[0] < least else int(np.argmax(point))
            msg = (
                f"input entry {i} is {point[i]:g}, outside the domain [{shown(least)}, {shown(most)}]; "
                "scale the input as the network expects it, or give the right domain"
            )
            raise RegionError(msg)
        low = [least] * len(values) if low is None else [max(v, least) for v in low]
        high = [most] * len(values) if high is None else [min(v, most) for v in high]
    if low is None or high is None:
        return None, None
    spread = place.tolist()
    return [low[i] for i in spread], [high[i] for i in spread]
