"""The exact margin of a clause on a tiny network, by enumeration of activation patterns.

Independent of `bounds` and of the MILP: it shares only the affine maps of `networks.evaluation`.
"""

from __future__ import annotations

import itertools
import math

import gurobipy
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
    A, b = np.zeros((0, network.inputs)), np.zeros(0)
    if region.halfspaces is not None:
        A, b = region.halfspaces.G, region.halfspaces.h
    ball = region.ball
    if ball is None:
        return _explore(network, box, clause, [], A, b)
    center, radius = ball.center.astype(np.float64), float(ball.radius)
    if ball.norm == "l0":
        # The least over all choices of entries that may change.
        boxes = []
        for free in itertools.combinations(range(network.inputs), min(int(ball.radius), network.inputs)):
            boxes.append(np.stack([center, center]))
            boxes[-1][:, list(free)] = box[:, list(free)]
        return min(_explore(network, each, clause, [], A, b) for each in boxes)
    if ball.norm == "l1":
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=network.inputs)))
        A, b = np.concatenate([A, signs]), np.concatenate([b, radius + signs @ center])
        return _explore(network, box, clause, [], A, b)
    return _explore(network, box, clause, [], A, b, (center, radius))


def _explore(
    network: Network,
    box: Array,
    clause: Clause,
    forms: list[tuple[Array, Array]],
    A: Array,
    b: Array,
    ball: tuple[Array, float] | None = None,
) -> float:
    """The least margin on the cell ``A x ≤ b`` of the box, in an ℓ2 ball if one is given; ``forms`` holds (matrix,
    constant) of the first nodes.
    """
    forms = list(forms)
    while len(forms) < len(network.nodes):
        node = network.nodes[len(forms)]
        if isinstance(node, InputNode):
            forms.append((np.eye(node.features), np.zeros(node.features)))
        elif isinstance(node, ReluNode):
            return _branch(network, box, clause, forms, A, b, ball)
        else:
            matrix = sum(apply(linear, forms[parent][0].T).T for parent, linear in node.terms)
            shifts = sum(apply(linear, forms[parent][1][None])[0] for parent, linear in node.terms)
            forms.append((matrix, shifts + node.bias))
    W, c = forms[-1]
    rows, offsets = clause.matrix @ W, clause.matrix @ c + clause.offsets
    # min t subject to rows·x − t ≤ −offsets, A x ≤ b, x in the box
    ones = np.ones((len(rows), 1))
    A, b = np.block([[rows, -ones], [A, np.zeros((len(A), 1))]]), np.append(-offsets, b)
    ends = [*zip(*box, strict=True), (None, None)]
    cost = np.append(np.zeros(network.inputs), 1.0)
    result = linprog(cost, A_ub=A, b_ub=b, bounds=ends, method="highs")
    assert result.status in {0, 2}, result.message
    if result.status == 2:
        return math.inf
    return float(result.fun) if ball is None else _in_ball(A, b, ends, *ball)


def _in_ball(A: Array, b: Array, ends: list[tuple], center: Array, radius: float) -> float:
    """The least last entry of (x, t) with ``A (x, t) ≤ b`` and x in the ball: a convex program for Gurobi's barrier."""
    with gurobipy.Env(params={"OutputFlag": 0}) as env, gurobipy.Model(env=env) as model:
        inputs = len(center)
        low = [-math.inf if end[0] is None else end[0] for end in ends]
        high = [math.inf if end[1] is None else end[1] for end in ends]
        v = model.addMVar(inputs + 1, lb=low, ub=high)
        model.addConstr(A @ v <= b)
        d = v[:inputs] - center
        model.addConstr(d @ d <= radius**2)
        model.setObjective(v[inputs])
        model.Params.BarQCPConvTol = 1e-10
        model.Params.FeasibilityTol = 1e-9
        model.optimize()
        found = gurobipy.GRB.OPTIMAL, gurobipy.GRB.SUBOPTIMAL
        return float(model.ObjVal) if model.Status in found else math.inf


def _branch(
    network: Network,
    box: Array,
    clause: Clause,
    forms: list[tuple[Array, Array]],
    A: Array,
    b: Array,
    ball: tuple[Array, float] | None,
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
        best = min(best, _explore(network, box, clause, [*forms, kept], *cell, ball))
    return best


def _empty(box: Array, A: Array, b: Array) -> bool:
    """Whether one of the rows alone shows that ``A x ≤ b`` has no point in the box."""
    return bool((np.minimum(A, 0) @ box[1] + np.maximum(A, 0) @ box[0] > b).any())
