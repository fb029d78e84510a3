"""A network's value in float64, with NumPy alone."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from networks.errors import NetworkShapeError
from networks.graph import AffineNode, Conv, ConvTranspose, Dense, Gather, Identity, LinearMap, Network, ReluNode, Scale

__all__ = ["apply", "evaluate", "values"]

Array = NDArray[np.float64]

_ROW_ENTRIES = 2**24
"""Convolutions lay out at most about this many window entries at once (128 MiB)."""


def evaluate(network: Network, x: ArrayLike) -> Array:
    """The outputs at ``x``, computed in float64 (rounded, not proved).

    Args:
        network: any canonical network.
        x: shape ``(B, inputs)``, or ``(B, *input_shape)``.

    Returns:
        float64 array of shape ``(B, outputs)``.

    Raises:
        NetworkShapeError: ``x`` does not have the network's number of inputs.
    """
    return values(network, x)[-1]


def values(network: Network, x: ArrayLike) -> list[Array]:
    """The value of every node at ``x``, each of shape ``(B, features)``; see `evaluate`."""
    batch = np.asarray(x, dtype=np.float64)
    if batch.ndim < 2 or batch[:1].size != min(len(batch), 1) * network.inputs:
        msg = f"inputs of shape (B, {network.inputs}) are needed, got {batch.shape}"
        raise NetworkShapeError(msg)
    out = [batch.reshape(len(batch), network.inputs)]
    # Weights near the end of float32's range overflow even float64 after a few layers; the values then say so.
    with np.errstate(over="ignore", invalid="ignore"):
        for node in network.nodes[1:]:
            if isinstance(node, ReluNode):
                out.append(np.maximum(out[node.parent], 0.0))
            else:
                assert isinstance(node, AffineNode)
                out.append(sum((apply(linear, out[parent]) for parent, linear in node.terms), start=node.bias))
    return [np.broadcast_to(v, (len(batch), v.shape[-1])) for v in out]


def apply(linear: LinearMap, h: Array, *, absolute: bool = False) -> Array:
    """``L h``, or ``|L| h`` when ``absolute``, for a batch: ``(B, in_features)`` to ``(B, out_features)``."""
    match linear:
        case Identity():
            return h
        case Gather():
            out = h[:, linear.indices]
            out[:, linear.indices < 0] = 0.0
            return out
        case Scale():
            return h * _weight(linear.factors, absolute)
        case Dense():
            return h @ _weight(linear.weight, absolute).T
        case Conv():
            return _convolve(linear, h, _weight(linear.weight, absolute))
        case ConvTranspose():
            return _convolve_transposed(linear, h, _weight(linear.weight, absolute))


def _weight(weight: Array, absolute: bool) -> Array:
    return np.abs(weight) if absolute else weight


def _convolve(linear: Conv, h: Array, weight: Array) -> Array:
    """One matrix product for each group, on windows laid out as rows."""
    batch, rank = len(h), len(linear.stride)
    pieces = batch * math.prod(linear.output_shape[1:]) * math.prod(weight.shape[1:]) * linear.groups // _ROW_ENTRIES
    if pieces and batch > 1:
        parts = np.array_split(h, min(pieces + 1, batch))
        return np.concatenate([_convolve(linear, part, weight) for part in parts])
    image = np.pad(h.reshape(batch, *linear.input_shape), ((0, 0), (0, 0), *linear.padding))
    kernel = weight.shape[2:]
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, linear.dilation, strict=True))
    windows = sliding_window_view(image, reach, axis=tuple(range(2, 2 + rank)))
    step = tuple(slice(None, (n - 1) * s + 1, s) for n, s in zip(linear.output_shape[1:], linear.stride, strict=True))
    inner = tuple(slice(None, None, d) for d in linear.dilation)
    windows = windows[(slice(None), slice(None), *step, *inner)]
    out_channels, in_channels = weight.shape[0] // linear.groups, weight.shape[1]
    places, entries = math.prod(linear.output_shape[1:]), in_channels * math.prod(kernel)
    # (B, groups, C_in/groups, *out, *kernel) against (groups, C_out/groups, C_in/groups, *kernel)
    grouped = windows.reshape(batch, linear.groups, in_channels, *windows.shape[2:])
    rows = np.moveaxis(grouped, 2, 2 + rank).reshape(batch, linear.groups, places, entries)
    matrix = weight.reshape(linear.groups, out_channels, -1)
    return np.asarray(np.matmul(matrix, rows.swapaxes(2, 3))).reshape(batch, linear.out_features)


def _convolve_transposed(linear: ConvTranspose, h: Array, weight: Array) -> Array:
    """Every input entry stamps the kernel, scaled, onto the full output, which is then cropped."""
    batch, groups = len(h), linear.groups
    kernel, spatial = weight.shape[2:], linear.input_shape[1:]
    x = h.reshape(batch, groups, linear.input_shape[0] // groups, math.prod(spatial))
    matrix = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    stamps = np.einsum("bgip,giok->bgokp", x, matrix, optimize=True)
    stamps = stamps.reshape(batch, linear.output_shape[0], *kernel, *spatial)
    full_shape = [
        n + before + after for n, (before, after) in zip(linear.output_shape[1:], linear.padding, strict=True)
    ]
    full = np.zeros((batch, linear.output_shape[0], *full_shape))
    for offset in itertools.product(*(range(k) for k in kernel)):
        place = tuple(
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, n, s in zip(offset, linear.dilation, spatial, linear.stride, strict=True)
        )
        full[(slice(None), slice(None), *place)] += stamps[(slice(None), slice(None), *offset)]
    crop = tuple(
        slice(before, before + n) for (before, _), n in zip(linear.padding, linear.output_shape[1:], strict=True)
    )
    return full[(slice(None), slice(None), *crop)].reshape(batch, linear.out_features)
