"""Pre-activation bounds over boxes: intervals, then backward linear bounds where the sign of a neuron is open.

Soundness. As `bounds.backward`; intervals charge their rounding in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from bounds.backward import CHUNK_ENTRIES, UNDERFLOW, backward_pass, default_relus, gamma, signed_units, unit_rows
from bounds.groups import Groups, group
from bounds.inside import Inside
from bounds.program import Affine, Program
from bounds.relus import BoxBounds
from bounds.windows import Frame, plan

__all__ = ["UnitBounds", "enclose", "unit_bounds"]

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
        pending = {node: signed_units(which // space, signs, program.shapes[node][0])}
        value = backward_pass(program, bounds, pending, frame, node, default_relus(bounds, frame)).value
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
    magnitude = magnitude * (1 + 1e-9) + UNDERFLOW
    radius = radius * (1 + gamma(step.terms)) + gamma(step.terms) * magnitude + UNDERFLOW
    low = torch.nan_to_num(center - radius, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    high = torch.nan_to_num(center + radius, nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return low, high, magnitude
