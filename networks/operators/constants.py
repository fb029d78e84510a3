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
def _constant(_: Trace, call: Call) -> Tensor:
    if "value" in call.attributes:
        return np.asarray(call.attributes["value"])
    given = [name for name in _SCALARS if name in call.attributes]
    if not given:
        call.refuse(f"it has none of the attributes value, {', '.join(_SCALARS)}")
    return np.asarray(call.attributes[given[0]], _SCALARS[given[0]])


@operator("ConstantOfShape", "value")
def _constant_of_shape(_: Trace, call: Call) -> Tensor:
    shape = tuple(int(d) for d in call.constant(0, "shape").reshape(-1))
    check_size(shape)
    value = np.asarray(call.attributes.get("value", np.zeros(1, np.float32)))
    return np.full(shape, value.reshape(-1)[0], value.dtype)


@operator("Shape", "start", "end")
def _shape(_: Trace, call: Call) -> Tensor:
    shape = call.required(0).shape
    return np.asarray(shape[slice(call.attributes.get("start"), call.attributes.get("end"))], np.int64)
