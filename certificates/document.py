"""The certificate format: what a certificate says, as bytes and back.

A certificate is a zip archive of ``manifest.json`` and, where multipliers are stored, ``multipliers.npz``;
``docs/certificate-format.md`` describes both for whoever writes another checker. Reading trusts nothing: sizes are
bounded before anything is decompressed, every number is checked, and what is not understood is refused.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from certificates.errors import CertificateError
from networks.errors import InputError
from networks.property import Clause, Property, Query, Row
from networks.region import Region

__all__ = [
    "VERSION",
    "BoxSplit",
    "Certificate",
    "Claim",
    "Node",
    "PhaseSplit",
    "Split",
    "Tree",
    "read",
    "write",
]

VERSION = 1
FORMAT = "netproof-certificate"
KINDS = ("slopes", "rows")

MAX_FILE = 256 * 2**20
MAX_MANIFEST = 256 * 2**20
MAX_ARRAYS = 1024 * 2**20
_ARRAY = re.compile(r"tree\d{1,9}\.(columns|slopes|rows)\.npy")
_HEX = re.compile(r"-?0x[01]\.[0-9a-f]{1,13}p[+-]\d{1,4}")
_QUOTIENT = re.compile(r"-?\d{1,4000}(/\d{1,4000})?")


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
    """Two children: pre-activation ``neuron`` of ReLU node ``node`` at least 0, and at most 0."""

    node: int
    neuron: int


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
    """A cell: what is claimed on it, and how it is split; a leaf is not."""

    claims: tuple[Claim, ...] = ()
    split: Split | None = None


@dataclass(frozen=True, eq=False)
class Tree:
    """A split tree over a region.

    Attributes:
        case: index of the query's case whose region it splits.
        nodes: in preorder, the root first.
        columns: (ReLU node, neuron) for each of K columns, shape ``(K, 2)``.
        slopes: α and β, shape ``(P, 2, K)``.
        rows: Λ, shape ``(Q, K)``.
    """

    case: int
    nodes: tuple[Node, ...]
    columns: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    slopes: NDArray[np.floating] = field(default_factory=lambda: np.zeros((0, 2, 0), np.float32))
    rows: NDArray[np.floating] = field(default_factory=lambda: np.zeros((0, 0), np.float32))


@dataclass(frozen=True, eq=False)
class Certificate:
    """That the network with this sha256 has no violation in the query, as the trees show.

    A clause of a case is proven by a tree of that case if every cell of the tree claims it or is split into two cells
    that prove it.
    """

    network: str
    query: Query
    trees: tuple[Tree, ...]


# Writing


def write(certificate: Certificate) -> bytes:
    """The archive; the same certificate always gives the same bytes."""
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "network": certificate.network,
        "cases": [_case(region, prop) for region, prop in certificate.query.cases],
        "trees": [{"case": tree.case, "nodes": [_node(node) for node in tree.nodes]} for tree in certificate.trees],
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "manifest.json", json.dumps(manifest, separators=(",", ":"), allow_nan=False).encode())
        arrays = io.BytesIO()
        with zipfile.ZipFile(arrays, "w", zipfile.ZIP_DEFLATED) as inner:
            for i, tree in enumerate(certificate.trees):
                if len(tree.columns):
                    for name in ("columns", *KINDS):
                        buffer = io.BytesIO()
                        npy.write_array(buffer, getattr(tree, name), allow_pickle=False)
                        _add(inner, f"tree{i}.{name}.npy", buffer.getvalue())
        if any(len(tree.columns) for tree in certificate.trees):
            _add(archive, "multipliers.npz", arrays.getvalue())
    return out.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


def _case(region: Region, prop: Property) -> dict[str, Any]:
    return {
        "lower": [_text(value) for value in region.exact_lower],
        "upper": [_text(value) for value in region.exact_upper],
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


def _node(node: Node) -> list[Any]:
    claims = [[c.clause, [w.hex() for w in c.weights], list(c.multipliers or ())] for c in node.claims]
    match node.split:
        case BoxSplit(entry, at, keep):
            return [claims, ["cut" if keep else "box", entry, at.hex()]]
        case PhaseSplit(relu, neuron):
            return [claims, ["relu", relu, neuron]]
    return [claims]


def _text(value: Fraction) -> str:
    """A hexadecimal float where that is the number, else a quotient of integers."""
    try:
        near = float(value)
    except OverflowError:
        return str(value)
    return near.hex() if Fraction(near) == value else str(value)


# Reading


def read(data: bytes) -> Certificate:
    """The certificate in ``data``.

    Raises:
        CertificateError: not a certificate, of another version, damaged, or larger than the limits.
    """
    if len(data) > MAX_FILE:
        msg = f"the certificate has {len(data)} bytes, more than the {MAX_FILE} that are read"
        raise CertificateError(msg)
    try:
        files = _files(data, {"manifest.json": MAX_MANIFEST, "multipliers.npz": MAX_ARRAYS})
        if "manifest.json" not in files:
            msg = "the archive holds no manifest.json, so it is not a certificate"
            raise CertificateError(msg)
        manifest = json.loads(files["manifest.json"], parse_constant=_refuse_constant)
        return _Reader(manifest, _arrays(files.get("multipliers.npz"))).certificate()
    except CertificateError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        msg = f"this is not a certificate, or it is damaged or truncated: {error}"
        raise CertificateError(msg) from error
    except InputError as error:
        msg = f"the certificate states no query that can be asked: {error}"
        raise CertificateError(msg) from error
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        msg = f"the certificate is malformed: {type(error).__name__}: {error}"
        raise CertificateError(msg) from error


def _refuse_constant(name: str) -> float:
    msg = f"the manifest holds {name}; numbers must be finite"
    raise CertificateError(msg)


def _files(data: bytes, limits: dict[str, int]) -> dict[str, bytes]:
    """The archive's files, none larger than its limit, whatever the archive says about its size."""
    out: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            limit = limits.get(entry.filename)
            if limit is None or entry.filename in out:
                msg = f"the archive holds an unknown or repeated file {entry.filename!r}"
                raise CertificateError(msg)
            with archive.open(entry) as stream:
                out[entry.filename] = stream.read(limit + 1)
            if len(out[entry.filename]) > limit:
                msg = f"{entry.filename} is larger than the {limit} bytes that are read"
                raise CertificateError(msg)
    return out


def _arrays(data: bytes | None) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file, without pickles; together at most `MAX_ARRAYS` bytes."""
    if data is None:
        return {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
    out: dict[str, NDArray[Any]] = {}
    left = MAX_ARRAYS
    unknown = [name for name in names if not _ARRAY.fullmatch(name)]
    if unknown or len(set(names)) < len(names):
        msg = f"multipliers.npz holds unknown or repeated arrays, such as {(unknown or names)[0]!r}"
        raise CertificateError(msg)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in names:
            with archive.open(name) as stream:
                content = stream.read(left + 1)
            left -= len(content)
            if left < 0:
                msg = f"multipliers.npz is larger than the {MAX_ARRAYS} bytes that are read"
                raise CertificateError(msg)
            array = npy.read_array(io.BytesIO(content), allow_pickle=False)
            if array.dtype not in (np.float32, np.float64, np.int64) or not np.isfinite(array).all():
                msg = f"{name} must hold finite float32, float64 or int64 numbers"
                raise CertificateError(msg)
            out[name.removesuffix(".npy")] = array
    return out


def _fail(what: str, value: Any) -> CertificateError:
    shown = repr(value)
    return CertificateError(f"the certificate is malformed: expected {what}, got {shown[:80]}")


def _integer(value: Any, what: str) -> int:
    if type(value) is not int or value < 0:
        raise _fail(what, value)
    return value


def _exact(text: Any) -> Fraction:
    if isinstance(text, str):
        if _HEX.fullmatch(text) and math.isfinite(number := float.fromhex(text)):
            return Fraction(number)
        if _QUOTIENT.fullmatch(text):
            return Fraction(text)
    raise _fail("a hexadecimal float or a quotient of integers", text)


def _float(text: Any) -> float:
    if isinstance(text, str) and _HEX.fullmatch(text) and math.isfinite(number := float.fromhex(text)):
        return number
    raise _fail("a hexadecimal float", text)


@dataclass(frozen=True, eq=False)
class _Reader:
    manifest: Any
    arrays: dict[str, NDArray[Any]]

    def certificate(self) -> Certificate:
        m = self.manifest
        if not isinstance(m, dict) or m.get("format") != FORMAT:
            msg = f"the manifest does not say that this is a {FORMAT}"
            raise CertificateError(msg)
        if m.get("version") != VERSION:
            msg = f"the certificate has format version {m.get('version')!r}; this checker reads version {VERSION}"
            raise CertificateError(msg)
        if set(m) != {"format", "version", "network", "cases", "trees"}:
            raise _fail("format, version, network, cases and trees", sorted(m))
        if not isinstance(m["network"], str) or not re.fullmatch("[0-9a-f]{64}", m["network"]):
            raise _fail("the network's sha256", m["network"])
        cases = tuple(self._case(case) for case in m["cases"])
        if not cases:
            raise _fail("at least one case", m["cases"])
        trees = tuple(self._tree(i, tree, cases) for i, tree in enumerate(m["trees"]))
        used = {f"tree{i}.{name}" for i in range(len(trees)) for name in ("columns", *KINDS)}
        if not set(self.arrays) <= used:
            raise _fail("arrays of the trees only", sorted(set(self.arrays) - used))
        return Certificate(m["network"], Query(cases), trees)

    @staticmethod
    def _case(case: Any) -> tuple[Region, Property]:
        region = Region(tuple(map(_exact, case["lower"])), tuple(map(_exact, case["upper"])))
        clauses = []
        for clause in case["clauses"]:
            rows, most = [], 0
            for row in clause["rows"]:
                pairs = tuple((_integer(i, "an output's index"), _exact(c)) for i, c in row["coefficients"])
                if len({i for i, _ in pairs}) < len(pairs):
                    raise _fail("each output once", row["coefficients"])
                rows.append(Row(pairs, _exact(row["offset"])))
                most = max([most, *(i + 1 for i, _ in pairs)])
            if most > 2**24:
                raise _fail("an output's index", most)
            clauses.append(Clause(tuple(rows), most, str(clause["label"])))
        return region, Property(tuple(clauses))

    def _tree(self, index: int, tree: Any, cases: tuple[tuple[Region, Property], ...]) -> Tree:
        case = _integer(tree["case"], "the index of a case")
        if case >= len(cases):
            raise _fail(f"the index of one of {len(cases)} cases", case)
        empty = Tree(case, ())
        columns, slopes, rows = (self.arrays.get(f"tree{index}.{n}", getattr(empty, n)) for n in ("columns", *KINDS))
        k = len(columns)
        if columns.dtype != np.int64 or columns.shape != (k, 2) or len(set(map(tuple, columns.tolist()))) < k:
            raise _fail("columns of shape (K, 2), each once", columns.shape)
        if slopes.shape[1:] != (2, k) or rows.shape[1:] != (k,) or np.int64 in (slopes.dtype, rows.dtype):
            raise _fail(f"multipliers for {k} columns", (slopes.shape, rows.shape))
        lines = {"slopes": len(slopes), "rows": len(rows)}
        sizes = [len(clause.rows) for clause in cases[case][1].clauses]
        nodes = tuple(self._node(node, sizes, lines) for node in tree["nodes"])
        return Tree(case, nodes, columns, slopes, rows)

    @staticmethod
    def _node(node: Any, sizes: list[int], lines: dict[str, int]) -> Node:
        claims = []
        for number, texts, supplied in node[0]:
            clause = _integer(number, "the index of a clause")
            weights = tuple(map(_float, texts))
            if clause >= len(sizes) or len(weights) != sizes[clause] or min(weights) < 0:
                raise _fail("a clause's index and a nonnegative weight for each of its rows", [number, texts])
            multipliers = None
            if supplied:
                kind, line = supplied
                if kind not in KINDS or _integer(line, "a line of multipliers") >= lines[kind]:
                    raise _fail("a kind and a line of the multipliers that are stored", supplied)
                multipliers = (kind, line)
            claims.append(Claim(clause, weights, multipliers))
        if len(node) == 1:
            return Node(tuple(claims))
        kind, first, second = node[1]
        if len(node) != 2 or kind not in ("box", "cut", "relu"):
            raise _fail("claims and at most one split: box, cut or relu", node[1:])
        if kind == "relu":
            return Node(tuple(claims), PhaseSplit(_integer(first, "a node"), _integer(second, "a neuron")))
        return Node(tuple(claims), BoxSplit(_integer(first, "an input's index"), _float(second), kind == "cut"))
