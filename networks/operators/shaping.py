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

__all__: list[str] = []


def _move(trace: Trace, tensor: Tensor, arrange: Callable[[NDArray[Any]], NDArray[Any]]) -> Tensor:
    return trace.rearranged(tensor, arrange) if isinstance(tensor, View) else arrange(tensor)


@operator("Identity")
def _identity(_: Trace, call: Call) -> Tensor:
    return call.required(0)


@operator("Dropout", "ratio", "seed", "is_test")
def _dropout(_: Trace, call: Call) -> Tensor:
    training = call.input(2)
    if training is not None and bool(np.any(call.constant(2, "training_mode"))):
        call.refuse("it is in training mode; export the network for inference")
    return call.required(0)


@operator("Cast", "to", "saturate")
def _cast(_: Trace, call: Call) -> Tensor:
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
    tensor = call.required(0)
    axis = int(call.attributes.get("axis", 1))
    axis += len(tensor.shape) if axis < 0 else 0
    shape = (math.prod(tensor.shape[:axis]), math.prod(tensor.shape[axis:]))
    return _move(trace, tensor, lambda a: a.reshape(shape))


@operator("Reshape", "allowzero")
def _reshape(trace: Trace, call: Call) -> Tensor:
    tensor = call.required(0)
    target = [int(d) for d in call.constant(1, "shape").reshape(-1)]
    if not call.attributes.get("allowzero", 0):
        target = [tensor.shape[i] if d == 0 else d for i, d in enumerate(target)]
    return _move(trace, tensor, lambda a: a.reshape(target))


@operator("Squeeze", "axes")
def _squeeze(trace: Trace, call: Call) -> Tensor:
    axes = call.integers(1, "axes")
    return _move(trace, call.required(0), lambda a: np.squeeze(a, None if axes is None else tuple(axes)))


@operator("Unsqueeze", "axes")
def _unsqueeze(trace: Trace, call: Call) -> Tensor:
    axes = call.integers(1, "axes") or []
    return _move(trace, call.required(0), lambda a: np.expand_dims(a, tuple(axes)))


@operator("Transpose", "perm")
def _transpose(trace: Trace, call: Call) -> Tensor:
    axes = call.attributes.get("perm")
    return _move(trace, call.required(0), lambda a: np.transpose(a, axes))


@operator("Expand")
def _expand(trace: Trace, call: Call) -> Tensor:
    tensor = call.required(0)
    shape = np.broadcast_shapes(tensor.shape, tuple(int(d) for d in call.constant(1, "shape").reshape(-1)))
    check_size(shape)
    return _move(trace, tensor, lambda a: np.broadcast_to(a, shape))


@operator("Slice", "starts", "ends", "axes")
def _slice(trace: Trace, call: Call) -> Tensor:
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
    return _move(trace, tensor, lambda a: a[tuple(cut)])


@operator("Split", "axis", "split", "num_outputs")
def _split(trace: Trace, call: Call) -> list[Tensor]:
    tensor = call.required(0)
    axis = int(call.attributes.get("axis", 0))
    size = tensor.shape[axis]
    sizes = call.integers(1, "split")
    if sizes is None:
        pieces = int(call.attributes.get("num_outputs", call.outputs))
        part = -(-size // pieces)
        sizes = [part] * (pieces - 1) + [size - part * (pieces - 1)]
    if sum(sizes) != size or min(sizes) < 0:
        call.refuse(f"the sizes {sizes} do not add up to the {size} entries of axis {axis}")
    starts = np.cumsum([0, *sizes])
    return [
        _move(trace, tensor, partial(np.take, indices=np.arange(start, start + count), axis=axis))
        for start, count in zip(starts, sizes, strict=False)
    ]


@operator("Gather", "axis")
def _gather(trace: Trace, call: Call) -> Tensor:
    axis = int(call.attributes.get("axis", 0))
    tensor = call.required(0)
    indices = call.constant(1, "indices").astype(np.int64)
    check_size([indices.size, *np.delete(tensor.shape, axis)])
    return _move(trace, tensor, lambda a: np.take(a, indices, axis))


@operator("Concat", "axis")
def _concat(trace: Trace, call: Call) -> Tensor:
    axis = int(call.attributes["axis"])
    tensors = [call.required(i) for i in range(len(call.inputs))]
    if not any(isinstance(t, View) for t in tensors):
        return np.concatenate([np.asarray(t) for t in tensors], axis)
    views = [t for t in tensors if isinstance(t, View)]
    if len(views) == len(tensors) and len({v.node for v in views}) == 1:
        source = View(views[0].node, (trace.nodes[views[0].node].features,))
        parts = [_indices(v) for v in views]
        return trace.rearranged(source, lambda _: np.concatenate(parts, axis))
    # Where each entry of the result comes from: the part, and the entry within it.
    part = np.concatenate([np.full(t.shape, i) for i, t in enumerate(tensors)], axis)
    bias = np.zeros(part.shape)
    terms: list[tuple[int, LinearMap]] = []
    for i, tensor in enumerate(tensors):
        if isinstance(tensor, View):
            indices = np.full(part.shape, -1, np.int64)
            indices[part == i] = _indices(tensor).reshape(-1)
            terms.append((tensor.node, Gather(indices.reshape(-1), trace.nodes[tensor.node].features)))
        else:
            bias[part == i] = call.finite(tensor, f"input {i}").reshape(-1)
    return trace.affine(terms, part.shape, bias)


def _indices(view: View) -> NDArray[np.int64]:
    flat = view.indices if view.indices is not None else np.arange(view.features, dtype=np.int64)
    return flat.reshape(view.shape)


@operator("Pad", "mode", "pads", "value")
def _pad(trace: Trace, call: Call) -> Tensor:
    tensor = call.required(0)
    rank = len(tensor.shape)
    pads = call.integers(1, "pads") or []
    axes = call.integers(3, "axes", list(range(rank))) or []
    if len(pads) != 2 * len(axes) or min(pads, default=0) < 0:
        call.refuse(f"pads {pads} for axes {axes}; two nonnegative numbers for each axis are needed")
    mode = call.attributes.get("mode", "constant")
    if mode not in ("constant", "edge", "reflect", "wrap"):
        call.refuse(f"mode {mode!r}; constant, edge, reflect and wrap are supported")
    widths = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(axes)])
    check_size([n + before + after for n, (before, after) in zip(tensor.shape, widths, strict=True)])
    value = float(call.attributes.get("value", 0.0))
    if call.input(2) is not None:
        value = float(call.weights(2, "constant_value").reshape(()))
    if mode != "constant":
        return _move(trace, tensor, lambda a: np.pad(a, widths, mode=mode))
    if not isinstance(tensor, View):
        return np.pad(tensor, widths, constant_values=value)
    padded = trace.rearranged(tensor, lambda a: np.pad(a, widths, constant_values=-1))
    if value == 0.0:
        return padded
    border = np.pad(np.zeros(tensor.shape), widths, constant_values=call.finite(np.asarray(value), "value"))
    return trace.shifted(padded, border)
