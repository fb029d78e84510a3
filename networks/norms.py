"""Norm balls around a float32 point: ℓ2, ℓ1 and ℓ0. An ℓ∞ ball is a plain box, so it has no form here.

With d = x − c, every ball is ``Σ_i φ(d_i) ≤ budget``:

* ``l2``: φ(d) = d², the budget is the radius squared;
* ``l1``: φ(d) = |d|, the budget is the radius;
* ``l0``: φ(d) = [d ≠ 0], the budget is a whole number of entries that may change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from networks.errors import RegionError
from networks.exact import enclose, shown

__all__ = ["NORMS", "Ball", "BallNorm"]

BallNorm: TypeAlias = Literal["l2", "l1", "l0"]

NORMS = ("linf", "l2", "l1", "l0")
"""The norms of `networks.region.Region.norm_ball`, by their names."""

_HALVINGS = 64
_SHY = 1 - 2.0**-40


@dataclass(frozen=True, eq=False)
class Ball:
    """``{x : Σ_i φ(x_i - c_i) ≤ budget}``; see the module.

    Attributes:
        norm: ``l2``, ``l1`` or ``l0``.
        center: float32, shape ``(inputs,)``, finite.
        radius: at least 0; a whole number for ``l0``.
    """

    norm: BallNorm
    center: NDArray[np.float32]
    radius: Fraction

    def __post_init__(self) -> None:
        if self.norm not in NORMS[1:]:
            msg = f"a ball's norm is one of {', '.join(NORMS[1:])}, got {self.norm!r}"
            raise RegionError(msg)
        if self.radius < 0:
            msg = f"epsilon must be at least 0, got {shown(self.radius)}"
            raise RegionError(msg)
        if self.norm == "l0" and self.radius.denominator != 1:
            msg = f"epsilon counts the entries that may change in norm l0, so it is a whole number; got {self.radius}"
            raise RegionError(msg)
        try:
            enclose((self.radius, self.budget))
        except ValueError as error:
            msg = f"epsilon must be at most 1e308, in norm l2 at most 1e154; got {shown(self.radius)}"
            raise RegionError(msg) from error
        if not np.isfinite(self.center).all():
            msg = "a ball's center must be finite numbers"
            raise RegionError(msg)

    @cached_property
    def budget(self) -> Fraction:
        """What Σ φ may come to."""
        return self.radius**2 if self.norm == "l2" else self.radius

    @cached_property
    def budget_above(self) -> float:
        """The budget in float64, rounded up."""
        return float(enclose((self.budget,))[1][0])

    @cached_property
    def _budget_below(self) -> float:
        return float(enclose((self.budget,))[0][0])

    def spent(self, d: NDArray[np.float64]) -> NDArray[np.float64]:
        """Σ φ(d_i) along the last axis, in float64."""
        if self.norm == "l2":
            return np.asarray((d * d).sum(-1))
        return np.asarray(np.abs(d).sum(-1) if self.norm == "l1" else np.count_nonzero(d, axis=-1).astype(np.float64))

    def spent_exactly(self, x: Sequence[Fraction]) -> Fraction:
        """Σ φ(x_i - c_i) at a rational point."""
        d = [value - Fraction(c) for value, c in zip(x, self.center.tolist(), strict=True)]
        if self.norm == "l2":
            return sum((v * v for v in d), Fraction(0))
        return sum(map(abs, d), Fraction(0)) if self.norm == "l1" else Fraction(sum(v != 0 for v in d))

    def contains(self, x: NDArray[np.float32]) -> bool:
        """Whether the finite float32 point ``x``, shape ``(inputs,)``, lies in the ball, exactly."""
        about = float(self.spent(x.astype(np.float64) - self.center))
        # Differences, squares and their sum are off by less than this in relation; only what is so near the edge needs
        # rational arithmetic.
        slack = about * (len(x) + 8) * 2.0**-52
        if about + slack <= self._budget_below:
            return True
        if about - slack > self.budget_above:
            return False
        return self.spent_exactly([Fraction(v) for v in x.tolist()]) <= self.budget

    def project(
        self, y: NDArray[np.float64], lower: NDArray[np.float64], upper: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The points of ball ∩ box nearest to ``y`` in the Euclidean norm, up to rounding.

        Args:
            y: shape ``(R, inputs)``.
            lower, upper: the box, which contains the center, shape ``(inputs,)``.
        """
        c = self.center.astype(np.float64)
        low, high, d = lower - c, upper - c, y - c
        if self.norm == "l0":
            clipped = np.clip(d, low, high)
            # What an entry's distance to y falls by if it may change.
            gain = d * d - (d - clipped) ** 2
            count = min(int(self.radius), d.shape[-1])
            rank = np.argsort(np.argsort(-gain, axis=-1, kind="stable"), axis=-1)
            return np.where(rank < count, c + clipped, c)

        def step(t: NDArray[np.float64]) -> NDArray[np.float64]:
            # The minimum of |d - v|² + 2 λ φ(v): for l2, v = d/(1+λ) =: t d; for l1, v shrinks by λ =: t.
            moved = d * t[:, None] if self.norm == "l2" else np.sign(d) * np.maximum(np.abs(d) - t[:, None], 0)
            return np.asarray(np.clip(moved, low, high))

        # Bisection between a t that keeps the budget and one that may not.
        budget = self._budget_below * _SHY
        safe = np.zeros(len(d)) if self.norm == "l2" else np.abs(d).max(-1)
        bold = np.ones(len(d)) if self.norm == "l2" else np.zeros(len(d))
        safe = np.where(self.spent(step(bold)) <= budget, bold, safe)
        for _ in range(_HALVINGS):
            middle = (safe + bold) / 2
            inside = self.spent(step(middle)) <= budget
            safe, bold = np.where(inside, middle, safe), np.where(inside, bold, middle)
        return np.asarray(c + step(safe))

    def towards_center(self, x: NDArray[np.float64]) -> NDArray[np.float32]:
        """``x`` in float32, every entry rounded towards the center's: no entry gets farther from it."""
        with np.errstate(over="ignore"):
            near = x.astype(np.float32)
        c = self.center
        beyond = (near > x) & (near > c) | (near < x) & (near < c)
        return np.where(beyond, np.nextafter(near, c), near)

    def sample(
        self, count: int, lower: NDArray[np.float64], upper: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """``count`` points all over ball ∩ box, shape ``(count, inputs)``, up to rounding.

        Half of them lie on the sphere (unless the box cuts it), and of those half where few entries change, as at a
        polytope's corners.
        """
        c = self.center.astype(np.float64)
        inputs = len(c)
        sphere = rng.random(count) < 0.5
        sparse = rng.random(count) < 0.5
        free = np.flatnonzero(upper > lower)
        if not free.size:
            return np.tile(c, (count, 1))
        chosen = np.zeros((count, inputs), dtype=bool)
        limit = min(int(self.radius), free.size) if self.norm == "l0" else free.size
        for i in range(count):
            most = min(limit, 3) if sparse[i] else limit
            size = rng.integers(1, most + 1) if sparse[i] and most else most
            chosen[i, rng.permutation(free)[:size]] = True
        if self.norm == "l0":
            weight = rng.random((count, inputs))
            weight = np.where(sphere[:, None], np.round(weight), weight)
            return np.where(chosen, lower + weight * (upper - lower), c)
        draw = rng.standard_normal((count, inputs)) if self.norm == "l2" else rng.laplace(size=(count, inputs))
        # Directions into the box: where the center is on its edge, the other half of the sphere is outside.
        draw = np.where((draw > 0) & (upper <= c) | (draw < 0) & (lower >= c), -draw, draw)
        draw = np.where(chosen, draw, 0.0)
        length = np.linalg.norm(draw, ord=2 if self.norm == "l2" else 1, axis=-1)
        share = np.where(sphere, 1.0, rng.random(count) ** (1 / np.maximum(1, chosen.sum(-1))))
        scale = math.sqrt(self.budget_above) if self.norm == "l2" else self.budget_above
        return np.asarray(c + draw * (scale * share / np.maximum(length, 1e-300))[:, None])
