"""Certificates of every kind on networks of at most eight ReLUs, where enumeration tells what is true.

`claims` reads what a certificate claims without the package's own reader, and `true` says by brute force whether it
holds.
"""

from __future__ import annotations

import functools
import io
import json
import math
import zipfile
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

import networks
import solver
from certificates import BoxSplit, Certificate, Claim, NeuronSlopes, Node, PhaseSplit, Tree, write
from networks import Ball, Clause, Constraint, Network, Property, Query, Region, Row, parse_vnnlib
from networks.product import equivalence, monotone
from solver import Budget, Engine, Options
from tests.certificates.proofs import pack, unpack
from tests.random_networks import dense_model
from tests.solver.oracle import minimum_margin

__all__ = ["CERTIFICATES", "Claims", "certificate", "claims", "true"]

Claims: TypeAlias = tuple[Any, ...]
"""The network, and for each case what was read from its region and clauses: two are equal where they claim the same."""

SMALL, DEEP, WIDE = (2, 5, 3, 2), (3, 4, 4, 2), (4, 6, 2)


@functools.cache
def _network(seed: int, widths: tuple[int, ...]) -> Network:
    return networks.load_bytes(dense_model(seed, widths))


def _around(
    seed: int, widths: tuple[int, ...], norm: str, epsilon: object, *constraints: Constraint
) -> tuple[Network, Query]:
    """A class that stays within ε of a point."""
    network = _network(seed, widths)
    point = np.random.default_rng(seed).uniform(-1, 1, widths[0])
    center = (np.round(point * 64) / 64).astype(np.float32)
    label = int(networks.evaluate(network, center[None])[0].argmax())
    region = Region.norm_ball(center, epsilon, norm, (-2, 2)).constrained(constraints)
    return network, Query.single(region, Property.classification(label, 2))


def _decided(network: Network, query: Query, engine: Engine = Engine.BAB) -> tuple[Network, bytes]:
    return network, _bytes(solver.verify(network, query, options=Options(engine, certificate=True), budget=_budget()))


def _bytes(verdict: solver.Verdict) -> bytes:
    assert verdict.certificate is not None, verdict
    return verdict.certificate


def _budget() -> Budget:
    return Budget(60, 1)


def _conjunction() -> tuple[Network, bytes]:
    """One output or the other is large: two rows of which only a combination is positive."""
    network = _network(2, SMALL)
    rows = tuple(Row(((j, Fraction(1)),), Fraction(offset)) for j, offset in enumerate((_LEAST, _LEAST)))
    return _decided(network, Query.single(Region.linf_ball(np.zeros(2), "0.5"), Property((Clause(rows, 2, "low"),))))


_LEAST = Fraction(1, 2)

_VNNLIB = """
(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real) (declare-const Y_1 Real)
(assert (or (and (>= X_0 0.1) (<= X_0 0.3) (>= X_1 -0.5) (<= X_1 0.1) (<= Y_0 -9.5) (>= Y_1 12.25))
            (and (>= X_0 -0.3) (<= X_0 -0.1) (>= X_1 -0.5) (<= X_1 0.2) (<= (+ X_0 X_1) 0.1) (>= Y_1 100.5))))
"""


def _vnnlib() -> tuple[Network, bytes]:
    """Two regions, each with a violation of its own."""
    return _decided(_network(0, SMALL), parse_vnnlib(_VNNLIB, 2, 2))


def _margin() -> tuple[Network, bytes]:
    network, query = _around(1, SMALL, "linf", "0.2")
    return network, _bytes(solver.margin(network, query, options=Options(certificate=True), budget=_budget()))


def _distance() -> tuple[Network, bytes]:
    network, query = _around(1, SMALL, "linf", "3")
    return network, _bytes(solver.distance(network, query, options=Options(certificate=True), budget=_budget()))


def _equal() -> tuple[Network, bytes]:
    network = _network(0, (2, 2, 2))
    product = equivalence(network, network, tolerance="0.1")
    return _decided(product.network, product.query(Region.linf_ball(np.zeros(2), "0.3")))


def _monotone() -> tuple[Network, bytes]:
    product = monotone(_network(0, (2, 2, 1)), 0, tolerance="2")
    return _decided(product.network, product.query(Region.linf_ball(np.zeros(2), "0.2")))


def _by_hand() -> tuple[Network, bytes]:
    """All four splits, clips, multipliers of both kinds, and slopes of neurons."""
    network, query = _around(0, DEEP, "linf", "0.1")
    first, second = (node for node in network.relu_nodes)
    columns = np.array([[first, 0], [second, 1]])
    arrays = {
        "columns": columns,
        "slopes": np.array([[[0.5, 0.25], [0, 0.125]]], np.float32),
        "rows": np.array([[0.0, 0.5]], np.float32),
    }
    plain, sloped, rowed = (Claim(0, (1.0,), told) for told in (None, ("slopes", 0), ("rows", 0)))
    at = float(query.cases[0][0].lower[0]) + 0.0625
    nodes = (
        Node((), BoxSplit(0, at), (plain,)),
        Node((), BoxSplit(1, float(query.cases[0][0].lower[1]) + 0.0625, keep=True)),
        Node((sloped,)),
        Node((plain,)),
        Node((), PhaseSplit(first, 0)),
        Node((), PhaseSplit(second, 1, keep=False)),
        Node((rowed,)),
        Node((plain,)),
        Node((plain,), None, (plain, sloped)),
    )
    slopes = NeuronSlopes(columns[1:], columns[:1], np.array([0.5, 0.75]).reshape(2, 1, 1))
    return network, write(Certificate(network.sha256, query, (Tree(0, nodes, **arrays, bounds=0),), (slopes,)))


def _version_3() -> tuple[Network, bytes]:
    network, data = certificate("bounds")
    manifest, arrays = unpack(data)
    return network, pack(manifest | {"version": 3}, arrays)


_CUT = Constraint.of({0: 1, 1: "0.3"}, "0.4")

#: A certificate of each kind, and the network that it is about.
CERTIFICATES: dict[str, Callable[[], tuple[Network, bytes]]] = {
    "bounds": lambda: _decided(*_around(0, WIDE, "linf", "0.1"), Engine.BOUNDS),
    "boxes": lambda: _decided(*_around(0, SMALL, "linf", "1.2")),
    "phases": lambda: _decided(*_around(3, DEEP, "linf", "0.6")),
    "l2": lambda: _decided(*_around(1, SMALL, "l2", "1.2")),
    "l2 phases": lambda: _decided(*_around(5, WIDE, "l2", "0.6")),
    "l1": lambda: _decided(*_around(2, SMALL, "l1", "1.2")),
    "l0": lambda: _decided(*_around(5, SMALL, "l0", 2)),
    "constraints": lambda: _decided(*_around(3, SMALL, "l2", "1.2", _CUT)),
    "conjunction": _conjunction,
    "vnnlib": _vnnlib,
    "margin": _margin,
    "distance": _distance,
    "equivalence": _equal,
    "monotone": _monotone,
    "by hand": _by_hand,
    "version 3": _version_3,
}


@functools.cache
def certificate(kind: str) -> tuple[Network, bytes]:
    """The network and its certificate."""
    return CERTIFICATES[kind]()


def _number(text: str) -> Fraction:
    return Fraction(float.fromhex(text)) if "x" in text else Fraction(text)


def _form(said: dict[str, Any], constant: str) -> tuple[Any, ...]:
    return tuple(sorted((i, _number(c)) for i, c in said["coefficients"] if _number(c))), _number(said[constant])


def claims(data: bytes) -> Claims:
    """What a certificate claims, read with nothing but a zip and a JSON reader."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    cases = []
    for case in manifest["cases"]:
        region = case["region"]
        ends = tuple(tuple(map(_number, region[end])) for end in ("lower", "upper"))
        ball = None
        if region["kind"] == "ball":
            ball = region["norm"], tuple(map(_number, region["center"])), _number(region["radius"])
        limits = tuple(_form(each, "bound") for each in region.get("constraints", []))
        clauses = tuple(tuple(_form(row, "offset") for row in clause["rows"]) for clause in case["clauses"])
        cases.append((*ends, ball, limits, case["outputs"], clauses))
    return manifest["network"], tuple(cases)


#: Beyond this the linear programs of brute force are not to be relied on.
_FAR = Fraction(10**6)

_known: dict[tuple[Network, Any], list[Any]] = {}


def true(network: Network, said: Claims) -> bool:
    """Whether brute force finds no violation; up to its tolerance of 1e-9.

    What holds on a region holds on each part of it, so a slightly larger one is tried first, and serves many claims.
    """
    sha256, cases = said
    return sha256 == network.sha256 and all(_holds(network, case) for case in cases)


def _holds(network: Network, case: Any) -> bool:
    lower, upper, ball, *rest = case
    known = _known.setdefault((network, tuple(rest)), [])
    if any(_within(case, other) for other in known):
        return True
    step = Fraction(1, 1024)
    wider = tuple(v - step for v in lower), tuple(v + step for v in upper), _grown(ball, step), *rest
    for tried in (wider, case):
        if _margin_of(network, tried) > -1e-9:
            known.append(tried)
            return True
    return False


def _grown(ball: Any, step: Fraction) -> Any:
    return ball and (*ball[:2], ball[2] + (0 if ball[0] == "l0" else step))


def _within(case: Any, other: Any) -> bool:
    """Whether one region is a part of the other, whose other members are the same."""
    (low, high, ball, *_), (lower, upper, around, *_) = case, other
    if len(low) != len(lower) or (ball is None) != (around is None):
        return False
    inside = all(a >= b for a, b in zip(low, lower, strict=True)) and all(
        a <= b for a, b in zip(high, upper, strict=True)
    )
    return inside and (ball is None or (ball[:2] == around[:2] and ball[2] <= around[2]))


def _tame(form: Any, offset: Fraction) -> Row:
    """A multiple of a row with coefficients of at most about 10⁶; an offset that is huge decides as it did."""
    size = max((abs(c) for _, c in form), default=Fraction(1))
    scale = min(Fraction(1), Fraction(2) ** (20 - math.frexp(size)[1]))
    limit = _FAR**2
    return Row(tuple((i, c * scale) for i, c in form), max(-limit, min(offset * scale, limit)))


def _margin_of(network: Network, case: Any) -> float:
    """The least margin of a case's clauses, of entries within ±10⁶ of zero; infinite where that region is empty."""
    lower, upper, ball, limits, outputs, clauses = case
    lower, upper = (tuple(max(-_FAR, min(v, _FAR)) for v in ends) for ends in (lower, upper))
    assert outputs == network.outputs
    known = None
    if ball is not None:
        norm, center, radius = ball
        known = Ball(norm, np.array([float(v) for v in center], np.float32), radius)
    constraints = tuple(Constraint.of(dict(pairs), bound) for pairs, bound in limits)
    region = Region(lower, upper, ball=known, constraints=constraints)
    rows = [tuple(_tame(*row) for row in clause) for clause in clauses]
    return min(minimum_margin(network, region, Clause(each, outputs)) for each in rows)
