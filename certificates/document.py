"""The certificate format: what a certificate says, and how it is written.

A certificate is a zip archive of ``manifest.json`` and, where multipliers are stored, ``multipliers.npz``;
``docs/certificate-format.md`` describes both for whoever writes another checker. `certificates.reading` reads it.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from certificates import archive
from certificates.slopes import NeuronSlopes
from networks.property import Property, Query
from networks.region import Region

__all__ = [
    "FORMAT",
    "KINDS",
    "SLOPES",
    "VERSION",
    "BoxSplit",
    "Certificate",
    "Claim",
    "Node",
    "PhaseSplit",
    "Split",
    "Tree",
    "write",
]

VERSION = 4
FORMAT = "netproof-certificate"
KINDS = ("slopes", "rows")
SLOPES = ("neurons", "columns", "alpha")


@dataclass(frozen=True, slots=True)
class BoxSplit:
    """Two children: input ``entry`` at most ``at``, and at least ``at``.

    With ``keep`` the children's neuron bounds are those of the cell that is split, not recomputed on each child.
    """

    entry: int
    at: float
    keep: bool = False


@dataclass(frozen=True, slots=True)
class PhaseSplit:
    """Two children: pre-activation ``neuron`` of ReLU node ``node`` at least 0, and at most 0.

    With ``keep`` the children's neuron bounds are those of the cell that is split, not recomputed on each child.
    """

    node: int
    neuron: int
    keep: bool = True


Split: TypeAlias = BoxSplit | PhaseSplit


@dataclass(frozen=True, slots=True)
class Claim:
    """On a cell, ``weights · rows`` of clause ``clause`` is positive, as the multipliers ``(kind, line)`` show.

    With all weights zero it says that the cell is empty. ``multipliers`` is None for the default slopes.
    """

    clause: int
    weights: tuple[float, ...]
    multipliers: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A cell: what is claimed on it, and how it is split; a leaf is not.

    ``clips`` name linear bounds as claims do, but these need not be positive: they tighten neuron bounds, one after the
    other, for the claims of the same clause on the cell and below.
    """

    claims: tuple[Claim, ...] = ()
    split: Split | None = None
    clips: tuple[Claim, ...] = ()


@dataclass(frozen=True, eq=False)
class Tree:
    """A split tree over a region.

    Attributes:
        case: index of the query's case whose region it splits.
        nodes: in preorder, the root first.
        columns: (ReLU node, neuron) for each of K columns, shape ``(K, 2)``.
        slopes: α and β, shape ``(P, 2, K)``.
        rows: Λ, shape ``(Q, K)``.
        bounds: which of the certificate's slopes neurons are bounded with; None for default ones.
    """

    case: int
    nodes: tuple[Node, ...]
    columns: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    slopes: NDArray[np.floating] = field(default_factory=lambda: np.zeros((0, 2, 0), np.float32))
    rows: NDArray[np.floating] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    bounds: int | None = None


@dataclass(frozen=True, eq=False)
class Certificate:
    """That the network with this sha256 has no violation in the query, as the trees show.

    A clause of a case is proven by a tree of that case if every cell of the tree claims it or is split into two cells
    that prove it. ``bounds`` are slopes that trees may bound neurons with.
    """

    network: str
    query: Query
    trees: tuple[Tree, ...]
    bounds: tuple[NeuronSlopes, ...] = ()


def write(certificate: Certificate) -> bytes:
    """The archive; the same certificate always gives the same bytes."""
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "network": certificate.network,
        "cases": [_case(region, prop) for region, prop in certificate.query.cases],
        "trees": [_tree(tree) for tree in certificate.trees],
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        archive.add(file, "manifest.json", json.dumps(manifest, separators=(",", ":"), allow_nan=False).encode())
        arrays = io.BytesIO()
        with zipfile.ZipFile(arrays, "w", zipfile.ZIP_DEFLATED) as inner:
            for i, tree in enumerate(certificate.trees):
                if len(tree.columns):
                    archive.add_array(inner, f"tree{i}.columns", tree.columns)
                    for name in KINDS:
                        # A column changes little from line to line: so stored, they compress to a fifth.
                        archive.add_array(inner, f"tree{i}.{name}", np.moveaxis(getattr(tree, name), 0, -1))
            for i, slopes in enumerate(certificate.bounds):
                for name in SLOPES:
                    archive.add_array(inner, f"bounds{i}.{name}", getattr(slopes, name))
            stored = bool(inner.namelist())
        if stored:
            archive.add(file, "multipliers.npz", arrays.getvalue())
    return out.getvalue()


def _case(region: Region, prop: Property) -> dict[str, Any]:
    return {
        "region": _region(region),
        "outputs": prop.clauses[0].outputs,
        "clauses": [
            {
                "label": clause.label,
                "rows": [
                    {"coefficients": [[i, _text(c)] for i, c in row.coefficients], "offset": _text(row.offset)}
                    for row in clause.rows
                ],
            }
            for clause in prop.clauses
        ],
    }


def _region(region: Region) -> dict[str, Any]:
    out: dict[str, Any] = {"kind": "box"}
    if region.ball is not None:
        center = [_text(Fraction(value)) for value in region.ball.center.tolist()]
        out = {"kind": "ball", "norm": region.ball.norm, "center": center, "radius": _text(region.ball.radius)}
    out |= {
        "lower": [_text(value) for value in region.exact_lower],
        "upper": [_text(value) for value in region.exact_upper],
    }
    if region.constraints:
        out["constraints"] = [
            {
                "coefficients": [[i, _text(c)] for i, c in zip(each.indices, each.values, strict=True)],
                "bound": _text(each.bound),
            }
            for each in region.constraints
        ]
    return out


def _tree(tree: Tree) -> dict[str, Any]:
    out: dict[str, Any] = {"case": tree.case, "nodes": [_node(node) for node in tree.nodes]}
    return out if tree.bounds is None else out | {"bounds": tree.bounds}


def _node(node: Node) -> list[Any]:
    claims, clips = (
        [[c.clause, [w.hex() for w in c.weights], list(c.multipliers or ())] for c in some]
        for some in (node.claims, node.clips)
    )
    split: list[Any] = []
    match node.split:
        case BoxSplit(entry, at, keep):
            split = ["cut" if keep else "box", entry, at.hex()]
        case PhaseSplit(relu, neuron, keep):
            split = ["relu" if keep else "anew", relu, neuron]
    return [claims, split, clips] if clips else [claims, split] if split else [claims]


def _text(value: Fraction) -> str:
    """A hexadecimal float where that is the number, else a quotient of integers."""
    try:
        near = float(value)
    except OverflowError:
        return str(value)
    return near.hex() if Fraction(near) == value else str(value)
