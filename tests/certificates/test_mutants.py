"""Each line that the checker's soundness rests on: a checker without it accepts a false certificate that ours refuses.

A mutant is a copy of the package with one piece of text replaced, run in a process of its own. Every false certificate
claims something that a point of its region disproves.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import networks
from certificates import (
    BoxSplit,
    Certificate,
    CertificateError,
    Claim,
    NeuronSlopes,
    Node,
    PhaseSplit,
    Tree,
    check,
    read,
    write,
)
from networks import Clause, Network, Property, Query, Region, Row
from networks.constraints import Constraint
from tests.constructed import CASES, distance, gemms
from tests.random_networks import random_dense

ROOT = Path(__file__).parents[2]
FIRST = Claim(0, (1.0,))


def false(network: Network, region: Region, *clauses: Clause, trees: tuple[Tree, ...]) -> tuple[Network, bytes]:
    return network, write(Certificate(network.sha256, Query.single(region, Property(clauses)), trees))


def far(*nodes: Node, **arrays: np.ndarray) -> tuple[Network, bytes]:
    """About 1/2 − |x0 − x1| on [0, 3/4]², which is −1/4 at (3/4, 0)."""
    network = networks.load_bytes(distance(1, 1))
    clause = Clause((Row(((0, Fraction(1)), (1, Fraction(-1)))),), 2, "class 1")
    return false(network, Region.box([0, 0], [0.75, 0.75]), clause, trees=(Tree(0, nodes, **arrays),))


def constructed(name: str) -> tuple[Network, bytes]:
    case = CASES[name]
    network = case.network()
    return network, write(Certificate(network.sha256, case.query(), (Tree(0, (Node((FIRST,)),)),)))


def tie() -> tuple[Network, bytes]:
    """y0 = y1 everywhere."""
    network = networks.load_bytes(gemms([([[1.0, -1.0]], [0.0]), ([[1.0], [1.0]], [0.0, 0.0])]))
    clause = Clause((Row(((0, Fraction(1)), (1, Fraction(-1)))),), 2, "class 1")
    return false(network, Region.box([0, 0], [1, 1]), clause, trees=(Tree(0, (Node((FIRST,)),)),))


def second_class() -> tuple[Network, bytes]:
    """Outputs (1, 0, 2): class 1 is beaten, class 2 is not, and nothing is claimed about it."""
    network = networks.load_bytes(gemms([([[1.0]], [0.0]), ([[0.0]] * 3, [1.0, 0.0, 2.0])]))
    clauses = Property.classification(0, 3).clauses
    return false(network, Region.box([0], [1]), *clauses, trees=(Tree(0, (Node((FIRST,)),)),))


def second_case() -> tuple[Network, bytes]:
    """Two regions, of which only the harmless one has a tree."""
    network = networks.load_bytes(distance(1, 1))
    prop = Property.classification(0, 2)
    query = Query(tuple((Region.box([0, 0], [end, end]), prop) for end in (0.25, 0.75)))
    return network, write(Certificate(network.sha256, query, (Tree(0, (Node((FIRST,)),)),)))


def flat(*nodes: Node) -> tuple[Network, bytes]:
    """About 1/2 − x0 where x0 ≤ 3/4 and x1 = 0."""
    network = networks.load_bytes(distance(1, 1))
    clause = Clause((Row(((0, Fraction(1)),)),), 2, "y0")
    return false(network, Region.box([0, 0], [0.75, 0]), clause, trees=(Tree(0, nodes),))


def steep(*nodes: Node) -> tuple[Network, bytes]:
    """About 1/2 − relu(x) where x ≤ 1."""
    network = networks.load_bytes(gemms([([[1.0]], [0.0]), ([[-1.0], [0.0]], [0.5, 0.0])]))
    clause = Clause((Row(((0, Fraction(1)),)),), 2, "y0")
    return false(network, Region.box([-1], [1]), clause, trees=(Tree(0, nodes),))


def single(weights: list[list[float]], bias: list[float], box: tuple[float, float], offset: float, claim: Claim):
    """One hidden neuron, relu(x), and the row y0 + offset."""
    network = networks.load_bytes(gemms([([[1.0]], [0.0]), (weights, bias)]))
    clause = Clause((Row(((0, Fraction(1)),), Fraction(offset)),), 2, "y0")
    return false(network, Region.box([box[0]], [box[1]]), clause, trees=(Tree(0, (Node((claim,)),)),))


def other_clauses_clip() -> tuple[Network, bytes]:
    """Where clause 0 (y0 + 900 ≤ 0) is violated there is nothing; that says nothing of clause 1, which is false."""
    network = random_dense(2, (4, 10, 10, 2))
    clauses = [Clause((Row(((0, Fraction(1)),), Fraction(d)),), 2, f"y0 {d}") for d in (900, -900)]
    node = Node((FIRST, Claim(1, (1.0,))), None, (FIRST,) * 3)
    return false(network, Region.box([-1] * 4, [1] * 4), *clauses, trees=(Tree(0, (node,)),))


def between() -> tuple[Network, bytes]:
    """|x0 − x1| − 1/8, whose two ReLUs have multipliers that cancel."""
    network = networks.load_bytes(
        gemms([([[1.0, -1.0], [-1.0, 1.0]], [0.0, 0.0]), ([[1.0, 1.0], [0, 0]], [-0.125, 0])])
    )
    clause = Clause((Row(((0, Fraction(1)),)),), 2, "y0")
    node = Node((Claim(0, (1.0,), ("rows", 0)),))
    tree = Tree(0, (node,), np.array([[2, 0], [2, 1]]), np.zeros((0, 2, 2), np.float32), np.array([[0.5, 0.5]]))
    return false(network, Region.box([0, 0], [0.75, 0.75]), clause, trees=(tree,))


def unmultiplied() -> tuple[Network, bytes]:
    """`far` with Λ = 0."""
    columns, rows = np.array([[2, 0], [2, 1]]), np.zeros((1, 2))
    node = Node((Claim(0, (1.0,), ("rows", 0)),))
    return far(node, columns=columns, slopes=np.zeros((0, 2, 2), np.float32), rows=rows)


def beyond(norm: str, epsilon: object, *constraints: Constraint, second: float = 1.0) -> tuple[Network, bytes]:
    """About 1 − relu(x0 + second·x1) around (1/8, 1/8), where the region reaches points at which it is negative."""
    network = networks.load_bytes(gemms([([[1.0, second]], [0.0]), ([[-1.0], [0.0]], [1.0, 0.0])]))
    region = Region.norm_ball(np.full(2, 0.125, np.float32), epsilon, norm, (-1, 1)).constrained(constraints)
    clause = Clause((Row(((0, Fraction(1)),)),), 2, "y0")
    return false(network, region, clause, trees=(Tree(0, (ROOT_CLAIM,)),))


def one_box() -> tuple[Network, bytes]:
    """`beyond` for a ball within which the claim holds, and then for one with the same box in which it does not."""
    network, data = beyond("l2", "0.5")
    ((small, prop),) = read(data).query.cases
    large = dataclasses.replace(small, ball=dataclasses.replace(small.ball, radius=Fraction(2)))
    trees = tuple(Tree(number, (ROOT_CLAIM,)) for number in range(2))
    return network, write(Certificate(network.sha256, Query(((small, prop), (large, prop))), trees))


def too_steep() -> tuple[Network, bytes]:
    """1 − relu(5x − relu(x)), which is −3 at x = 1; relu(x) ≥ 5x would give 1."""
    network = networks.load_bytes(
        gemms([([[1.0], [1.0]], [0.0, 9.0]), ([[-1.0, 5.0]], [-45.0]), ([[-1.0], [0.0]], [1.0, 0.0])])
    )
    clause = Clause((Row(((0, Fraction(1)),)),), 2, "y0")
    slopes = NeuronSlopes(np.array([[4, 0]]), np.array([[2, 0]]), np.full((2, 1, 1), 5.0))
    query = Query.single(Region.box([-1], [1]), Property((clause,)))
    tree = Tree(0, (ROOT_CLAIM,), bounds=0)
    return network, write(Certificate(network.sha256, query, (tree,), (slopes,)))


ROOT_CLAIM = Node((FIRST,))
MINIMUM = "np.minimum(A.values * low, A.values * high)"
HEIGHT = "np.maximum(-low * above, high * (1 - above))"
EXACT_VERTEX = "np.where(unstable, np.minimum(least, 0), least)"

#: Name: module, what is replaced, by what, how it is run, and the false certificate that the mutant accepts.
MUTANTS: dict[str, tuple[str, str, str, str, Callable[[], tuple[Network, bytes]]]] = {
    "rounding is free": (
        "enclosure.py",
        "return (n + 16) * bounds.unit",
        "return 0.0",
        "",
        lambda: constructed("huge bias, low"),
    ),
    "underflow is free": (
        "enclosure.py",
        "_UNDERFLOW = 2.0**-1000",
        "_UNDERFLOW = 0.0",
        "",
        lambda: constructed("coefficients underflow, far"),
    ),
    "float32 rounding is free": (
        "enclosure.py",
        "    if not bounds.float32:\n        return 0.0, 0.0",
        "    if True:\n        return 0.0, 0.0",
        "--float32",
        lambda: constructed("absorbed by float32"),
    ),
    "the region's maximum": (
        "enclosure.py",
        MINIMUM,
        MINIMUM.replace("minimum", "maximum"),
        "",
        lambda: steep(ROOT_CLAIM),
    ),
    "no relaxation": ("enclosure.py", HEIGHT, "0 * low", "", lambda: far(ROOT_CLAIM)),
    "no inner minima": ("enclosure.py", "np.where(exact, 0, x).sum(-1)", "0 * x.sum(-1)", "", unmultiplied),
    "no vertex at 0": ("enclosure.py", "np.minimum(value, 0), value)", "value, value)", "", between),
    "no vertex at 0, exactly": ("exact.py", EXACT_VERTEX, "least", "--exact", between),
    "the region's maximum, exactly": (
        "exact.py",
        "np.minimum(A.values * A.at(ends.low)",
        "np.maximum(A.values * A.at(ends.low)",
        "--exact",
        lambda: far(ROOT_CLAIM),
    ),
    "no bias": (
        "enclosure.py",
        "total = total + A.dot(node.bias)",
        "total = total + 0",
        "",
        lambda: single([[1.0], [0.0]], [-1.0, 0.0], (0.25, 0.5), 0.0, FIRST),
    ),
    "no offset": (
        "checker.py",
        "total = value + offset - charge",
        "total = value - charge",
        "",
        lambda: single([[1.0], [0.0]], [0.0, 0.0], (0.25, 0.5), -1.0, FIRST),
    ),
    "ties are proven": (
        "checker.py",
        "found + task.form.constant > 0",
        "found + task.form.constant >= 0",
        "--exact",
        tie,
    ),
    "a class is skipped": (
        "checker.py",
        "if i not in proven[number]]",
        "if i not in proven[number] and i == 0]",
        "",
        second_class,
    ),
    "coverage is not asked": ("checker.py", "        if missing:", "        if False:", "", second_case),
    "one child is enough": (
        "walk.py",
        "claimed |= first & second",
        "claimed |= first | second",
        "",
        lambda: steep(Node((), PhaseSplit(2, 0)), Node(), ROOT_CLAIM),
    ),
    "both children are the first": (
        "walk.py",
        "((above, upper), (lower, below))",
        "((lower, below), (lower, below))",
        "",
        lambda: flat(Node((), BoxSplit(0, 0.25)), ROOT_CLAIM, ROOT_CLAIM),
    ),
    "both phases are the second": (
        "walk.py",
        "for sign in (-1, 1):",
        "for sign in (-1, -1):",
        "",
        lambda: steep(Node((), PhaseSplit(2, 0)), ROOT_CLAIM, ROOT_CLAIM),
    ),
    "weights may be negative": (
        "reading.py",
        "min(weights) >= 0",
        "min(weights) >= -9",
        "",
        lambda: single([[-1.0], [0.0]], [-1.0, 0.0], (0.0, 1.0), 0.0, Claim(0, (-1.0,))),
    ),
    "touching bounds are no points": (
        "exact.py",
        "if (low > high).any():",
        "if (low >= high).any():",
        "--exact",
        lambda: constructed("no width, bad"),
    ),
    "neurons' slopes may be any": ("reading.py", "(alpha >= 0) & (alpha <= 1)", "alpha >= 0", "", too_steep),
    "a ball has no radius": ("balls.py", ".sum(-1) - spent", ".sum(-1)", "", lambda: beyond("l2", "0.6")),
    "a ball has no radius, exactly": (
        "exact_balls.py",
        "value + -Numbers(spent, shift + t + bits)",
        "value",
        "--exact",
        lambda: beyond("l1", "0.8"),
    ),
    "balls are around 0": ("balls.py", " - (s * center).sum(-1)", "", "", lambda: beyond("l1", "0.8")),
    "balls are around 0, exactly": (
        "exact_balls.py",
        "np.minimum(rest * low, rest * high) - s * center",
        "np.minimum(rest * low, rest * high)",
        "--exact",
        lambda: beyond("l2", "0.6"),
    ),
    "the largest entry for the length": (
        "balls.py",
        "return np.asarray(largest * np.sqrt((share * share).sum(-1)))",
        "return np.asarray(largest)",
        "",
        lambda: beyond("l2", "0.6"),
    ),
    "entries always move": (
        "balls.py",
        "np.where(inside, np.minimum(still, moved), moved)",
        "moved",
        "",
        lambda: beyond("l0", 1, second=0.25),
    ),
    "moving is free of charge": (
        "balls.py",
        " - price * self.radius\n",
        "\n",
        "",
        lambda: beyond("l0", 1),
    ),
    "half-spaces are at 0": (
        "balls.py",
        " - mu @ h - charge",
        " - charge",
        "",
        lambda: beyond("l2", 1, Constraint.of([1, 1], "1.1")),
    ),
    "half-spaces are at 0, exactly": (
        "exact_balls.py",
        "moved + -Numbers(paid.integers[..., 0], paid.shift)",
        "moved",
        "--exact",
        lambda: beyond("l1", 1, Constraint.of([1, 1], "1.1")),
    ),
    "boxes make the region": (
        "checker.py",
        "if self._region is region and",
        "if self._region is not None and",
        "",
        one_box,
    ),
    "clips serve every clause": (
        "walk.py",
        "last = clipped.get(claim.clause)",
        "last = next(iter(clipped.values()), None)",
        "",
        other_clauses_clip,
    ),
    "clips cut violations off": (
        "clips.py",
        "constant + offset\n        share",
        "constant + offset + 9\n        share",
        "",
        lambda: far(Node((FIRST,), None, (FIRST,) * 3)),
    ),
}


@functools.cache
def mutant(folder: Path, name: str) -> Path:
    """A copy of the package with the replacement."""
    module, before, after, _, _ = MUTANTS[name]
    shutil.copytree(ROOT / "certificates", folder / "certificates")
    path = folder / "certificates" / module
    text = path.read_text()
    assert text.count(before) >= 1, f"{module} no longer says {before!r}: say anew what this mutant does"
    path.write_text(text.replace(before, after))
    return folder


@pytest.mark.parametrize("name", MUTANTS)
def test_a_checker_without_it_accepts_what_is_false(name: str, tmp_path: Path) -> None:
    *_, option, build = MUTANTS[name]
    network, data = build()
    semantics = "float32" if option == "--float32" else "real"
    with contextlib.suppress(CertificateError):  # some say so, the others report it
        assert not check(data, network, semantics=semantics, exact=option == "--exact").proven
    (tmp_path / "proof").write_bytes(data)
    (tmp_path / "net.onnx").write_bytes(network.model)
    command = [sys.executable, "-m", "certificates", "proof", "net.onnx", *filter(None, [option])]
    path = os.pathsep.join([str(mutant(tmp_path, name)), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("proven")
