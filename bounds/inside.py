"""What a region leaves of its bounding box: the last term of every bound, for norm balls and linear constraints.

The minimum of ``A x`` over ``box ∩ {Σ φ(x_i − c_i) ≤ budget} ∩ {G x ≤ h}`` from below, by the lemma of
`networks.minimum`, batched: for any λ, μ ≥ 0 it is at least
``Σ_i min{(A + μG)_i x_i + λ φ(x_i − c_i) : l_i ≤ x_i ≤ u_i} − λ·budget − μ·h``.

λ is the best one for A + μG: from a sort (ℓ1), the largest gains (ℓ0), or, for ℓ2, the root of ``|clip(−tA)| = ε`` with
t = 1/2λ, by iterating ``t ← √((ε² − Σ_clipped d²) / Σ_free A²)`` in a bracket; where the box holds the center, t only
grows and ends after as many rounds as new entries are clipped. μ climbs one constraint at a time over the box alone:
along each the dual function is piecewise linear, so sorting its breakpoints gives the best step.

Soundness. λ and μ are data. All rounding of the lemma's sum is charged a priori, as in `bounds.backward`. A bound is
only ever used beside that of the box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from networks.norms import BallNorm
from networks.region import Region

__all__ = ["Inside"]

_UNIT = 2.0**-52
_UNDERFLOW = 2.0**-1000
# Rounds for t, and where they end: what a bound loses by an inexact t is of second order.
_ROUNDS = 24
_CLOSE = 1e-7
_CYCLES = 3


@dataclass(frozen=True, eq=False)
class Inside:
    """The ball and the constraints of one region; boxes are any parts of its bounding box.

    Attributes:
        norm: ``l2``, ``l1`` or ``l0``; None without a ball.
        center: shape ``(1, inputs)``.
        budget: rounded up.
        G, h: the constraints, shape ``(m, inputs)`` and ``(m,)``; m may be 0. G is off by at most its last bit, h is
            rounded up.
        tried: μ to try beside those that climb, shape ``(m,)``.
    """

    norm: BallNorm | None
    center: Tensor
    budget: float
    G: Tensor
    h: Tensor
    tried: Tensor | None = None

    @classmethod
    def of(cls, region: Region) -> Inside | None:
        """None for a box."""
        if region.plain:
            return None
        ball, halfspaces = region.ball, region.halfspaces
        G = np.zeros((0, region.inputs)) if halfspaces is None else halfspaces.G
        return cls(
            None if ball is None else ball.norm,
            torch.as_tensor((np.zeros(region.inputs) if ball is None else ball.center).astype(np.float64))[None],
            0.0 if ball is None else ball.budget_above,
            torch.as_tensor(G),
            torch.zeros(0, dtype=torch.float64) if halfspaces is None else torch.as_tensor(halfspaces.h),
        )

    def like(self, values: Tensor) -> Inside:
        """The same in the precision and on the device of ``values``; for searches."""
        return Inside(self.norm, self.center.to(values), self.budget, self.G.to(values), self.h.to(values))

    def bound(self, A: Tensor, low: Tensor, high: Tensor, center: Tensor | None = None) -> Tensor:
        """Lower bounds of ``A x``, shape ``(*rows,)``, differentiable by A; −inf or NaN where nothing is claimed.

        Args:
            A: shape ``(*rows, entries)``: of the inputs, or of a window of them (`bounds.windows`).
            low, high: the boxes, which broadcast to that shape.
            center: the ball's center as the rows read it; all of it when absent.
        """
        whole = A.shape[-1] == self.center.shape[-1]
        c = self.center if center is None else center
        with torch.no_grad():
            mu = self._climb(A.detach(), low, high) if whole and len(self.h) else None
        value = self._dual(A, low, high, c, None)
        if mu is None:
            return value
        value = torch.maximum(value, self._dual(A, low, high, c, mu))
        if self.tried is None:
            return value
        return torch.maximum(value, self._dual(A, low, high, c, self.tried.clamp(min=0).expand_as(mu)))

    def minimiser(self, A: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Where ``A x`` is least in box ∩ ball, up to rounding, shape ``(*rows, inputs)``; constraints are weighed, and
        may be missed.
        """
        B = A
        if len(self.h):
            B = A + self._climb(A, low, high) @ self.G
        if self.norm is None:
            return torch.where(B > 0, low, high)
        return self.center + self._best(B, low - self.center, high - self.center)[1]

    def misses(self, low: Tensor, high: Tensor) -> Tensor:
        """Boxes that hold no point of the region, for certain: mask ``(B,)`` for end points ``(B, inputs)``."""
        n = low.shape[-1] + 16
        reach = torch.maximum(low.abs(), high.abs())
        empty = torch.zeros(len(low), dtype=torch.bool, device=low.device)
        if self.norm is not None:
            lo, hi = self._around(low, high, self.center)
            nearest = torch.zeros_like(lo).clamp(lo, hi)
            empty = self._spent(nearest) * (1 - n * _UNIT) > self.budget
        if len(self.h):
            least = torch.minimum(low[:, None] * self.G, high[:, None] * self.G).sum(-1)
            charge = n * _UNIT * (reach @ self.G.abs().T + self.h.abs()) + _UNDERFLOW
            empty = empty | (least - charge > self.h).any(-1)
        return empty

    def _dual(self, A: Tensor, low: Tensor, high: Tensor, c: Tensor, mu: Tensor | None) -> Tensor:
        """The lemma's sum with the best λ for μ, rounding charged."""
        B, size, weight = A, A.abs(), A.new_zeros(())
        if mu is not None:
            B, size, weight = A + mu @ self.G, size + mu @ self.G.abs(), mu @ self.h
        n = A.shape[-1] + len(self.h) + 16
        if self.norm is None:
            far = torch.maximum(low.abs(), high.abs())
            value = torch.minimum(B * low, B * high).sum(-1)
            return value - weight - n * _UNIT * (_dot(size, far) + weight.abs()) - _UNDERFLOW
        lo, hi = self._around(low, high, c)
        with torch.no_grad():
            lam = self._best(B.detach(), lo, hi)[0]
            d = self._entries(B.detach(), lo, hi, lam)
            tax = lam * self._spent(d)
            spare = lam * self.budget
        far = c.abs() + torch.maximum(lo.abs(), hi.abs())
        value = _dot(B, c) + (B * d).sum(-1) + (tax - spare) - weight
        return value - n * _UNIT * (_dot(size, far) + tax + spare + weight.abs()) - _UNDERFLOW

    @staticmethod
    def _around(low: Tensor, high: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The box as bounds of x − c, rounded outward."""
        infinity = torch.full((), torch.inf, dtype=low.dtype, device=low.device)
        return torch.nextafter(low - c, -infinity), torch.nextafter(high - c, infinity)

    def _spent(self, d: Tensor) -> Tensor:
        if self.norm == "l2":
            return (d * d).sum(-1)
        return d.abs().sum(-1) if self.norm == "l1" else (d != 0).sum(-1).to(d)

    def _entries(self, B: Tensor, lo: Tensor, hi: Tensor, lam: Tensor) -> Tensor:
        """The d between lo and hi where ``B d + λ φ(d)`` is least, entry by entry; γ charges that it is rounded."""
        vertex = torch.where(B > 0, lo, hi)
        price = lam[..., None]
        if self.norm == "l2":
            free = B / (-2 * price)
            return torch.where(torch.isfinite(free), free, vertex).clamp(lo, hi)
        nearest = torch.zeros_like(vertex).clamp(lo, hi)
        if self.norm == "l1":
            return torch.where(B * vertex + price * vertex.abs() < B * nearest + price * nearest.abs(), vertex, nearest)
        return torch.where((nearest == 0) & (B * vertex + price * (vertex != 0) >= 0), nearest, vertex)

    def _best(self, B: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        """The best λ, shape ``(*rows,)``, and the d of the ball between lo and hi where ``B d`` is least."""
        lo, hi = lo.expand_as(B), hi.expand_as(B)
        find = {"l2": self._best_l2, "l1": self._best_l1, "l0": self._best_l0}[str(self.norm)]
        lam, d = find(B, lo, hi)
        return torch.nan_to_num(lam, nan=0.0, posinf=0.0, neginf=0.0).clamp(min=0), d

    def _best_l2(self, B: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        squares = B * B
        nearest = torch.zeros_like(B).clamp(lo, hi)
        vertex = torch.where(B > 0, lo, torch.where(B < 0, hi, nearest))
        slack = (vertex * vertex).sum(-1, keepdim=True) <= self.budget
        t = (self.budget / squares.sum(-1, keepdim=True)).sqrt()
        t = torch.where(torch.isfinite(t), t, 1.0)
        least, most = torch.zeros_like(t), torch.full_like(t, torch.inf)
        for _ in range(_ROUNDS):
            wanted = B * -t
            d = wanted.clamp(lo, hi)
            free = (squares * (wanted == d)).sum(-1, keepdim=True)
            spent = (d * d).sum(-1, keepdim=True)
            inner = spent <= self.budget
            least, most = torch.where(inner, t, least), torch.where(inner, most, t)
            # Clipped entries hold what they have; the others share what is left.
            root = ((self.budget - spent + t * t * free).clamp(min=0) / free).sqrt()
            done = slack | ((root - t).abs() <= _CLOSE * t)
            # An end of the bracket was tried already; where no entry is free, the root is infinite.
            good = done | ((root > least) & (root < most))
            after = torch.where(good, root, torch.where(torch.isinf(most), 2 * t, (least + most) / 2))
            t = torch.where(slack, t, after)
            if bool(done.all()):
                break
        d = torch.where(slack, vertex, (B * -t).clamp(lo, hi))
        return torch.where(slack, 0.0, 0.5 / t)[..., 0], d

    def _best_l1(self, B: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        nearest = torch.zeros_like(B).clamp(lo, hi)
        left = self.budget - nearest.abs().sum(-1, keepdim=True)
        # How far an entry can go where B falls, away from the center: the other way the box does not let it.
        room = torch.where(B < 0, (hi - nearest) * (nearest >= 0), (nearest - lo) * (nearest <= 0))
        size, order = B.abs().sort(-1, descending=True)
        rooms = room.gather(-1, order)
        end = rooms.cumsum(-1)
        first = (end <= left).sum(-1, keepdim=True)
        lam = torch.where(first < B.shape[-1], size.gather(-1, first.clamp(max=B.shape[-1] - 1)), 0.0)
        taken = torch.minimum((left - end + rooms).clamp(min=0), rooms)
        return lam[..., 0], nearest - B.sign() * torch.zeros_like(B).scatter(-1, order, taken)

    def _best_l0(self, B: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        vertex = torch.where(B > 0, lo, hi)
        forced = (lo > 0) | (hi < 0)
        gain = torch.where(forced, torch.inf, (-(B * vertex)).clamp(min=0))
        count = int(self.budget)
        if count >= B.shape[-1]:
            return torch.zeros_like(B[..., 0]), vertex
        best, order = gain.topk(count + 1, dim=-1)
        chosen = torch.zeros_like(forced).scatter(-1, order[..., :count], True)
        return best[..., count], torch.where(chosen & (gain > 0), vertex, 0.0)

    def _climb(self, A: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Good μ for the box alone, shape ``(*rows, m)``."""
        mu = A.new_zeros((*A.shape[:-1], len(self.h)))
        low, high = low.expand_as(A), high.expand_as(A)
        B = A
        for _ in range(_CYCLES if len(self.h) > 1 else 1):
            for j, (g, h) in enumerate(zip(self.G, self.h, strict=True)):
                B = B - mu[..., j : j + 1] * g
                step = self._along(B, g, h, low, high)
                mu[..., j] = step
                B = B + step[..., None] * g
        return mu

    @staticmethod
    def _along(B: Tensor, g: Tensor, h: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The t ≥ 0 that maximises ``min{(B + t g) x : low ≤ x ≤ high} − t h``, shape ``(*rows,)``."""
        rising = (B > 0) | ((B == 0) & (g > 0))
        excess = (torch.where(rising, low, high) * g).sum(-1, keepdim=True) - h
        turns = (B != 0) & (g != 0) & ((B > 0) != (g > 0))
        at = torch.where(turns, -B / g, torch.inf)
        at, order = at.sort(-1)
        drop = torch.where(turns, g.abs() * (high - low), 0.0).gather(-1, order)
        first = (drop.cumsum(-1) < excess).sum(-1, keepdim=True)
        last = (turns.sum(-1, keepdim=True) - 1).clamp(min=0)
        t = at.gather(-1, torch.minimum(first, last))
        return torch.where((excess > 0) & torch.isfinite(t), t, 0.0)[..., 0]


def _dot(A: Tensor, values: Tensor) -> Tensor:
    """Rows of A times values that broadcast to them."""
    return A @ values[0] if values.dim() == 2 and len(values) == 1 else (A * values).sum(-1)
