"""Elementwise arithmetic: sums of paths, and sums and products with constants."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from networks.operators.registry import Call, folded, operator
from networks.tracing import Tensor, Trace, View, check_size

__all__ = ["aligned", "broadcast", "reciprocal"]


def broadcast(trace: Trace, value: View, shape: tuple[int, ...]) -> View:
    """The value repeated to ``shape``, by NumPy's rules, which are ONNX's."""
    check_size(shape)
    return value if value.shape == shape else trace.rearranged(value, lambda a: np.broadcast_to(a, shape))


def aligned(trace: Trace, *tensors: Tensor) -> list[Tensor]:
    """The tensors with views broadcast to their common shape; constants stay as they are."""
    shape = np.broadcast_shapes(*(t.shape for t in tensors))
    check_size(shape)
    return [broadcast(trace, t, shape) if isinstance(t, View) else t for t in tensors]


@operator("Add")
def _add(trace: Trace, call: Call) -> Tensor:
    """Affine, of two paths (a residual connection) or a path and a constant; both broadcast."""
    a, b = aligned(trace, call.required(0), call.required(1))
    if isinstance(a, View) and isinstance(b, View):
        return trace.affine([trace.term(a), trace.term(b)], a.shape)
    if isinstance(a, View):
        return trace.shifted(a, call.weights(1, "constant"))
    if isinstance(b, View):
        return trace.shifted(b, call.weights(0, "constant"))
    return folded(trace, call, np.add, a, b)


@operator("Sub")
def _sub(trace: Trace, call: Call) -> Tensor:
    """Affine, of two paths or a path and a constant; both broadcast."""
    a, b = aligned(trace, call.required(0), call.required(1))
    if isinstance(a, View) and isinstance(b, View):
        return trace.affine([trace.term(a), trace.negated(b)], a.shape)
    if isinstance(a, View):
        return trace.shifted(a, -call.weights(1, "constant"))
    if isinstance(b, View):
        return trace.affine([trace.negated(b)], b.shape, call.weights(0, "constant"))
    return folded(trace, call, np.subtract, a, b)


@operator("Neg")
def _neg(trace: Trace, call: Call) -> Tensor:
    """Affine."""
    value = call.required(0)
    if isinstance(value, View):
        return trace.affine([trace.negated(value)], value.shape)
    return np.negative(value)


@operator("Sum")
def _sum(trace: Trace, call: Call) -> Tensor:
    """Affine: one map with a term for each path, and the constants as its bias; all broadcast."""
    return _total(trace, call)


def _total(trace: Trace, call: Call) -> Tensor:
    tensors = aligned(trace, *(call.required(i) for i in range(len(call.inputs))))
    views = [t for t in tensors if isinstance(t, View)]
    constants = [t for t in tensors if not isinstance(t, View)]
    if not views:
        return folded(trace, call, lambda *parts: sum(parts[1:], start=parts[0]), *constants)
    if len(constants) > 1:
        trace.note(f"constants computed in float64 at Sum node {call.name!r}")
    bias = sum((call.finite(t, "constant") for t in constants), start=np.zeros(()))
    return trace.affine([trace.term(v) for v in views], views[0].shape, bias)


@operator("Mean")
def _mean(trace: Trace, call: Call) -> Tensor:
    """Affine: the sum of its inputs, divided by their number."""
    total = _total(trace, call)
    share = reciprocal(trace, call, np.array(float(len(call.inputs))))
    return trace.scaled(total, share) if isinstance(total, View) else call.finite(total, "sum") * share


@operator("Mul")
def _mul(trace: Trace, call: Call) -> Tensor:
    """Affine, of a path and a constant; both broadcast.

    Refused: the product of two paths.
    """
    a, b = aligned(trace, call.required(0), call.required(1))
    if isinstance(a, View) and isinstance(b, View):
        call.refuse("both factors depend on the input, so it is not piecewise linear")
    if isinstance(a, View):
        return trace.scaled(a, call.weights(1, "factor"))
    if isinstance(b, View):
        return trace.scaled(b, call.weights(0, "factor"))
    return folded(trace, call, np.multiply, a, b)


@operator("Div")
def _div(trace: Trace, call: Call) -> Tensor:
    """Affine: the product with the reciprocal of a constant, which rounds to float64 unless it is a power of two.

    Refused: a divisor that depends on the input, or is zero.
    """
    a, b = aligned(trace, call.required(0), call.required(1))
    if isinstance(b, View):
        call.refuse("the divisor depends on the input, so it is not piecewise linear")
    if isinstance(a, View):
        return trace.scaled(a, reciprocal(trace, call, call.weights(1, "divisor")))
    if not b.all():
        call.refuse("it divides constants by zero")
    if a.dtype.kind in "iu":
        # ONNX rounds integer quotients towards zero; these are computations with shapes.
        return np.trunc(np.divide(a, b)).astype(np.int64)
    return folded(trace, call, np.divide, a, b)


def reciprocal(trace: Trace, call: Call, divisor: NDArray[np.float64]) -> NDArray[np.float64]:
    """``1 / divisor`` in float64, with a note unless every divisor is a power of two."""
    with np.errstate(divide="ignore", over="ignore"):
        out = 1.0 / divisor
    if not np.isfinite(out).all():
        call.refuse("a divisor is zero, or too small for its reciprocal to be represented")
    if (np.abs(np.frexp(divisor)[0]) != 0.5).any():
        trace.note(f"weights rounded to float64 at {call.op} node {call.name!r} (division by a constant)")
    return out
