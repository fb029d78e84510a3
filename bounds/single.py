"""Bounds for one query, with NumPy at the interface: what LP, MIP and the solver package call."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bounds.backward import specification_bounds
from bounds.enclosure import Enclosure
from bounds.inside import Inside
from bounds.linear import enclose
from bounds.program import Affine, program
from bounds.relus import BoxBounds
from networks.graph import Network
from networks.region import Region

__all__ = ["backward_bounds", "box_bounds", "interval_bounds", "lower_bounds"]


def interval_bounds(network: Network, region: Region) -> Enclosure:
    """Pre-activation bounds by interval arithmetic, rounding included."""
    lower, upper = _box(region)
    with torch.no_grad():
        return _enclosure(enclose(program(network), lower, upper, backward=False))


def backward_bounds(network: Network, region: Region, start: Enclosure | None = None) -> Enclosure:
    """Pre-activation bounds by intervals, then backward linear bounds where the sign is open; see `bounds.linear`.

    Args:
        network: the network.
        region: the input region.
        start: bounds known already; the result is never looser, and later layers profit from them.
    """
    lower, upper = _box(region)
    with torch.no_grad():
        known = _tensors(start, lower, upper) if start is not None else None
        return _enclosure(enclose(program(network), lower, upper, start=known, inside=Inside.of(region)))


def lower_bounds(
    network: Network,
    region: Region,
    enclosure: Enclosure,
    C: ArrayLike,
    node: int = -1,
    multipliers: Mapping[int, ArrayLike] | None = None,
) -> NDArray[np.float64]:
    """Rigorous lower bounds of ``C · h_node`` over the region, shape ``(R,)``; −inf where nothing can be claimed.

    Args:
        network: the network.
        region: the input region.
        enclosure: pre-activation bounds that hold on the region, for every ReLU node before ``node``.
        C: rows of shape ``(R, features of node)``.
        node: index into ``network.nodes``; the output by default.
        multipliers: Λ of `bounds.backward`'s formula for some ReLU nodes, shape ``(R, features)``, used at their
            unstable neurons; duals of the rows ``z = W h + b`` are such multipliers, and any values give a valid bound.
    """
    compiled = program(network)
    with torch.no_grad():
        bounds = box_bounds(network, region, enclosure)
        rows = torch.as_tensor(np.asarray(C, dtype=np.float64))
        chosen = (
            {k: torch.as_tensor(np.asarray(v, dtype=np.float64)) for k, v in multipliers.items()}
            if multipliers
            else None
        )
        return specification_bounds(compiled, bounds, rows, node=node, multipliers=chosen).value.numpy()


@torch.no_grad()
def box_bounds(network: Network, region: Region, enclosure: Enclosure) -> BoxBounds:
    """``enclosure`` as a batch of one box for `bounds.backward`, with the magnitudes that follow from it."""
    compiled = program(network)
    bounds = _tensors(enclosure, *_box(region))
    magnitude: list[Tensor] = []
    for node, step in enumerate(compiled.steps):
        if step is None:
            magnitude.append(torch.maximum(bounds.lower.abs(), bounds.upper.abs()))
        elif isinstance(step, Affine):
            total = step.bias.abs()
            for parent, op in zip(step.parents, step.operators, strict=True):
                total = total + op.abs_forward(magnitude[parent])
            magnitude.append(total * (1 + 1e-9) + 2.0**-1000)
        elif node in bounds.pre_upper:
            magnitude.append(bounds.pre_upper[node].clamp(min=0))
        else:
            magnitude.append(magnitude[step])
    return BoxBounds(bounds.lower, bounds.upper, bounds.pre_lower, bounds.pre_upper, magnitude, Inside.of(region))


def _box(region: Region) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(region.lower)[None], torch.as_tensor(region.upper)[None]


def _tensors(enclosure: Enclosure, lower: Tensor, upper: Tensor) -> BoxBounds:
    return BoxBounds(
        lower,
        upper,
        {k: torch.as_tensor(v)[None] for k, v in enclosure.lower.items()},
        {k: torch.as_tensor(v)[None] for k, v in enclosure.upper.items()},
    )


def _enclosure(bounds: BoxBounds) -> Enclosure:
    return Enclosure(
        {k: v[0].numpy() for k, v in bounds.pre_lower.items()},
        {k: v[0].numpy() for k, v in bounds.pre_upper.items()},
    )
