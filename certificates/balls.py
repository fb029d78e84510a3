"""The formula's last term where a region is more than a box: the least value of linear forms over a box, a norm ball
and half-spaces.

Symbols. The region is what lies in the box l ≤ x ≤ u, in the ball Σ φ(x_i − c_i) ≤ budget and in half-spaces G x ≤ h;
φ(d) is d² with the budget ε² for ℓ₂, |d| with ε for ℓ₁, and [d ≠ 0] with a count ε for ℓ₀. For a row a, any μ ≥ 0 and
b = a + μ G, a·x ≥ b·x − μ·h holds in the region, and

* ℓ₂ and ℓ₁: b·x ≥ Σ_i min{(b + s)_i l_i, (b + s)_i u_i} − s·c − ε‖s‖ for **any** s, as s·(x − c) ≤ ε‖s‖ in the ball
  for the dual norm ‖·‖, ℓ₂ or ℓ∞. With the best s this is the Lagrangian dual of the budget at its price λ ≥ 0: s is −b
  where that leaves x free, and λ times the slope of φ where x is at an end of the box.
* ℓ₀: b·x ≥ Σ_i min{b_i c_i, min{b_i l_i, b_i u_i} + λ} − λ ε for **any** λ ≥ 0, the first of the two only where c_i
  lies between l_i and u_i.

Prices are data. λ is best where the budget is spent: found by sorting for ℓ₁ and ℓ₀, by Newton's method for ℓ₂. μ comes
from `networks.minimum`, which need not be trusted.

Soundness. μ, s and λ are numbers as they stand, so only sums and products round: `Limits.least` charges them as
`certificates.enclosure` does. Functions that are generic take floats, or integers in arrays of objects, for
`certificates.exact`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from certificates.maps import Rows
from networks.constraints import Halfspaces
from networks.exact import enclose
from networks.minimum import multipliers
from networks.norms import Ball
from networks.region import Region

__all__ = ["Limits", "best_mu", "counted", "price_l0", "price_l1", "price_l2", "pull"]

Array = NDArray[np.float64]

# Steps of Newton's method, which mostly changes nothing after a few.
_STEPS = 40
_UNDERFLOW = 2.0**-1000


@dataclass(frozen=True, eq=False)
class Limits:
    """What limits a region beyond its box.

    Attributes:
        ball: None for none.
        halfspaces: G, each entry off by at most 2⁻⁵³ of itself, and h, rounded up; None for none.
        center: exact, shape ``(1, inputs)``.
        radius: ε, rounded up; for l0 at most the number of entries.
    """

    ball: Ball | None
    halfspaces: Halfspaces | None
    center: Array
    radius: float

    @classmethod
    def of(cls, region: Region) -> Self | None:
        """None where the region is a box."""
        if region.plain:
            return None
        center = np.zeros(region.inputs) if region.ball is None else region.ball.center.astype(np.float64)
        radius = 0.0 if region.ball is None else float(enclose([region.ball.radius])[1][0])
        if region.ball is not None and region.ball.norm == "l0":
            radius = min(radius, float(region.inputs))
        return cls(region.ball, region.halfspaces, center[None], radius)

    @np.errstate(all="ignore")
    def least(self, A: Rows, low: Array, high: Array, unit: float) -> Array:
        """Lower bounds of A·x on boxes, shape ``(B, R)``; −∞ claims nothing.

        ``low`` and ``high`` of shape ``(B, inputs)``, or ``(B, R, inputs)`` for a box of its own for each row; ``unit``
        as in `certificates.enclosure.Boxes`.
        """
        if self.halfspaces is not None or low.ndim == 3:
            A = A.whole(self.center.shape[1])
        if low.ndim == 2:
            low, high = A.at(low), A.at(high)
        center, a = A.at(self.center), A.values
        gamma = (a.shape[-1] + 16) * unit
        value = self._on_ball(a, low, high, center, gamma)
        if self.halfspaces is not None:
            G, h = self.halfspaces.G, self.halfspaces.h
            mu = best_mu(a, low, high, self.ball, self.halfspaces)
            gamma = gamma + len(h) * unit
            size = (np.abs(a) + mu @ np.abs(G)) * np.maximum(np.abs(low), np.abs(high))
            charge = gamma * (size.sum(-1) + mu @ np.abs(h)) + self._underflow(low, high)
            moved = self._on_ball(a + mu @ G, low, high, center, gamma) - mu @ h - charge
            value = np.fmax(value, _finite(moved))
        return value

    def _on_ball(self, b: Array, low: Array, high: Array, center: Array, gamma: float) -> Array:
        """Lower bounds of b·x on the box and on its part in the ball, whichever is better."""
        reach = np.maximum(np.abs(low), np.abs(high))
        ends = np.minimum(b * low, b * high)
        box = ends.sum(-1) - gamma * (np.abs(b) * reach).sum(-1) - self._underflow(low, high)
        if self.ball is None:
            return _finite(box)
        p, q, norm = low - center, high - center, self.ball.norm
        if norm == "l0":
            price = price_l0(b, p, q, self.radius)
            value = counted(b * center, ends, (low <= center) & (center <= high), price).sum(-1) - price * self.radius
            size = (np.abs(b) * (reach + np.abs(center)) + price[..., None]).sum(-1) + price * self.radius
        else:
            price = (price_l1 if norm == "l1" else price_l2)(b, p, q, self.radius)
            s = pull(norm, b, p, q, price)
            rest = b + s
            spent = self.radius * (np.abs(s).max(-1, initial=0) if norm == "l1" else _length(s))
            value = np.minimum(rest * low, rest * high).sum(-1) - (s * center).sum(-1) - spent
            size = ((np.abs(b) + np.abs(s)) * reach + np.abs(s * center)).sum(-1) + spent
        return np.fmax(_finite(box), _finite(value - gamma * size - self._underflow(low, high)))

    def _underflow(self, low: Array, high: Array) -> Array:
        """More than what underflow takes from sums of products with numbers of the region, or all of it as factors."""
        size = np.abs(low) + np.abs(high) + np.abs(self.center).max()
        return np.asarray(_UNDERFLOW * (1 + self.radius + size.sum(-1)))


def best_mu(a: Array, low: Array, high: Array, ball: Ball | None, halfspaces: Halfspaces) -> Array:
    """A good μ for each row, shape ``(B, R, K)``."""
    rows = a.reshape(-1, a.shape[-1])
    low, high = (np.broadcast_to(end, a.shape).reshape(rows.shape) for end in (low, high))
    _, mu, _ = multipliers(rows, low, high, ball, halfspaces)
    return np.asarray(np.nan_to_num(np.maximum(mu, 0), nan=0.0, posinf=0.0).reshape(*a.shape[:-1], -1))


def _finite(value: Array) -> Array:
    return np.where(np.isfinite(value), value, -np.inf)


def _length(s: Array) -> Array:
    """Euclidean lengths; what underflows in them is nothing beside the largest entry."""
    largest = np.abs(s).max(-1, initial=0)
    share = s / np.where(largest > 0, largest, 1)[..., None]
    return np.asarray(largest * np.sqrt((share * share).sum(-1)))


def pull(norm: str, b: Any, p: Any, q: Any, price: Any) -> Any:
    """The best s for a price λ, where l − c = p and u − c = q."""
    price = price[..., None]
    if norm == "l2":
        return np.minimum(np.maximum(-b, price * p), price * q)
    return np.where(p > 0, price, np.where(q < 0, -price, np.minimum(np.maximum(-b, -price), price)))


def counted(still: Any, ends: Any, inside: Any, price: Any) -> Any:
    """ℓ₀: what each entry adds at least, ``still`` where it stays at the center, if that is ``inside`` the box."""
    moved = ends + price[..., None]
    return np.where(inside, np.minimum(still, moved), moved)


def price_l1(b: Any, p: Any, q: Any, radius: Any) -> Any:
    """The size of the entry of b at which the budget is spent, if entries go to their ends by size."""
    near = np.abs(np.maximum(p, np.minimum(q, 0)))
    size = np.abs(b)
    extra = np.maximum(np.abs(np.where(b > 0, p, q)) - near, 0)
    order = np.argsort(-size, -1, kind="stable")
    left = radius - near.sum(-1)
    spent = np.take_along_axis(extra, order, -1).cumsum(-1) >= left[..., None]
    at = np.take_along_axis(np.take_along_axis(size, order, -1), spent.argmax(-1)[..., None], -1)[..., 0]
    return np.where(left < 0, _empty(b, p, q, left), np.where(spent.any(-1), at, 0 * at))


def price_l0(b: Any, p: Any, q: Any, radius: Any) -> Any:
    """What the last entry gains that the budget lets move to its end."""
    forced = (p > 0) | (q < 0)
    gain = -np.where(forced, 0 * b, np.minimum(b * p, b * q))
    left = radius - forced.sum(-1)
    order = np.sort(gain, -1)
    entries = gain.shape[-1]
    place = np.clip(entries - np.asarray(left, float), 0, entries - 1).astype(np.intp)
    at = np.take_along_axis(order, np.broadcast_to(place, gain.shape[:-1])[..., None], -1)[..., 0]
    return np.where(left < 0, _empty(b, p, q, left), np.where(left < entries, at, 0 * at))


def price_l2(b: Array, p: Array, q: Array, radius: float) -> Array:
    """λ with ‖d‖ = ε for d = −b/λ clipped to the box, from above; floats only."""
    near = np.maximum(p, np.minimum(q, 0))
    budget = radius * radius
    left = budget - (near * near).sum(-1)
    corner = np.where(b > 0, p, np.where(b < 0, q, near))
    price = np.where((left < 0) | ((corner * corner).sum(-1) <= budget), 0.0, _length(b) / radius)
    # Beside a box that holds no center, Newton's steps may lead astray; so they are kept between what is known.
    low, high = np.zeros_like(price), np.full_like(price, np.inf)
    for _ in range(_STEPS):
        d = -b / price[..., None]
        free = (d > p) & (d < q)
        d = np.minimum(np.maximum(d, p), q)
        within = (d * d).sum(-1) <= budget
        low, high = np.where(within, low, price), np.where(within, price, high)
        room = budget - np.where(free, 0, d * d).sum(-1)
        better = _length(np.where(free, b, 0)) / np.sqrt(room)
        middle = np.where(np.isinf(high), 2 * price, (low + high) / 2)
        done = (price == 0) | (np.abs(better - price) <= 1e-9 * price)
        better = np.where(done | ((better > low) & (better < high)), better, middle)
        price = np.where(price == 0, 0.0, better)
        if done.all():
            break
    return np.where(left < 0, _empty(b, p, q, left), np.nan_to_num(price, nan=0.0, posinf=0.0))


def _empty(b: Any, p: Any, q: Any, left: Any) -> Any:
    """A price at which a bound is positive, whatever b: the box has no point in the ball, by ``-left``."""
    most = (np.abs(b) * np.maximum(np.abs(p), np.abs(q))).sum(-1)
    over = np.maximum(-left, 0 * left)
    if most.dtype == object:
        return np.where(left < 0, 4 * (most + 1) // np.where(left < 0, over, 1) + 1, 0)
    return 4 * (most + 1) / np.where(left < 0, over, 1)
