"""Operators whose outputs are constants: they are evaluated while loading."""

from __future__ import annotations

from typing import Any

import numpy as np

from networks.operators.registry import Call, operator
from networks.tracing import Tensor, Trace, check_size

__all__: list[str] = []

_SCALARS: dict[str, Any] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


@operator("Constant", "value", *_SCALARS)
def _constant(trace: Trace, call: Call) -> Tensor:
    if "value" in call.attributes:
        return np.asarray(call.attributes["value"])
    for name, dtype in _SCALARS.items():
        if name in call.attributes:
            return np.asarray(call.attributes[name], dtype)
    raise call.refusal("it has none of the attributes value, value_float, value_floats, value_int, value_ints")


@operator("ConstantOfShape", "value")
def _constant_of_shape(trace: Trace, call: Call) -> Tensor:
    shape = tuple(int(d) for d in call.constant(0, "shape").reshape(-1))
    check_size(shape)
    value = np.asarray(call.attributes.get("value", np.zeros(1, np.float32)))
    return np.full(shape, value.reshape(-1)[0], value.dtype)


@operator("Shape", "start", "end")
def _shape(trace: Trace, call: Call) -> Tensor:
    shape = call.required(0).shape
    return np.asarray(shape[slice(call.attributes.get("start"), call.attributes.get("end"))], np.int64)
