"""Rows of an LP for what a region keeps its inputs in beside the bounding box: a ball, and constraints.

The LP's inputs are ``x = middle + radius · t`` with t in [−1, 1]. Rows are over (t, e) for one more column e ≥ 0 for
each t with an ℓ1 or ℓ0 ball: with d = x − c,

* ℓ1: ``e_i ≥ |d_i|`` and ``Σ e_i ≤ ε``;
* ℓ0: ``e_i ≥ d_i / (u_i − c_i)``, ``e_i ≥ −d_i / (c_i − l_i)`` and ``Σ e_i ≤ ε``: the convex hull of ball ∩ box;
* ℓ2: tangents ``(p − c)·(x − c) ≤ ε |p − c|`` at points p that the LP came up with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bounds.lp import compressed
from bounds.relaxation import Relaxation
from networks.region import Region

__all__ = ["InputRows", "Rows"]

# An optimum this much outside an ℓ2 ball, in relation to its radius, is cut off.
_OUTSIDE = 1e-6

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows ``A v ≤ limits`` as triplets ``row, column, value`` of A."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    value: Array
    limits: Array

    @classmethod
    def dense(cls, matrix: Array, limits: Array) -> Self:
        row, column = np.nonzero(matrix)
        return cls(row, column, matrix[row, column], limits)

    def __len__(self) -> int:
        return len(self.limits)

    def __add__(self, other: Rows) -> Rows:
        return Rows(
            np.append(self.row, other.row + len(self)),
            np.append(self.column, other.column),
            np.append(self.value, other.value),
            np.append(self.limits, other.limits),
        )

    def moved(self, column: NDArray[np.int64]) -> Rows:
        """The rows over other columns: ``column[j]`` in place of j."""
        return Rows(self.row, column[self.column], self.value, self.limits)

    def scaled(self) -> tuple[Rows, Array]:
        """The rows divided by powers of two near their largest coefficients; and those."""
        largest = np.zeros(len(self))
        np.maximum.at(largest, self.row, np.abs(self.value))
        scale = np.ldexp(1.0, np.frexp(np.where(largest > 0, largest, 1.0))[1])
        return Rows(self.row, self.column, self.value / scale[self.row], self.limits / scale), scale

    def compressed(self) -> tuple[NDArray[np.int32], NDArray[np.int32], Array]:
        """See `bounds.lp.compressed`."""
        return compressed(self.row, self.column, self.value, len(self))


class InputRows:
    """What one region adds to the LPs over it.

    Attributes:
        constraints: how many constraints there are; theirs are the first rows.
        extra: how many columns e there are.
        fixed: the rows over (t, e) that are there from the start.
    """

    def __init__(self, region: Region, relaxation: Relaxation) -> None:
        self._kept, self._radius = relaxation.kept, relaxation.radius
        self._ball = ball = region.ball
        m = relaxation.m
        self.constraints = len(region.constraints)
        self.extra = m if ball is not None and ball.norm != "l2" else 0
        self.fixed = Rows.dense(np.zeros((0, m)), np.zeros(0))
        if region.halfspaces is not None:
            G, h = region.halfspaces.G, region.halfspaces.h
            self.fixed += Rows.dense(G[:, self._kept] * self._radius, h - G @ relaxation.middle)
        if ball is None:
            return
        self._from = (relaxation.middle - ball.center)[self._kept]
        if ball.norm == "l2":
            return
        c = ball.center.astype(np.float64)[self._kept]
        above, below = region.upper[self._kept] - c, c - region.lower[self._kept]
        if ball.norm == "l1":
            above, below = np.ones(m), np.ones(m)
        each = np.arange(m)
        # A side without room has no d there: ±d ≤ 0 instead.
        for sign, room in ((1.0, above), (-1.0, below)):
            free = np.flatnonzero(room > 0)
            scale = np.where(room > 0, 1 / np.where(room > 0, room, 1.0), 1.0)
            self.fixed += Rows(
                np.append(each, free),
                np.append(each, m + free),
                np.append(sign * scale * self._radius, -np.ones(len(free))),
                -sign * scale * self._from,
            )
        self.fixed += Rows(np.zeros(m, dtype=np.int64), m + each, np.ones(m), np.array([ball.budget_above]))

    def tangent(self, t: Array) -> Rows | None:
        """The one that cuts off a point outside an ℓ2 ball, over t; None where there is nothing to cut off."""
        if self._ball is None or self._ball.norm != "l2":
            return None
        d = self._from + self._radius * t
        length, epsilon = float(np.linalg.norm(d)), float(np.sqrt(self._ball.budget_above))
        if length <= epsilon * (1 + _OUTSIDE):
            return None
        normal = d / length
        return Rows.dense((normal * self._radius)[None], np.array([epsilon - float(normal @ self._from)]))
