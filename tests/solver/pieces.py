"""The exact distance of the nearest violation on a tiny network, by enumeration of activation patterns.

Independent of `bounds` and of every engine: it shares only the affine maps of `networks.evaluation`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, nnls

from networks.evaluation import apply
from networks.graph import InputNode, Network, ReluNode
from networks.property import Property

__all__ = ["nearest_violation"]

Array = NDArray[np.float64]


def nearest_violation(
    network: Network, prop: Property, center: Array, box: Array, norm: str, frozen: tuple[int, ...] = ()
) -> float:
    """The distance from ``center`` to the nearest violation in ``box``, shape ``(2, inputs)``; inf without any.

    One convex program for each activation pattern and clause: an LP for linf and l1, a least-distance problem for l2
    (by Lawson and Hanson's reduction to nonnegative least squares); for l0 an LP for each set of entries, too.
    """
    box = box.copy()
    box[:, list(frozen)] = center[list(frozen)]
    if norm == "l0":
        entries = [i for i in range(network.inputs) if i not in frozen]
        for count in range(len(entries) + 1):
            for chosen in itertools.combinations(entries, count):
                part = np.tile(center, (2, 1))
                part[:, chosen] = box[:, chosen]
                if any(_shortest(center, part, *rows, "linf") < math.inf for rows in _violations(network, prop, part)):
                    return float(count)
        return math.inf
    return min((_shortest(center, box, *rows, norm) for rows in _violations(network, prop, box)), default=math.inf)


def _violations(network: Network, prop: Property, box: Array) -> Iterator[tuple[Array, Array]]:
    """The rows ``A x ≤ b`` of every pattern and clause."""
    for (W, c), A, b in _pieces(network, box, [], np.zeros((0, network.inputs)), np.zeros(0)):
        for clause in prop.clauses:
            rows, offsets = clause.matrix @ W, clause.matrix @ c + clause.offsets
            yield np.concatenate([A, rows]), np.concatenate([b, -offsets])


def _pieces(
    network: Network, box: Array, forms: list[tuple[Array, Array]], A: Array, b: Array
) -> Iterator[tuple[tuple[Array, Array], Array, Array]]:
    forms = list(forms)
    while len(forms) < len(network.nodes):
        node = network.nodes[len(forms)]
        if isinstance(node, InputNode):
            forms.append((np.eye(node.features), np.zeros(node.features)))
        elif isinstance(node, ReluNode):
            W, c = forms[node.parent]
            for phases in itertools.product((False, True), repeat=node.features):
                sign = np.where(phases, -1.0, 1.0)
                cell = np.concatenate([A, sign[:, None] * W]), np.concatenate([b, -sign * c])
                if not _empty(box, *cell):
                    kept = np.where(phases, 1.0, 0.0)
                    yield from _pieces(network, box, [*forms, (kept[:, None] * W, kept * c)], *cell)
            return
        else:
            matrix = sum(apply(linear, forms[parent][0].T).T for parent, linear in node.terms)
            shift = sum(apply(linear, forms[parent][1][None])[0] for parent, linear in node.terms)
            forms.append((matrix, shift + node.bias))
    yield forms[-1], A, b


def _empty(box: Array, A: Array, b: Array) -> bool:
    """Whether one of the rows alone shows that ``A x ≤ b`` has no point in the box."""
    return bool((np.minimum(A, 0) @ box[1] + np.maximum(A, 0) @ box[0] > b).any())


def _shortest(center: Array, box: Array, A: Array, b: Array, norm: str) -> float:
    """The least length of d with ``A (center + d) ≤ b`` and center + d in the box."""
    n = len(center)
    eye = np.eye(n)
    A, b = (
        np.concatenate([A, eye, -eye]),
        np.concatenate([b, box[1], -box[0]]) - np.concatenate([A, eye, -eye]) @ center,
    )
    if norm == "l2":
        # min |d| with −A d ≥ −b: NNLS of [−Aᵀ; −bᵀ] u against (0, …, 0, 1).
        E, f = np.concatenate([-A.T, -b[None]]), np.append(np.zeros(n), 1.0)
        u, residual = nnls(E, f, maxiter=1000)
        r = E @ u - f
        return math.inf if residual < 1e-9 else float(np.linalg.norm(r[:n] / r[n]))
    # d = p − q, and s ≥ p_i, q_i for linf.
    bound = np.concatenate([np.eye(2 * n), -np.ones((2 * n, 1))], axis=1)
    rows = np.concatenate([A, -A, np.zeros((len(A), 1))], axis=1)
    cost = np.append(np.full(2 * n, float(norm == "l1")), float(norm == "linf"))
    found = linprog(cost, A_ub=np.concatenate([rows, bound]), b_ub=np.append(b, np.zeros(2 * n)), method="highs")
    assert found.status in {0, 2}, found.message
    return float(found.fun) if found.status == 0 else math.inf
