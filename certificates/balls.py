"""The formula's last term where a region is more than a box: the least value of linear forms over a box, a norm ball
and half-spaces.

Symbols. The region is what of the box l ≤ x ≤ u lies in the ball around c, Σ φ(x_i − c_i) ≤ budget (φ(d) is d² with
budget ε² for ℓ₂, |d| with ε for ℓ₁, and [d ≠ 0] with a count ε for ℓ₀), and in half-spaces G x ≤ h. For a row a, any μ ≥ 0
and b = a + μ G,

    a·x  ≥  b·x − μ·h        for every x of the region, and

* ℓ₂ and ℓ₁: b·x ≥ Σ_i min{(b + s)_i l_i, (b + s)_i u_i} − s·c − ε‖s‖ for **any** s, as s·(x − c) ≤ ε‖s‖ in the ball; ‖·‖
  is the dual norm, ℓ₂ or ℓ∞. This is the Lagrangian dual of the budget: with λ ≥ 0 its price, s is −b where that leaves
  x free, and else λ times the slope of φ at the end of the box that x is at.
* ℓ₀: b·x ≥ Σ_i min{b_i c_i, min{b_i l_i, b_i u_i} + λ} − λ ε for **any** λ ≥ 0; the first of the two only where c_i lies
  between l_i and u_i.

Prices are data. They are best where one budget is spent: found by sorting for ℓ₁ and ℓ₀, by Newton's method for ℓ₂, and
for the half-spaces one after the other, as if there were no ball.

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
from networks.exact import enclose
from networks.region import Region

__all__ = ["Limits", "counted", "price_l0", "price_l1", "price_l2", "prices", "pull"]

Array = NDArray[np.float64]

# Steps of Newton's method, which changes nothing after a few, and rounds over the half-spaces.
_STEPS, _ROUNDS = 12, 2
_UNDERFLOW = 2.0**-1000


@dataclass(frozen=True, eq=False)
class Limits:
    """What limits a region beyond its box.

    Attributes:
        norm: "l2", "l1" or "l0"; "" for no ball.
        center: exact, shape ``(1, inputs)``.
        radius: ε, rounded up.
        normals, bounds: G rounded to nearest, shape ``(K, inputs)``, and h rounded up, ``(K,)``.
    """

    norm: str
    center: Array
    radius: float
    normals: Array
    bounds: Array

    @classmethod
    def of(cls, region: Region) -> Self | None:
        """None where the region is a box."""
        ball, constraints = region.ball, region.constraints
        if ball is None and not constraints:
            return None
        normals = np.zeros((len(constraints), region.inputs))
        bounds = np.zeros(len(constraints))
        for k, constraint in enumerate(constraints):
            for i, value in zip(constraint.indices, constraint.values, strict=True):
                normals[k, i] = _nearest(value)
            bounds[k] = _up(constraint.bound)
        if ball is None:
            return cls("", np.zeros((1, region.inputs)), 0.0, normals, bounds)
        return cls(ball.norm, ball.center.astype(np.float64)[None], _up(ball.radius), normals, bounds)

    @np.errstate(all="ignore")
    def least(self, A: Rows, low: Array, high: Array, unit: float) -> Array:
        """Lower bounds of A·x on boxes, shape ``(B, R)``; −∞ claims nothing.

        ``low`` and ``high`` of shape ``(B, inputs)``, or ``(B, R, inputs)`` for a box of its own for each row; ``unit``
        as in `certificates.enclosure.Boxes`.
        """
        if len(self.normals) or low.ndim == 3:
            A = A.whole(self.center.shape[1])
        if low.ndim == 2:
            low, high = A.at(low), A.at(high)
        center = A.at(self.center)
        a, gamma = A.values, (A.values.shape[-1] + len(self.normals) + 16) * unit
        value = self._on_ball(a, low, high, center, gamma)
        if len(self.normals):
            mu = prices(a, low, high, self.normals, self.bounds)
            b = a + mu @ self.normals
            size = (np.abs(a) + mu @ np.abs(self.normals)) * np.maximum(np.abs(low), np.abs(high))
            charge = gamma * (size.sum(-1) + mu @ np.abs(self.bounds)) + _UNDERFLOW
            moved = self._on_ball(b, low, high, center, gamma) - mu @ self.bounds - charge
            value = np.fmax(value, _finite(moved))
        return value

    def _on_ball(self, b: Array, low: Array, high: Array, center: Array, gamma: float) -> Array:
        """Lower bounds of b·x on the box and on its part in the ball, whichever is better."""
        reach = np.maximum(np.abs(low), np.abs(high))
        ends = np.minimum(b * low, b * high)
        box = ends.sum(-1) - gamma * (np.abs(b) * reach).sum(-1) - _UNDERFLOW
        if not self.norm:
            return _finite(box)
        p, q = low - center, high - center
        if self.norm == "l0":
            price = price_l0(b, p, q, self.radius)
            value = counted(b * center, ends, (low <= center) & (center <= high), price).sum(-1) - price * self.radius
            size = (np.abs(b) * (reach + np.abs(center)) + price[..., None]).sum(-1) + price * self.radius
        else:
            price = (price_l1 if self.norm == "l1" else price_l2)(b, p, q, self.radius)
            s = pull(self.norm, b, p, q, price)
            rest = b + s
            spent = self.radius * (np.abs(s).max(-1, initial=0) if self.norm == "l1" else _length(s))
            value = np.minimum(rest * low, rest * high).sum(-1) - (s * center).sum(-1) - spent
            size = ((np.abs(b) + np.abs(s)) * reach + np.abs(s * center)).sum(-1) + spent
        return np.fmax(_finite(box), _finite(value - gamma * size - _UNDERFLOW * (1 + self.radius)))


def _nearest(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf


def _up(value: Any) -> float:
    try:
        return float(enclose([value])[1][0])
    except ValueError:
        return np.inf


def _finite(value: Array) -> Array:
    return np.where(np.isfinite(value), value, -np.inf)


def _length(s: Array) -> Array:
    """Euclidean lengths; what underflows in them is nothing beside the largest entry."""
    largest = np.abs(s).max(-1, initial=0)
    share = s / np.where(largest > 0, largest, 1)[..., None]
    return largest * np.sqrt((share * share).sum(-1))


def pull(norm: str, b: Any, p: Any, q: Any, price: Any) -> Any:
    """s for a price λ, where l − c = p and u − c = q."""
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
    left = radius**2 - (near * near).sum(-1)
    price = _length(b) / radius
    for _ in range(_STEPS):
        d = -b / price[..., None]
        free = (d > p) & (d < q)
        spent = np.where(free, 0, np.minimum(np.maximum(d, p), q))
        room = radius**2 - (spent * spent).sum(-1)
        better = _length(np.where(free, b, 0)) / np.sqrt(room)
        done = ~(np.abs(better - price) > 1e-9 * price)
        price = np.where(room > 0, better, price)
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


def prices(a: Array, low: Array, high: Array, normals: Array, bounds: Array) -> Array:
    """μ, shape ``(B, R, K)``: one after the other each is the best on the box beside the others; floats only."""
    mu = np.zeros((*a.shape[:-1], len(normals)))
    for _ in range(_ROUNDS):
        for k, (g, h) in enumerate(zip(normals, bounds.tolist(), strict=True)):
            others = np.where(np.arange(len(normals)) == k, 0, mu)
            b = a + others @ normals
            x = np.where((b > 0) | ((b == 0) & (g > 0)), low, high)
            # Entries of x go to their other end one by one as the price rises, and the rate of the bound falls.
            turn = np.where(b * g < 0, -b / g, np.inf)
            fall = np.where(np.isfinite(turn), np.abs(g) * (high - low), 0)
            order = np.argsort(turn, -1, kind="stable")
            rate = (g * x).sum(-1)[..., None] - h
            after = rate - np.take_along_axis(fall, order, -1).cumsum(-1)
            turn = np.take_along_axis(turn, order, -1)
            at = np.take_along_axis(turn, (after <= 0).argmax(-1)[..., None], -1)[..., 0]
            # No point of the box lies in the half-space: the dearer the better.
            most = (np.abs(b) * np.maximum(np.abs(low), np.abs(high))).sum(-1)
            at = np.where((after <= 0).any(-1), at, 4 * (most + 1) / after[..., -1])
            mu[..., k] = np.nan_to_num(np.where(rate[..., 0] > 0, at, 0), nan=0.0, posinf=0.0)
    return mu
