"""Gradient descent on a property's margin within a region, batched over clauses and restarts.

In boxes by projected sign gradients (Madry et al. 2018, §2.1). In norm balls by conditional gradients (Frank & Wolfe
1956; Chen et al. 2020, *A Frank-Wolfe framework for efficient and effective adversarial attacks*): a step goes part of
the way to the point of the region where the linearised margin is least, so it stays inside whatever the norm is; where
the region is not convex (ℓ0), or has constraints, it is projected.

Nothing here proves anything: candidates count only after `solver.replay` has reproduced them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.inside import Inside
from bounds.program import Program
from networks.property import Clause, Property
from networks.region import Region
from solver import policy
from solver.replay import Replayer
from solver.verdict import Counterexample

__all__ = ["Attack", "AttackResult", "clause_margins"]


def clause_margins(clauses: Sequence[Clause], y: Tensor) -> Tensor:
    """The margin of every clause at every output: ``(B, outputs) → (B, clauses)``; differentiable."""
    columns = []
    for clause in clauses:
        rows = y @ torch.as_tensor(clause.matrix, dtype=y.dtype, device=y.device).T
        columns.append((rows + torch.as_tensor(clause.offsets, dtype=y.dtype, device=y.device)).amax(-1))
    return torch.stack(columns, -1)


@dataclass(frozen=True, eq=False)
class AttackResult:
    """The outcome of an attack: ``upper`` is the smallest margin attained in the region (+inf if none)."""

    counterexample: Counterexample | None
    upper: float
    steps: int


@dataclass(frozen=True, eq=False)
class Attack:
    """An attack on one region.

    Attributes:
        program: the network, compiled (its dtype decides the attack's).
        replayer: confirms candidates.
        region: where to search, or, if it holds no float32 point, beside which.
        prop: what a counterexample violates.
        stop: true when time is up or the query was cancelled; asked after every step.
    """

    program: Program
    replayer: Replayer
    region: Region
    prop: Property
    stop: Callable[[], bool]

    def run(
        self,
        clauses: Sequence[Clause],
        *,
        starts: NDArray[np.float64] | None = None,
        restarts: int = 4,
        steps: int = 20,
        rng: np.random.Generator,
    ) -> AttackResult:
        """Descends on each clause's margin from the center, from ``starts`` and from random points.

        Args:
            clauses: the clauses still open.
            starts: further points to start from, shape ``(k, inputs)``.
            restarts: random starts for each clause.
            steps: sign-gradient steps; the step length falls from a quarter of the box to a hundredth.
            rng: source of the random starts.
        """
        points = [self.region.sample(restarts, rng).astype(np.float64)]
        if self.region.center is not None:
            points.append(self.region.center[None].astype(np.float64))
        if starts is not None:
            points.append(starts)
        first = np.concatenate(points)
        return self._descend(clauses, np.tile(first, (len(clauses), 1)), len(first), steps, 0.25)

    def confirm(self, clause: Clause, x: NDArray[np.float64], steps: int = 10) -> AttackResult:
        """Tries to make a counterexample of ``x``: as it is, rounded into the region, then pushed by small steps."""
        return self._descend([clause], np.asarray(x, dtype=np.float64).reshape(1, -1), 1, steps, 0.02)

    def _descend(
        self, clauses: Sequence[Clause], first: NDArray[np.float64], group: int, steps: int, length: float
    ) -> AttackResult:
        dtype = self.program.dtype
        lower = torch.as_tensor(self.region.near_lower, dtype=dtype)
        upper = torch.as_tensor(self.region.near_upper, dtype=dtype)
        # Rows come in groups, one for each clause, and follow that clause's margin.
        x = torch.as_tensor(self.region.project(first), dtype=dtype)
        best = math.inf
        for step in range(steps + 1):
            x = x.detach().requires_grad_(step < steps)
            margins = self._own_margins(clauses, group, x)
            found, replayed = self._replay_best(x.detach(), margins.detach(), last=step == steps)
            best = min(best, replayed)
            if found is not None or step == steps or self.stop():
                return AttackResult(found, best, step)
            (gradient,) = torch.autograd.grad(margins.sum(), x)
            flat = (gradient == 0).all(1)
            if flat.any():
                # Dead ReLUs hide the way; it shows where gradients leak through them.
                leaking = self._own_margins(clauses, group, x, leak=policy.ATTACK_LEAK)
                gradient = torch.where(flat[:, None], torch.autograd.grad(leaking.sum(), x)[0], gradient)
            rate = length * (0.04 ** (step / max(1, steps)))
            x = self._step(x.detach(), gradient, rate, lower, upper)
        raise AssertionError

    @cached_property
    def _inside(self) -> Inside | None:
        return Inside.of(self.region)

    def _step(self, x: Tensor, gradient: Tensor, rate: float, lower: Tensor, upper: Tensor) -> Tensor:
        """The points ``x``, shape ``(B, inputs)``, after a step of the length ``rate``, in widths of the box."""
        if self._inside is None:
            return torch.minimum(torch.maximum(x - rate * (upper - lower) * gradient.sign(), lower), upper)
        inside = self._inside.like(x)
        x = x + min(1.0, 2 * rate) * (inside.minimiser(gradient, lower, upper) - x)
        if inside.norm in {"l2", "l1"} and not len(inside.h):
            return x
        return torch.as_tensor(self.region.project(x.numpy()), dtype=x.dtype)

    def _own_margins(self, clauses: Sequence[Clause], group: int, x: Tensor, *, leak: float = 0.0) -> Tensor:
        """Each row's margin of its own clause, shape ``(B,)``, where ``group`` rows in turn belong to a clause."""
        outputs = torch.split(self.program.forward(x, leak=leak), group)
        return torch.cat([clause_margins([clause], y)[:, 0] for clause, y in zip(clauses, outputs, strict=True)])

    def _replay_best(self, x: Tensor, margins: Tensor, *, last: bool) -> tuple[Counterexample | None, float]:
        """Replays the most promising points: those that look violated, and at the end the best one in any case."""
        order = torch.argsort(margins)[:3]
        best = math.inf
        for i in order.tolist():
            # Float32 inference may differ from ours, so points that are nearly violated are tried too.
            if not (margins[i] <= 1e-6 * (1 + margins.abs().max()) or (last and i == order[0])):
                continue
            point = self.region.project(x[i].numpy())
            found = self.replayer.counterexample(self.region, self.prop, point)
            if found is not None:
                return found, found.attained
            if not self.region.contains(point):
                continue
            margin = self.replayer.margin(self.prop, point)
            best = min(best, math.inf if math.isnan(margin) else margin)
        return None, best
