"""Our reading of a network against ONNX Runtime's, on sampled inputs.

ONNX Runtime computes in float32, so the two differ by rounding, and how much depends on the network: cancellation
between huge weights can leave no correct digit. The tolerance is therefore measured on the network itself. Each affine
node's value ``z = Σ L h + b``, computed in float32 with n summands in any order, is off by at most
``γ_n (Σ |L| |h| + |b|)`` with ``γ_n ≈ n 2⁻²⁴``. We evaluate the network in float64 with every node displaced by that
much, upwards, downwards and in random directions, and allow a multiple of how far the outputs move. This lets through
what rounding can explain and still refuses a transposed weight or a forgotten pad in a deep network, where the worst
case over all directions would allow anything.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.errors import NetworkError
from networks.evaluation import apply, evaluate
from networks.graph import AffineNode, Conv, ConvTranspose, Dense, InputNode, LinearMap, Network, ReluNode
from networks.runtime import onnx_runtime

__all__ = ["compare_with_runtime"]

Array = NDArray[np.float64]

_UNIT = 2.0**-24
_TINY = 2.0**-126
"""Smaller products may be flushed to zero."""
_BATCH_ENTRIES = 2**22
"""Samples are evaluated together as long as all their values have at most so many entries."""
_SAMPLES = ("uniform", "normal", "zeros", "ones", "uniform", "normal", "uniform", "normal")
_FEWEST = 2
_SAMPLED_ENTRIES = 2**25
"""Huge networks are compared on the first few samples only, so that the values of all have about so many entries."""

_SLACK = 8.0
_DIRECTIONS = (-1.0, None, None, None, 1.0)
"""Of the displacements: downwards, three at random, upwards; huge networks have the last two."""


def compare_with_runtime(network: Network, seed: int = 0) -> None:
    """Refuse a network whose model computes something else in ONNX Runtime.

    Raises:
        NetworkError: ONNX Runtime does not accept the model, or its outputs differ by more than float32 rounding
            explains.
    """
    rng = np.random.default_rng(seed)
    x = _samples(network, rng)
    theirs = _runtime_outputs(network, x)
    parts = 1 + len(x) * sum(node.features for node in network.nodes) // _BATCH_ENTRIES
    for rows in np.array_split(np.arange(len(x)), min(parts, len(x))):
        _compare(network, x[rows], theirs[rows], rng)


def _compare(network: Network, x: NDArray[np.float32], theirs: Array, rng: np.random.Generator) -> None:
    ours = evaluate(network, x)
    if theirs.shape != ours.shape:
        msg = f"the network was read with {ours.shape[1]} outputs, but ONNX Runtime computes {theirs.shape[1]}"
        raise NetworkError(msg)
    # Samples that overflow give infinities and NaN; they are allowed anything.
    with np.errstate(all="ignore"):
        allowed = _tolerance(network, x, ours, rng)
        if network.stripped:
            # Softmax moves by at most half, LogSoftmax by at most twice of what its inputs move.
            top = ours - ours.max(axis=1, keepdims=True)
            ours = top - np.log(np.exp(top).sum(axis=1, keepdims=True))
            ours = np.exp(ours) if network.stripped == "Softmax" else ours
            allowed = 2 * allowed.max(axis=1, keepdims=True) + 64 * len(network.nodes) * _UNIT * (1 + np.abs(ours))
        wrong = ~(np.abs(theirs - ours) <= allowed) & np.isfinite(allowed)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        msg = (
            f"the network was read differently from ONNX Runtime: output {column} is {ours[row, column]:.9g} here and "
            f"{theirs[row, column]:.9g} there on a sampled input, but rounding explains only "
            f"{allowed[row, column]:.3g}; please report this network"
        )
        raise NetworkError(msg)


def _samples(network: Network, rng: np.random.Generator) -> NDArray[np.float32]:
    """Uniform inputs on [0, 1], normal ones, zeros and ones, shape ``(samples, inputs)``."""
    entries = sum(node.features for node in network.nodes)
    out = np.zeros((max(_FEWEST, min(len(_SAMPLES), _SAMPLED_ENTRIES // entries)), network.inputs), np.float32)
    for row, kind in zip(out, _SAMPLES, strict=False):
        match kind:
            case "uniform":
                rng.random(out=row, dtype=np.float32)
            case "normal":
                rng.standard_normal(out=row, dtype=np.float32)
            case "ones":
                row.fill(1.0)
    return out


def _runtime_outputs(network: Network, x: NDArray[np.float32]) -> Array:
    ort = onnx_runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(
            network.model, options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
        (source,) = session.get_inputs()
        points = x.astype(np.float64 if source.type == "tensor(double)" else np.float32)
        shape = [d if isinstance(d, int) and d > 0 else 1 for d in source.shape]
        rows: list[Any] = [session.run(None, {source.name: row.reshape(shape)})[0] for row in points]
    except Exception as error:  # ONNX Runtime's errors share no base class but this
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"ONNX Runtime does not run this network: {first}"
        if "NOT_IMPLEMENTED" in first:
            msg += "; it lacks many operators in float64: export the network in float32 (in torch, of module.float())"
        raise NetworkError(msg) from error
    return np.stack([np.asarray(row, dtype=np.float64).reshape(-1) for row in rows])


def _tolerance(network: Network, x: NDArray[np.float32], ours: Array, rng: np.random.Generator) -> Array:
    """How far float32 rounding may move each output, shape ``(B, outputs)``."""
    moved = np.zeros_like(ours)
    overflow = np.zeros(len(x), dtype=bool)
    entries = sum(node.features for node in network.nodes)
    for direction in _DIRECTIONS if _FEWEST * entries <= _BATCH_ENTRIES else _DIRECTIONS[-2:]:
        displaced, largest, own = _displaced(network, x, direction, rng)
        # Displacements of two layers may cancel in every direction; the output's own is always possible.
        moved = np.maximum(moved, np.maximum(np.abs(displaced - ours), own))
        overflow |= ~(largest < float(np.finfo(np.float32).max) / 4)
    allowed = _SLACK * moved
    # Where float32 overflows, its outputs say nothing about our reading.
    allowed[overflow] = np.inf
    return allowed


def _displaced(
    network: Network, x: NDArray[np.float32], direction: float | None, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Outputs with every affine node displaced by its float32 rounding bound; each sample's largest magnitude; and the
    outputs' own rounding bound.
    """
    values: list[Array] = []
    largest = np.zeros(len(x))
    output = network.nodes[-1]
    last = output.parent if isinstance(output, ReluNode) else len(network.nodes) - 1
    own = np.zeros((len(x), output.features))
    for index, node in enumerate(network.nodes):
        if isinstance(node, InputNode):
            values.append(x.astype(np.float64))
        elif isinstance(node, AffineNode):
            value = np.broadcast_to(node.bias, (len(x), node.features))
            size = np.broadcast_to(np.abs(node.bias), value.shape)
            for parent, linear in node.terms:
                value = value + apply(linear, values[parent])
                size = size + apply(linear, np.abs(values[parent]), absolute=True)
            summands = sum(_fan_in(linear) for _, linear in node.terms) + 2
            signs = 1 - 2 * rng.integers(0, 2, value.shape, np.int8) if direction is None else direction
            bound = summands * (_UNIT * size + _TINY)
            own = bound if index == last else own
            values.append(value + signs * bound)
            largest = np.maximum(largest, size.max(axis=1, initial=0.0))
        else:
            values.append(np.maximum(values[node.parent], 0.0))
    return values[-1], largest, own


def _fan_in(linear: LinearMap) -> int:
    match linear:
        case Dense():
            return linear.in_features
        case Conv():
            return int(math.prod(linear.weight.shape[1:]))
        case ConvTranspose():
            return int(math.prod(linear.weight.shape[2:]) * linear.weight.shape[0] // linear.groups)
        case _:
            return 1
