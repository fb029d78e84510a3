"""Points of an intersection of convex sets, by alternating projections."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["alternate"]

_ROUNDS = 500
# Steps go this many times as far as to a halfspace's edge: behind it, where sets meet at a narrow angle.
_RELAXED = 1.6


def alternate(
    x: NDArray[np.float64],
    G: NDArray[np.float64],
    h: NDArray[np.float64],
    slack: NDArray[np.float64],
    project: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Points near ``x`` of the set that ``project`` projects onto, with ``G x ≤ h + slack``.

    Projections onto ``G x ≤ h``, one halfspace after the other, and onto the set take turns (Bregman 1965, *The method
    of successive projection for finding a common point of convex sets*); without a common point, or if that takes too
    many turns, the last ones come back.

    Args:
        x: shape ``(R, inputs)``.
        G: rows that are not zero, shape ``(m, inputs)``.
        h, slack: shape ``(m,)``.
        project: maps points of shape ``(R, inputs)`` to the nearest ones of the set.
    """
    length = (G * G).sum(-1)
    point = project(x)
    for _ in range(_ROUNDS):
        if (point @ G.T <= h + slack).all():
            break
        for row, limit, size in zip(G, h, length, strict=True):
            point = point - _RELAXED * np.maximum(point @ row - limit, 0)[:, None] / size * row
        point = project(point)
    return point
