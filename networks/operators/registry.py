"""The table of rewrite rules: one for each ONNX operator that is supported."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from networks.errors import NonFiniteWeightError, UnsupportedOperatorError
from networks.tracing import Constant, Tensor, Trace, View

__all__ = ["ADVICE", "Call", "Operator", "Rule", "advice", "folded", "operator", "supported"]

_ACTIVATIONS = "only piecewise linear activations are exact: train with Relu, LeakyRelu, PRelu, HardSigmoid or Clip"

ADVICE: dict[tuple[str, ...], str] = {
    ("Erf", "Gelu"): f"GELU computes with it; {_ACTIVATIONS}",
    (
        "Sigmoid",
    ): f"SiLU computes with it, too; at the end, leave it out, as it keeps the order of scores; {_ACTIVATIONS}",
    (
        "Celu",
        "Elu",
        "Exp",
        "HardSwish",
        "Log",
        "Mish",
        "Selu",
        "Softplus",
        "Softsign",
        "Swish",
        "Tanh",
    ): _ACTIVATIONS,
    ("Softmax", "LogSoftmax"): "it is only supported at the end, where the logits decide",
    ("ArgMax", "ArgMin", "TopK", "Hardmax"): "end the network with its scores; properties compare those",
    ("InstanceNormalization", "GroupNormalization", "LayerNormalization", "LRN", "LpNormalization"): (
        "it divides by statistics of the input, which is not piecewise linear; BatchNormalization is affine"
    ),
    ("ThresholdedRelu", "Round", "Floor", "Ceil"): "it jumps, while affine maps and ReLUs are continuous",
    ("GRU", "LSTM", "RNN"): "recurrent layers multiply paths or use sigmoids; unroll a network of Gemm and Relu",
    ("If", "Loop", "Scan"): "export the network without control flow",
    (
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    ): "it rounds to integers, which jumps; export the network before quantisation",
}
"""What to do about operators that people often bring and that have no rule."""


@dataclass(frozen=True, slots=True)
class Call:
    """One node of the ONNX graph, its inputs resolved.

    Attributes:
        op, name, opset: operator, the node's name (its first output where it has none), version of the operator set.
        inputs: tensors; None where an optional input was left out.
        attributes: by name, as Python values; tensors as arrays.
        outputs: number of outputs that the node declares.
    """

    op: str
    name: str
    opset: int
    inputs: tuple[Tensor | None, ...]
    attributes: Mapping[str, Any]
    outputs: int = 1

    def input(self, i: int) -> Tensor | None:
        """Input ``i``, or None where it was left out."""
        return self.inputs[i] if i < len(self.inputs) else None

    def required(self, i: int) -> Tensor:
        """Input ``i``.

        Raises:
            UnsupportedOperatorError: it was left out.
        """
        value = self.input(i)
        if value is None:
            self.refuse(f"its input {i} is missing")
        return value

    def view(self, i: int) -> View:
        """Input ``i``, which must depend on the network's input."""
        value = self.required(i)
        if not isinstance(value, View):
            self.refuse(f"its input {i} is a constant; it must depend on the network's input")
        return value

    def constant(self, i: int, what: str) -> Constant:
        """Input ``i``, which must be a constant."""
        value = self.required(i)
        if isinstance(value, View):
            self.refuse(f"its {what} (input {i}) depends on the network's input; it must be a constant")
        return value

    def weights(self, i: int, what: str) -> NDArray[np.float64]:
        """Input ``i`` as finite float64 weights; the conversion is exact.

        Raises:
            NonFiniteWeightError: NaN or infinity among them.
        """
        return self.finite(self.constant(i, what), what)

    def finite(self, value: Constant, what: str) -> NDArray[np.float64]:
        """The constant in float64, refused unless it is finite."""
        if value.dtype.kind not in "fiu" or value.dtype.itemsize > 8:
            self.refuse(f"its {what} has element type {value.dtype}; float16, float32 or float64 is needed")
        out = value.astype(np.float64)
        if not np.isfinite(out).all():
            bad = np.unravel_index(int(np.flatnonzero(~np.isfinite(out))[0]), out.shape) if out.shape else ()
            place = [int(b) for b in bad]
            msg = f"{self.where}: its {what} holds {out[bad]} at index {place}; all weights must be finite"
            raise NonFiniteWeightError(msg)
        return out

    def integers(self, i: int, attribute: str, default: list[int] | None = None) -> list[int] | None:
        """Integers that older operator sets keep in an attribute and newer ones in constant input ``i``."""
        if attribute in self.attributes:
            return [int(v) for v in self.attributes[attribute]]
        value = self.input(i)
        if value is None:
            return default
        return [int(v) for v in self.constant(i, attribute).reshape(-1)]

    @property
    def where(self) -> str:
        """The node, op, opset and input shapes, for messages."""
        shapes = ", ".join("none" if t is None else str(tuple(t.shape)) for t in self.inputs)
        return f"node {self.name!r} ({self.op}, opset {self.opset}, input shapes {shapes or 'none'})"

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error that names this node and says why it is not supported.

        Raises:
            UnsupportedOperatorError: always.
        """
        shape = next((t.shape for t in self.inputs if isinstance(t, View)), None)
        msg = f"{self.where} is not supported: {reason}"
        raise UnsupportedOperatorError(msg, node=self.name, op=self.op, opset=self.opset, shape=shape)


Rule: TypeAlias = Callable[[Trace, Call], Tensor | list[Tensor]]


@dataclass(frozen=True, slots=True)
class Operator:
    """A rewrite rule, and the attributes that it understands; any other attribute is refused.

    ``text`` says how the rule rewrites, and after "Refused:" what it leaves; `networks.supported` shows it to users.
    """

    rule: Rule
    attributes: frozenset[str]
    text: str


_OPERATORS: dict[str, Operator] = {}


def operator(op: str, *attributes: str, text: str = "") -> Callable[[Rule], Rule]:
    """Register the decorated function as the rewrite rule of ``op``; ``text`` is by default its docstring."""

    def register(rule: Rule) -> Rule:
        assert op not in _OPERATORS
        _OPERATORS[op] = Operator(rule, frozenset(attributes), text or inspect.getdoc(rule) or "")
        return rule

    return register


def folded(trace: Trace, call: Call, function: Callable[..., Any], *tensors: Constant) -> Constant:
    """Arithmetic on constants: integers (shapes) exactly, weights in float64, with a note."""
    if all(t.dtype.kind in "iub" for t in tensors):
        return np.asarray(function(*(t.astype(np.int64) for t in tensors)))
    trace.note(f"constants computed in float64 at {call.op} node {call.name!r}")
    return np.asarray(function(*(call.finite(t, "constant") for t in tensors)))


def advice(op: str) -> str:
    """What a user can do about an operator without a rule."""
    return next((text for ops, text in ADVICE.items() if op in ops), "replace it by supported operators")


def supported() -> Mapping[str, Operator]:
    """The rules by operator."""
    return _OPERATORS
