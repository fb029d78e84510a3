"""Backward linear bounds with optimised lower slopes: α-CROWN (Xu et al. 2021), with slopes of its own for each row.

In the formula of `bounds.linear` take Λ = α A where A > 0, with any α in [0, 1] at each unstable ReLU, and A u/(u−l)
where A < 0. What a row's bound gains by α at column j is at the rate max(A_j, 0)·z_j, where z_j is the pre-activation
that the relaxation has where the bound is attained: one backward pass and one forward pass from there, both written
out below, give the whole gradient, and Adam climbs.

The search runs in the precision and on the device of a program of its own (float32, or CUDA), in chunks of rows, and
leaves out rows whose target is decided. Targets are rows of a specification, or neurons whose sign is open, layer by
layer, so that every layer profits from those before it.

Soundness. The search proves nothing. It hands its slopes, which are data, to `bounds.linear.backward_pass` in float64,
which charges every rounding; the bounds returned come from there alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ascent import Ascent
from bounds.linear import BoxBounds, LinearBound, ReluRows, backward_pass, enclose, unit_rows
from bounds.program import Affine, Program
from bounds.windows import Frame

__all__ = ["SlopeSearch", "optimised_bounds", "optimised_rows"]

# An estimate above zero by this share of the row's first bound is taken for a proof that float64 will confirm.
_SURE = 1e-4
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
    slopes = _Slopes(bounds, last)
    climb = _Climb(search.program, slopes)
    parts, found = [], []
    for rows in _chunks(program, len(C), last, search.entries):
        alpha = climb.run(search, {last: C[rows]}, offsets[rows], box[rows], target[rows])
        frame = Frame(box[rows])
        parts.append(backward_pass(program, bounds, {last: C[rows]}, frame, last, slopes.relus(frame, alpha)))
        found.append(alpha)
    return LinearBound.join(parts), torch.cat(found)


@torch.no_grad()
def optimised_bounds(program: Program, bounds: BoxBounds, search: SlopeSearch) -> BoxBounds:
    """Pre-activation bounds over each box, never looser than ``bounds``, with slopes optimised for every open neuron.

    Args:
        program: the compiled network, float64.
        bounds: boxes with bounds for every ReLU, usually `bounds.linear.enclose`.
        search: how slopes are looked for; when it stops, neurons that are left keep their bounds.
    """

    def units(now: BoxBounds, node: int, box: Tensor, neuron: Tensor) -> tuple[Tensor, Tensor]:
        least = torch.full((len(neuron),), -torch.inf, dtype=program.dtype, device=program.device)
        most = -least
        rough, slopes = search.program, _Slopes(now, node)
        climb = _Climb(rough, slopes)
        for some in _chunks(program, len(neuron), node, search.entries // 2):
            if search.stop():
                break
            where, which = box[some].repeat(2), neuron[some].repeat(2)
            ones = torch.ones_like(least[some])
            signs = torch.cat([ones, -ones])
            magnitude = now.magnitude[node][where, which]
            own = signs.to(dtype=rough.dtype, device=rough.device)
            pending, total, _ = unit_rows(rough, node, which.to(rough.device), own, own)
            target = torch.arange(len(ones), device=where.device).repeat(2)
            alpha = climb.run(search, pending, total, where, target)
            pending, total, charge = unit_rows(program, node, which, signs, magnitude)
            frame = Frame(where)
            value = backward_pass(program, now, pending, frame, node, slopes.relus(frame, alpha), total, charge).value
            least[some], most[some] = value[: len(ones)], -value[len(ones) :]
        return least, most

    return enclose(program, bounds.lower, bounds.upper, start=bounds, units=units)


class _Slopes:
    """The parameters of rows that reach down from ``last``: one slope for each column of the ReLU nodes before it.

    Attributes:
        places: for each ReLU node with columns its slice of the K columns, in topological order.
        columns: K.
    """

    def __init__(self, bounds: BoxBounds, last: int) -> None:
        self.bounds = bounds
        self.last = last
        self.relaxations = {node: bounds.relaxation(node) for node in bounds.pre_lower if node <= last}
        self.places: dict[int, slice] = {}
        self.columns = 0
        for node, relaxation in self.relaxations.items():
            if len(relaxation.columns):
                self.places[node] = slice(self.columns, self.columns + len(relaxation.columns))
                self.columns += len(relaxation.columns)

    def relus(self, frame: Frame, alpha: Tensor) -> Callable[[int], ReluRows]:
        """What the rigorous pass needs, for rows with the slopes ``alpha``, shape ``(R, K)``."""

        def rows(node: int) -> ReluRows:
            place = self.places.get(node)
            return self.relaxations[node].rows(node, frame, alpha=None if place is None else alpha[:, place])

        return rows


def _chunks(program: Program, rows: int, node: int, entries: int) -> Iterator[slice]:
    size = max(1, entries // max(program.features[: node + 1]))
    yield from (slice(begin, begin + size) for begin in range(0, rows, size))


@dataclass(eq=False)
class _Rows:
    """Rows that climb together, in the search's precision: what they start with, and where they belong."""

    pending: dict[int, Tensor]
    total: Tensor
    box: Tensor
    target: Tensor

    def select(self, which: Tensor) -> _Rows:
        pending = {node: A[which] for node, A in self.pending.items()}
        return _Rows(pending, self.total[which], self.box[which], self.target[which])


class _Climb:
    """The search for the slopes of rows that belong to the same nodes."""

    def __init__(self, program: Program, slopes: _Slopes) -> None:
        def own(values: Tensor) -> Tensor:
            return values.to(dtype=program.dtype, device=program.device)

        self._program, self._slopes = program, slopes
        self._lower, self._upper = own(slopes.bounds.lower), own(slopes.bounds.upper)
        self._single = slopes.bounds.boxes == 1
        self._active = {node: own(r.active) for node, r in slopes.relaxations.items()}
        self._columns = {node: slopes.relaxations[node].columns.to(program.device) for node in slopes.places}
        every = [slopes.relaxations[node] for node in slopes.places]
        boxes = slopes.bounds.boxes
        none = torch.zeros((boxes, 0), dtype=program.dtype, device=program.device)
        self._free = own(torch.cat([none, *[own(r.unstable) for r in every]], 1))
        self._default = torch.cat([none, *[own(r.lower_slope) for r in every]], 1)
        self._chord = torch.cat([none, *[own(r.upper_slope) for r in every]], 1)
        self._gap = torch.cat([none, *[own(-r.upper_slope * r.low) for r in every]], 1)

    def run(
        self, search: SlopeSearch, pending: dict[int, Tensor], total: Tensor, box: Tensor, target: Tensor
    ) -> Tensor:
        """The best slopes found, float64, shape ``(R, K)``."""
        device = self._program.device
        rows = _Rows(
            {node: A.to(dtype=self._program.dtype, device=device) for node, A in pending.items()},
            total.to(dtype=self._program.dtype, device=device),
            box.to(device),
            target.to(device),
        )
        theta = self._of(self._default, rows.box).expand(len(total), -1).clone()
        best, value = theta.clone(), torch.full_like(rows.total, -torch.inf)
        place = torch.arange(len(total), device=device)
        ascent = Ascent(theta, search.steps, search.rate)
        decided = torch.zeros(int(rows.target.max()) + 1, dtype=torch.bool, device=device)
        for step in range(search.steps + 1):
            found, gradient = self._pass(theta, rows)
            if step == 0:
                enough = _SURE * found.abs()
            better = found > value[place]
            value[place] = torch.where(better, found, value[place])
            best[place] = torch.where(better[:, None], theta, best[place])
            if step == search.steps or search.stop():
                break
            decided[rows.target[found > enough]] = True
            leave = decided[rows.target]
            theta = theta + ascent.step(gradient)
            free = self._of(self._free, rows.box)
            theta = torch.where(free > 0, theta.clamp(0, 1), self._of(self._default, rows.box))
            if leave.to(theta.dtype).mean() >= _LEAVE:
                if leave.all():
                    break
                stay = torch.nonzero(~leave)[:, 0]
                rows, theta, place, enough = rows.select(stay), theta[stay], place[stay], enough[stay]
                ascent.select(stay)
        return best.to(self._slopes.bounds.lower)

    def _of(self, values: Tensor, box: Tensor) -> Tensor:
        return values if self._single else values[box]

    def _pass(self, theta: Tensor, rows: _Rows) -> tuple[Tensor, Tensor]:
        """Estimates of the bounds, shape ``(R,)``, and the gradient of their sum by θ, shape ``(R, K)``."""
        program, last = self._program, self._slopes.last
        pending, total = dict(rows.pending), rows.total
        chord, gap = self._of(self._chord, rows.box), self._of(self._gap, rows.box)
        arriving = torch.zeros_like(theta)
        factor = torch.empty_like(theta)
        for node in range(last, 0, -1):
            A = pending.pop(node, None)
            if A is None:
                continue
            step = program.steps[node]
            if isinstance(step, Affine):
                total = total + A @ step.bias
                passed = [(parent, op.adjoint(A)) for parent, op in zip(step.parents, step.operators, strict=True)]
            else:
                assert step is not None
                L = A * self._of(self._active[node], rows.box)
                place = self._slopes.places.get(node)
                if place is not None:
                    columns = self._columns[node]
                    a = A[:, columns]
                    f = torch.where(a > 0, theta[:, place], chord[:, place])
                    arriving[:, place], factor[:, place] = a, f
                    L.index_copy_(1, columns, a * f)
                passed = [(step, L)]
            for parent, part in passed:
                pending[parent] = pending[parent] + part if parent in pending else part
        falling = arriving.clamp(max=0)
        total = total + (falling * gap).sum(-1)
        A = pending.get(0)
        if A is None:
            return total, torch.zeros_like(theta)
        lower, upper = self._of(self._lower, rows.box), self._of(self._upper, rows.box)
        x = torch.where(A > 0, lower, upper)
        reached = self._reached(x, factor, gap * (falling < 0), rows.box)
        return total + (A * x).sum(-1), reached * arriving.clamp(min=0)

    def _reached(self, x: Tensor, factor: Tensor, rise: Tensor, box: Tensor) -> Tensor:
        """The pre-activations at the columns, where ReLU columns are ``factor · z + rise``, shape ``(R, K)``."""
        places = self._slopes.places
        out = torch.zeros_like(factor)
        if not places:
            return out
        final = max(places)
        values: list[Tensor] = []
        for node, step in enumerate(self._program.steps[: final + 1]):
            if step is None:
                values.append(x)
            elif isinstance(step, Affine):
                total = step.bias
                for parent, op in zip(step.parents, step.operators, strict=True):
                    total = total + op.forward(values[parent])
                values.append(total)
            else:
                z = values[step]
                h = z * self._of(self._active[node], box)
                place = places.get(node)
                if place is not None:
                    reached = z[:, self._columns[node]]
                    out[:, place] = reached
                    h.index_copy_(1, self._columns[node], reached * factor[:, place] + rise[:, place])
                values.append(h)
        return out
