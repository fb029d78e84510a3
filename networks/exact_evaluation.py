"""A network's value in exact arithmetic: the rational numbers that its stored weights and an input imply.

Every weight is dyadic, an integer times a power of two. An input with other denominators is scaled to integers, and all
biases with it: ReLUs commute with positive factors. Integers are cut into digits of so few bits that float64 matrix
products of digits are exact: a sum of n products of two signed digits of b bits is below 2^53 when 2 b + log2 n ≤ 53.
Digits of the values are a batch, so that each digit of the weights takes one product (`networks.evaluation.apply`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from networks.errors import NetworkShapeError
from networks.evaluation import apply
from networks.graph import AffineNode, Conv, ConvTranspose, Dense, Gather, Identity, LinearMap, Network, ReluNode, Scale

__all__ = ["evaluate_exactly"]

Array: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[Any]
"""Object arrays of Python integers."""


def evaluate_exactly(network: Network, x: ArrayLike | tuple[Fraction, ...]) -> list[Fraction]:
    """The outputs at one input, exactly, for the stored weights.

    Args:
        network: any canonical network; its weights must be finite.
        x: finite float32 or float64 numbers, or a tuple of rationals; as many as the network has inputs.

    Raises:
        NetworkShapeError: ``x`` does not have the network's number of inputs.
    """
    if isinstance(x, tuple):
        scale = math.lcm(*(v.denominator for v in x))
        point = _integral(x, scale)
    else:
        scale = 1
        point = _dyadic(np.asarray(x, dtype=np.float64).reshape(-1))
    if len(point[0]) != network.inputs:
        msg = f"{network.inputs} inputs are needed, got {len(point[0])}"
        raise NetworkShapeError(msg)
    values = [point]  # of each node, ``scale`` times as large
    for node in network.nodes[1:]:
        if isinstance(node, ReluNode):
            integers, exponent = values[node.parent]
            values.append((np.maximum(integers, 0), exponent))
        else:
            assert isinstance(node, AffineNode)
            bias, exponent = _dyadic(node.bias)
            parts = [(bias * scale, exponent), *(_apply(linear, *values[parent]) for parent, linear in node.terms)]
            values.append(_sum(parts))
    integers, exponent = values[-1]
    return [v * Fraction(2) ** exponent / scale for v in integers.tolist()]


def _integral(x: Sequence[Fraction], scale: int) -> tuple[Integers, int]:
    """``scale · x``, which must be integers, and the exponent 0."""
    return np.array([v.numerator * (scale // v.denominator) for v in x], dtype=object), 0


def _dyadic(values: Array) -> tuple[Integers, int]:
    """Integers and one exponent e with ``values = integers · 2^e``."""
    mantissa, exponent = np.frexp(values)
    low = int(exponent[values != 0].min(initial=2000))
    integers = (mantissa * 2.0**53).astype(np.int64).astype(object)
    return integers << np.where(values != 0, exponent - low, 0).astype(object), low - 53


def _sum(parts: list[tuple[Integers, int]]) -> tuple[Integers, int]:
    low = min(exponent for _, exponent in parts)
    total = sum((integers << (exponent - low) for integers, exponent in parts), start=parts[0][0] * 0)
    # Common factors of two would grow from layer to layer.
    spare = min(((v & -v).bit_length() - 1 for v in total.tolist() if v), default=0)
    return total >> spare, low + spare


def _apply(linear: LinearMap, integers: Integers, exponent: int) -> tuple[Integers, int]:
    """``L h`` for ``h = integers · 2^exponent``."""
    match linear:
        case Identity():
            return integers, exponent
        case Gather():
            return np.where(linear.indices < 0, 0, integers[linear.indices]), exponent
        case Scale():
            factors, own = _dyadic(linear.factors)
            return integers * factors, exponent + own
    bits = (53 - _summands(linear).bit_length()) // 2
    digits = _digits(integers, bits)
    weights, own = _weight_digits(linear.weight, bits)
    products = np.zeros((len(digits) + len(weights) - 1, linear.out_features), np.int64)
    for k, weight in enumerate(weights):
        products[k : k + len(digits)] += apply(dataclasses.replace(linear, weight=weight), digits).astype(np.int64)
    total = sum((row.astype(object) << (k * bits) for k, row in enumerate(products)), start=products[0] * 0)
    return total, exponent + own


def _summands(linear: Dense | Conv | ConvTranspose) -> int:
    """At least the number of products in one entry."""
    return int(max(linear.weight.shape[:2])) * math.prod(linear.weight.shape[2:])


def _digits(integers: Integers, bits: int) -> Array:
    """Rows of digits, least first: ``integers = Σ_i digits[i] · 2^(bits·i)``, each below 2^bits in magnitude."""
    magnitude, sign = np.abs(integers), np.sign(integers).astype(np.float64)
    length = max(v.bit_length() for v in magnitude.tolist())
    mask = 2**bits - 1
    shifts = range(0, max(length, 1), bits)
    return np.stack([((magnitude >> shift) & mask).astype(np.float64) * sign for shift in shifts])


def _weight_digits(weight: Array, bits: int) -> tuple[list[Array], int]:
    """Digits, least first, and the exponent e with ``weight = Σ_k digits[k] · 2^(bits·k + e)``."""
    mantissa, exponent = np.frexp(weight[weight != 0])
    if not len(mantissa):
        return [weight], 0
    integers = (mantissa * 2.0**53).astype(np.int64)
    low = int((exponent - 54 + np.frexp((integers & -integers).astype(np.float64))[1]).min())
    digits, rest = [], weight
    for k in reversed(range(-(-(int(exponent.max()) - low) // bits))):
        digits.append(np.trunc(np.ldexp(rest, -(low + k * bits))))
        rest = rest - np.ldexp(digits[-1], low + k * bits)
    return digits[::-1], low
