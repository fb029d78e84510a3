"""The exact margin of a clause on a tiny network, and its nearest violation, by enumeration of activation patterns.

Independent of `bounds` and of the MILP: it shares only the affine maps of `networks.evaluation`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import gurobipy
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, nnls

from networks.evaluation import apply
from networks.exact import exact
from networks.graph import InputNode, Network, ReluNode
from networks.norms import Ball
from networks.property import Clause, Row
from networks.region import Region

__all__ = ["DIFFERENCE", "cells", "known_margins", "minimum_margin", "nearest_point", "nearest_violation", "raised"]

Array = NDArray[np.float64]

#: The first output less the second.
DIFFERENCE = ((0, Fraction(1)), (1, Fraction(-1)))


def raised(by: float, *forms: tuple[tuple[int, Fraction], ...], outputs: int = 2) -> Clause:
    """The clause of these forms of the outputs (by default `DIFFERENCE`), with ``by`` added to each.

    What brute force says of a clause, taken away, leaves a margin that is known.
    """
    offset = exact(round(by, 9))
    return Clause(tuple(Row(form, offset) for form in forms or (DIFFERENCE,)), outputs)


def known_margins(
    build: Callable[[int], Network], radius: float, *, seeds: Iterable[int]
) -> Iterator[tuple[Network, Region, float]]:
    """Networks, a box around a random point for each, and the least that `DIFFERENCE` is there."""
    for seed in seeds:
        network = build(seed)
        region = Region.linf_ball(np.random.default_rng(seed).normal(size=network.inputs), radius)
        yield network, region, minimum_margin(network, region, raised(0))


def minimum_margin(network: Network, region: Region, clause: Clause) -> float:
    """The minimum of ``max_r (c_r·y + d_r)`` over the region, up to the solvers' tolerance of about 1e-9.

    The network is affine on each cell of a fixed activation pattern, so its minimum is the least optimum of one LP for
    each pattern. Patterns are enumerated node by node; a neuron whose affine form has one sign on the whole box is
    not enumerated. An ℓ1 ball is one row for each choice of signs, an ℓ0 ball a box for each choice of entries, and
    with an ℓ2 ball the LP is a convex program for Gurobi's barrier.
    """
    box, ball = np.stack([region.lower, region.upper]), region.ball
    boxes, limits = [box], (np.zeros((0, network.inputs)), np.zeros(0))
    if region.halfspaces is not None:
        limits = region.halfspaces.G, region.halfspaces.h
    if ball is not None and ball.norm == "l0":
        boxes = []
        for free in itertools.combinations(range(network.inputs), min(int(ball.radius), network.inputs)):
            boxes.append(np.stack([ball.center, ball.center]).astype(np.float64))
            boxes[-1][:, list(free)] = box[:, list(free)]
    if ball is not None and ball.norm == "l1":
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=network.inputs)))
        reach = float(ball.radius) + signs @ ball.center.astype(np.float64)
        limits = np.concatenate([limits[0], signs]), np.concatenate([limits[1], reach])
    best = math.inf
    for rows, offsets, G, h in cells(network, region, clause):
        # min t subject to rows·x − t ≤ −offsets, G x ≤ h, x in the region
        ones = np.ones((len(rows), 1))
        more = np.concatenate([G, limits[0]])
        A = np.block([[rows, -ones], [more, np.zeros((len(more), 1))]])
        b = np.concatenate([-offsets, h, limits[1]])
        for low, high in boxes:
            cost, ends = np.append(np.zeros(network.inputs), 1.0), [*zip(low, high, strict=True), (None, None)]
            result = linprog(cost, A_ub=A, b_ub=b, bounds=ends, method="highs")
            assert result.status in {0, 2}, result.message
            if result.status == 2 or result.fun >= best:
                continue
            best = result.fun if ball is None or ball.norm != "l2" else min(best, _in_ball(A, b, low, high, ball))
    return float(best)


def _in_ball(A: Array, b: Array, low: Array, high: Array, ball: Ball) -> float:
    """The least t with ``A (x, t) ≤ b`` and x in box and ball; inf without one."""
    with gurobipy.Env(params={"OutputFlag": 0}) as env, gurobipy.Model(env=env) as model:
        v = model.addMVar(len(low) + 1, lb=np.append(low, -math.inf), ub=np.append(high, math.inf))
        model.addConstr(A @ v <= b)
        d = v[: len(low)] - ball.center.astype(np.float64)
        model.addConstr(d @ d <= float(ball.budget))
        model.setObjective(v[len(low)])
        model.Params.BarQCPConvTol = 1e-10
        model.Params.FeasibilityTol = 1e-9
        model.optimize()
        found = model.Status in {gurobipy.GRB.OPTIMAL, gurobipy.GRB.SUBOPTIMAL}
        return float(model.ObjVal) if found else math.inf


def nearest_violation(network: Network, region: Region, clause: Clause, norm: str) -> float:
    """The distance from the region's center to the nearest point of its box that violates ``clause``; inf without one.

    On each cell the violations are a polyhedron. For linf and l1 the distance is an LP, for l2 a projection, and for l0
    the smallest set of entries that must change, by enumeration.
    """
    assert region.center is not None
    center = region.center.astype(np.float64)
    box = np.stack([region.lower, region.upper])
    identity = np.eye(network.inputs)
    best = math.inf
    for rows, offsets, A, b in cells(network, region, clause):
        G = np.concatenate([A, rows, identity, -identity])
        h = np.concatenate([b, -offsets, box[1], -box[0]])
        if linprog(np.zeros(network.inputs), A_ub=G, b_ub=h, bounds=(None, None)).status == 0:
            best = min(best, _distance(center, G, h, norm))
    return best


def nearest_point(center: Array, G: Array, h: Array) -> Array:
    """The point of ``{x : G x ≤ h}``, not empty, that is nearest to ``center`` in the l2 norm.

    Least distance programming as a problem of nonnegative least squares (Lawson & Hanson 1974, §23.4).
    """
    E = np.concatenate([-G.T, (G @ center - h)[None]])
    f = np.append(np.zeros(len(center)), 1.0)
    residual = E @ nnls(E, f, maxiter=100 * E.shape[1])[0] - f
    return center if abs(residual[-1]) < 1e-14 else center - residual[:-1] / residual[-1]


def _distance(center: Array, G: Array, h: Array, norm: str) -> float:
    """The distance of ``{x : G x ≤ h}`` from ``center``; inf where it is so thin that tolerances find it empty."""
    n = len(center)
    if norm == "l2":
        return float(np.linalg.norm(nearest_point(center, G, h) - center))
    if norm == "l0":
        for size in range(n + 1):
            for free in itertools.combinations(range(n), size):
                bounds = [(None, None) if i in free else (center[i], center[i]) for i in range(n)]
                if linprog(np.zeros(n), A_ub=G, b_ub=h, bounds=bounds).status == 0:
                    return float(size)
        return math.inf
    # x, then one size for all entries or one for each
    sizes = np.ones((n, 1)) if norm == "linf" else np.eye(n)
    A = np.block([[G, np.zeros((len(G), sizes.shape[1]))], [np.eye(n), -sizes], [-np.eye(n), -sizes]])
    cost = np.append(np.zeros(n), np.ones(sizes.shape[1]))
    result = linprog(cost, A_ub=A, b_ub=np.concatenate([h, center, -center]), bounds=(None, None))
    assert result.status in {0, 2}, result.message
    return float(result.fun) if result.status == 0 else math.inf


def cells(network: Network, region: Region, clause: Clause) -> Iterator[tuple[Array, Array, Array, Array]]:
    """(rows, offsets, A, b): the clause's rows ``rows · x + offsets`` on each activation pattern's cell ``A x ≤ b`` of
    the region's box.
    """
    box = np.stack([region.lower, region.upper])
    return _explore(network, box, clause, [], np.zeros((0, network.inputs)), np.zeros(0))


def _explore(
    network: Network, box: Array, clause: Clause, forms: list[tuple[Array, Array]], A: Array, b: Array
) -> Iterator[tuple[Array, Array, Array, Array]]:
    """`cells` of the box within ``A x ≤ b``; ``forms`` holds (matrix, constant) of the first nodes."""
    forms = list(forms)
    while len(forms) < len(network.nodes):
        node = network.nodes[len(forms)]
        if isinstance(node, InputNode):
            forms.append((np.eye(node.features), np.zeros(node.features)))
        elif isinstance(node, ReluNode):
            yield from _branch(network, box, clause, forms, A, b)
            return
        else:
            matrix = sum(apply(linear, forms[parent][0].T).T for parent, linear in node.terms)
            shifts = sum(apply(linear, forms[parent][1][None])[0] for parent, linear in node.terms)
            forms.append((matrix, shifts + node.bias))
    W, c = forms[-1]
    yield clause.matrix @ W, clause.matrix @ c + clause.offsets, A, b


def _branch(
    network: Network, box: Array, clause: Clause, forms: list[tuple[Array, Array]], A: Array, b: Array
) -> Iterator[tuple[Array, Array, Array, Array]]:
    """The cells of the phases of the ReLU node that comes next."""
    W, c = forms[network.nodes[len(forms)].parent]
    positive, negative = np.maximum(W, 0), np.minimum(W, 0)
    least = positive @ box[0] + negative @ box[1] + c
    most = positive @ box[1] + negative @ box[0] + c
    open_ = np.flatnonzero((least < 0) & (most > 0))
    for phases in itertools.product((False, True), repeat=len(open_)):
        active = least >= 0
        active[open_] = phases
        sign = np.where(phases, -1.0, 1.0)
        cell = np.concatenate([A, sign[:, None] * W[open_]]), np.concatenate([b, -sign * c[open_]])
        if _empty(box, *cell):
            continue
        kept = (np.where(active[:, None], W, 0.0), np.where(active, c, 0.0))
        yield from _explore(network, box, clause, [*forms, kept], *cell)


def _empty(box: Array, A: Array, b: Array) -> bool:
    """Whether one of the rows alone shows that ``A x ≤ b`` has no point in the box."""
    return bool((np.minimum(A, 0) @ box[1] + np.maximum(A, 0) @ box[0] > b).any())
