"""Matrix products with constant weights, and batch normalisation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from networks.graph import Conv
from networks.operators.arithmetic import broadcast
from networks.operators.registry import Call, operator
from networks.tracing import Tensor, Trace, View, check_size

__all__: list[str] = []


@operator("Gemm", "alpha", "beta", "transA", "transB", "broadcast")
def _gemm(trace: Trace, call: Call) -> Tensor:
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
    a, b = call.required(0), call.required(1)
    if isinstance(a, View) and isinstance(b, View):
        call.refuse("both factors depend on the input, so it is not piecewise linear")
    matrix = a.shape[-2:-1] + (b.shape[-1:] if len(b.shape) > 1 else ())
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + matrix
    check_size(shape)
    if not isinstance(a, View) and not isinstance(b, View):
        trace.note(f"constants computed in float64 at MatMul node {call.name!r}")
        return np.asarray(np.matmul(call.weights(0, "factor"), call.weights(1, "factor")))
    if isinstance(a, View):
        weight = _plain_matrix(call, 1, row=False)
        rows = trace.rearranged(a, lambda t: t.reshape(-1, t.shape[-1]))
        return trace.rearranged(_times_right(trace, rows, weight), lambda t: t.reshape(shape))
    assert isinstance(b, View)
    # A stack of matrices side by side is one matrix.
    weight = _plain_matrix(call, 0, row=True)
    inner, columns = (b.shape[-2], b.shape[-1]) if len(b.shape) > 1 else (b.shape[0], 1)
    aside = trace.rearranged(b, lambda t: np.moveaxis(t.reshape(-1, inner, columns), 1, 0).reshape(inner, -1))
    product = _times_left(trace, weight, aside)
    return trace.rearranged(product, lambda t: np.moveaxis(t.reshape(len(weight), -1, columns), 0, 1).reshape(shape))


def _plain_matrix(call: Call, i: int, *, row: bool) -> NDArray[np.float64]:
    weight = call.weights(i, "factor")
    if weight.ndim == 1:
        return weight.reshape((1, -1) if row else (-1, 1))
    if any(d != 1 for d in weight.shape[:-2]):
        call.refuse(f"the constant is a stack of matrices of shape {weight.shape}; only one is supported")
    return weight.reshape(weight.shape[-2:])


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
