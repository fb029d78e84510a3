"""What backward passes know about the ReLUs that may be unstable: the columns, on each of B cells.

A cell is a part of the input region where the phases of some columns are chosen: +1 (the pre-activation z is at least
0), −1 (z ≤ 0) or 0 (not chosen). On each cell a column has bounds l ≤ z ≤ u. Where l < 0 < u and nothing is chosen it
is *free*. One parameter θ stands for its lower slope α then, and for a multiplier β ≥ 0 where a phase is chosen; with
A what arrives at the column, Λ of `bounds.backward`'s formula is

* free: θ A for A > 0, and A u/(u−l) for A < 0;
* phase +1: A − θ; phase −1: θ (Wang et al. 2021, β-CROWN);
* otherwise: A if l ≥ 0, else 0.

Soundness. A chosen phase replaces l or u by 0. For θ ≥ 0 the chosen columns contribute nothing, and the formula charges
what they would for any other θ, so θ is data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.relus import BoxBounds, ReluRows

__all__ = ["Columns", "Layout"]


@dataclass(frozen=True, eq=False)
class Layout:
    """Which columns there are.

    Attributes:
        neurons: for each ReLU node that has columns the indices of their neurons, in topological order.
        places: for each of these nodes its slice of the K columns.
        active: for each ReLU node, 1 where l ≥ 0, else 0, shape ``(B or 1, features)``; columns do not matter.
        count: K.
    """

    neurons: Mapping[int, Tensor]
    places: Mapping[int, slice]
    active: Mapping[int, Tensor]
    count: int

    @classmethod
    def of(cls, bounds: BoxBounds, last: int | None = None) -> Layout:
        """Columns for the ReLUs that are unstable on some box, of all nodes or of those up to ``last``."""
        nodes = [node for node in bounds.pre_lower if last is None or node <= last]
        relaxations = {node: bounds.relaxation(node) for node in nodes}
        neurons = {node: each.columns for node, each in relaxations.items() if len(each.columns)}
        places, count = {}, 0
        for node, chosen in neurons.items():
            places[node] = slice(count, count + len(chosen))
            count += len(chosen)
        return cls(neurons, places, {node: each.active for node, each in relaxations.items()}, count)


class Columns:
    """B cells; a lone cell broadcasts over the rows of a pass.

    Attributes:
        layout: the columns.
        low, high: l and u, shape ``(B, K)``.
        phases: int8, shape ``(B, K)``.
        free: mask, shape ``(B, K)``.
        slope: the default θ, shape ``(B, K)``: default lower slopes, no multipliers; 1 at other columns with l ≥ 0.
        chord: u/(u−l) where free; elsewhere as ``slope``.
        gap: −l u/(u−l), the most that a free column loses for A = −1; 0 elsewhere.
    """

    def __init__(self, layout: Layout, low: Tensor, high: Tensor, phases: Tensor | None = None) -> None:
        self.layout, self.low, self.high = layout, low, high
        self.phases = torch.zeros_like(low, dtype=torch.int8) if phases is None else phases
        self.refresh()

    def refresh(self) -> None:
        """Takes in changes of ``low`` and ``high``."""
        low, high = self.low, self.high
        self.free = (low < 0) & (high > 0) & (self.phases == 0)
        on = ((low >= 0) | (self.phases > 0)).to(low.dtype)
        chord = high / (high - low).clamp(min=torch.finfo(low.dtype).tiny)
        self.slope = torch.where(self.free, (high > -low).to(low.dtype), on)
        self.chord = torch.where(self.free, chord, on)
        self.gap = torch.where(self.free, -chord * low, 0.0)

    @classmethod
    def of(cls, bounds: BoxBounds, layout: Layout, phases: Tensor | None = None) -> Columns:
        """The boxes of ``bounds`` as cells; without chosen phases when these are absent."""
        none = torch.zeros((bounds.boxes, 0), dtype=bounds.lower.dtype, device=bounds.lower.device)
        low = torch.cat([none, *[bounds.pre_lower[node][:, j] for node, j in layout.neurons.items()]], 1)
        high = torch.cat([none, *[bounds.pre_upper[node][:, j] for node, j in layout.neurons.items()]], 1)
        return cls(layout, low, high, phases)

    @property
    def cells(self) -> int:
        """B."""
        return len(self.low)

    def of_rows(self, values: Tensor, cell: Tensor) -> Tensor:
        """The cells' values for each row, shape ``(R, …)``, or ``(1, …)`` of a lone cell."""
        return values if len(values) == 1 else values[cell]

    def relus(self, cell: Tensor, theta: Tensor, seen: dict[int, Tensor] | None = None) -> Callable[[int], ReluRows]:
        """What `bounds.backward.backward_pass` asks for.

        Args:
            cell: the cell of each row, shape ``(R,)``.
            theta: shape ``(R, K)``; any values.
            seen: receives A at each node's columns.
        """
        layout = self.layout

        def rows(node: int) -> ReluRows:
            active = self.of_rows(layout.active[node], cell)
            if node not in layout.places:
                none = theta[:, :0]
                return ReluRows(active, torch.zeros(0, dtype=torch.int64, device=theta.device), none, none, _same)
            place = layout.places[node]
            low, high, chord, free, phases = (
                self.of_rows(each[:, place], cell) for each in (self.low, self.high, self.chord, self.free, self.phases)
            )
            own = theta[:, place]

            def multipliers(a: Tensor) -> Tensor:
                if seen is not None:
                    seen[node] = a
                b = torch.where(free & (a > 0), a * own, a * chord)
                return torch.where(phases > 0, a - own, torch.where(phases < 0, own, b))

            chosen = phases != 0
            low = torch.where(free | (chosen & (phases < 0)), low.clamp(max=0), 0.0)
            high = torch.where(free | (chosen & (phases > 0)), high.clamp(min=0), 0.0)
            return ReluRows(active, layout.neurons[node], low, high, multipliers)

        return rows


def _same(a: Tensor) -> Tensor:
    return a
