"""Tighter bounds of pre-activations at the points of a cell that could violate a property.

Symbols. A linear bound ``g(x) = d·x + c`` lies below the margin on a cell, so what violates there has g(x) ≤ 0. The
pre-activation z_j = P_j·x + q_j of a first-layer ReLU is linear, and for any λ ≥ 0

    z_j ≤ max_{x ∈ box} (P_j − λ d)·x + q_j − λ c        z_j ≥ min_{x ∈ box} (P_j + λ d)·x + q_j + λ c

at every such point: the dual of a linear program with one row besides the box (Zhou et al. 2025, Clip-and-Verify).
Tighter bounds give a higher g, and so on. Where they cross, nothing in the cell violates.

One λ serves a column on both sides, ``λ_j = t ‖P_j‖ / ‖d‖`` in units of the box's radii. With ρ the share of ‖d‖₁ that
g lies below zero, the best t solves ``ρ = Σ_i |d_i| Pr(|P_ji| > λ_j |d_i|) / ‖d‖₁``: the row leaves as much freedom as
that. For normally distributed P_ji and d_i the sum is ``1 − t/√(1+t²)``.

Where each P_j has few entries, as in convolutions, ``‖P_j − λ d‖₁`` is ``λ ‖d‖₁`` and what changes at those entries.

Soundness. λ is data. Distances are sums in float32 (in float64 where P_j has few entries), the rest in float64; both
are charged a priori as in `bounds.backward`: γ_n·Σ|terms|, with twice the rounding unit that round-to-nearest needs.
What is not a number is not taken for a bound.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bounds.backward import specification_bounds
from bounds.phases import Cells
from bounds.program import Program
from bounds.relus import BoxBounds

__all__ = ["Clipper"]

#: Twice the rounding units of float32 and float64.
_SINGLE = 2.0**-23
_DOUBLE = 2.0**-52
_UNDERFLOW = 2.0**-100
#: Entries that stay in the cache while distances are summed.
_CHUNK_ENTRIES = 2**17
#: Columns of which each has less than this part of the inputs are summed over their own entries alone.
_FEW = 8


class Clipper:
    """Clips cells of one region.

    Attributes:
        columns: indices of the columns that can be clipped: those whose pre-activation is linear in the input.
    """

    @torch.no_grad()
    def __init__(self, program: Program, bounds: BoxBounds, cells: Cells) -> None:
        low, high = bounds.lower[0], bounds.upper[0]
        self._middle = (low + high) / 2
        # Rounded up, so that the box around the middle holds all of [low, high].
        self._radius = torch.maximum(high - self._middle, self._middle - low) * (1 + 4 * _DOUBLE) + _UNDERFLOW
        self._reach = self._middle.abs() + self._radius
        columns, forms, least, most = [], [], [], []
        for node, place in cells.places.items():
            step = program.steps[node]
            assert isinstance(step, int)
            if program.boxed[step]:
                columns.append(torch.arange(place.start, place.stop, device=low.device))
                neurons = torch.as_tensor([cells.neuron(int(column))[1] for column in columns[-1]], device=low.device)
                unit = low.new_zeros((len(neurons), program.features[step]))
                unit[torch.arange(len(neurons)), neurons] = 1
                forms.append(specification_bounds(program, bounds, unit, node=step))
                least.append(forms[-1].constant)
                most.append(-specification_bounds(program, bounds, -unit, node=step).constant)
        if not columns:
            columns, least, most = [low.new_zeros(0, dtype=torch.int64)], [low.new_zeros(0)], [low.new_zeros(0)]
        P = torch.cat([form.coefficients for form in forms]) if forms else low.new_zeros((0, len(low)))
        self.columns = torch.cat(columns)
        # z_j lies between P_j x + least_j and P_j x + most_j.
        self._least, self._most = torch.cat(least), torch.cat(most)
        scaled = P * self._radius
        self._norm = torch.linalg.vector_norm(scaled, dim=1).clamp(min=_UNDERFLOW)
        unit = scaled / self._norm[:, None]
        self._unit = unit.to(torch.float32)
        self._center = P @ self._middle
        self._sum = scaled.abs().sum(1)
        self._size = P.abs() @ self._reach + torch.maximum(self._least.abs(), self._most.abs())
        self._one = torch.ones(len(low), device=low.device)
        rows = max(1, _CHUNK_ENTRIES // max(1, len(low)))
        #: For columns with few entries those entries, and their indices; padded with zeros, and indices past the end.
        self._few: tuple[Tensor, Tensor] | None = None
        self._rounding = _SINGLE
        most_entries = int((scaled != 0).sum(1).max()) if len(scaled) else 0
        if most_entries * _FEW < len(low):
            value, index = unit.abs().topk(most_entries, dim=1)
            self._few = unit.gather(1, index), torch.where(value > 0, index, len(low))
            self._rounding = 4 * _DOUBLE  # ‖P_j − s‖₁ takes the terms of ‖P_j‖₁ once and those of ‖s‖₁ up to four times
        self._left, self._right = (torch.empty((rows, len(low)), device=low.device) for _ in range(2))

    @torch.no_grad()
    def clip(self, low: Tensor, high: Tensor, wanted: Tensor, coefficients: Tensor, constant: Tensor) -> None:
        """Tightens bounds of B cells in place, for the points where ``coefficients · x + constant ≤ 0``.

        Args:
            low, high: bounds of the columns on each cell, float64 ``(B, K)``.
            wanted: which of them to tighten, mask ``(B, K)``.
            coefficients, constant: float64 ``(B, inputs)`` and ``(B,)``.
        """
        cell, j = torch.nonzero(wanted[:, self.columns], as_tuple=True)
        if not len(cell):
            return
        d = coefficients * self._radius
        total, norm = d.abs().sum(1), torch.linalg.vector_norm(d, dim=1).clamp(min=_UNDERFLOW)
        middle = coefficients @ self._middle + constant
        share = middle / total.clamp(min=_UNDERFLOW)  # 1 − ρ
        t = (share / (1 - share * share).clamp(min=1e-6).sqrt()).clamp(1e-2, 1e3).nan_to_num(nan=1.0)
        step = t / norm
        away, toward = self._distances(j, cell, step[:, None] * d)
        scale, norms = step[cell] * self._norm[j], self._norm[j]
        n = len(self._middle) + 32
        size = self._size[j] + scale * (coefficients.abs() @ self._reach + constant.abs())[cell]
        charge = (
            n * self._rounding * (self._sum[j] + scale * total[cell]) + n * _DOUBLE * size + _UNDERFLOW * (1 + norms)
        )
        given = scale * middle[cell]
        above = away.double() * norms + self._center[j] + self._most[j] - given + charge
        below = -toward.double() * norms + self._center[j] + self._least[j] + given - charge
        column = self.columns[j]
        before = low[cell, column], high[cell, column]
        low[cell, column] = torch.where(below > before[0], below, before[0])
        high[cell, column] = torch.where(above < before[1], above, before[1])

    def _distances(self, j: Tensor, cell: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """``‖P_j − s‖₁`` and ``‖P_j + s‖₁`` for pairs of a column and a cell, with P_j of length 1."""
        if self._few is not None:
            return self._few_distances(*self._few, j, cell, s)
        s = s.to(torch.float32)
        minus, plus = torch.empty(len(j), device=s.device), torch.empty(len(j), device=s.device)
        rows = len(self._left)
        for begin in range(0, len(j), rows):
            some = slice(begin, begin + rows)
            count = min(rows, len(j) - begin)
            left, right = self._left[:count], self._right[:count]
            torch.index_select(self._unit, 0, j[some], out=left)
            torch.index_select(s, 0, cell[some], out=right)
            left.sub_(right)
            torch.add(left, right, alpha=2, out=right)
            torch.mv(left.abs_(), self._one, out=minus[some])
            torch.mv(right.abs_(), self._one, out=plus[some])
        return minus, plus

    @staticmethod
    def _few_distances(unit: Tensor, index: Tensor, j: Tensor, cell: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        rest, s = s.abs().sum(1), functional.pad(s, (0, 1))
        minus, plus = s.new_empty(len(j)), s.new_empty(len(j))
        rows = max(1, _CHUNK_ENTRIES // max(1, unit.shape[1]))
        for begin in range(0, len(j), rows):
            some = slice(begin, begin + rows)
            own, near = unit[j[some]], s[cell[some, None], index[j[some]]]
            others = rest[cell[some]] - near.abs().sum(1)
            minus[some] = others + (own - near).abs().sum(1)
            plus[some] = others + (own + near).abs().sum(1)
        return minus, plus
