"""The exact margin of a clause on a tiny network, by enumeration of activation patterns.

Independent of `bounds` and of the MILP: it shares only the affine maps of `networks.evaluation`.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from networks.evaluation import apply
from networks.graph import InputNode, Network, ReluNode
from networks.property import Clause
from networks.region import Region

__all__ = ["minimum_margin"]

Array = NDArray[np.float64]


def minimum_margin(network: Network, region: Region, clause: Clause) -> float:
    """The minimum of ``max_r (c_r·y + d_r)`` over the region, up to the LP solver's tolerance of about 1e-9.

    The network is affine on each cell of a fixed activation pattern, so its minimum is the least optimum of one LP for
    each pattern. Patterns are enumerated node by node; a neuron whose affine form has one sign on the whole box is
    not enumerated.
    """
    box = np.stack([region.lower, region.upper])
    return _explore(network, box, clause, [], np.zeros((0, network.inputs)), np.zeros(0))


def _explore(
    network: Network, box: Array, clause: Clause, forms: list[tuple[Array, Array]], A: Array, b: Array
) -> float:
    """The least margin on the cell ``A x ≤ b`` of the box; ``forms`` holds (matrix, constant) of the first nodes."""
    forms = list(forms)
    while len(forms) < len(network.nodes):
        node = network.nodes[len(forms)]
        if isinstance(node, InputNode):
            forms.append((np.eye(node.features), np.zeros(node.features)))
        elif isinstance(node, ReluNode):
            return _branch(network, box, clause, forms, A, b)
        else:
            matrix = sum(apply(linear, forms[parent][0].T).T for parent, linear in node.terms)
            shifts = sum(apply(linear, forms[parent][1][None])[0] for parent, linear in node.terms)
            forms.append((matrix, shifts + node.bias))
    W, c = forms[-1]
    rows, offsets = clause.matrix @ W, clause.matrix @ c + clause.offsets
    # min t subject to rows·x − t ≤ −offsets, A x ≤ b, x in the box
    ones = np.ones((len(rows), 1))
    result = linprog(
        np.append(np.zeros(network.inputs), 1.0),
        A_ub=np.block([[rows, -ones], [A, np.zeros((len(A), 1))]]),
        b_ub=np.append(-offsets, b),
        bounds=[*zip(*box, strict=True), (None, None)],
        method="highs",
    )
    assert result.status in {0, 2}, result.message
    return float(result.fun) if result.status == 0 else math.inf


def _branch(
    network: Network, box: Array, clause: Clause, forms: list[tuple[Array, Array]], A: Array, b: Array
) -> float:
    """The least margin over the phases of the ReLU node that comes next."""
    W, c = forms[network.nodes[len(forms)].parent]
    positive, negative = np.maximum(W, 0), np.minimum(W, 0)
    least = positive @ box[0] + negative @ box[1] + c
    most = positive @ box[1] + negative @ box[0] + c
    open_ = np.flatnonzero((least < 0) & (most > 0))
    best = math.inf
    for phases in itertools.product((False, True), repeat=len(open_)):
        active = least >= 0
        active[open_] = phases
        sign = np.where(phases, -1.0, 1.0)
        cell = np.concatenate([A, sign[:, None] * W[open_]]), np.concatenate([b, -sign * c[open_]])
        if _empty(box, *cell):
            continue
        kept = (np.where(active[:, None], W, 0.0), np.where(active, c, 0.0))
        best = min(best, _explore(network, box, clause, [*forms, kept], *cell))
    return best


def _empty(box: Array, A: Array, b: Array) -> bool:
    """Whether one of the rows alone shows that ``A x ≤ b`` has no point in the box."""
    return bool((np.minimum(A, 0) @ box[1] + np.maximum(A, 0) @ box[0] > b).any())
