"""The least value of linear forms over box ∩ ball ∩ halfspaces, from one lemma.

For a row vector a, a box [l, u], a ball Σ φ(x_i − c_i) ≤ budget (`networks.norms`) and halfspaces G x ≤ h, and for
**any** λ ≥ 0 and μ ≥ 0,

    min a·x  ≥  Σ_i min{ (a + μG)_i x_i + λ φ(x_i − c_i) : l_i ≤ x_i ≤ u_i }  −  λ·budget  −  μ·h

(weak Lagrangian duality: both terms that were added are at most 0 in the region). Every entry's minimum has a closed
form. For one ball the best λ makes it an equality: the problem is convex for ℓ2 and ℓ1, and for ℓ0 it picks the entries
with the largest gain, which is a linear program with integral corners. `multipliers` finds λ: for ℓ1 it is the |a_i| at
which the budget runs out, for ℓ0 the first gain left out, for ℓ2 the root of Σ clip(−a_i/2λ)² = ε².

Soundness. λ and μ are data. `dual_bound` charges all rounding a priori: with n entries and m constraints, γ = (n + m +
16)·2⁻⁵² times the sum of the magnitudes that were added. An overflow or a NaN turns into −∞, which claims nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from networks.constraints import Halfspaces
from networks.norms import Ball

__all__ = ["around", "best_lambda", "dual_bound", "minimise", "multipliers"]

_UNIT = 2.0**-52
_UNDERFLOW = 2.0**-1000
_SEARCH = 60
_CYCLES = 10

Array = NDArray[np.float64]


def around(ball: Ball, lower: Array, upper: Array) -> tuple[Array, Array]:
    """The box as bounds of d = x − c, rounded outward; shapes kept."""
    c = ball.center.astype(np.float64)
    low, high = lower - c, upper - c
    return np.nextafter(low, -np.inf), np.nextafter(high, np.inf)


def dual_bound(
    A: Array,
    lower: Array,
    upper: Array,
    ball: Ball | None = None,
    lam: Array | None = None,
    halfspaces: Halfspaces | None = None,
    mu: Array | None = None,
) -> Array:
    """The lemma's right-hand side, a lower bound of ``A x`` over the region, with rounding charged: shape ``(R,)``.

    Args:
        A: shape ``(R, inputs)``.
        lower, upper: the box, shape ``(inputs,)`` or ``(R, inputs)``; the ball's center may lie outside.
        ball: None for a plain box.
        lam: λ ≥ 0, shape ``(R,)``; 0 where absent.
        halfspaces: None for none.
        mu: μ ≥ 0, shape ``(R, constraints)``; 0 where absent.
    """
    with np.errstate(all="ignore"):
        size = np.abs(A)
        weight = np.zeros(len(A))
        terms = A.shape[-1] + 16
        if halfspaces is not None and mu is not None:
            A = A + mu @ halfspaces.G
            size = size + mu @ np.abs(halfspaces.G)
            weight = mu @ halfspaces.h
            terms += len(halfspaces.h)
        error = np.abs(weight)
        if ball is None:
            value = np.minimum(A * lower, A * upper).sum(-1)
            error = error + (size * np.maximum(np.abs(lower), np.abs(upper))).sum(-1)
        else:
            c = ball.center.astype(np.float64)
            low, high = around(ball, lower, upper)
            lam = np.zeros(len(A)) if lam is None else lam
            d = _entries(ball.norm, A, low, high, lam)
            spent = ball.spent(d)
            value = A @ c + (A * d).sum(-1) + lam * spent - lam * ball.budget_above
            far = np.abs(c) + np.maximum(np.abs(low), np.abs(high))
            error = error + (size * far).sum(-1) + lam * (spent + ball.budget_above)
        bound = value - weight - terms * _UNIT * error - _UNDERFLOW
    return np.where(np.isfinite(bound), bound, -np.inf)


def _entries(norm: str, A: Array, low: Array, high: Array, lam: Array) -> Array:
    """For every entry the d in [low, high] where A d + λ φ(d) is least, shape ``(R, inputs)``."""
    vertex = np.where(A > 0, low, high)
    nearest = np.clip(0.0, low, high)
    if norm == "l2":
        # λ may be so small that the quotient overflows, or 0.
        free = np.divide(-A, 2 * lam[:, None], out=vertex + np.zeros_like(A), where=lam[:, None] > 0)
        return np.asarray(np.clip(np.where(np.isfinite(free), free, vertex), low, high))
    if norm == "l1":
        # Piecewise linear with a kink at 0, so only these two can be least.
        return np.where(
            A * vertex + lam[:, None] * np.abs(vertex) < A * nearest + lam[:, None] * np.abs(nearest), vertex, nearest
        )
    stays = (nearest == 0) & (A * vertex + lam[:, None] * (vertex != 0) >= 0)
    return np.where(stays, 0.0, vertex)


def best_lambda(A: Array, lower: Array, upper: Array, ball: Ball) -> tuple[Array, Array]:
    """The λ of the best bound over box ∩ ball, shape ``(R,)``, and the point of it where A x is least, ``(R, inputs)``.

    Both up to rounding, and the point of no meaning where box and ball do not meet. Arguments as for `dual_bound`.
    """
    c = ball.center.astype(np.float64)
    low, high = np.broadcast_to(lower - c, A.shape), np.broadcast_to(upper - c, A.shape)
    find = {"l2": _lambda_l2, "l1": _lambda_l1, "l0": _lambda_l0}[ball.norm]
    with np.errstate(all="ignore"):
        lam, d = find(A, low, high, ball)
    lam = np.where(np.isfinite(lam), np.maximum(lam, 0.0), 0.0)
    return lam, np.clip(c + d, lower, upper)


def _lambda_l2(A: Array, low: Array, high: Array, ball: Ball) -> tuple[Array, Array]:
    budget = ball.budget_above
    vertex = np.where(A > 0, low, np.where(A < 0, high, np.clip(0.0, low, high)))
    slack = (vertex * vertex).sum(-1) <= budget
    # t = 1/2λ. From inside the ball, what is clipped at t stays so, and the root with that much clipped is not below
    # the next t; outside the box's reach of the center, bisection keeps it in a bracket.
    least, most = np.zeros(len(A)), np.full(len(A), np.inf)
    t = np.sqrt(budget) / np.sqrt((A * A).sum(-1))
    d = vertex
    for _ in range(_SEARCH):
        wanted = -t[:, None] * A
        d = np.clip(wanted, low, high)
        spent = (d * d).sum(-1)
        least, most = np.where(spent <= budget, t, least), np.where(spent <= budget, most, t)
        free = wanted == d
        root = np.sqrt(np.maximum(budget - np.where(free, 0.0, d * d).sum(-1), 0) / np.where(free, A * A, 0.0).sum(-1))
        middle = np.where(np.isinf(most), 2 * t, (least + most) / 2)
        after = np.where((root > least) & (root < most), root, middle)
        done = slack | (np.abs(root - t) <= 4 * _UNIT * t)
        if done.all():
            break
        t = np.where(done, t, after)
    return np.where(slack, 0.0, 1 / (2 * t)), np.where(slack[:, None], vertex, d)


def _lambda_l1(A: Array, low: Array, high: Array, ball: Ball) -> tuple[Array, Array]:
    nearest = np.clip(0.0, low, high)
    left = ball.budget_above - np.abs(nearest).sum(-1)
    # How far an entry can go where A falls, away from the center: the other way the box does not let it.
    room = np.where(A < 0, np.where(nearest < 0, 0.0, high - nearest), np.where(nearest > 0, 0.0, nearest - low))
    order = np.argsort(-np.abs(A), axis=-1, kind="stable")
    sizes, rooms = np.take_along_axis(np.abs(A), order, -1), np.take_along_axis(room, order, -1)
    before = np.cumsum(rooms, -1) - rooms
    taken = np.clip(left[:, None] - before, 0.0, rooms)
    cut = taken < rooms
    lam = np.where(cut.any(-1), np.take_along_axis(sizes, cut.argmax(-1)[:, None], -1)[:, 0], 0.0)
    moved = np.empty_like(taken)
    np.put_along_axis(moved, order, taken, -1)
    return lam, nearest - np.sign(A) * moved


def _lambda_l0(A: Array, low: Array, high: Array, ball: Ball) -> tuple[Array, Array]:
    vertex = np.where(A > 0, low, high)
    forced = (low > 0) | (high < 0)
    gain = np.where(forced, np.inf, np.maximum(-(A * vertex), 0.0))
    count = int(min(ball.radius, A.shape[-1]))
    order = np.argsort(-gain, axis=-1, kind="stable")
    chosen = np.zeros(A.shape, dtype=bool)
    np.put_along_axis(chosen, order[:, :count], True, -1)
    if count == A.shape[-1]:
        return np.zeros(len(A)), vertex
    return np.take_along_axis(gain, order[:, count : count + 1], -1)[:, 0], np.where(chosen & (gain > 0), vertex, 0.0)


def multipliers(
    A: Array, lower: Array, upper: Array, ball: Ball | None, halfspaces: Halfspaces | None
) -> tuple[Array, Array, Array]:
    """Good λ, shape ``(R,)``, and μ, ``(R, constraints)``, and the points where the lemma's sum is least.

    The best λ for a ball alone. μ by coordinate ascent on the concave dual function, every step a bisection on the sign
    of its derivative ``G_j x − h_j``: the best for one constraint; with several it may stop short.
    """
    count = 0 if halfspaces is None else len(halfspaces.h)
    mu = np.zeros((len(A), count))

    def inner(mu: Array) -> tuple[Array, Array]:
        B = A if halfspaces is None else A + mu @ halfspaces.G
        if ball is None:
            return np.zeros(len(A)), np.where(B > 0, lower, upper)
        return best_lambda(B, lower, upper, ball)

    lam, x = inner(mu)
    if halfspaces is None:
        return lam, mu, x
    scale = np.abs(A).max(-1)
    scale = np.where(scale > 0, scale, 1.0)
    for _ in range(1 if count == 1 else _CYCLES):
        before = mu.copy()
        for j in range(count):
            row, limit = halfspaces.G[j], halfspaces.h[j]
            tried = mu.copy()

            def excess(value: Array, tried: Array = tried, j: int = j, row: Array = row, limit: float = limit) -> Array:
                tried[:, j] = value
                return np.asarray(inner(tried)[1] @ row - limit)

            most = 1e12 * scale / np.abs(row).max()
            low, high = np.zeros(len(A)), scale / np.abs(row).max()
            idle = excess(low) <= 0
            for _ in range(_SEARCH):
                rising = ~idle & (high < most) & (excess(high) > 0)
                if not rising.any():
                    break
                low, high = np.where(rising, high, low), np.where(rising, 16 * high, high)
            for _ in range(_SEARCH):
                middle = (low + high) / 2
                rising = excess(middle) > 0
                low, high = np.where(rising, middle, low), np.where(rising, high, middle)
                if (high - low <= 1e-14 * high).all():
                    break
            high = np.where(idle, 0.0, high)
            mu[:, j] = high
        if np.abs(mu - before).max() <= 1e-12 * np.abs(mu).max():
            break
    lam, x = inner(mu)
    return lam, mu, x


@np.errstate(over="ignore", invalid="ignore")
def minimise(
    A: Array, lower: Array, upper: Array, ball: Ball | None = None, halfspaces: Halfspaces | None = None
) -> tuple[Array, Array]:
    """Proven lower bounds of ``A x`` over the region, shape ``(R,)``, and points ``(R, inputs)`` near which they are
    attained; these may miss a constraint. Where numbers overflow, NaN or −∞.
    """
    lam, mu, x = multipliers(A, lower, upper, ball, halfspaces)
    return dual_bound(A, lower, upper, ball, lam, halfspaces, mu), x
