"""Lower bounds on cells of the input region where the phases of some ReLUs are chosen.

A cell is given by a phase for each ReLU that is unstable at the root: +1 (its pre-activation z is at least 0), −1
(z ≤ 0) or 0 (not chosen). Bounds l, u of the root stay valid on every cell, a chosen phase replaces l or u by 0, and
the formula of `bounds.linear` holds with any multipliers Λ. At column j, with A what arrives there, Λ is:

* not chosen: α A for A > 0, with the lower slope α in [0, 1], and A u/(u−l) for A < 0;
* phase +1: A − β, where β ≥ 0 is the multiplier of the constraint z ≥ 0;
* phase −1: β, where β ≥ 0 is that of z ≤ 0.

(Xu et al. 2021, α-CROWN; Wang et al. 2021, β-CROWN.) `bounds.reduced` looks for good α and β.

Soundness. As `bounds.linear`: α and β are data, every rounding is charged, in float64. A positive lower bound of the
form ``0·y`` proves that a cell is empty.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.linear import CHUNK_ENTRIES, BoxBounds, LinearBound, ReluRows, backward_pass
from bounds.program import Program
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
        phases: Tensor,
        alpha: Tensor | None = None,
        beta: Tensor | None = None,
        multipliers: Tensor | None = None,
    ) -> Tensor:
        """Rigorous lower bounds of ``C[r] · output`` on the cells ``phases[r]``, shape ``(R,)``.

        Args:
            C: shape ``(R, outputs)``.
            phases: int8, shape ``(R, K)``.
            alpha, beta: shape ``(R, K)``, any values.
            multipliers: Λ itself, shape ``(R, K)``, any values; then α and β are not asked.
        """
        parts = []
        chunk = max(1, CHUNK_ENTRIES // max(self._program.features))
        for begin in range(0, len(C), chunk):
            rows = slice(begin, begin + chunk)
            linear = self._pass(
                C[rows],
                phases[rows],
                alpha[rows] if alpha is not None else None,
                beta[rows] if beta is not None else None,
                multipliers[rows] if multipliers is not None else None,
            )
            parts.append(linear.value)
        return torch.cat(parts)

    def _pass(
        self,
        C: Tensor,
        phases: Tensor,
        alpha: Tensor | None,
        beta: Tensor | None,
        chosen: Tensor | None = None,
    ) -> LinearBound:
        last = len(self._program.steps) - 1
        return backward_pass(
            self._program,
            self._bounds,
            {last: C},
            Frame(torch.zeros(len(C), dtype=torch.int64, device=C.device)),
            last,
            lambda node: self._rows(node, phases, alpha, beta, chosen),
        )

    def _rows(
        self,
        node: int,
        phases: Tensor,
        alpha: Tensor | None,
        beta: Tensor | None,
        chosen: Tensor | None,
    ) -> ReluRows:
        root = self._roots[node]
        if node not in self.places:
            return ReluRows(root.active, root.columns, root.low, root.high, _unchanged)
        place = self.places[node]
        phase = phases[:, place]
        on, off = phase > 0, phase < 0
        slopes = root.lower_slope if alpha is None else alpha[:, place]

        def multipliers(a: Tensor) -> Tensor:
            if chosen is not None:
                return chosen[:, place]
            free = torch.where(a > 0, a * slopes, a * root.upper_slope)
            if beta is None:
                return torch.where(on, a, torch.where(off, 0.0, free))
            b = beta[:, place]
            return torch.where(on, a - b, torch.where(off, b, free))

        low = torch.where(on, 0.0, root.low)
        high = torch.where(off, 0.0, root.high)
        return ReluRows(root.active, root.columns, low, high, multipliers)
