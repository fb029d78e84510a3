"""Operators that only move entries: reshapes, transposes, slices, pads, concatenations.

Each is one function on arrays, applied to a constant itself or to the indices of a view; both are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.graph import Gather, LinearMap
from networks.operators.registry import Call, operator
from networks.tracing import Tensor, Trace, View, check_size

__all__ = ["indices", "moved"]


def moved(trace: Trace, tensor: Tensor, arrange: Callable[[NDArray[Any]], NDArray[Any]]) -> Tensor:
    """The tensor with its entries rearranged, whether it is a view or a constant."""
    return trace.rearranged(tensor, arrange) if isinstance(tensor, View) else arrange(tensor)


@operator("Identity")
def _identity(_: Trace, call: Call) -> Tensor:
    """Left out."""
    return call.required(0)


@operator("Dropout", "ratio", "seed", "is_test")
def _dropout(_: Trace, call: Call) -> Tensor:
    """Left out.

    Refused: training mode.
    """
    training = call.input(2)
    if training is not None and bool(np.any(call.constant(2, "training_mode"))):
        call.refuse("it is in training mode; export the network for inference")
    return call.required(0)


@operator("Cast", "to", "saturate")
def _cast(_: Trace, call: Call) -> Tensor:
    """Left out between float32 and float64; constants are converted.

    Refused: casting what depends on the input to float16, integers or booleans, which rounds it.
    """
    from networks.onnx_model import element_type

    tensor = call.required(0)
    target = element_type(int(call.attributes["to"]))
    if isinstance(tensor, View):
        if target not in ("float32", "float64"):
            call.refuse(f"it casts values that depend on the input to {target}, which rounds them")
        return tensor
    if target not in ("float16", "float32", "float64", "int32", "int64", "bool"):
        call.refuse(f"it casts to {target}")
    return tensor.astype(target)


@operator("Flatten", "axis")
def _flatten(trace: Trace, call: Call) -> Tensor:
    """Only a matter of shape."""
    tensor = call.required(0)
    axis = int(call.attributes.get("axis", 1))
    axis += len(tensor.shape) if axis < 0 else 0
    shape = (math.prod(tensor.shape[:axis]), math.prod(tensor.shape[axis:]))
    return moved(trace, tensor, lambda a: a.reshape(shape))


@operator("Reshape", "allowzero")
def _reshape(trace: Trace, call: Call) -> Tensor:
    """Only a matter of shape.

    Refused: a shape that depends on the input.
    """
    tensor = call.required(0)
    target = [int(d) for d in call.constant(1, "shape").reshape(-1)]
    if not call.attributes.get("allowzero", 0):
        target = [tensor.shape[i] if d == 0 else d for i, d in enumerate(target)]
    return moved(trace, tensor, lambda a: a.reshape(target))


@operator("Squeeze", "axes")
def _squeeze(trace: Trace, call: Call) -> Tensor:
    """Only a matter of shape."""
    axes = call.integers(1, "axes")
    return moved(trace, call.required(0), lambda a: np.squeeze(a, None if axes is None else tuple(axes)))


@operator("Unsqueeze", "axes")
def _unsqueeze(trace: Trace, call: Call) -> Tensor:
    """Only a matter of shape."""
    axes = call.integers(1, "axes") or []
    return moved(trace, call.required(0), lambda a: np.expand_dims(a, tuple(axes)))


@operator("Transpose", "perm")
def _transpose(trace: Trace, call: Call) -> Tensor:
    """Entries are moved."""
    axes = call.attributes.get("perm")
    return moved(trace, call.required(0), lambda a: np.transpose(a, axes))


@operator("Expand")
def _expand(trace: Trace, call: Call) -> Tensor:
    """Entries are repeated.

    Refused: a shape that depends on the input.
    """
    tensor = call.required(0)
    shape = np.broadcast_shapes(tensor.shape, tuple(int(d) for d in call.constant(1, "shape").reshape(-1)))
    check_size(shape)
    return moved(trace, tensor, lambda a: np.broadcast_to(a, shape))


@operator("Slice", "starts", "ends", "axes")
def _slice(trace: Trace, call: Call) -> Tensor:
    """Entries are picked, with any steps.

    Refused: starts, ends or steps that depend on the input.
    """
    tensor = call.required(0)
    starts, ends = call.integers(1, "starts") or [], call.integers(2, "ends") or []
    axes = call.integers(3, "axes", list(range(len(starts)))) or []
    steps = call.integers(4, "steps", [1] * len(starts)) or []
    cut = [slice(None)] * len(tensor.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # A negative end below -size means "from before the first entry" when stepping backwards.
        size = tensor.shape[axis]
        stop = None if step < 0 and end < -size else end
        cut[axis] = slice(start, stop, step)
    return moved(trace, tensor, lambda a: a[tuple(cut)])


@operator("Split", "axis", "split", "num_outputs")
def _split(trace: Trace, call: Call) -> list[Tensor]:
    """Entries are picked, into equal or given parts.

    Refused: parts that do not add up.
    """
    tensor = call.required(0)
    axis = int(call.attributes.get("axis", 0))
    size = tensor.shape[axis]
    sizes = call.integers(1, "split")
    if sizes is None:
        pieces = int(call.attributes.get("num_outputs", call.outputs))
        if not 1 <= pieces <= max(size, call.outputs):
            call.refuse(f"{pieces} parts of the {size} entries of axis {axis}")
        part = -(-size // pieces)
        sizes = [part] * (pieces - 1) + [size - part * (pieces - 1)]
    if sum(sizes) != size or min(sizes) < 0:
        call.refuse(f"the sizes {sizes} do not add up to the {size} entries of axis {axis}")
    starts = np.cumsum([0, *sizes])
    return [
        moved(trace, tensor, partial(np.take, indices=np.arange(start, start + count), axis=axis))
        for start, count in zip(starts, sizes, strict=False)
    ]


@operator("Gather", "axis")
def _gather(trace: Trace, call: Call) -> Tensor:
    """Entries are picked.

    Refused: indices that depend on the input.
    """
    axis = int(call.attributes.get("axis", 0))
    tensor = call.required(0)
    chosen = call.constant(1, "indices").astype(np.int64)
    check_size([chosen.size, *np.delete(tensor.shape, axis)])
    return moved(trace, tensor, lambda a: np.take(a, chosen, axis))


@operator("Concat", "axis")
def _concat(trace: Trace, call: Call) -> Tensor:
    """Affine, with a term for each path; constants become its bias."""
    axis = int(call.attributes["axis"])
    tensors = [call.required(i) for i in range(len(call.inputs))]
    if not any(isinstance(t, View) for t in tensors):
        return np.concatenate([np.asarray(t) for t in tensors], axis)
    views = [t for t in tensors if isinstance(t, View)]
    if len(views) == len(tensors) and len({v.node for v in views}) == 1:
        source = View(views[0].node, (trace.nodes[views[0].node].features,))
        parts = [indices(trace, v) for v in views]
        return trace.rearranged(source, lambda _: np.concatenate(parts, axis))
    # Where each entry of the result comes from: the part, and the entry within it.
    part = np.concatenate([np.full(t.shape, i) for i, t in enumerate(tensors)], axis)
    bias = np.zeros(part.shape)
    terms: list[tuple[int, LinearMap]] = []
    for i, tensor in enumerate(tensors):
        if isinstance(tensor, View):
            entries = np.full(part.shape, -1, np.int64)
            entries[part == i] = indices(trace, tensor).reshape(-1)
            terms.append((tensor.node, Gather(entries.reshape(-1), trace.nodes[tensor.node].features)))
        else:
            bias[part == i] = call.finite(tensor, f"input {i}").reshape(-1)
    return trace.affine(terms, part.shape, bias)


def indices(trace: Trace, view: View) -> NDArray[np.int64]:
    """Which entry of its node each entry of the view is, in the view's shape."""
    flat = view.indices if view.indices is not None else np.arange(trace.nodes[view.node].features, dtype=np.int64)
    return flat.reshape(view.shape)


@operator("Pad", "mode", "pads", "value")
def _pad(trace: Trace, call: Call) -> Tensor:
    """Entries are moved, and repeated for edge, reflect and wrap; a constant becomes the bias of an affine map.

    Refused: negative pads but for a constant, where they crop.
    """
    tensor = call.required(0)
    rank = len(tensor.shape)
    pads = call.integers(1, "pads") or []
    axes = call.integers(3, "axes", list(range(rank))) or []
    mode = call.attributes.get("mode", "constant")
    if len(pads) != 2 * len(axes) or (mode != "constant" and min(pads, default=0) < 0):
        call.refuse(f"pads {pads} for axes {axes} and mode {mode!r}; two nonnegative numbers for each axis are needed")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        call.refuse(f"mode {mode!r}; constant, edge, reflect and wrap are supported")
    widths, cut = [(0, 0)] * rank, [slice(None)] * rank
    for i, axis in enumerate(axes):
        before, after = pads[i], pads[i + len(axes)]
        widths[axis] = (max(before, 0), max(after, 0))
        cut[axis] = slice(max(-before, 0), tensor.shape[axis] - max(-after, 0))
    tensor = moved(trace, tensor, lambda a: a[tuple(cut)])
    check_size([n + before + after for n, (before, after) in zip(tensor.shape, widths, strict=True)])
    value = float(call.attributes.get("value", 0.0))
    if call.input(2) is not None:
        value = float(call.weights(2, "constant_value").reshape(()))
    if mode != "constant":
        return moved(trace, tensor, lambda a: np.pad(a, widths, mode=mode))
    if not isinstance(tensor, View):
        return np.pad(tensor, widths, constant_values=value)
    padded = trace.rearranged(tensor, lambda a: np.pad(a, widths, constant_values=-1))
    if value == 0.0:
        return padded
    border = np.pad(np.zeros(tensor.shape), widths, constant_values=call.finite(np.asarray(value), "value"))
    return trace.shifted(padded, border)
