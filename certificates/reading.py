"""Reading certificates, of which nothing is trusted.

Sizes are bounded before anything is decompressed, every number is checked, and what is not understood is refused: what
is not read might be taken for a part of the claim.
"""

from __future__ import annotations

import functools
import json
import re
import zipfile
import zlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certificates import archive
from certificates.document import (
    FORMAT,
    KINDS,
    SLOPES,
    BoxSplit,
    Certificate,
    Claim,
    Node,
    PhaseSplit,
    Split,
    Tree,
)
from certificates.errors import CertificateError, require
from certificates.slopes import NeuronSlopes
from networks.constraints import Constraint
from networks.errors import InputError
from networks.norms import Ball
from networks.property import Clause, Property, Query, Row
from networks.region import Region

__all__ = ["MAX_FILE", "read"]

#: Versions that are read; version 3 knows boxes only.
VERSIONS = (3, 4)

MAX_FILE = 256 * 2**20
MAX_MANIFEST = 32 * 2**20
MAX_ARRAYS = 256 * 2**20
_FILE = re.compile(r"manifest\.json|multipliers\.npz")
_ARRAY = re.compile(r"(tree\d{1,9}\.(columns|slopes|rows)|bounds\d{1,9}\.(neurons|columns|alpha))\.npy")
_HEX = re.compile(r"-?0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}")
_QUOTIENT = re.compile(r"-?[0-9]{1,4000}(/[0-9]{1,4000})?")


def read(data: bytes) -> Certificate:
    """The certificate in ``data``.

    Raises:
        CertificateError: not a certificate, of another version, damaged, or larger than the limits.
    """
    if len(data) > MAX_FILE:
        msg = f"the certificate has {len(data)} bytes, more than the {MAX_FILE} that are read"
        raise CertificateError(msg)
    try:
        files = archive.files(data, _FILE, MAX_MANIFEST + MAX_ARRAYS)
        text = files.get("manifest.json", b"")
        if not 0 < len(text) <= MAX_MANIFEST:
            msg = f"a certificate holds a manifest.json of at most {MAX_MANIFEST} bytes, this one has {len(text)}"
            raise CertificateError(msg)
        manifest = json.loads(text.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique)
        packed = archive.files(files["multipliers.npz"], _ARRAY, MAX_ARRAYS) if "multipliers.npz" in files else {}
        arrays = {name.removesuffix(".npy"): archive.array(name, content) for name, content in packed.items()}
        return _Reader(manifest, arrays).certificate()
    except CertificateError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        msg = f"this is not a certificate, or it is damaged or truncated: {error}"
        raise CertificateError(msg) from error
    except InputError as error:
        msg = f"the certificate states no query that can be asked: {error}"
        raise CertificateError(msg) from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        msg = f"the certificate is malformed: {type(error).__name__}: {error}"
        raise CertificateError(msg) from error


def _refuse_constant(name: str) -> float:
    msg = f"the manifest holds {name}; numbers must be finite"
    raise CertificateError(msg)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    require(len(out) == len(pairs), "each key once", [key for key, _ in pairs])
    return out


def _object(value: Any, keys: set[str], what: str, optional: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The object with these keys and no others: what a checker does not read might be taken for a part of the claim."""
    require(isinstance(value, dict), f"an object for {what}", value)
    require(keys <= set(value) <= keys | optional, f"the keys {sorted(keys)} for {what}", sorted(value))
    return dict(value)


def _list(value: Any, what: str) -> list[Any]:
    require(isinstance(value, list), f"a list of {what}", value)
    return list(value)


def _pairs(some: Any, what: str) -> list[tuple[int, Fraction]]:
    """Coefficients by index, each index once."""
    pairs = [(_integer(i, f"an {what}'s index"), _exact(c)) for i, c in _list(some, "coefficients")]
    require(len(dict(pairs)) == len(pairs), f"each {what} once", some)
    return pairs


def _integer(value: Any, what: str) -> int:
    require(type(value) is int and value >= 0, what, value)
    return int(value)


def _exact(text: Any) -> Fraction:
    if isinstance(text, str) and _QUOTIENT.fullmatch(text):
        return Fraction(text)
    return Fraction(_float(text))


def _float(text: Any) -> float:
    require(isinstance(text, str) and _HEX.fullmatch(text) is not None, "a finite hexadecimal float", text)
    return float.fromhex(text)


@dataclass(frozen=True, eq=False)
class _Reader:
    manifest: Any
    arrays: dict[str, NDArray[Any]]

    def certificate(self) -> Certificate:
        m = self.manifest
        if not isinstance(m, dict) or m.get("format") != FORMAT:
            msg = f"the manifest does not say that this is a {FORMAT}"
            raise CertificateError(msg)
        if type(m.get("version")) is not int or m["version"] not in VERSIONS:
            known = " and ".join(map(str, VERSIONS))
            msg = f"the certificate has format version {m.get('version')!r}; this checker reads versions {known}"
            raise CertificateError(msg)
        m = _object(m, {"cases", "format", "network", "trees", "version"}, "a certificate")
        sha256 = m["network"]
        require(isinstance(sha256, str) and bool(re.fullmatch("[0-9a-f]{64}", sha256)), "the network's sha256", sha256)
        cases = tuple(self._case(case) for case in _list(m["cases"], "cases"))
        require(len(cases) > 0, "at least one case", m["cases"])
        bounds: list[NeuronSlopes] = []
        while f"bounds{len(bounds)}.alpha" in self.arrays and m["version"] > 3:
            bounds.append(self._slopes(len(bounds)))
        trees = tuple(self._tree(i, tree, cases, len(bounds)) for i, tree in enumerate(_list(m["trees"], "trees")))
        used = {f"tree{i}.{name}" for i in range(len(trees)) for name in ("columns", *KINDS)}
        used |= {f"bounds{i}.{name}" for i in range(len(bounds)) for name in SLOPES}
        require(set(self.arrays) <= used, "arrays of the trees only", sorted(set(self.arrays) - used))
        return Certificate(sha256, Query(cases), trees, tuple(bounds))

    def _slopes(self, index: int) -> NeuronSlopes:
        neurons, columns, alpha = (self.arrays[f"bounds{index}.{name}"] for name in SLOPES)
        for pairs, what in ((neurons, "neurons"), (columns, "columns")):
            require(pairs.dtype == np.int64 and pairs.shape == (len(pairs), 2), f"{what} of shape (N, 2)", pairs.shape)
            require(len(set(map(tuple, pairs.tolist()))) == len(pairs), f"each of the {what} once", index)
        require(alpha.shape == (2, len(neurons), len(columns)), "slopes for these neurons and columns", alpha.shape)
        require(alpha.dtype != np.int64, "slopes of a floating type", index)
        require(bool(((alpha >= 0) & (alpha <= 1)).all()), "slopes between 0 and 1", index)
        return NeuronSlopes(neurons, columns, alpha)

    def _case(self, said: Any) -> tuple[Region, Property]:
        case = _object(said, {"region", "outputs", "clauses"}, "a case")
        region = self._region(case["region"])
        outputs = _integer(case["outputs"], "the number of outputs")
        return region, Property(tuple(_clause(clause, outputs) for clause in _list(case["clauses"], "clauses")))

    def _region(self, said: Any) -> Region:
        kinds = ("box", "ball") if self.manifest["version"] > 3 else ("box",)
        require(isinstance(said, dict) and said.get("kind") in kinds, f"a region of kind {' or '.join(kinds)}", said)
        keys = {"kind", "lower", "upper"} | ({"norm", "center", "radius"} if said["kind"] == "ball" else set())
        _object(said, keys, "a region", frozenset({"constraints"} if self.manifest["version"] > 3 else ()))
        exact = functools.cache(_exact)  # images have few distinct values
        lower, upper = (tuple(map(exact, _list(said[end], "end points"))) for end in ("lower", "upper"))
        ball = None
        if said["kind"] == "ball":
            center = list(map(exact, _list(said["center"], "entries")))
            with np.errstate(over="ignore"):
                near = np.array([float(value) for value in center]).astype(np.float32)
            require(near.tolist() == center, "a center of float32 numbers", said["center"])
            ball = Ball(said["norm"], near, exact(said["radius"]))
        region = Region(lower, upper, ball=ball)
        constraints = []
        for each in _list(said.get("constraints", []), "constraints"):
            constraint = _object(each, {"coefficients", "bound"}, "a constraint")
            pairs = _pairs(constraint["coefficients"], "input")
            constraints.append(Constraint.of(dict(pairs), _exact(constraint["bound"])))
        return region.constrained(constraints) if constraints else region

    def _tree(self, index: int, said: Any, cases: tuple[tuple[Region, Property], ...], slopes_given: int) -> Tree:
        tree = _object(said, {"case", "nodes"}, "a tree", frozenset({"bounds"}))
        bounds = None
        if "bounds" in tree:
            bounds = _integer(tree["bounds"], "an index of slopes")
            require(bounds < slopes_given, "slopes that are stored", bounds)
        case = _integer(tree["case"], "the index of a case")
        require(case < len(cases), f"the index of one of {len(cases)} cases", case)
        none = {"columns": np.zeros((0, 2), np.int64), "slopes": np.zeros((2, 0, 0)), "rows": np.zeros((0, 0))}
        columns, slopes, rows = (self.arrays.get(f"tree{index}.{name}", none[name]) for name in ("columns", *KINDS))
        k = len(columns)
        require(columns.dtype == np.int64 and columns.shape == (k, 2), "columns of shape (K, 2)", columns.shape)
        require(len(set(map(tuple, columns.tolist()))) == k, "each column once", index)
        slopes, rows = (np.ascontiguousarray(np.moveaxis(array, -1, 0)) for array in (slopes, rows))
        shapes = (slopes.shape[1:], rows.shape[1:])
        require(shapes == ((2, k), (k,)), f"multipliers for {k} columns", shapes)
        require(np.int64 not in (slopes.dtype, rows.dtype), "multipliers of a floating type", index)
        lines = {"slopes": len(slopes), "rows": len(rows)}
        sizes = [len(clause.rows) for clause in cases[case][1].clauses]
        nodes = tuple(self._node(node, sizes, lines) for node in _list(tree["nodes"], "nodes"))
        return Tree(case, nodes, columns, slopes, rows, bounds)

    @staticmethod
    def _node(node: Any, sizes: list[int], lines: dict[str, int]) -> Node:
        require(isinstance(node, list) and 1 <= len(node) <= 3, "a node: claims, split, clips", node)
        claims, split, clips = [*node, [], []][:3]
        return Node(_claims(claims, sizes, lines), _split(split), _claims(clips, sizes, lines))


def _clause(said: Any, outputs: int) -> Clause:
    clause = _object(said, {"label", "rows"}, "a clause")
    require(isinstance(clause["label"], str), "a label that is text", clause["label"])
    rows = []
    for each in _list(clause["rows"], "rows"):
        row = _object(each, {"coefficients", "offset"}, "a row")
        pairs = tuple((i, c) for i, c in _pairs(row["coefficients"], "output") if c)
        rows.append(Row(pairs, _exact(row["offset"])))
    return Clause(tuple(rows), outputs, clause["label"])


def _split(split: Any) -> Split | None:
    if split == []:
        return None
    kind, first, second = _list(split, "a kind and where")
    require(kind in ("box", "cut", "relu", "anew"), "a split: box, cut, relu or anew", kind)
    if kind in ("relu", "anew"):
        return PhaseSplit(_integer(first, "a node"), _integer(second, "a neuron"), kind == "relu")
    return BoxSplit(_integer(first, "an input's index"), _float(second), kind == "cut")


def _claims(some: Any, sizes: list[int], lines: dict[str, int]) -> tuple[Claim, ...]:
    claims = []
    for claim in _list(some, "claims"):
        number, texts, supplied = _list(claim, "a clause, weights and multipliers")
        clause = _integer(number, "the index of a clause")
        weights = tuple(map(_float, _list(texts, "weights")))
        require(clause < len(sizes), "the index of a clause", clause)
        require(len(weights) == sizes[clause], f"{sizes[clause]} weights", len(weights))
        require(min(weights) >= 0, "nonnegative weights", texts)
        multipliers = None
        if _list(supplied, "a kind and a line"):
            kind, line = supplied
            stored = kind in KINDS and _integer(line, "a line of multipliers") < lines[kind]
            require(stored, "a kind and a line of the multipliers that are stored", supplied)
            multipliers = (kind, line)
        claims.append(Claim(clause, weights, multipliers))
    return tuple(claims)
