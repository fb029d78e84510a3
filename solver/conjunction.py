"""Bounds of conjunctions: the best combination of a clause's rows, with slopes of its own.

A violation has every row of a clause at most 0, so also each combination with weights w ≥ 0: where one is positive,
there is no violation, even if no single row shows it. Weights and lower slopes climb side by side by Adam.

Soundness. Weights that are not negative, and slopes, are data: whatever they are, `bounds.backward` bounds the
combination from below, rounding included. Weights add up to 1, so the bound is one of the margin, the largest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bounds.ascent import Ascent
from bounds.backward import LinearBound, backward_pass
from bounds.groups import Groups
from bounds.program import Program
from bounds.relus import BoxBounds
from networks.property import Clause
from solver import policy

__all__ = ["Rows", "Together", "together"]

# Weights and slopes are multiples of 1 over this.
_DIGITS = 256


@dataclass(frozen=True, eq=False)
class Rows:
    """All clauses' rows in one matrix; ``clause[r]`` is the clause that row r belongs to."""

    C: Tensor
    offsets: Tensor
    clause: Tensor

    @classmethod
    def of(cls, clauses: Sequence[Clause]) -> Rows:
        return cls(
            torch.as_tensor(np.concatenate([c.matrix for c in clauses])),
            torch.as_tensor(np.concatenate([c.offsets for c in clauses])),
            torch.as_tensor([i for i, c in enumerate(clauses) for _ in c.rows]),
        )

    @property
    def several(self) -> Tensor:
        """Which clauses have more than one row, shape ``(clauses,)``."""
        return torch.bincount(self.clause) > 1

    @cached_property
    def of_clause(self) -> tuple[Tensor, Tensor]:
        """Each clause's rows, padded with any row to as many as the longest one has, and which of them are its own.

        Both of shape ``(clauses, longest)``.
        """
        each = torch.bincount(self.clause)
        place = torch.arange(int(each.max()))
        own = place < each[:, None]
        return torch.where(own, (each.cumsum(0) - each)[:, None] + place, 0), own


@dataclass(frozen=True, eq=False)
class Together:
    """Bounds of P combinations.

    Attributes:
        linear: the bounds, offsets and all rounding included.
        box, clause: what each is about, shape ``(P,)``.
        weights: of the clause's rows in turn, 0 beyond them, shape ``(P, longest)`` for the longest clause.
        slopes: lower slopes where a ReLU is unstable, node after node, shape ``(P, relus)``.
    """

    linear: LinearBound
    box: Tensor
    clause: Tensor
    weights: Tensor
    slopes: Tensor


def together(program: Program, rows: Rows, bounds: BoxBounds, is_open: Tensor) -> Together | None:
    """Bounds of the best convex combinations of clauses' rows on boxes where the clauses are open.

    Args:
        program: the compiled network, float64.
        rows: the rows of C clauses.
        bounds: B boxes with bounds for every ReLU.
        is_open: which clauses are open where, shape ``(B, C)``.

    Returns:
        The bounds; None where no open clause has several rows.
    """
    pair = torch.nonzero(is_open & rows.several)
    if not len(pair) or not program.relus:
        return None
    box, last = pair[:, 0], len(program.steps) - 1
    frame = Groups(box, 1)
    widths = [program.features[node] for node in program.relus]
    slopes = torch.cat([bounds.relaxation(node).dense[2] for node in program.relus], 1)[box]
    row, own = (each[pair[:, 1]] for each in rows.of_clause)
    logits = torch.where(own, 0.0, -torch.inf).to(rows.C.dtype)
    C, offsets = rows.C[row], rows.offsets[row]

    def bound(weights: Tensor, alpha: Tensor) -> LinearBound:
        parts = dict(zip(program.relus, torch.split(alpha, widths, 1), strict=True))
        return backward_pass(
            program,
            bounds,
            {last: weights[:, None] @ C},
            frame,
            last,
            lambda node: bounds.relaxation(node).grouped(frame, parts[node]),
        )

    climb = [
        Ascent(slopes, policy.BOX_STEPS, policy.BOX_SLOPE_RATE),
        Ascent(logits, policy.BOX_STEPS, policy.BOX_WEIGHT_RATE),
    ]
    best = torch.full((len(pair),), -torch.inf, dtype=rows.C.dtype)
    best_weights, best_slopes = logits.softmax(1), slopes
    for step in range(policy.BOX_STEPS + 1):
        with torch.enable_grad():
            slopes.requires_grad_(True)
            logits.requires_grad_(True)
            weights = logits.softmax(1)
            value = bound(weights, slopes).value[:, 0] + (weights * offsets).sum(1)
            along = None
            if step < policy.BOX_STEPS:
                along = torch.autograd.grad(value.sum(), (slopes, logits), allow_unused=True, materialize_grads=True)
        slopes, logits, weights, value = slopes.detach(), logits.detach(), weights.detach(), value.detach()
        better = value > best
        best = torch.where(better, value, best)
        best_weights = torch.where(better[:, None], weights, best_weights)
        best_slopes = torch.where(better[:, None], slopes, best_slopes)
        if along is None or (best > 0).all():
            break
        slopes = (slopes + climb[0].step(along[0].nan_to_num())).clamp(0, 1)
        logits = logits + climb[1].step(along[1].nan_to_num())
    best_weights, best_slopes = _short(best_weights, best_slopes)
    linear = bound(best_weights, best_slopes)
    linear = LinearBound(linear.value[:, 0], linear.coefficients[:, 0], linear.constant[:, 0])
    offset = (best_weights * offsets).sum(1)
    # What is bounded is the rounded combination.
    size = ((best_weights[:, None] @ C.abs())[:, 0] * bounds.magnitude[last][box]).sum(-1)
    size = size + (best_weights * offsets.abs()).sum(1) + linear.value.abs() + 2.0**-900
    charge = (C.shape[1] + 32) * 2.0**-52 * size
    value = torch.nan_to_num(linear.value + offset - charge, nan=-torch.inf, posinf=-torch.inf)
    bound_with_offset = LinearBound(value, linear.coefficients, linear.constant + offset - charge)
    return Together(bound_with_offset, box, pair[:, 1], best_weights, best_slopes)


def _short(weights: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and slopes of few digits, which certificates store in few bytes; the weights add up to exactly 1."""
    down = (weights * _DIGITS).floor() / _DIGITS
    largest = weights.argmax(1, keepdim=True)  # a row of the clause, even where all are rounded to 0
    return down.scatter_add(1, largest, 1 - down.sum(1, keepdim=True)), (slopes * _DIGITS).round() / _DIGITS
