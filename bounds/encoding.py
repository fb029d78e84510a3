"""Values of the network as linear forms over its input and its unstable ReLUs.

With the stable ReLUs substituted away (an active one passes its input on, an inactive one is zero), every
pre-activation and every output is a linear form of the input x and of the outputs of earlier *unstable* ReLUs. LP and
MILP models have one row for each form that they need, and one variable for each input and unstable ReLU.

Soundness. The coefficients are computed in float64 and rounded; models built from them claim nothing rigorous. What
an LP finds is turned into a proof by `bounds.lower_bounds`, which works on the network itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from bounds.enclosure import Enclosure
from bounds.program import Affine, program
from networks.graph import Network

__all__ = ["Encoding", "encode", "encode_rows"]


@dataclass(frozen=True, eq=False)
class Encoding:
    """R linear forms ``inputs · x + Σ_node relus[node] · h_unstable(node) + constant``.

    Attributes:
        inputs: shape ``(R, inputs)``, float64.
        relus: for each ReLU node that occurs, coefficients of its unstable ReLUs in index order, shape ``(R, k)``.
        constant: shape ``(R,)``.
    """

    inputs: NDArray[np.float64]
    relus: Mapping[int, NDArray[np.float64]]
    constant: NDArray[np.float64]


def encode(network: Network, enclosure: Enclosure, C: ArrayLike, node: int = -1) -> Encoding:
    """``C · h_node`` as linear forms.

    Args:
        network: the network.
        enclosure: decides which ReLUs are stable; must cover every ReLU node before ``node``.
        C: rows of shape ``(R, features of node)``.
        node: index into ``network.nodes``; the output by default.
    """
    compiled = program(network)
    last = node % len(compiled.steps)
    pending = {last: torch.as_tensor(np.asarray(C, dtype=np.float64))}
    rows = pending[last].shape[0]
    constant = torch.zeros(rows, dtype=torch.float64)
    relus: dict[int, NDArray[np.float64]] = {}
    for k in range(last, 0, -1):
        A = pending.pop(k, None)
        if A is None:
            continue
        step = compiled.steps[k]
        if isinstance(step, Affine):
            constant = constant + A @ step.bias
            passed = [(parent, op.adjoint(A)) for parent, op in zip(step.parents, step.operators, strict=True)]
        else:
            assert step is not None
            unstable = enclosure.unstable(k)
            if unstable.any():
                relus[k] = A[:, torch.as_tensor(unstable)].numpy()
            passed = [(step, A * torch.as_tensor(enclosure.active(k).astype(np.float64)))]
        for parent, part in passed:
            pending[parent] = pending[parent] + part if parent in pending else part
    inputs = pending.get(0)
    if inputs is None:
        inputs = torch.zeros((rows, network.inputs), dtype=torch.float64)
    return Encoding(inputs.numpy(), relus, constant.numpy())


def encode_rows(network: Network, enclosure: Enclosure, node: int, indices: ArrayLike) -> Encoding:
    """The entries ``indices`` of the value of ``node`` as linear forms, in that order."""
    chosen = np.asarray(indices, dtype=np.int64)
    C = np.zeros((len(chosen), network.nodes[node].features))
    C[np.arange(len(chosen)), chosen] = 1
    return encode(network, enclosure, C, node)
