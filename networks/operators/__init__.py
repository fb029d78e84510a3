"""Rewrite rules from ONNX operators to affine maps and ReLUs: one rule for each operator.

A rule takes the `Trace` that it appends canonical nodes to and the `Call` that it rewrites, and returns the output, or
a list of outputs. Rewriting is exact unless a rule leaves a note that says otherwise.
"""

from __future__ import annotations

from networks.operators import activations, arithmetic, constants, products, reductions, selection, shaping, windows
from networks.operators.registry import ADVICE, Call, Operator, Rule, advice, operator, supported

__all__ = [
    "ADVICE",
    "Call",
    "Operator",
    "Rule",
    "activations",
    "advice",
    "arithmetic",
    "constants",
    "operator",
    "products",
    "reductions",
    "selection",
    "shaping",
    "supported",
    "windows",
]
