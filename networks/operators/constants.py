"""Operators whose outputs are constants: they are evaluated while loading."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from networks.operators.registry import Call, Rule, folded, operator
from networks.tracing import Tensor, Trace, check_size

__all__: list[str] = []

_SCALARS: dict[str, Any] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


@operator("Constant", "value", *_SCALARS)
def _constant(_: Trace, call: Call) -> Tensor:
    """A constant.

    Refused: sparse tensors and strings.
    """
    if "value" in call.attributes:
        return np.asarray(call.attributes["value"])
    given = [name for name in _SCALARS if name in call.attributes]
    if not given:
        call.refuse(f"it has none of the attributes value, {', '.join(_SCALARS)}")
    return np.asarray(call.attributes[given[0]], _SCALARS[given[0]])


@operator("ConstantOfShape", "value")
def _constant_of_shape(_: Trace, call: Call) -> Tensor:
    """A constant.

    Refused: a shape that depends on the input.
    """
    shape = tuple(int(d) for d in call.constant(0, "shape").reshape(-1))
    check_size(shape)
    value = np.asarray(call.attributes.get("value", np.zeros(1, np.float32)))
    return np.full(shape, value.reshape(-1)[0], value.dtype)


@operator("Shape", "start", "end")
def _shape(_: Trace, call: Call) -> Tensor:
    """A constant: all shapes are fixed."""
    shape = call.required(0).shape
    return np.asarray(shape[slice(call.attributes.get("start"), call.attributes.get("end"))], np.int64)


@operator("Size")
def _size(_: Trace, call: Call) -> Tensor:
    """A constant: all shapes are fixed."""
    return np.asarray(math.prod(call.required(0).shape), np.int64)


@operator("Range")
def _range(_: Trace, call: Call) -> Tensor:
    """Computed while loading.

    Refused: limits that depend on the input.
    """
    start, limit, delta = (call.weights(i, what).item() for i, what in enumerate(("start", "limit", "delta")))
    if not delta:
        call.refuse("its delta is zero")
    check_size([max(math.ceil((limit - start) / delta), 0)])
    return np.arange(start, limit, delta, dtype=call.constant(0, "start").dtype)


_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "And": (2, np.logical_and),
    "Equal": (2, np.equal),
    "Greater": (2, np.greater),
    "GreaterOrEqual": (2, np.greater_equal),
    "Less": (2, np.less),
    "LessOrEqual": (2, np.less_equal),
    "Not": (1, np.logical_not),
    "Or": (2, np.logical_or),
    "Pow": (2, np.power),
    "Reciprocal": (1, np.reciprocal),
    "Sqrt": (1, np.sqrt),
}
"""Functions of constants, as in computations with shapes or a normalisation that was not folded."""


def _computed(operands: int, function: Callable[..., Any]) -> Rule:
    def rule(trace: Trace, call: Call) -> Tensor:
        return folded(trace, call, function, *(call.constant(i, "operand") for i in range(operands)))

    return rule


for _op, (_operands, _function) in _FUNCTIONS.items():
    operator(_op, text="Computed while loading, of constants.\n\nRefused: operands that depend on the input.")(
        _computed(_operands, _function)
    )
