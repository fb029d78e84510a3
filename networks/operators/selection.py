"""Operators that pick or repeat entries by rules of their own: Where, Resize, Tile, and blocks of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from networks.graph import Gather, LinearMap
from networks.operators.arithmetic import aligned
from networks.operators.registry import Call, operator
from networks.operators.shaping import indices, moved
from networks.tracing import Tensor, Trace, View, check_size

__all__: list[str] = []


@operator("Where")
def _where(trace: Trace, call: Call) -> Tensor:
    """Entries of the two branches are picked by a constant condition; paths, constants or one of each.

    Refused: a condition that depends on the input.
    """
    condition = call.constant(0, "condition").astype(bool)
    branches = aligned(trace, call.required(1), call.required(2))
    constants = [b for b in branches if not isinstance(b, View)]
    if len(constants) == len(branches):
        return np.where(condition, *constants)
    shape = np.broadcast_shapes(condition.shape, *(b.shape for b in branches))
    check_size(shape)
    bias = np.zeros(shape)
    terms: list[tuple[int, LinearMap]] = []
    for branch, chosen in zip(branches, (condition, ~condition), strict=True):
        if isinstance(branch, View):
            entries = np.where(chosen, np.broadcast_to(indices(trace, branch), shape), -1)
            terms.append((branch.node, Gather(entries.reshape(-1), trace.nodes[branch.node].features)))
        else:
            # What is not chosen may be infinite: masks are made this way.
            bias += call.finite(np.where(chosen, branch, np.zeros((), branch.dtype)), "branch")
    return trace.affine(terms, shape, bias)


@operator("Tile")
def _tile(trace: Trace, call: Call) -> Tensor:
    """Entries are repeated.

    Refused: repeats that depend on the input.
    """
    tensor = call.required(0)
    repeats = [int(r) for r in call.constant(1, "repeats").reshape(-1)]
    check_size([n * r for n, r in zip(tensor.shape, repeats, strict=True)])
    return moved(trace, tensor, lambda a: np.tile(a, repeats))


@operator("DepthToSpace", "blocksize", "mode")
def _depth_to_space(trace: Trace, call: Call) -> Tensor:
    """Entries are moved (pixel shuffle).

    Refused: blocks that do not fit.
    """
    tensor = call.required(0)
    batch, channels, height, width = tensor.shape
    block = int(call.attributes["blocksize"])
    if block < 1 or channels % (block * block):
        call.refuse(f"blocks of {block} by {block} from {channels} channels")
    deep = channels // (block * block)
    if call.attributes.get("mode", "DCR") == "DCR":
        split, order = (batch, block, block, deep, height, width), (0, 3, 4, 1, 5, 2)
    else:
        split, order = (batch, deep, block, block, height, width), (0, 1, 4, 2, 5, 3)
    out = (batch, deep, height * block, width * block)
    return moved(trace, tensor, lambda a: a.reshape(split).transpose(order).reshape(out))


@operator("SpaceToDepth", "blocksize")
def _space_to_depth(trace: Trace, call: Call) -> Tensor:
    """Entries are moved.

    Refused: blocks that do not fit.
    """
    tensor = call.required(0)
    batch, channels, height, width = tensor.shape
    block = int(call.attributes["blocksize"])
    if block < 1 or height % block or width % block:
        call.refuse(f"blocks of {block} by {block} in an image of {height} by {width}")
    split = (batch, channels, height // block, block, width // block, block)
    out = (batch, channels * block * block, height // block, width // block)
    return moved(trace, tensor, lambda a: a.reshape(split).transpose(0, 3, 5, 1, 2, 4).reshape(out))


@operator("Upsample", "mode", "scales")
def _upsample(trace: Trace, call: Call) -> Tensor:
    """Entries are repeated: nearest neighbour.

    Refused: modes other than nearest.
    """
    return _scaled_up(trace, call)


def _scaled_up(trace: Trace, call: Call) -> Tensor:
    tensor = call.required(0)
    if call.attributes.get("mode", "nearest") != "nearest":
        call.refuse(f"mode {call.attributes['mode']!r}; nearest is supported")
    if "scales" in call.attributes:
        scales = np.asarray(call.attributes["scales"], np.float64)
    else:
        scales = call.weights(1, "scales").reshape(-1)
    sizes = [math.floor(n * s) for n, s in zip(tensor.shape, scales, strict=True)]
    return _nearest(trace, call, tensor, sizes, scales, lambda x, s, *_: x / s, np.floor)


_COORDINATES: dict[str, Callable[[NDArray[np.float64], float, int, int], NDArray[np.float64]]] = {
    "half_pixel": lambda x, scale, _, __: (x + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda x, scale, _, out: (x + 0.5) / scale - 0.5 if out > 1 else np.zeros_like(x),
    "asymmetric": lambda x, scale, _, __: x / scale,
    "align_corners": lambda x, _, n, out: x * ((n - 1) / (out - 1)) if out > 1 else np.zeros_like(x),
}
_ROUNDINGS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@operator("Resize", "coordinate_transformation_mode", "cubic_coeff_a", "mode", "nearest_mode")
def _resize(trace: Trace, call: Call) -> Tensor:
    """Entries are picked and repeated: nearest neighbour, with every rounding of coordinates but tf_crop_and_resize.

    Refused: modes other than nearest; antialiasing, axes and aspect ratio policies.
    """
    tensor = call.required(0)
    if call.opset < 11:
        return _scaled_up(trace, call)
    mode = call.attributes.get("mode", "nearest")
    coordinates = call.attributes.get("coordinate_transformation_mode", "half_pixel")
    rounding = call.attributes.get("nearest_mode", "round_prefer_floor")
    if mode != "nearest" or coordinates not in _COORDINATES or rounding not in _ROUNDINGS:
        call.refuse(f"mode {mode!r} with coordinates {coordinates!r} and rounding {rounding!r}; use mode nearest")
    if call.input(3) is not None:
        sizes = [int(n) for n in call.constant(3, "sizes").reshape(-1)]
        scales = np.array(sizes) / np.array(tensor.shape)
    else:
        scales = call.weights(2, "scales").reshape(-1)
        sizes = [math.floor(n * s) for n, s in zip(tensor.shape, scales, strict=True)]
    return _nearest(trace, call, tensor, sizes, scales, _COORDINATES[coordinates], _ROUNDINGS[rounding])


def _nearest(
    trace: Trace,
    call: Call,
    tensor: Tensor,
    sizes: list[int],
    scales: NDArray[np.float64],
    coordinates: Callable[[NDArray[np.float64], float, int, int], NDArray[np.float64]],
    rounding: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> Tensor:
    if len(sizes) != len(tensor.shape) or not (scales > 0).all():
        call.refuse(f"sizes {sizes} and scales {scales.tolist()} for a tensor of shape {tuple(tensor.shape)}")
    check_size(sizes)
    places = []
    for n, out, scale in zip(tensor.shape, sizes, scales.tolist(), strict=True):
        nearest = rounding(coordinates(np.arange(out, dtype=np.float64), scale, n, out))
        places.append(np.clip(nearest, 0, n - 1).astype(np.int64))
    return moved(trace, tensor, lambda a: a[np.ix_(*places)])
