"""A network in a few numbers, for people and for the service."""

from __future__ import annotations

import math
from typing import Any

from networks.graph import AffineNode, Conv, ConvTranspose, Dense, InputNode, LinearMap, Network, Node, Scale

__all__ = ["summarise"]


def summarise(network: Network) -> dict[str, Any]:
    """What ``netproof info`` shows, as JSON values.

    Keys: ``name``, ``sha256``, ``input_shape``, ``output_shape``, ``inputs``, ``outputs``, ``relus`` and ``parameters``
    (numbers of single ones), ``notes``, and ``layers``: for every canonical node its ``kind``, ``name``, ``shape``,
    ``parents`` (indices of layers) and number of ``parameters``.
    """
    return {
        "name": network.name,
        "sha256": network.sha256,
        "input_shape": list(network.input_shape),
        "output_shape": list(network.output_shape),
        "inputs": network.inputs,
        "outputs": network.outputs,
        "relus": network.relus,
        "parameters": network.parameters,
        "layers": [_layer(node) for node in network.nodes],
        "notes": list(network.notes),
    }


def _layer(node: Node) -> dict[str, Any]:
    layer: dict[str, Any] = {
        "kind": "input",
        "name": node.name,
        "shape": list(node.shape),
        "parents": [],
        "parameters": 0,
    }
    if isinstance(node, InputNode):
        return layer
    layer |= {"kind": "relu", "parents": list(node.parents)}
    if isinstance(node, AffineNode):
        layer["kind"] = " + ".join(dict.fromkeys(type(linear).__name__.lower() for _, linear in node.terms))
        layer["parameters"] = node.features + sum(_weights(linear) for _, linear in node.terms)
    return layer


def _weights(linear: LinearMap) -> int:
    match linear:
        case Dense() | Conv() | ConvTranspose():
            return math.prod(linear.weight.shape)
        case Scale():
            return linear.out_features
        case _:
            return 0
