"""Activations and maxima, as sums of affine maps and ReLUs."""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import NDArray

from networks.graph import Identity, Scale
from networks.operators.arithmetic import aligned
from networks.operators.registry import Call, operator
from networks.tracing import Tensor, Trace, View

__all__: list[str] = []


@operator("Relu")
def _relu(trace: Trace, call: Call) -> Tensor:
    """Itself."""
    return trace.relu(call.view(0))


@operator("LeakyRelu", "alpha")
def _leaky_relu(trace: Trace, call: Call) -> Tensor:
    """``a x + (1 - a) relu(x)``, for any slope a."""
    return _leaky(trace, call.view(0), np.float64(call.attributes.get("alpha", np.float64(np.float32(0.01)))))


@operator("PRelu")
def _prelu(trace: Trace, call: Call) -> Tensor:
    """``a x + (1 - a) relu(x)`` with constant slopes a, which broadcast.

    Refused: slopes that depend on the input.
    """
    return _leaky(trace, call.view(0), call.weights(1, "slope"))


def _leaky(trace: Trace, x: View, slope: NDArray[np.float64] | np.float64) -> View:
    """``a x + (1 - a) relu(x)``; where ``1 - a`` would round, ``a x + relu(x) - a relu(x)``, which is the same."""
    a = np.broadcast_to(slope, x.shape).astype(np.float64).reshape(-1)
    source = trace.plain(x)
    positive = trace.plain(trace.relu(View(source, x.shape)))
    rest = 1.0 - a
    # By Sterbenz's lemma 1 - fl(1 - a) is exact where |a| <= 1, so the equality proves that fl(1 - a) is, too.
    exact = bool((np.abs(a) <= 1).all()) and bool(((1.0 - rest) == a).all())
    if exact:
        return trace.affine([(source, Scale(a)), (positive, Scale(rest))], x.shape)
    return trace.affine([(source, Scale(a)), (positive, Identity(a.size)), (positive, Scale(-a))], x.shape)


@operator("Abs")
def _abs(trace: Trace, call: Call) -> Tensor:
    """``relu(x) + relu(-x)``."""
    x = call.view(0)
    positive = trace.relu(x)
    negative = trace.relu(trace.affine([trace.negated(x)], x.shape))
    return trace.affine([trace.term(positive), trace.term(negative)], x.shape)


@operator("Clip", "min", "max")
def _clip(trace: Trace, call: Call) -> Tensor:
    """``lo + relu(x - lo) - relu(x - hi)``: ReLU6 and hard tanh among others; bounds may be left out or infinite.

    Refused: bounds that depend on the input, are NaN, or are out of order.
    """
    x = call.view(0)
    low, high = _clip_bound(call, 1, "min"), _clip_bound(call, 2, "max")
    if low is not None and high is not None and low > high:
        call.refuse(f"its minimum {low:g} is above its maximum {high:g}")
    value = x
    if low is not None:
        excess = trace.relu(trace.shifted(x, -low) if low else x)
        value = trace.affine([trace.term(excess)], x.shape, low) if low else excess
    if high is not None:
        excess = trace.relu(trace.shifted(x, -high) if high else x)
        value = trace.affine([trace.term(value), trace.negated(excess)], x.shape)
    return value


def _clip_bound(call: Call, i: int, name: str) -> float | None:
    """A bound, or None where it does not bind: absent, infinite, or the default of old operator sets."""
    if name in call.attributes:
        bound = float(call.attributes[name])
    elif call.input(i) is not None:
        bound = float(call.constant(i, name).astype(np.float64).reshape(()))
    else:
        return None
    if np.isnan(bound):
        call.refuse(f"its {name} is NaN")
    return None if abs(bound) >= float(np.finfo(np.float32).max) else bound


@operator("HardSigmoid", "alpha", "beta")
def _hard_sigmoid(trace: Trace, call: Call) -> Tensor:
    """``relu(z) - relu(z - 1)`` for ``z = alpha x + beta``."""
    x = call.view(0)
    alpha, beta = (np.float64(call.attributes.get(k, np.float32(v))) for k, v in (("alpha", 0.2), ("beta", 0.5)))
    z = trace.shifted(trace.scaled(x, alpha), beta)
    over = trace.relu(trace.shifted(z, -1.0))
    return trace.affine([trace.term(trace.relu(z)), trace.negated(over)], x.shape)


@operator("Shrink", "bias", "lambd")
def _shrink(trace: Trace, call: Call) -> Tensor:
    """``relu(x - a) - relu(-x - a)``, the soft shrinkage, for ``a = lambd = bias``.

    Refused: ``lambd`` and ``bias`` that differ, where it jumps; a negative ``lambd``.
    """
    x = call.view(0)
    threshold = np.float64(call.attributes.get("lambd", 0.5))
    if threshold < 0 or np.float64(call.attributes.get("bias", 0.0)) != threshold:
        call.refuse("it is continuous only where bias equals lambd, which must not be negative")
    above = trace.relu(trace.shifted(x, -threshold))
    below = trace.relu(trace.affine([trace.negated(x)], x.shape, -threshold))
    return trace.affine([trace.term(above), trace.negated(below)], x.shape)


@operator("Sign")
def _sign(_: Trace, call: Call) -> Tensor:
    """Computed while loading, of a constant.

    Refused: the sign of what depends on the input, which jumps at 0, while affine maps and ReLUs are continuous.
    """
    value = call.required(0)
    if isinstance(value, View):
        call.refuse(
            "it depends on the input and jumps at 0, while affine maps and ReLUs are continuous; train with Clip (hard "
            "tanh) in its place"
        )
    return np.sign(value)


@operator("Max")
def _max(trace: Trace, call: Call) -> Tensor:
    """``b + relu(a - b)``, for any number of paths and constants, one after the other; all broadcast."""

    def larger(a: Tensor, b: Tensor) -> Tensor:
        if isinstance(a, View) and isinstance(b, View):
            return trace.maximum(a, b)
        if isinstance(a, View):
            assert isinstance(b, np.ndarray)
            c = call.finite(b, "constant")
            excess = trace.relu(trace.shifted(a, -c))
            return trace.affine([trace.term(excess)], a.shape, c)
        return larger(b, a) if isinstance(b, View) else np.maximum(a, b)

    return reduce(larger, aligned(trace, *(call.required(i) for i in range(len(call.inputs)))))


@operator("Min")
def _min(trace: Trace, call: Call) -> Tensor:
    """``a - relu(a - b)``, for any number of paths and constants, one after the other; all broadcast."""

    def smaller(a: Tensor, b: Tensor) -> Tensor:
        if isinstance(a, View) and isinstance(b, View):
            excess = trace.relu(trace.affine([trace.term(a), trace.negated(b)], a.shape))
            return trace.affine([trace.term(a), trace.negated(excess)], a.shape)
        if isinstance(a, View):
            assert isinstance(b, np.ndarray)
            c = call.finite(b, "constant")
            excess = trace.relu(trace.shifted(a, -c))
            return trace.affine([trace.term(a), trace.negated(excess)], a.shape)
        return smaller(b, a) if isinstance(b, View) else np.minimum(a, b)

    return reduce(smaller, aligned(trace, *(call.required(i) for i in range(len(call.inputs)))))
