"""ReLU nodes as backward passes (`bounds.backward`) meet them: bounds of their pre-activations, and default slopes.

A pass asks each node for the row Λ that it passes on, and for what the bound collects there. Any Λ is valid; those here
are the default slopes of `bounds.backward`, or given ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from bounds.groups import Groups
from bounds.inside import Inside
from bounds.windows import Frame

__all__ = ["UNIT", "Backward", "BoxBounds", "GroupedRows", "Relaxation", "ReluRows"]

#: Twice the rounding unit of float64.
UNIT = 2.0**-52


@dataclass(frozen=True, eq=False)
class BoxBounds:
    """A batch of B input boxes and the pre-activation bounds known on each.

    Attributes:
        lower, upper: end points of the boxes, shape ``(B, inputs)``.
        pre_lower, pre_upper: for each ReLU node, bounds of its pre-activations, shape ``(B, features)``.
        magnitude: for each node, a bound on ``|h|`` (for affine nodes on ``Σ|L||h| + |b|``), shape ``(B, features)``.
        inside: the ball and the constraints that the inputs keep beside the boxes, if there are any.
    """

    lower: Tensor
    upper: Tensor
    pre_lower: dict[int, Tensor] = field(default_factory=dict)
    pre_upper: dict[int, Tensor] = field(default_factory=dict)
    magnitude: list[Tensor] = field(default_factory=list)
    inside: Inside | None = None
    _relaxations: dict[int, Relaxation] = field(default_factory=dict)

    @property
    def boxes(self) -> int:
        """The number of boxes B."""
        return int(self.lower.shape[0])

    def corner(self, A: Tensor, box: Tensor | None = None) -> Tensor:
        """Where ``A x`` is least, for rows of shape ``(R, inputs)`` on boxes of shape ``(R,)``, or on the only one."""
        low, high = (self.lower, self.upper) if box is None else (self.lower[box], self.upper[box])
        return torch.where(A > 0, low, high) if self.inside is None else self.inside.minimiser(A, low, high)

    def unstable(self, node: int) -> Tensor:
        """Mask of shape ``(B, features)``: ReLUs of ``node`` with ``l < 0 < u``."""
        return (self.pre_lower[node] < 0) & (self.pre_upper[node] > 0)

    def relaxation(self, node: int) -> Relaxation:
        """The default slopes of ``node``, computed once from its bounds."""
        if node not in self._relaxations:
            self._relaxations[node] = Relaxation.of(self.pre_lower[node], self.pre_upper[node])
        return self._relaxations[node]


class Backward(Protocol):
    """What a backward pass asks of one ReLU node."""

    def back(self, A: Tensor) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """For coefficients A on the node's value, shape ``(*rows, entries)``: Λ of the same shape, what the bound
        collects, and the sizes of what was summed up for it, both ``(*rows,)``.
        """
        ...


@dataclass(frozen=True, eq=False)
class ReluRows:
    """One ReLU node as R rows of a backward pass see it; a leading 1 broadcasts over the rows.

    Attributes:
        active: 1 where l ≥ 0, else 0, shape ``(R or 1, features)``; what stands in ``columns`` does not matter.
        columns: the k entries that may be unstable, or whose phase was chosen: shape ``(k,)``, or ``(R, k)`` where each
            row has its own.
        low, high: bounds of their pre-activations that contain 0, shape ``(R or 1, k)``: l and u where unstable, (0, u)
            or (l, 0) where the phase is chosen, (0, 0) where stable.
        multipliers: maps A at those columns, shape ``(R, k)``, to Λ there; must be A or 0 where (low, high) is (0, 0).
    """

    active: Tensor
    columns: Tensor
    low: Tensor
    high: Tensor
    multipliers: Callable[[Tensor], Tensor]

    def back(self, A: Tensor) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """See `Backward`."""
        # Stable neurons contribute exactly zero: Λ is A or 0 there. Only the other columns need a closer look.
        L = A * self.active
        if not self.columns.shape[-1]:
            return L, 0.0, 0.0
        shared = self.columns.dim() == 1
        a = A[:, self.columns] if shared else A.gather(1, self.columns)
        b = self.multipliers(a)
        L = L.index_copy_(1, self.columns, b) if shared else L.scatter_(1, self.columns, b)
        collected = torch.minimum(-b * self.low, (a - b) * self.high).clamp(max=0).sum(-1)
        return L, collected, ((a.abs() + b.abs()) * torch.maximum(-self.low, self.high)).sum(-1)


@dataclass(frozen=True, eq=False)
class GroupedRows:
    """One ReLU node as m rows on each of G boxes see it, with slopes that do not depend on the row.

    Where A > 0 the slope is in [0, 1] and nothing is collected. Where A < 0, with Λ = s A for the upper slope s, it is
    ``A · max(-s l, (1-s) u)``. `intercept` is that factor with enough added for its own rounding and that of Λ.

    Attributes:
        active: 1 where l ≥ 0, else 0, shape ``(G or 1, 1, features)``.
        columns: indices of the k neurons that may be unstable; None for all, where these are not few.
        lower_slope, upper_slope, intercept: shape ``(G or 1, 1, k)``.
    """

    active: Tensor
    columns: Tensor | None
    lower_slope: Tensor
    upper_slope: Tensor
    intercept: Tensor

    def back(self, A: Tensor) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """See `Backward`; A has the shape ``(G, m, features)``."""
        a = A if self.columns is None else A[..., self.columns]
        negative = a.clamp(max=0)
        collected = (negative @ self.intercept.transpose(1, 2))[..., 0]
        # One of the two parts is zero everywhere, so neither the difference nor the sum is rounded.
        b = (a - negative).mul_(self.lower_slope).add_(negative.mul_(self.upper_slope))
        L = b if self.columns is None else (A * self.active).index_copy_(-1, self.columns, b)
        return L, collected, -collected


@dataclass(frozen=True, eq=False)
class Relaxation:
    """One ReLU node on B boxes with its default slopes; k counts the columns that are unstable on some box.

    Attributes:
        active: 1 where l ≥ 0, else 0, shape ``(B, features)``.
        columns: indices of the k columns.
        unstable: mask, shape ``(B, k)``.
        low, high: l and u, zero where stable, shape ``(B, k)``.
        lower_slope, upper_slope: slopes for A > 0 and A < 0, shape ``(B, k)``.
        dense: low, high, lower_slope and upper_slope of every neuron, shape ``(B, features)`` each.
    """

    active: Tensor
    columns: Tensor
    unstable: Tensor
    low: Tensor
    high: Tensor
    lower_slope: Tensor
    upper_slope: Tensor
    dense: tuple[Tensor, Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, low: Tensor, high: Tensor) -> Relaxation:
        active = (low >= 0).to(low.dtype)
        unstable = (low < 0) & (high > 0)
        columns = torch.nonzero(unstable.any(0))[:, 0]
        dense = (
            torch.where(unstable, low, 0.0),
            torch.where(unstable, high, 0.0),
            torch.where(unstable, (high > -low).to(low.dtype), active),
            torch.where(unstable, high / (high - low), active),
        )
        some = [values[:, columns] for values in dense]
        return cls(active, columns, unstable[:, columns], some[0], some[1], some[2], some[3], dense)

    def rows(self, node: int, frame: Frame, chosen: Tensor | None = None, alpha: Tensor | None = None) -> ReluRows:
        """For the rows of ``frame``, which read all of ``node`` where one of the others is given: at unstable columns
        Λ ``chosen``, shape ``(R, features)``, or the lower slopes ``alpha``, shape ``(R, k)``.
        """
        marked = frame.marked(node, self.dense[0] < 0)
        if marked is not None:
            columns, pick = marked
            low, high, lower_slope, upper_slope = map(pick, self.dense)
        else:
            columns = self.columns
            low, high, lower_slope, upper_slope = map(
                frame.of_box, (self.low, self.high, self.lower_slope, self.upper_slope)
            )
        if alpha is not None:
            lower_slope = torch.where(frame.of_box(self.unstable), alpha, lower_slope)

        def multipliers(a: Tensor) -> Tensor:
            b = torch.where(a > 0, a * lower_slope, a * upper_slope)
            return b if chosen is None else torch.where(frame.of_box(self.unstable), chosen[:, self.columns], b)

        return ReluRows(frame.of(node, self.active), columns, low, high, multipliers)

    def grouped(self, frame: Groups, alpha: Tensor | None = None) -> GroupedRows:
        """For rows in groups, with default slopes or, at unstable neurons, the lower slopes ``alpha`` in [0, 1], one
        for each group and neuron: shape ``(G, features)``.
        """
        # To pick columns and to put them back takes as long as relaxing some that need not be.
        few = 2 * len(self.columns) < self.active.shape[1]
        columns = self.columns if few else None
        low, _, lower_slope, upper_slope = (
            frame.of_box(values if columns is None else values[:, columns]) for values in self.dense
        )
        intercept = frame.of_box(self._intercept if columns is None else self._intercept[:, columns])
        if alpha is not None:
            chosen = alpha if columns is None else alpha[:, columns]
            lower_slope = torch.where(low < 0, chosen[:, None], lower_slope)
        return GroupedRows(frame.of_box(self.active), columns, lower_slope, upper_slope, intercept)

    @cached_property
    def _intercept(self) -> Tensor:
        """max(-s l, (1-s) u), and more than it and s A round, with the upper slopes s; shape ``(B, features)``."""
        low, high, _, slope = self.dense
        return torch.maximum(-slope * low, (1 - slope) * high) + 8 * UNIT * torch.maximum(-low, high)
