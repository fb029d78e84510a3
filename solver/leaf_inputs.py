"""Rows of an LP for what a region keeps its inputs in beside the bounding box: a ball, and constraints.

The LP's inputs are ``x = middle + radius · t`` with t in [−1, 1]. Rows are over (t, e) for one more column e ≥ 0 for
each t with an ℓ1 or ℓ0 ball: with d = x − c,

* ℓ1: ``e_i ≥ |d_i|`` and ``Σ e_i ≤ ε``;
* ℓ0: ``e_i ≥ d_i / (u_i − c_i)``, ``e_i ≥ −d_i / (c_i − l_i)`` and ``Σ e_i ≤ ε``: the convex hull of ball ∩ box;
* ℓ2: tangents ``(p − c)·(x − c) ≤ ε |p − c|`` at points p that the LP came up with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bounds.relaxation import Relaxation
from networks.region import Region

__all__ = ["InputRows"]

# An optimum this much outside an ℓ2 ball, in relation to its radius, is cut off.
_OUTSIDE = 1e-6

Array = NDArray[np.float64]


class InputRows:
    """What one region adds to the LPs over it.

    Attributes:
        constraints: how many constraints there are; theirs are the first rows.
        extra: how many columns e there are.
    """

    def __init__(self, region: Region, relaxation: Relaxation) -> None:
        self._middle, self._kept, self._radius = relaxation.middle, relaxation.kept, relaxation.radius
        self._ball = region.ball
        m = relaxation.m
        self.constraints = len(region.constraints)
        rows, limits = [], []
        if region.halfspaces is not None:
            G, h = region.halfspaces.G, region.halfspaces.h
            rows.append(sparse.csr_array(G[:, self._kept] * self._radius))
            limits.append(h - G @ self._middle)
        ball = region.ball
        self.extra = m if ball is not None and ball.norm != "l2" else 0
        rows = [sparse.hstack([block, sparse.csr_array((block.shape[0], self.extra))], format="csr") for block in rows]
        if ball is not None:
            self._from = (self._middle - ball.center)[self._kept]
        if ball is not None and ball.norm != "l2":
            c = ball.center.astype(np.float64)[self._kept]
            above, below = region.upper[self._kept] - c, c - region.lower[self._kept]
            if ball.norm == "l1":
                above, below = np.ones(m), np.ones(m)
            # A side without room has no d there: ±d ≤ 0 instead.
            for sign, room in ((1.0, above), (-1.0, below)):
                free = (room > 0).astype(np.float64)
                scale = np.where(room > 0, 1 / np.where(room > 0, room, 1.0), 1.0)
                rows.append(
                    sparse.hstack(
                        [sparse.diags_array(sign * scale * self._radius), -sparse.diags_array(free)], format="csr"
                    )
                )
                limits.append(-sign * scale * self._from)
            rows.append(sparse.csr_array(np.concatenate([np.zeros(m), np.ones(m)])[None]))
            limits.append(np.array([ball.budget_above]))
        self._fixed = rows
        self._limits = limits
        self._cuts: list[Array] = []
        self._cut_limits: list[float] = []

    def matrix(self, between: int) -> tuple[sparse.csr_array, Array]:
        """The rows and their limits, over t, ``between`` columns that they leave alone, and e."""
        m = len(self._kept)
        blocks = [
            sparse.hstack([b[:, :m], sparse.csr_array((b.shape[0], between)), b[:, m:]], format="csr")
            for b in [*self._fixed, *([sparse.csr_array(np.stack(self._cuts))] if self._cuts else [])]
        ]
        if not blocks:
            return sparse.csr_array((0, m + between + self.extra)), np.zeros(0)
        return sparse.vstack(blocks, format="csr"), np.concatenate([*self._limits, np.array(self._cut_limits)])

    def multipliers(self, duals: Array) -> Array:
        """Those of the constraints, shape ``(constraints,)``, from the duals of an LP that ends with these rows."""
        first = len(duals) - sum(map(len, self._limits)) - len(self._cut_limits)
        found: Array = -duals[first : first + self.constraints]
        return found

    def cut(self, t: Array) -> bool:
        """Adds the tangent that cuts off a point outside an ℓ2 ball; whether there was something to cut off."""
        if self._ball is None or self._ball.norm != "l2":
            return False
        d = self._from + self._radius * t
        length, epsilon = float(np.linalg.norm(d)), float(np.sqrt(self._ball.budget_above))
        if length <= epsilon * (1 + _OUTSIDE):
            return False
        normal = d / length
        self._cuts.append(normal * self._radius)
        self._cut_limits.append(epsilon - float(normal @ self._from))
        return True
