"""Interval and backward linear bounds, batched over boxes and rows, with every rounding error charged.

Symbols. Node k of the network has the value h_k; a ReLU has the pre-activation z with bounds l ≤ z ≤ u. For a row
vector C on the value of some node, and for **any** row vectors Λ on the pre-activations,

    C·h  ≥  Σ_affine A·b
            + Σ_relu Σ_j min{ A_j·relu(z) − Λ_j·z : z ∈ {l_j, u_j, 0 if l_j < 0 < u_j} }
            + min_{x ∈ region} A_0·x

where A is the row vector that has arrived at the node: an affine node passes ``A L_i`` on to its parents and a ReLU
passes Λ on to its own. This is the partial Lagrangian dual of the affine rows (docs/ladder.md; Wong & Kolter 2018 §3;
Zhang et al. 2018, CROWN; Salman et al. 2019). Default slopes: Λ = A·u/(u−l) where A < 0, and A·[u > −l] where A > 0.

The last term is a sum over the box, or what `bounds.inside` proves for its part in a ball and constraints, if that is
more. Everything before it keeps to the box.

Soundness. Λ is data: whatever it was rounded to, the inequality holds. What rounds is A L_i, the products at
vertices and the sums. Each is charged a priori: an entry of fl(A L) is off by at most γ_n |A||L|, so by at most
γ_n |A|·(|L| M) in the bound, where M bounds the magnitude of the parents' values. γ_n = (n+16)·2⁻⁵², twice what
round-to-nearest needs. An overflow or a NaN turns into −∞, which claims nothing. Trusted: torch's matrix products and
convolutions are sums of products in some order, in IEEE float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from bounds.groups import Groups, group
from bounds.inside import Inside
from bounds.program import Affine, Program
from bounds.windows import Frame, plan

__all__ = [
    "CHUNK_ENTRIES",
    "Backward",
    "BoxBounds",
    "LinearBound",
    "ReluRows",
    "UnitBounds",
    "backward_pass",
    "enclose",
    "specification_bounds",
    "unit_bounds",
    "unit_rows",
]

_UNIT = 2.0**-52
_UNDERFLOW = 2.0**-1000
# Entries of float64 that one chunk of rows may hold in its widest coefficient matrix: 2 MiB, which stays in the cache;
# 128 MiB took 3.7 times as long on the Wong-Kolter network.
CHUNK_ENTRIES = 2**18


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
        return torch.maximum(-slope * low, (1 - slope) * high) + 8 * _UNIT * torch.maximum(-low, high)


def _default(
    bounds: BoxBounds, frame: Frame, multipliers: Mapping[int, Tensor] | None = None
) -> Callable[[int], Backward]:
    chosen = multipliers or {}
    return lambda node: bounds.relaxation(node).rows(node, frame, chosen.get(node))


@dataclass(frozen=True, eq=False)
class LinearBound:
    """Lower bounds of R linear forms, and the linear functions of the input that they come from.

    Attributes:
        value: shape ``(R,)``; rigorous, −inf where nothing is claimed.
        coefficients: A_0 of shape ``(R, inputs)``.
        constant: shape ``(R,)``: over its box the form is at least ``coefficients · x + constant``, rounding included.
    """

    value: Tensor
    coefficients: Tensor
    constant: Tensor

    @classmethod
    def join(cls, parts: Sequence[LinearBound]) -> LinearBound:
        """The forms of all parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([p.value for p in parts]),
            torch.cat([p.coefficients for p in parts]),
            torch.cat([p.constant for p in parts]),
        )


#: Lower and upper bounds of pre-activations: given bounds of everything before a ReLU node, that node, and the box and
#: the neuron of each.
UnitBounds: TypeAlias = Callable[[BoxBounds, int, Tensor, Tensor], tuple[Tensor, Tensor]]


def enclose(
    program: Program,
    lower: Tensor,
    upper: Tensor,
    *,
    start: BoxBounds | None = None,
    inside: Inside | None = None,
    backward: bool = True,
    stop: Callable[[], bool] | None = None,
    units: UnitBounds | None = None,
) -> BoxBounds:
    """Pre-activation bounds over each of B boxes.

    Layer by layer: interval bounds from what is already known, then (with ``backward``) backward linear bounds for
    the neurons whose sign is still open. Interval arithmetic is exact before the first ReLU, so nothing is repeated
    there, unless a ball or constraints say more than the boxes.

    Args:
        program: the compiled network (float64).
        lower, upper: the boxes, shape ``(B, inputs)``.
        start: bounds that hold on the same boxes (or on boxes around them); the result is never looser.
        inside: what the inputs keep beside the boxes.
        backward: False for interval bounds alone.
        stop: asked now and then; once true, neurons that are left keep their interval bounds.
        units: bounds of the neurons whose sign is open, in place of `unit_bounds`, after the first ReLUs.
    """

    def default(known: BoxBounds, node: int, box: Tensor, neuron: Tensor) -> tuple[Tensor, Tensor]:
        return unit_bounds(program, known, program.parent(node), box, neuron, stop)

    bounds = BoxBounds(lower, upper, inside=inside)
    values: list[tuple[Tensor, Tensor]] = []
    for node, step in enumerate(program.steps):
        if step is None:
            values.append((lower, upper))
            bounds.magnitude.append(torch.maximum(lower.abs(), upper.abs()))
        elif isinstance(step, Affine):
            low, high, magnitude = _interval(step, values, bounds.magnitude)
            values.append((low, high))
            bounds.magnitude.append(magnitude)
        else:
            low, high = values[step]
            if start is not None and node in start.pre_lower:
                low = torch.maximum(low, start.pre_lower[node])
                high = torch.minimum(high, start.pre_upper[node])
            bounds.pre_lower[node], bounds.pre_upper[node] = low, high
            if backward and (inside is not None or not program.boxed[step]):
                box, neuron = torch.nonzero((low < 0) & (high > 0), as_tuple=True)
                if len(neuron):
                    low, high = low.clone(), high.clone()
                    find = default if units is None or program.boxed[step] else units
                    least, most = find(bounds, node, box, neuron)
                    low[box, neuron] = torch.maximum(low[box, neuron], least)
                    high[box, neuron] = torch.minimum(high[box, neuron], most)
                    bounds.pre_lower[node], bounds.pre_upper[node] = low, high
            values.append((low.clamp(min=0), high.clamp(min=0)))
            bounds.magnitude.append(values[-1][1])
    return bounds


def unit_bounds(
    program: Program,
    bounds: BoxBounds,
    node: int,
    box: Tensor,
    neuron: Tensor,
    stop: Callable[[], bool] | None = None,
) -> tuple[Tensor, Tensor]:
    """Backward lower and upper bounds of single entries of ``node``'s value.

    Args:
        program: the compiled network.
        bounds: must hold the pre-activation bounds and magnitudes of everything before ``node``.
        node: index of the node.
        box, neuron: shape ``(R,)``: entry ``neuron[r]`` on box ``box[r]``.
        stop: asked between chunks of entries; once true, the entries that are left have infinite bounds.

    Returns:
        Two tensors of shape ``(R,)``.
    """
    windows = plan(program, node)
    if not windows:
        return _grouped_bounds(program, bounds, node, box, neuron, stop)
    width = max(windows[k].entries if k in windows else program.features[k] for k in range(node + 1))
    chunk = max(1, CHUNK_ENTRIES // width // 2)
    # Neurons at the same position read the same entries.
    space = math.prod(program.shapes[node][1:])
    order = torch.argsort(box * space + neuron % space, stable=True)
    most = torch.full((len(neuron),), torch.inf, dtype=program.dtype, device=program.device)
    least = -most
    for begin in range(0, len(neuron), chunk):
        if stop is not None and stop():
            break
        part = order[begin : begin + chunk]
        ones = torch.ones(len(part), dtype=program.dtype, device=program.device)
        signs, twice = torch.cat([ones, -ones]), part.repeat(2)
        which, where = neuron[twice], box[twice]
        frame = Frame(where, windows, which % space, program.shapes[node])
        pending = {node: _unit(which // space, signs, program.shapes[node][0])}
        value = backward_pass(program, bounds, pending, frame, node, _default(bounds, frame)).value
        least[part], most[part] = value[: len(part)], -value[len(part) :]
    return least, most


def _grouped_bounds(
    program: Program, bounds: BoxBounds, node: int, box: Tensor, neuron: Tensor, stop: Callable[[], bool] | None
) -> tuple[Tensor, Tensor]:
    """`unit_bounds` where rows read all of every value: the rows of one box side by side."""
    most = torch.full((len(neuron),), torch.inf, dtype=program.dtype, device=program.device)
    least = -most
    # Two rows for each entry, and half the cache for what is made of them.
    for entries in group(box, max(1, CHUNK_ENTRIES // max(program.features[: node + 1]) // 4)):
        if stop is not None and stop():
            break
        where, which = box[entries[:, 0]], neuron[entries].repeat(1, 2)
        shape, half = which.shape, entries.shape[1]
        signs = torch.ones(shape, dtype=program.dtype, device=program.device)
        signs[:, half:] = -1
        size = bounds.magnitude[node][where[:, None], which]
        pending, total, charge = unit_rows(program, node, which.flatten(), signs.flatten(), size.flatten())
        frame = Groups(where, shape[1])
        value = backward_pass(
            program,
            bounds,
            {parent: A.reshape(*shape, -1) for parent, A in pending.items()},
            frame,
            node,
            lambda relu, frame=frame: bounds.relaxation(relu).grouped(frame),  # type: ignore[misc]
            total.reshape(shape),
            charge.reshape(shape),
        ).value
        least[entries], most[entries] = value[:, :half], -value[:, half:]
    return least, most


def specification_bounds(
    program: Program,
    bounds: BoxBounds,
    C: Tensor,
    box: Tensor | None = None,
    node: int = -1,
    multipliers: Mapping[int, Tensor] | None = None,
) -> LinearBound:
    """Lower bounds of ``C · h_node`` over boxes.

    Args:
        program: the compiled network.
        bounds: boxes with bounds for every ReLU before ``node``.
        C: rows of shape ``(R, features of node)``.
        box: shape ``(R,)``, the box of each row; box 0 for all when absent.
        node: index of the node; the output by default.
        multipliers: Λ for some ReLU nodes, shape ``(R, features)``, used at their unstable neurons in place of the
            default slopes; any values are valid.
    """
    last = node % len(program.steps)
    if box is None:
        box = torch.zeros(len(C), dtype=torch.int64, device=program.device)
    width = max(program.features[: last + 1])
    chunk = max(1, CHUNK_ENTRIES // width)
    parts = []
    for begin in range(0, len(C), chunk):
        rows = slice(begin, begin + chunk)
        part = {k: v[rows] for k, v in multipliers.items()} if multipliers else {}
        frame = Frame(box[rows])
        parts.append(backward_pass(program, bounds, {last: C[rows]}, frame, last, _default(bounds, frame, part)))
    return LinearBound.join(parts)


def _gamma(terms: int) -> float:
    return (terms + 16) * _UNIT


def _interval(
    step: Affine, values: list[tuple[Tensor, Tensor]], magnitudes: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Bounds of an affine node from those of its parents, and the magnitude ``Σ|L||h| + |b|``."""
    center: Tensor = step.bias
    radius: Tensor = torch.zeros_like(step.bias)
    magnitude: Tensor = step.bias.abs()
    for parent, op in zip(step.parents, step.operators, strict=True):
        low, high = values[parent]
        center = center + op.forward((low + high) / 2)
        radius = radius + op.abs_forward((high - low) / 2)
        magnitude = magnitude + op.abs_forward(magnitudes[parent])
    magnitude = magnitude * (1 + 1e-9) + _UNDERFLOW
    radius = radius * (1 + _gamma(step.terms)) + _gamma(step.terms) * magnitude + _UNDERFLOW
    low = torch.nan_to_num(center - radius, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    high = torch.nan_to_num(center + radius, nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return low, high, magnitude


def unit_rows(
    program: Program, node: int, neuron: Tensor, signs: Tensor, magnitude: Tensor
) -> tuple[dict[int, Tensor], Tensor, Tensor]:
    """What `backward_pass` starts with for ``signs[r] · h_node[neuron[r]]``.

    The first affine step reads rows of the weights instead of multiplying.

    Args:
        program: the compiled network.
        node: index of the node.
        neuron: shape ``(R,)``.
        signs: ±1, shape ``(R,)``.
        magnitude: `BoxBounds.magnitude` of those entries, shape ``(R,)``.

    Returns:
        Its ``pending``, ``total`` and ``charge``.
    """
    step = program.steps[node]
    if not isinstance(step, Affine):
        return {node: _unit(neuron, signs, program.features[node])}, torch.zeros_like(signs), torch.zeros_like(signs)
    pending: dict[int, Tensor] = {}
    for parent, op in zip(step.parents, step.operators, strict=True):
        rows = signs[:, None] * op.rows(neuron)
        pending[parent] = pending[parent] + rows if parent in pending else rows
    return pending, signs * step.bias[neuron], _gamma(step.terms) * magnitude


def _unit(column: Tensor, signs: Tensor, columns: int) -> Tensor:
    """Rows that hold one sign each, shape ``(R, columns)``."""
    return torch.zeros((len(column), columns), dtype=signs.dtype, device=signs.device).scatter_(
        1, column[:, None], signs[:, None]
    )


def backward_pass(
    program: Program,
    bounds: BoxBounds,
    pending: dict[int, Tensor],
    frame: Frame,
    last: int,
    relus: Callable[[int], Backward],
    total: Tensor | float = 0.0,
    charge: Tensor | float = 0.0,
) -> LinearBound:
    """The formula of the module's docstring, from the coefficients ``pending`` on nodes up to ``last``.

    Args:
        program: the compiled network.
        bounds: boxes with bounds for every ReLU up to ``last``.
        pending: for some nodes, coefficients on what ``frame`` reads of them, shape ``(R, entries)``; with `Groups`,
            as everything else that has one entry for each row, ``(G, m, entries)``.
        frame: the rows.
        last: no later node is pending.
        relus: gives what is known of each ReLU node, and the multipliers to use there.
        total, charge: what the bound has already collected and the rounding charged so far, ``(R,)``.
    """
    pending = dict(pending)
    magnitude = bounds.magnitude
    sums = len(program.steps) + 8

    def push(parent: int, A: Tensor) -> Tensor | float:
        """Adds A to what is pending at ``parent``; returns the charge for that addition."""
        if parent not in pending:
            pending[parent] = A
            return 0.0
        before = pending[parent]
        pending[parent] = before + A
        return _UNIT * frame.dot_at_most(parent, magnitude[parent], before.abs() + A.abs())

    for node in range(last, 0, -1):
        A = pending.pop(node, None)
        if A is None:
            continue
        step = program.steps[node]
        if isinstance(step, Affine):
            total = total + frame.dot(node, step.bias[None], A)
            n = max(step.terms, program.features[node]) + sums
            charge = charge + _gamma(n) * frame.dot_at_most(node, magnitude[node], A.abs())
            for parent, op in zip(step.parents, step.operators, strict=True):
                clean = not isinstance(program.steps[parent], int)  # a ReLU passes nothing on from outside
                charge = charge + push(parent, frame.adjoint(node, parent, op, A, clean=clean))
        else:
            assert step is not None
            L, collected, size = relus(node).back(A)
            total = total + collected
            charge = charge + _gamma(A.shape[-1] + sums) * size
            charge = charge + push(step, L)
    A = pending.pop(0, None)
    if A is None:
        A = bounds.lower.new_zeros((*frame.rows, program.features[0]))
    n = program.features[0] + sums
    charge = charge + _gamma(n) * frame.dot_at_most(0, magnitude[0], A.abs())
    charge = charge * (1 + 2.0**-20) + _UNDERFLOW * (1 + sum(m.sum() for m in magnitude[: last + 1]))
    constant = total - charge
    low, high = frame.of(0, bounds.lower), frame.of(0, bounds.upper)
    least = torch.minimum(A * low, A * high).sum(-1)
    if bounds.inside is not None:
        proven = bounds.inside.bound(A, low, high, frame.of(0, bounds.inside.center))
        least = torch.maximum(least, torch.nan_to_num(proven, nan=-torch.inf, posinf=-torch.inf))
    value = constant + least
    return LinearBound(torch.nan_to_num(value, nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf), A, constant)
