"""Matrix products with constant weights, and batch normalisation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from networks.graph import Conv
from networks.operators.arithmetic import broadcast
from networks.operators.registry import Call, operator
from networks.tracing import Tensor, Trace, View, check_size

__all__: list[str] = []


@operator("Gemm", "alpha", "beta", "transA", "transB", "broadcast")
def _gemm(trace: Trace, call: Call) -> Tensor:
    """Affine, A or B constant; C may be a constant or a path. ``alpha`` and ``beta`` may be any numbers.

    Refused: A and B both constant, or both dependent on the input.
    """
    a, b = call.required(0), call.required(1)
    alpha, beta = float(call.attributes.get("alpha", 1.0)), float(call.attributes.get("beta", 1.0))
    if call.attributes.get("transA", 0):
        a = trace.rearranged(a, np.transpose) if isinstance(a, View) else a.T
    if call.attributes.get("transB", 0):
        b = trace.rearranged(b, np.transpose) if isinstance(b, View) else b.T
    if isinstance(a, View) and not isinstance(b, View):
        weight, factor = _scaled_weight(alpha, call.finite(b, "weight"))
        product = _times_right(trace, a, weight)
    elif isinstance(b, View) and not isinstance(a, View):
        weight, factor = _scaled_weight(alpha, call.finite(a, "weight"))
        product = _times_left(trace, weight, b)
    else:
        call.refuse("exactly one of A and B must be constant")
    if factor != 1.0:
        product = trace.scaled(product, factor)
    c = call.input(2)
    if c is None or beta == 0.0:
        return product
    if isinstance(c, View):
        added = broadcast(trace, c, product.shape)
        if beta != 1.0:
            added = trace.scaled(added, beta)
        return trace.affine([trace.term(product), trace.term(added)], product.shape)
    bias = call.weights(2, "bias")
    if not exact_product(beta, bias):
        trace.note(f"weights rounded to float64 at Gemm node {call.name!r} (beta times bias)")
    return trace.shifted(product, beta * bias)


def exact_product(factor: float, weight: NDArray[np.float64]) -> bool:
    """Whether float64 holds ``factor * weight`` without rounding: a sufficient condition on both."""
    short = np.float64(np.float32(factor)) == factor and bool((weight.astype(np.float32) == weight).all())
    power = abs(np.frexp(factor)[0]) == 0.5
    product = np.abs(factor * weight)
    normal = bool(((product > 1e-280) & (product < 1e280) | (weight == 0)).all())
    # Two float32 significands of 24 bits make one of 48.
    return factor in (0.0, 1.0, -1.0) or ((short or power) and normal)


def _scaled_weight(alpha: float, weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The weight times alpha, or the weight and what is left to multiply with where the product would round."""
    with np.errstate(over="ignore"):
        return (alpha * weight, 1.0) if exact_product(alpha, weight) else (weight, alpha)


@operator("MatMul")
def _matmul(trace: Trace, call: Call) -> Tensor:
    """Affine, with a constant on the left or on the right: a vector, a matrix or a stack of matrices.

    Refused: the product of two paths, as in attention.
    """
    a, b = call.required(0), call.required(1)
    if isinstance(a, View) and isinstance(b, View):
        call.refuse("both factors depend on the input, so it is not piecewise linear")
    matrix = a.shape[-2:-1] + (b.shape[-1:] if len(b.shape) > 1 else ())
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + matrix
    check_size(shape)
    if not isinstance(a, View) and not isinstance(b, View):
        trace.note(f"constants computed in float64 at MatMul node {call.name!r}")
        return np.asarray(np.matmul(call.weights(0, "factor"), call.weights(1, "factor")))
    weight = call.weights(1 if isinstance(a, View) else 0, "factor")
    if isinstance(a, View):
        weight = weight.reshape(-1, 1) if weight.ndim == 1 else weight
        if math.prod(weight.shape[:-2]) == 1:
            flat = trace.rearranged(a, lambda t: t.reshape(-1, t.shape[-1]))
            product = _times_right(trace, flat, weight.reshape(weight.shape[-2:]))
            return trace.rearranged(product, lambda t: t.reshape(shape))
        turned = trace.rearranged(a, lambda t: np.atleast_2d(t).swapaxes(-2, -1))
        across = _stacked(trace, weight.swapaxes(-2, -1), turned)
        return trace.rearranged(across, lambda t: t.swapaxes(-2, -1).reshape(shape))
    assert isinstance(b, View)
    weight = weight.reshape(1, -1) if weight.ndim == 1 else weight
    if math.prod(weight.shape[:-2]) != 1:
        column = trace.rearranged(b, lambda t: t.reshape(-1, 1)) if len(b.shape) == 1 else b
        return trace.rearranged(_stacked(trace, weight, column), lambda t: t.reshape(shape))
    # A stack of matrices side by side is one matrix.
    inner, columns = (b.shape[-2], b.shape[-1]) if len(b.shape) > 1 else (b.shape[0], 1)
    aside = trace.rearranged(b, lambda t: np.moveaxis(t.reshape(-1, inner, columns), 1, 0).reshape(inner, -1))
    rows = weight.shape[-2]
    product = _times_left(trace, weight.reshape(rows, -1), aside)
    return trace.rearranged(product, lambda t: np.moveaxis(t.reshape(rows, -1, columns), 0, 1).reshape(shape))


def _stacked(trace: Trace, weight: NDArray[np.float64], b: View) -> View:
    """``W_s B_s`` for a stack of matrices W_s: a convolution in which each matrix is a group."""
    if len(b.shape) < 2 or weight.shape[-1] != b.shape[-2]:
        msg = f"the inner dimensions of {weight.shape} and {b.shape} differ"
        raise ValueError(msg)
    stack = np.broadcast_shapes(weight.shape[:-2], b.shape[:-2])
    rows, inner, columns = weight.shape[-2], *b.shape[-2:]
    groups = math.prod(stack)
    check_size((groups, rows, inner))
    kernel = np.broadcast_to(weight, (*stack, rows, inner)).reshape(groups * rows, inner, 1).copy()
    product = Conv(kernel, (groups * inner, columns), (groups * rows, columns), (1,), ((0, 0),), (1,), groups)
    spread = broadcast(trace, b, (*stack, inner, columns))
    flat = trace.affine([(trace.plain(spread), product)], (groups * rows, columns))
    return trace.rearranged(flat, lambda t: t.reshape(*stack, rows, columns))


def _times_right(trace: Trace, a: View, weight: NDArray[np.float64]) -> View:
    """``A W`` for A of shape ``(rows, k)`` and W of shape ``(k, m)``."""
    rows, inner = a.shape
    if weight.shape[0] != inner:
        msg = f"the inner dimensions {inner} and {weight.shape[0]} differ"
        raise ValueError(msg)
    if rows == 1:
        return trace.multiplied(np.ascontiguousarray(weight.T), a, (1, weight.shape[1]))
    turned = _times_left(trace, weight.T, trace.rearranged(a, np.transpose))
    return trace.rearranged(turned, np.transpose)


def _times_left(trace: Trace, weight: NDArray[np.float64], b: View) -> View:
    """``W B`` for W of shape ``(m, k)`` and B of shape ``(k, columns)``: a convolution with a kernel of one entry."""
    inner, columns = b.shape
    if weight.shape[1] != inner:
        msg = f"the inner dimensions {weight.shape[1]} and {inner} differ"
        raise ValueError(msg)
    out = weight.shape[0]
    if columns == 1:
        return trace.multiplied(np.ascontiguousarray(weight), b, (out, 1))
    kernel = np.ascontiguousarray(weight)[:, :, None]
    product = Conv(kernel, (inner, columns), (out, columns), (1,), ((0, 0),), (1,))
    return trace.affine([(trace.plain(b), product)], (out, columns))


@operator("BatchNormalization", "epsilon", "momentum", "spatial", "is_test", "training_mode")
def _batch_normalization(trace: Trace, call: Call) -> Tensor:
    """Affine, with the stored statistics; scale and offset are rounded to float64.

    Refused: training mode; ``spatial = 0``; a variance plus epsilon that is not positive.
    """
    value = call.view(0)
    if call.attributes.get("training_mode", 0):
        call.refuse("it is in training mode; export the network for inference")
    if call.attributes.get("spatial", 1) != 1:
        call.refuse("spatial = 0 (statistics for each entry) is not supported; 1 is")
    scale, bias, mean, variance = (
        call.weights(i, what) for i, what in enumerate(("scale", "bias", "mean", "variance"), start=1)
    )
    spread = variance + float(call.attributes.get("epsilon", np.float32(1e-5)))
    if (spread <= 0).any():
        call.refuse("a variance plus epsilon is not positive")
    factors = scale / np.sqrt(spread)
    offsets = bias - mean * factors
    trace.note(f"weights rounded to float64 at BatchNormalization node {call.name!r}")
    channels = (-1, *[1] * (len(value.shape) - 2))
    return trace.shifted(trace.scaled(value, factors.reshape(channels)), offsets.reshape(channels))
