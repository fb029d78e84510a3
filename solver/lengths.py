"""Distances between inputs, exactly, and the part of a region near its center.

``linf`` is the largest difference of two entries, ``l1`` the sum and ``l2`` the root of the sum of squares of all,
``l0`` how many entries differ.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from networks.errors import RegionError
from networks.exact import Number, enclose, exact, written
from networks.norms import NORMS, Ball
from networks.region import Region

__all__ = ["center", "farthest", "length", "nearer"]


def length(x: Sequence[Fraction], origin: Sequence[Fraction], norm: str) -> float:
    """The distance of two points, rounded up."""
    return _length([a - b for a, b in zip(x, origin, strict=True)], norm)


def farthest(region: Region, norm: str) -> float:
    """A number that no point of the region is farther away from its center than."""
    pairs = zip(center(region), region.exact_lower, region.exact_upper, strict=True)
    reach = _length([max(c - low, high - c) for c, low, high in pairs], norm)
    if region.ball is not None and region.ball.norm == norm:
        return min(reach, float(enclose([region.ball.radius])[1][0]))
    return reach


def _length(d: Sequence[Fraction], norm: str) -> float:
    match norm:
        case "linf":
            total = max(map(abs, d))
        case "l1":
            total = sum(map(abs, d), Fraction(0))
        case "l0":
            total = Fraction(sum(v != 0 for v in d))
        case "l2":
            square = sum((v * v for v in d), Fraction(0))
            root = math.sqrt(enclose([square])[1][0])
            while Fraction(root) ** 2 < square:
                root = math.nextafter(root, math.inf)
            return root
        case _:
            msg = f"norm {norm!r} is not one of {', '.join(NORMS)}"
            raise RegionError(msg)
    return float(enclose([total])[1][0])


def nearer(region: Region, norm: str, radius: Number) -> Region:
    """The points of the region at most ``radius`` away from its center.

    Raises:
        RegionError: the region has no center, or is a ball in another norm.
    """
    limit, origin, ball = exact(radius), center(region), region.ball
    statement = region.statement | {"within": {"norm": norm, "radius": written(limit)}}
    low, high = region.exact_lower, region.exact_upper
    if norm != "l0":
        low = tuple(max(a, c - limit) for a, c in zip(low, origin, strict=True))
        high = tuple(min(b, c + limit) for b, c in zip(high, origin, strict=True))
    if norm != "linf":
        if ball is not None and ball.norm != norm:
            msg = f"the region is a ball in norm {ball.norm}, so distances in it are in that norm or linf, got {norm}"
            raise RegionError(msg)
        point = np.array([float(c) for c in origin], np.float32)
        ball = Ball(norm, point, limit if ball is None else min(limit, ball.radius))  # type: ignore[arg-type]
    return dataclasses.replace(region, exact_lower=low, exact_upper=high, statement=statement, ball=ball)


def center(region: Region) -> tuple[Fraction, ...]:
    """What distances in the region are measured from: its ball's center, else its own.

    Raises:
        RegionError: it has none.
    """
    point = region.center if region.ball is None else region.ball.center
    if point is None:
        msg = (
            "a distance is measured from the region's center, but no float32 input of this region is known that could "
            "be one; ask about a ball around an input"
        )
        raise RegionError(msg)
    return tuple(Fraction(v) for v in point.tolist())
