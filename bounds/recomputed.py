"""Bounds on cells where every neuron's bounds are computed anew, layer by layer, from the phases chosen there.

`bounds.phases` keeps the root's bounds on every cell; here a chosen phase narrows the bounds of all later layers, which
on deep networks is most of what it gains (Henriksen & Lomuscio 2020, 2021, VeriNet). A cell costs a backward pass over
all neurons whose sign is open on it. Their slopes are those that were optimised at the root.

`Recomputed.importance` says what to split: a column's gap loosens the row's bound directly, and through the bounds of
later columns, whose own gaps it widens; both are summed to first order.

Soundness. As `bounds.backward`, in float64; every bound used on a cell was proven there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from bounds.backward import CHUNK_ENTRIES, backward_pass, unit_rows
from bounds.columns import Columns, Layout
from bounds.linear import enclose
from bounds.optimised import DIGITS, Climb, NeuronSlopes, SlopeSearch, optimised_bounds
from bounds.program import Program
from bounds.relus import BoxBounds
from bounds.windows import Frame

__all__ = ["Recomputed", "RowBounds", "Traces"]


@dataclass(frozen=True, eq=False)
class Traces:
    """Which columns loosened the bounds of which neurons.

    Attributes:
        cell: the cell of each row, shape ``(R,)``.
        column: the column that the row bounds, shape ``(R,)``.
        below: whether it is the lower bound, shape ``(R,)``.
        arriving: ``|A|`` at the K columns, float32, shape ``(R, K)``.
    """

    cell: Tensor
    column: Tensor
    below: Tensor
    arriving: Tensor


@dataclass(frozen=True, eq=False)
class RowBounds:
    """Bounds of R rows of a specification on cells.

    Attributes:
        value: proven lower bounds, offsets included, shape ``(R,)``.
        theta: what they were found with, float32, shape ``(R, K)``.
        arriving: ``|A|`` at the columns, float32, shape ``(R, K)``.
        corner: where each is attained, shape ``(R, inputs)``.
    """

    value: Tensor
    theta: Tensor
    arriving: Tensor
    corner: Tensor


class Recomputed:
    """Cells of one region, from its root bounds.

    Attributes:
        layout: the columns: ReLUs that are unstable at the root.
        root: the region itself as a cell.
        bounds: its bounds, of every neuron.
    """

    def __init__(
        self,
        program: Program,
        bounds: BoxBounds,
        slopes: Mapping[int, NeuronSlopes] | None = None,
        *,
        cell: Columns | None = None,
        known: Tensor | None = None,
    ) -> None:
        """From one box, or from a cell of another region.

        Args:
            program: the compiled network, float64.
            bounds, slopes: what `optimised_bounds` gives; default slopes when absent.
            cell: the lone cell that the bounds are for; its columns and its phases stay.
            known: slopes of the neurons that ``slopes`` lacks, shape ``(2, K, K)``; default slopes when absent.
        """
        self._program, self.bounds = program, bounds
        self.layout = Layout.of(bounds) if cell is None else cell.layout
        self.root = Columns.of(bounds, self.layout, None if cell is None else cell.phases.clone())
        default = self.root.slope.to(torch.float32).expand(2, self.layout.count, -1)
        #: Lower slopes for the bounds of each column: index 0 for the lower one, 1 for the upper one.
        self._slopes = (default if known is None else known).clone()
        # Bounds of the nodes before were final when slopes were found, so they are for what is unstable there now.
        unstable = _unstable(self.root)
        for node, place in self.layout.places.items():
            if slopes is None or node not in slopes:
                continue
            found = slopes[node]
            # Some neurons that had slopes are stable by now.
            own = torch.isin(found.neuron, self.layout.neurons[node])
            columns = self._column(node, found.neuron[own])
            self._slopes[:, columns[:, None], unstable[unstable < place.start]] = found.alpha[:, own]

    def anew(self, cell: Columns, search: SlopeSearch) -> Recomputed | None:
        """A cell as a region of its own, with slopes optimised there; None where its bounds cross, so that it is empty.

        Args:
            cell: a lone cell; its phases stay chosen, so that rows keep their multipliers.
            search: how slopes are looked for, starting from those of this region.
        """
        bounds = self.bounds
        least = {node: values.clone() for node, values in bounds.pre_lower.items()}
        most = {node: values.clone() for node, values in bounds.pre_upper.items()}
        for node, place in self.layout.places.items():
            least[node][0, self.layout.neurons[node]] = cell.low[0, place]
            most[node][0, self.layout.neurons[node]] = cell.high[0, place]
        known = BoxBounds(bounds.lower, bounds.upper, least, most)
        start = enclose(self._program, bounds.lower, bounds.upper, start=known, inside=bounds.inside, backward=False)
        found, slopes = optimised_bounds(self._program, start, search, self._known)
        if any((found.pre_lower[node] > found.pre_upper[node]).any() for node in least):
            return None
        return Recomputed(self._program, found, slopes, cell=cell, known=self._slopes)

    @property
    def slopes(self) -> Tensor:
        """What neurons are bounded with at the U columns that may still be unstable, in `DIGITS`: uint8 ``(2, U, U)``.

        With the bounds and the phases of ``root`` it is all that another process needs, see `again`.
        """
        u = _unstable(self.root)
        return (self._slopes[:, u[:, None], u] * DIGITS).round().to(torch.uint8)

    @classmethod
    def again(cls, program: Program, bounds: BoxBounds, slopes: Tensor, cell: Columns | None = None) -> Self:
        """From what another process knows of the same region: its bounds and its ``slopes``.

        Args:
            program: the compiled network, float64.
            bounds, slopes: those of the other.
            cell: what it was a cell of before its bounds were found anew, with its phases; None for a region.

        Raises:
            ValueError: there are not slopes for as many columns as are unstable.
        """
        root = Columns.of(bounds, Layout.of(bounds)) if cell is None else Columns.of(bounds, cell.layout)
        u = _unstable(root)
        if slopes.shape != (2, len(u), len(u)):
            msg = f"{len(u)} columns are unstable, but the slopes have the shape {tuple(slopes.shape)}"
            raise ValueError(msg)
        known = torch.zeros((2, root.layout.count, root.layout.count), dtype=torch.float32, device=program.device)
        known[:, u[:, None], u] = slopes.to(known) / DIGITS
        return cls(program, bounds, cell=cell, known=known)

    def _known(self, node: int, neuron: Tensor, layout: Layout) -> Tensor:
        """The slopes of neurons that are columns, shape ``(2, R, columns of layout)``."""
        before = [self._column(node, neurons) for node, neurons in layout.neurons.items()]
        none = neuron[:0]
        return self._slopes[:, self._column(node, neuron)][:, :, torch.cat([none, *before])]

    def _column(self, node: int, neuron: Tensor) -> Tensor:
        column: Tensor = self.layout.places[node].start + torch.searchsorted(self.layout.neurons[node], neuron)
        return column

    def neuron(self, column: int) -> tuple[int, int]:
        """The ReLU node and the index of the neuron that ``column`` stands for."""
        for node, place in self.layout.places.items():
            if column < place.stop:
                return node, int(self.layout.neurons[node][column - place.start])
        raise IndexError(column)

    def bound_neurons(self, cells: Columns) -> list[Traces]:
        """Tightens the bounds of ``cells`` in place, layer by layer; says what loosened them."""
        program, traces = self._program, []
        for node, place in self.layout.places.items():
            if program.boxed[program.parent(node)]:
                continue
            cell, j = torch.nonzero(cells.free[:, place], as_tuple=True)
            size = max(1, CHUNK_ENTRIES // max(program.features[: node + 1]) // 2)
            for begin in range(0, len(cell), size):
                some = slice(begin, begin + size)
                traces.append(self._rows(cells, node, cell[some], j[some]))
            # Later layers profit from what is known of this one.
            cells.refresh()
        return traces

    def _rows(self, cells: Columns, node: int, cell: Tensor, j: Tensor) -> Traces:
        program, bounds = self._program, self.bounds
        place, parent = self.layout.places[node], program.parent(node)
        neuron = self.layout.neurons[node][j].repeat(2)
        owner, column = cell.repeat(2), (j + place.start).repeat(2)
        side = torch.tensor([0, 1], device=cell.device).repeat_interleave(len(cell))
        signs = (1 - 2 * side).to(program.dtype)
        theta = self._slopes[side, column].to(program.dtype)
        # No multipliers where phases are chosen.
        fixed = torch.where(cells.phases == 0, cells.slope, 0.0)
        theta = torch.where(cells.of_rows(cells.free, owner), theta, cells.of_rows(fixed, owner))
        magnitude = bounds.magnitude[parent][0, neuron]
        pending, total, charge = unit_rows(program, parent, neuron, signs, magnitude)
        seen: dict[int, Tensor] = {}
        frame = Frame(torch.zeros_like(owner))
        relus = cells.relus(owner, theta, seen)
        value = backward_pass(program, bounds, pending, frame, parent, relus, total, charge).value
        low, high = value[: len(cell)], -value[len(cell) :]
        at = cell, j + place.start
        cells.low[at] = torch.maximum(cells.low[at], low)
        cells.high[at] = torch.minimum(cells.high[at], high)
        return Traces(owner, column, side == 0, self._arrived(seen, len(owner)))

    def bound_rows(
        self, cells: Columns, C: Tensor, offsets: Tensor, cell: Tensor, search: SlopeSearch, start: Tensor
    ) -> RowBounds:
        """Lower bounds of ``C[r] · output + offsets[r]`` on the cells ``cell[r]``, for R rows.

        ``start``: θ to start from, shape ``(R, K)``.
        """
        program, last = self._program, len(self._program.steps) - 1
        climb = Climb(search.program, self.bounds, cells)
        each = torch.arange(len(C), device=C.device)
        theta = climb.run(search, {last: C}, offsets, cell, each, start)
        seen: dict[int, Tensor] = {}
        relus = cells.relus(cell, theta, seen)
        linear = backward_pass(program, self.bounds, {last: C}, Frame(torch.zeros_like(cell)), last, relus)
        total = linear.value + offsets - 2.0**-52 * (linear.value.abs() + offsets.abs())
        return RowBounds(
            torch.nan_to_num(total, nan=-torch.inf),
            theta.to(torch.float32),
            self._arrived(seen, len(C)),
            self.bounds.corner(linear.coefficients),
        )

    def _arrived(self, seen: dict[int, Tensor], rows: int) -> Tensor:
        out = torch.zeros((rows, self.layout.count), dtype=torch.float32, device=self._program.device)
        for node, a in seen.items():
            out[:, self.layout.places[node]] = a.abs().to(torch.float32)
        return out

    def importance(self, cells: Columns, arriving: Tensor, traces: list[Traces]) -> Tensor:
        """How much each free column loosens the bound of one row on each cell, to first order, shape ``(B, K)``.

        ``arriving``: that row's ``|A|``, shape ``(B, K)``.
        """
        weight = arriving.clone()
        span = (cells.high - cells.low).clamp(min=1e-30)
        # How fast a gap −l u/(u−l) grows with −l, and with u.
        below = torch.where(cells.free, (cells.high / span) ** 2, 0.0).to(torch.float32)
        above = torch.where(cells.free, (cells.low / span) ** 2, 0.0).to(torch.float32)
        for trace in reversed(traces):
            rate = torch.where(trace.below, below[trace.cell, trace.column], above[trace.cell, trace.column])
            pull = weight[trace.cell, trace.column] * rate
            weight.index_add_(0, trace.cell, trace.arriving * pull[:, None])
        return weight * cells.gap.to(torch.float32)


def _unstable(cell: Columns) -> Tensor:
    """The columns of a lone cell that have both signs."""
    return torch.nonzero((cell.low[0] < 0) & (cell.high[0] > 0))[:, 0]
