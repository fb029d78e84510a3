"""Backward linear bounds with optimised lower slopes: α-CROWN (Xu et al. 2021), with slopes of its own for each row.

In the formula of `bounds.backward` take Λ = α A where A > 0, with any α in [0, 1] at each unstable ReLU, and A u/(u−l)
where A < 0. What a row's bound gains by α at column j is at the rate max(A_j, 0)·z_j, where z_j is the pre-activation
that the relaxation has where the bound is attained: one backward pass and one forward pass from there, both written
out below, give the whole gradient, and Adam climbs.

The search runs in the precision and on the device of a program of its own (float32, or CUDA), in chunks of rows, and
leaves out rows whose target is decided. Targets are rows of a specification, or neurons whose sign is open, layer by
layer, so that every layer profits from those before it.

Soundness. The search proves nothing. It hands its slopes, which are data, to `bounds.backward.backward_pass` in
float64, which charges every rounding; the bounds returned come from there alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ascent import Ascent
from bounds.backward import LinearBound, backward_pass, unit_rows
from bounds.columns import Columns, Layout
from bounds.linear import enclose
from bounds.program import Affine, Program
from bounds.relus import BoxBounds
from bounds.windows import Frame

__all__ = ["DIGITS", "Climb", "NeuronSlopes", "SlopeSearch", "optimised_bounds", "optimised_rows"]

# An estimate above zero by this share of the row's first bound is taken for a proof that float64 will confirm.
_SURE = 1e-4
#: Slopes of neurons are multiples of one over this: with few digits, certificates hold them in few bytes.
DIGITS = 128
# Rows whose target is decided leave a chunk when they are at least this share of it.
_LEAVE = 0.25


@dataclass(frozen=True)
class SlopeSearch:
    """How slopes are looked for.

    Attributes:
        program: the network in the search's precision, on its device.
        steps: Adam steps for each chunk of rows.
        rate: length of the first step; slopes lie in [0, 1].
        entries: numbers that one chunk may have in its widest matrix.
        stop: asked before every step; once true, rows keep the best slopes so far.
    """

    program: Program
    steps: int
    rate: float = 0.25
    entries: int = 2**18
    stop: Callable[[], bool] = bool


@torch.no_grad()
def optimised_rows(
    program: Program,
    bounds: BoxBounds,
    C: Tensor,
    search: SlopeSearch,
    *,
    box: Tensor | None = None,
    offsets: Tensor | None = None,
    target: Tensor | None = None,
) -> tuple[LinearBound, Tensor]:
    """Lower bounds of ``C · output`` over boxes.

    Args:
        program: the compiled network, float64.
        bounds: boxes with bounds for every ReLU.
        C: shape ``(R, outputs)``.
        search: how slopes are looked for.
        box: shape ``(R,)``, the box of each row; box 0 for all when absent.
        offsets: shape ``(R,)``: a row is decided when its bound plus its offset is positive; none when absent.
        target: shape ``(R,)``: rows with one number are one target, decided when one of them is; each is its own when
            absent.

    Returns:
        The rigorous bounds, offsets not included; and the slopes, shape ``(R, K)``: one after the other those of each
        node's neurons that are unstable on some box (the columns of `bounds.phases.Cells`).
    """
    last = len(program.steps) - 1
    every = torch.arange(len(C), device=C.device)
    box = torch.zeros_like(every) if box is None else box
    target = every if target is None else target
    offsets = torch.zeros(len(C), dtype=C.dtype, device=C.device) if offsets is None else offsets
    columns = Columns.of(bounds, Layout.of(bounds))
    climb = Climb(search.program, bounds, columns)
    parts, found = [], []
    for rows in _chunks(program, len(C), last, search.entries):
        alpha = climb.run(search, {last: C[rows]}, offsets[rows], box[rows], target[rows])
        relus = columns.relus(box[rows], alpha)
        parts.append(backward_pass(program, bounds, {last: C[rows]}, Frame(box[rows]), last, relus))
        found.append(alpha)
    return LinearBound.join(parts), torch.cat(found)


@dataclass(frozen=True, eq=False)
class NeuronSlopes:
    """The slopes that bounds of one ReLU node's neurons were found with.

    Attributes:
        box, neuron: shape ``(R,)``.
        alpha: float32, shape ``(2, R, K)``: those of the lower bounds and of the upper bounds, at the columns of the
            nodes before.
    """

    box: Tensor
    neuron: Tensor
    alpha: Tensor


@torch.no_grad()
def optimised_bounds(
    program: Program,
    bounds: BoxBounds,
    search: SlopeSearch,
    start: Callable[[int, Tensor, Layout], Tensor] | None = None,
    *,
    keep: bool = True,
) -> tuple[BoxBounds, dict[int, NeuronSlopes]]:
    """Pre-activation bounds over each box, never looser than ``bounds``, with slopes optimised for every open neuron.

    Args:
        program: the compiled network, float64.
        bounds: boxes with bounds for every ReLU, usually `bounds.linear.enclose`.
        search: how slopes are looked for; when it stops, neurons that are left keep their bounds.
        start: the slopes to start from, shape ``(2, R, K)`` as in `NeuronSlopes`, for R neurons of a ReLU node and the
            columns of a layout; default slopes when absent.
        keep: whether slopes are returned; they take 8 bytes for each pair of open neurons while they are found.

    Returns:
        The bounds, and for each ReLU node the slopes of the neurons that were open (none where they are not kept).
    """
    slopes: dict[int, NeuronSlopes] = {}

    def units(now: BoxBounds, node: int, box: Tensor, neuron: Tensor) -> tuple[Tensor, Tensor]:
        least = torch.full((len(neuron),), -torch.inf, dtype=program.dtype, device=program.device)
        most = -least
        parent = program.parent(node)
        rough, columns = search.program, Columns.of(now, Layout.of(now, parent))
        climb = Climb(rough, now, columns)
        found = []
        for some in _chunks(program, len(neuron), parent, search.entries // 2):
            if search.stop():
                break
            where, which = box[some].repeat(2), neuron[some].repeat(2)
            ones = torch.ones_like(least[some])
            signs = torch.cat([ones, -ones])
            own = signs.to(dtype=rough.dtype, device=rough.device)
            pending, total, _ = unit_rows(rough, parent, which.to(rough.device), own, own)
            target = torch.arange(len(ones), device=where.device).repeat(2)
            first = None if start is None else start(node, neuron[some], columns.layout).flatten(0, 1)
            alpha = (climb.run(search, pending, total, where, target, first) * DIGITS).round() / DIGITS
            if keep:
                found.append(alpha.to(torch.float32).reshape(2, len(ones), -1))
            magnitude = now.magnitude[parent][where, which]
            pending, total, charge = unit_rows(program, parent, which, signs, magnitude)
            relus = columns.relus(where, alpha)
            value = backward_pass(program, now, pending, Frame(where), parent, relus, total, charge).value
            least[some], most[some] = value[: len(ones)], -value[len(ones) :]
        if found:
            alpha = torch.cat(found, 1)
            slopes[node] = NeuronSlopes(box[: alpha.shape[1]], neuron[: alpha.shape[1]], alpha)
        return least, most

    return enclose(program, bounds.lower, bounds.upper, start=bounds, inside=bounds.inside, units=units), slopes


def _chunks(program: Program, rows: int, node: int, entries: int) -> Iterator[slice]:
    size = max(1, entries // max(program.features[: node + 1]))
    yield from (slice(begin, begin + size) for begin in range(0, rows, size))


@dataclass(eq=False)
class _Rows:
    """Rows that climb together, in the search's precision: what they start with, and where they belong."""

    pending: dict[int, Tensor]
    total: Tensor
    cell: Tensor
    target: Tensor

    def select(self, which: Tensor) -> _Rows:
        pending = {node: A[which] for node, A in self.pending.items()}
        return _Rows(pending, self.total[which], self.cell[which], self.target[which])


class Climb:
    """The search for θ (`bounds.columns`) of rows over some cells."""

    def __init__(self, program: Program, bounds: BoxBounds, columns: Columns) -> None:
        """The input boxes are those of ``bounds``, one for each cell or one for all."""

        def own(values: Tensor) -> Tensor:
            return values.to(dtype=program.dtype, device=program.device)

        self._program = program
        self._lower, self._upper = own(bounds.lower), own(bounds.upper)
        self._inside = None if bounds.inside is None else bounds.inside.like(self._lower)
        self._layout = columns.layout
        self._active = {node: own(active) for node, active in columns.layout.active.items()}
        self._neurons = {node: j.to(program.device) for node, j in columns.layout.neurons.items()}
        self._free, self._sign = own(columns.free), own(columns.phases)
        self._slope, self._chord, self._gap = own(columns.slope), own(columns.chord), own(columns.gap)

    def run(
        self,
        search: SlopeSearch,
        pending: dict[int, Tensor],
        total: Tensor,
        cell: Tensor,
        target: Tensor,
        start: Tensor | None = None,
    ) -> Tensor:
        """The best θ found for R rows, float64, shape ``(R, K)``.

        Args:
            search: how it is looked for.
            pending, total: what each row starts with, as `bounds.backward.backward_pass` takes it.
            cell: the cell of each row.
            target: see `optimised_rows`.
            start: θ to start from, shape ``(R, K)``; default slopes and no multipliers when absent.
        """
        program = self._program
        rows = _Rows(
            {node: A.to(dtype=program.dtype, device=program.device) for node, A in pending.items()},
            total.to(dtype=program.dtype, device=program.device),
            cell.to(program.device),
            target.to(program.device),
        )
        slope, free = self._of(self._slope, rows.cell), self._of(self._free, rows.cell)
        chosen = self._of(self._sign, rows.cell).abs()
        theta = slope.expand(len(total), -1) * (1 - chosen)
        if start is not None:
            theta = torch.where(free + chosen > 0, start.to(theta), theta)
        best, value = theta.clone(), torch.full_like(rows.total, -torch.inf)
        place = torch.arange(len(total), device=program.device)
        ascent = Ascent(theta, search.steps, search.rate)
        decided = torch.zeros(int(target.max()) + 1, dtype=torch.bool, device=program.device)
        unit = torch.ones_like(theta)
        scale = unit
        for step in range(search.steps + 1):
            found, gradient, arriving = self._pass(theta, unit, rows)
            if step == 0:
                enough = _SURE * found.abs()
                if chosen.any():
                    # β in units of what arrives there: steps of one length suit every network and row.
                    size = arriving.abs()
                    scale = unit = torch.maximum(size, size.mean(1, keepdim=True).clamp(min=1e-20))
                    gradient = torch.where(chosen > 0, gradient * unit, gradient)
                    theta = torch.where(chosen > 0, theta / unit, theta)
            better = found > value[place]
            value[place] = torch.where(better, found, value[place])
            best[place] = torch.where(better[:, None], theta, best[place])
            if step == search.steps or search.stop():
                break
            decided[rows.target[found > enough]] = True
            leave = decided[rows.target]
            theta = theta + ascent.step(gradient)
            free, fixed = self._of(self._free, rows.cell) > 0, self._of(self._slope, rows.cell)
            sign = self._of(self._sign, rows.cell)
            theta = torch.where(free, theta.clamp(0, 1), torch.where(sign != 0, theta.clamp(min=0), fixed))
            if leave.to(theta.dtype).mean() >= _LEAVE:
                if leave.all():
                    break
                stay = torch.nonzero(~leave)[:, 0]
                rows, theta, place, enough = rows.select(stay), theta[stay], place[stay], enough[stay]
                unit = unit[stay]
                ascent.select(stay)
        best = torch.where(chosen > 0, best * scale, best)
        return best.to(dtype=torch.float64, device=cell.device)

    def _of(self, values: Tensor, cell: Tensor) -> Tensor:
        return values if len(values) == 1 else values[cell]

    def _pass(self, theta: Tensor, unit: Tensor, rows: _Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Estimates of the bounds, shape ``(R,)``, the gradient of their sum by θ, and A at the columns, ``(R, K)``.

        θ is in units of ``unit`` where a phase is chosen.
        """
        program, layout = self._program, self._layout
        pending, total = dict(rows.pending), rows.total
        chord, gap, free, sign = (self._of(v, rows.cell) for v in (self._chord, self._gap, self._free, self._sign))
        push = -sign * unit * theta
        arriving, factor = torch.zeros_like(theta), torch.zeros_like(theta)
        for node in range(max(pending), 0, -1):
            A = pending.pop(node, None)
            if A is None:
                continue
            step = program.steps[node]
            if isinstance(step, Affine):
                total = total + A @ step.bias
                passed = [(parent, op.adjoint(A)) for parent, op in zip(step.parents, step.operators, strict=True)]
            else:
                assert step is not None
                L = A * self._of(self._active[node], rows.cell)
                place = layout.places.get(node)
                if place is not None:
                    a = A[:, self._neurons[node]]
                    f = torch.where((free[:, place] > 0) & (a > 0), theta[:, place], chord[:, place])
                    arriving[:, place], factor[:, place] = a, f
                    L.index_copy_(1, self._neurons[node], torch.addcmul(push[:, place], a, f))
                passed = [(step, L)]
            for parent, part in passed:
                pending[parent] = pending[parent] + part if parent in pending else part
        falling = arriving.clamp(max=0)
        total = total + (falling * gap).sum(-1)
        A = pending.get(0)
        if A is None:
            return total, torch.zeros_like(theta), arriving
        lower, upper = self._of(self._lower, rows.cell), self._of(self._upper, rows.cell)
        x = torch.where(A > 0, lower, upper) if self._inside is None else self._inside.minimiser(A, lower, upper)
        reached = self._reached(x, factor, gap * (falling < 0), rows.cell)
        slope = reached * torch.where(free > 0, arriving.clamp(min=0), -sign * unit)
        return total + (A * x).sum(-1), slope, arriving

    def _reached(self, x: Tensor, factor: Tensor, rise: Tensor, cell: Tensor) -> Tensor:
        """The pre-activations at the columns, where ReLU columns are ``factor · z + rise``, shape ``(R, K)``."""
        places = self._layout.places
        out = torch.zeros_like(factor)
        if not places:
            return out
        values: list[Tensor] = []
        for node, step in enumerate(self._program.steps[: max(places) + 1]):
            if step is None:
                values.append(x)
            elif isinstance(step, Affine):
                total = step.bias
                for parent, op in zip(step.parents, step.operators, strict=True):
                    total = total + op.forward(values[parent])
                values.append(total)
            else:
                z = values[step]
                h = z * self._of(self._active[node], cell)
                place = places.get(node)
                if place is not None:
                    reached = z[:, self._neurons[node]]
                    out[:, place] = reached
                    h.index_copy_(1, self._neurons[node], reached * factor[:, place] + rise[:, place])
                values.append(h)
        return out
