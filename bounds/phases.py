"""Lower bounds on cells of the input region where the phases of some ReLUs are chosen.

A cell is given by bounds l ≤ z ≤ u of each ReLU that is unstable at the root: those of the root, or tighter ones. To
choose a phase is to put 0 in the place of l (then z ≥ 0) or of u (z ≤ 0). The formula of `bounds.backward` holds on the
cell with any multipliers Λ. At column j, with A what arrives there, Λ is:

* l < 0 < u: α A for A > 0, with the lower slope α in [0, 1], and A u/(u−l) for A < 0;
* l ≥ 0: A − β, where β ≥ 0 is the multiplier of the constraint z ≥ 0;
* u ≤ 0: β, where β ≥ 0 is that of z ≤ 0.

(Xu et al. 2021, α-CROWN; Wang et al. 2021, β-CROWN.) `bounds.reduced` looks for good α and β.

Soundness. As `bounds.backward`: α and β are data, every rounding is charged, in float64. A positive lower bound of the
form ``0·y`` proves that a cell is empty.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from bounds.backward import CHUNK_ENTRIES, LinearBound, backward_pass
from bounds.program import Program
from bounds.relus import BoxBounds, ReluRows
from bounds.windows import Frame

__all__ = ["Cells"]


def _unchanged(a: Tensor) -> Tensor:
    """The multipliers of stable ReLUs; a node without columns is never asked."""
    return a


class Cells:
    """The root bounds of one region, ready to bound cells of it in batches.

    Attributes:
        columns: K, the number of ReLUs that are unstable at the root.
        places: for each ReLU node that has some, its index and its slice of the K columns, in topological order.
        low, high: the root's bounds of their pre-activations, float64 ``(K,)``.
    """

    def __init__(self, program: Program, bounds: BoxBounds) -> None:
        assert bounds.boxes == 1
        self._program = program
        self._bounds = bounds
        self._roots = {node: bounds.relaxation(node) for node in bounds.pre_lower}
        self.places: dict[int, slice] = {}
        self.columns = 0
        for node, root in self._roots.items():
            if len(root.columns):
                self.places[node] = slice(self.columns, self.columns + len(root.columns))
                self.columns += len(root.columns)
        none = bounds.lower.new_zeros(0)
        self.low = torch.cat([none, *(self._roots[node].low[0] for node in self.places)])
        self.high = torch.cat([none, *(self._roots[node].high[0] for node in self.places)])

    def neuron(self, column: int) -> tuple[int, int]:
        """The ReLU node and the index of the neuron that ``column`` stands for."""
        for node, place in self.places.items():
            if column < place.stop:
                return node, int(self._roots[node].columns[column - place.start])
        raise IndexError(column)

    @torch.no_grad()
    def bound(
        self,
        C: Tensor,
        low: Tensor,
        high: Tensor,
        alpha: Tensor | None = None,
        beta: Tensor | None = None,
        multipliers: Tensor | None = None,
        mu: Tensor | None = None,
    ) -> LinearBound:
        """Rigorous lower bounds of ``C[r] · output`` on R cells.

        Args:
            C: shape ``(R, outputs)``.
            low, high: bounds of the columns' pre-activations on each cell, float64 ``(R, K)``.
            alpha, beta: shape ``(R, K)``, any values.
            multipliers: Λ itself, shape ``(R, K)``, any values; then α and β are not asked.
            mu: multipliers of the region's constraints to try, any values; none when absent.
        """
        parts = []
        chunk = max(1, CHUNK_ENTRIES // max(self._program.features))
        last = len(self._program.steps) - 1
        bounds = self._bounds
        if mu is not None and bounds.inside is not None:
            bounds = replace(bounds, inside=replace(bounds.inside, tried=mu))
        for begin in range(0, len(C), chunk):
            rows = slice(begin, begin + chunk)
            known = partial(
                self._rows,
                low=low[rows],
                high=high[rows],
                alpha=alpha[rows] if alpha is not None else None,
                beta=beta[rows] if beta is not None else None,
                chosen=multipliers[rows] if multipliers is not None else None,
            )
            frame = Frame(torch.zeros(len(C[rows]), dtype=torch.int64, device=C.device))
            parts.append(backward_pass(self._program, bounds, {last: C[rows]}, frame, last, known))
        return LinearBound.join(parts)

    def _rows(
        self,
        node: int,
        low: Tensor,
        high: Tensor,
        alpha: Tensor | None,
        beta: Tensor | None,
        chosen: Tensor | None,
    ) -> ReluRows:
        root = self._roots[node]
        if node not in self.places:
            return ReluRows(root.active, root.columns, root.low, root.high, _unchanged)
        place = self.places[node]
        low, high = low[:, place], high[:, place]
        on, off = low >= 0, high <= 0

        def multipliers(a: Tensor) -> Tensor:
            if chosen is not None:
                return chosen[:, place]
            slopes = (high > -low).to(a.dtype) if alpha is None else alpha[:, place]
            free = torch.where(a > 0, a * slopes, a * (high / (high - low)))
            if beta is None:
                return torch.where(on, a, torch.where(off, 0.0, free))
            b = beta[:, place]
            return torch.where(on, a - b, torch.where(off, b, free))

        return ReluRows(root.active, root.columns, low.clamp(max=0), high.clamp(min=0), multipliers)
