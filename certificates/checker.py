"""The checker: whether a certificate proves its query about a network.

Soundness. A pass means: for every case of the query and every point of its region, no clause is violated by the network
over the reals (or, with ``semantics`` "float32", by float32 inference in any order of summation). It rests on the
reading of the ONNX file (`networks`), on `certificates.enclosure` and on this module: claims hold on the cells where
they are made, and the cells where a clause is claimed cover the region. Nothing in the certificate is trusted.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certificates.document import BoxSplit, Certificate, Claim, PhaseSplit, Tree, read
from certificates.enclosure import Boxes, Cell, enclose, lower_bounds
from certificates.errors import CertificateError
from certificates.exact import exact_lower_bound
from networks.exact import enclose as enclose_exactly
from networks.graph import Network, ReluNode
from networks.onnx_model import parse
from networks.property import Clause
from networks.region import Region

__all__ = ["Report", "check"]

Array = NDArray[np.float64]

# Operators that round as the affine maps and ReLUs they are read as, or not at all.
_PLAIN = {"Add", "Concat", "Constant", "Conv", "Flatten", "Gemm", "Identity", "MatMul", "Relu", "Reshape", "Slice"}
_PLAIN |= {"Squeeze", "Sub", "Transpose", "Unsqueeze"}

# Boxes that are enclosed together; more would leave the cache.
_BATCH = 32


@dataclass(frozen=True)
class Report:
    """What the checker found.

    Attributes:
        proven: whether the certificate proves its query.
        reason: why not, else "".
        semantics: "float32" if it proves float32 inference too, else "real".
        weakest: the smallest lower bound among the claims.
        claims: how many claims were checked.
        exact: how many of them in exact arithmetic.
        clauses, regions, inputs: what the query is about.
        seconds: what checking took, reading included.
    """

    proven: bool
    reason: str
    semantics: str
    weakest: float
    claims: int
    exact: int
    clauses: int
    regions: int
    inputs: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object; an infinite bound becomes null."""
        return asdict(self) | {"weakest": self.weakest if np.isfinite(self.weakest) else None}

    def __str__(self) -> str:
        what = f"{self.clauses} clauses on {self.regions} region(s) of {self.inputs} inputs"
        exact = f" ({self.exact} of them exactly)" if self.exact else ""
        how = f"{self.claims} claims{exact}, weakest bound {self.weakest:.6g}, {self.seconds:.2f} s"
        if self.proven:
            return f"proven ({self.semantics}): no violation of {what}; {how}"
        return f"not proven: {self.reason}; {what}; {how}"


def check(data: bytes, network: Network, *, semantics: str = "real", exact: bool = False) -> Report:
    """Checks the certificate ``data`` against ``network``.

    Args:
        data: the archive.
        network: what `networks.load_bytes` reads from the ONNX file.
        semantics: what to prove: "real", or "float32" for float32 inference in any order of summation; or "strongest"
            for "float32" where that is proven (float32 inference that does not round is real arithmetic, so it
            contains the other claim) and "real" where it is not.
        exact: decide every claim in exact arithmetic, not only those that rounding leaves open; "real" only.

    Raises:
        CertificateError: the bytes are no certificate, or one about another network.
    """
    if semantics == "strongest":
        return _check_strongest(data, network, exact=exact)
    started = time.monotonic()
    certificate = read(data)
    if certificate.network != network.sha256:
        msg = (
            f"the certificate is about the network with sha256 {certificate.network[:16]}…, not about this one "
            f"({network.sha256[:16]}…); give the file that was verified"
        )
        raise CertificateError(msg)
    _check_fit(certificate, network)
    if semantics == "float32":
        _check_plain(network)
        exact = False
    cases = certificate.query.cases
    tally = _Tally()
    enclosures = _Enclosures(network, float32=semantics == "float32")
    proven: list[set[int]] = [set() for _ in cases]
    reason = ""
    for number, tree in enumerate(certificate.trees):
        region, prop = cases[tree.case]
        reason = _check_tree(tree, f"tree {number}", network, region, prop.clauses, tally, enclosures, exact=exact)
        if reason:
            break
        proven[tree.case] |= _covered(tree)
    for number, (_, prop) in enumerate(cases):
        missing = [clause.label for i, clause in enumerate(prop.clauses) if i not in proven[number]]
        if missing:
            reason = reason or f"no tree proves {missing[0]!r} on the whole region of case {number}"
    return Report(
        not reason,
        reason,
        semantics,
        tally.weakest,
        tally.claims,
        tally.exact,
        certificate.query.clauses,
        len(cases),
        network.inputs,
        time.monotonic() - started,
    )


def _check_strongest(data: bytes, network: Network, *, exact: bool) -> Report:
    started = time.monotonic()
    if not exact:
        try:
            report = check(data, network, semantics="float32")
        except CertificateError:
            report = None  # the other check says so again if it is not the semantics that cannot be served
        if report is not None and report.proven:
            return report
    return replace(check(data, network, exact=exact), seconds=time.monotonic() - started)


@dataclass
class _Tally:
    claims: int = 0
    weakest: float = np.inf
    exact: int = 0


class _Enclosures:
    """Bounds of batches of boxes; the last ones are remembered, for trees that split no box share their only one."""

    def __init__(self, network: Network, *, float32: bool) -> None:
        self._network = network
        self._float32 = float32
        self._last: Boxes | None = None

    def of(self, lower: Array, upper: Array) -> Boxes:
        last = self._last
        if last is None or not (np.array_equal(last.lower, lower) and np.array_equal(last.upper, upper)):
            last = self._last = enclose(self._network, lower, upper, float32=self._float32)
        return last


def _check_fit(certificate: Certificate, network: Network) -> None:
    for region, prop in certificate.query.cases:
        if region.inputs != network.inputs:
            msg = f"the certificate's region has {region.inputs} inputs, but the network has {network.inputs}"
            raise CertificateError(msg)
        for clause in prop.clauses:
            if clause.outputs != network.outputs:
                msg = f"the certificate is about {clause.outputs} outputs, but the network has {network.outputs}"
                raise CertificateError(msg)
            if network.stripped and not all(row.compares_two_outputs for row in clause.rows):
                msg = f"the network ends with {network.stripped}: only comparisons of two outputs can be proven"
                raise CertificateError(msg)


def _check_plain(network: Network) -> None:
    """Refuses networks whose inference rounds elsewhere than in the affine maps that were read."""
    operators = {node.op_type for node in parse(network.model).graph.node}
    if network.notes or operators - _PLAIN:
        why = network.notes[0] if network.notes else f"operator {min(operators - _PLAIN)}"
        msg = f"float32 inference of this network is not covered: {why}; check without float32"
        raise CertificateError(msg)


@dataclass(eq=False)
class _Frame:
    """A box on which neurons are bounded, the claims that rest on those bounds, and how many cells may add more."""

    lower: Array
    upper: Array
    tasks: list[tuple[int, Claim, Cell]] = field(default_factory=list)
    open: int = 0


def _check_tree(
    tree: Tree,
    name: str,
    network: Network,
    region: Region,
    clauses: tuple[Clause, ...],
    tally: _Tally,
    enclosures: _Enclosures,
    *,
    exact: bool,
) -> str:
    """Checks every claim of a tree; returns why one fails, else ""."""
    frames = _frames(tree, name, network, region)
    while batch := list(itertools.islice(frames, _BATCH)):
        reason = _check_frames(batch, name, network, clauses, tally, enclosures, exact=exact)
        if reason:
            return reason
    return ""


def _frames(tree: Tree, name: str, network: Network, region: Region) -> Iterator[_Frame]:
    """Walks the tree in preorder; yields each frame that has claims once all of them are known."""
    supplied = _Supplied(tree, network, name)
    root = _Frame(region.lower, region.upper, open=1)
    # Cells still to come, the next one last: box, frame and the signs chosen on the way.
    pending: list[tuple[Array, Array, _Frame, tuple[tuple[int, int, int], ...]]] = []
    pending.append((root.lower, root.upper, root, ()))
    for i, node in enumerate(tree.nodes):
        if not pending:
            msg = f"{name} has nodes after its last leaf"
            raise CertificateError(msg)
        lower, upper, frame, phases = pending.pop()
        frame.open -= 1
        frame.tasks.extend((i, claim, supplied.cell(lower, upper, phases, claim)) for claim in node.claims)
        split = node.split
        if isinstance(split, PhaseSplit):
            relu = network.nodes[split.node] if split.node < len(network.nodes) else None
            if not isinstance(relu, ReluNode) or split.neuron >= relu.features:
                msg = f"{name} splits neuron {split.neuron} of node {split.node}, which is no ReLU of the network"
                raise CertificateError(msg)
            frame.open += 2
            signs = [(*phases, (split.node, split.neuron, sign)) for sign in (-1, 1)]
            pending.extend((lower, upper, frame, chosen) for chosen in signs)
        elif isinstance(split, BoxSplit):
            j = split.entry
            if j >= network.inputs or not lower[j] <= split.at <= upper[j]:
                msg = f"{name} splits input {j} at {split.at!r}, outside the box that is split"
                raise CertificateError(msg)
            below, above = upper.copy(), lower.copy()
            below[j] = above[j] = split.at
            for low, high in ((above, upper), (lower, below)):
                child = frame if split.keep else _Frame(low, high)
                child.open += 1
                pending.append((low, high, child, phases))
        if not frame.open and frame.tasks:
            yield frame
    if pending:
        msg = f"{name} ends before its last leaf"
        raise CertificateError(msg)


class _Supplied:
    """A tree's multipliers by ReLU node."""

    def __init__(self, tree: Tree, network: Network, name: str) -> None:
        self._tree = tree
        self._places: dict[int, NDArray[np.intp]] = {}
        self._neurons: dict[int, NDArray[np.intp]] = {}
        for index in np.unique(tree.columns[:, 0]).tolist():
            node = network.nodes[index] if 0 <= index < len(network.nodes) else None
            places = np.flatnonzero(tree.columns[:, 0] == index)
            neurons = tree.columns[places, 1].astype(np.intp)
            if not isinstance(node, ReluNode) or neurons.min() < 0 or neurons.max() >= node.features:
                msg = f"{name} has multipliers for neurons of node {index} that the network does not have"
                raise CertificateError(msg)
            self._places[index], self._neurons[index] = places, neurons

    def cell(self, lower: Array, upper: Array, phases: tuple[tuple[int, int, int], ...], claim: Claim) -> Cell:
        """The cell of a claim, with the multipliers that the claim names."""
        if claim.multipliers is None:
            return Cell(lower, upper, phases)
        kind, line = claim.multipliers
        if kind == "rows":
            return Cell(lower, upper, phases, self._neurons, kind, self._by_node(self._tree.rows[line]))
        alpha, beta = self._tree.slopes[line]
        return Cell(lower, upper, phases, self._neurons, kind, self._by_node(alpha), self._by_node(beta))

    def _by_node(self, values: NDArray[np.floating]) -> dict[int, Array]:
        return {index: values[places].astype(np.float64) for index, places in self._places.items()}


def _check_frames(
    frames: list[_Frame],
    name: str,
    network: Network,
    clauses: tuple[Clause, ...],
    tally: _Tally,
    enclosures: _Enclosures,
    *,
    exact: bool,
) -> str:
    lower, upper = np.stack([f.lower for f in frames]), np.stack([f.upper for f in frames])
    bounds = enclosures.of(lower, upper)
    tasks = [(b, *task) for b, frame in enumerate(frames) for task in frame.tasks]
    forms = [_form(claim, clauses[claim.clause], network.outputs) for _, _, claim, _ in tasks]
    box = np.array([b for b, _, _, _ in tasks])
    cells = [cell for _, _, _, cell in tasks]
    value, given_up = lower_bounds(network, bounds, np.stack([c for c, _, _ in forms]), box, cells)
    offset = np.array([d for _, d, _ in forms])
    error = np.stack([e for _, _, e in forms])
    with np.errstate(invalid="ignore"):
        charge = np.where(error > 0, error * bounds.magnitude[-1][box], 0).sum(-1) * (1 + 2.0**-20)
        value = value + offset - charge - 2.0**-50 * (np.abs(value) + np.abs(offset) + charge)
    value = np.where(np.isnan(value), -np.inf, value)
    if exact or not bounds.float32:
        for r in np.flatnonzero(exact | ((value <= 0) & (value + 2 * given_up > 0))).tolist():
            C, d, e = forms[r]
            found = exact_lower_bound(network, bounds, C, int(box[r]), cells[r]) if not e.any() else None
            if found is not None:
                value[r] = enclose_exactly([found + Fraction(d)])[0][0]
                tally.exact += 1
    tally.claims += len(tasks)
    tally.weakest = min(tally.weakest, float(value.min()))
    worst = int(value.argmin())
    if value[worst] > 0:
        return ""
    _, node, claim, _ = tasks[worst]
    return f"{name}, node {node}: {clauses[claim.clause].label!r} is only bounded by {value[worst]:.6g} there"


def _form(claim: Claim, clause: Clause, outputs: int) -> tuple[Array, float, Array]:
    """The combined row of a claim: coefficients, offset rounded down, and how far each coefficient may be rounded."""
    exact: dict[int, Fraction] = {}
    constant = Fraction(0)
    scale = [Fraction(w) for w in claim.weights]
    if sum(w > 0 for w in scale) == 1:
        scale = [Fraction(int(w > 0)) for w in scale]  # a positive factor changes no sign
    for w, row in zip(scale, clause.rows, strict=True):
        constant += w * row.offset
        for i, c in row.coefficients:
            exact[i] = exact.get(i, Fraction(0)) + w * c
    C, error = np.zeros(outputs), np.zeros(outputs)
    for i, c in exact.items():
        (low,), (high,) = enclose_exactly([c])
        C[i], error[i] = low, high - low
    return C, float(enclose_exactly([constant])[0][0]), error


def _covered(tree: Tree) -> set[int]:
    """The clauses that every cell of the tree claims, or is split into two cells that prove."""
    stack: list[frozenset[int]] = []
    for node in reversed(tree.nodes):
        claimed = frozenset(claim.clause for claim in node.claims)
        if node.split is not None:
            first, second = stack.pop(), stack.pop()
            claimed |= first & second
        stack.append(claimed)
    return set(stack.pop()) if stack else set()
