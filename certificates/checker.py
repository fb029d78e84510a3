"""The checker: whether a certificate proves its query about a network.

Soundness. A pass means: for every case of the query and every point of its region, no clause is violated by the network
over the reals (or, with ``semantics`` "float32", by float32 inference in any order of summation). It rests on the
reading of the ONNX file (`networks`), on `certificates.enclosure` and on this module: claims hold on the cells where
they are made, and the cells where a clause is claimed cover the region. Nothing in the certificate is trusted.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certificates.balls import Limits
from certificates.clips import Clipper
from certificates.document import Certificate, Claim
from certificates.enclosure import UNIT, Boxes, Cell, Phases, batch, enclose, linear_bounds, lower_bounds
from certificates.errors import CertificateError
from certificates.forms import Form, rounded_down
from certificates.reading import read
from certificates.slopes import NeuronSlopes
from certificates.walk import Clip, Frame, covered, frames
from networks.graph import Network, ReluNode
from networks.onnx_model import parse
from networks.property import Clause
from networks.region import Region

if TYPE_CHECKING:
    from certificates.exact import ExactBox

__all__ = ["Report", "check"]

Array = NDArray[np.float64]

# Operators that round as the affine maps and ReLUs they are read as, or not at all.
_PLAIN = {"Add", "Concat", "Constant", "Conv", "Flatten", "Gemm", "Identity", "MatMul", "Relu", "Reshape", "Slice"}
_PLAIN |= {"Squeeze", "Sub", "Transpose", "Unsqueeze"}


#: Claims that are evaluated together, so that memory stays bounded where millions are about one frame.
_TOGETHER = 2**14


@dataclass(frozen=True)
class Report:
    """What the checker found.

    Attributes:
        proven: whether the certificate proves its query.
        reason: why not, else "".
        semantics: "float32" if it proves float32 inference too, else "real".
        weakest: the smallest lower bound among the claims, for weights that sum to 1.
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
    started = time.monotonic()
    certificate = read(data)
    if certificate.network != network.sha256:
        msg = (
            f"the certificate is about the network with sha256 {certificate.network[:16]}…, not about this one "
            f"({network.sha256[:16]}…); give the file that was verified"
        )
        raise CertificateError(msg)
    _check_fit(certificate, network)
    report = None
    if semantics == "float32" or (semantics == "strongest" and not exact and not _rounding_elsewhere(network)):
        report = _decided(certificate, network, float32=True, exact=False)
    if report is None or (semantics == "strongest" and not report.proven):
        report = _decided(certificate, network, float32=False, exact=exact)
    return replace(report, seconds=time.monotonic() - started)


def _decided(certificate: Certificate, network: Network, *, float32: bool, exact: bool) -> Report:
    """The report, without its seconds.

    Raises:
        CertificateError: float32 inference of this network is not covered.
    """
    if float32 and (why := _rounding_elsewhere(network)):
        msg = f"float32 inference of this network is not covered: {why}; check without float32"
        raise CertificateError(msg)
    cases = certificate.query.cases
    judge = _Judge(network, float32=float32, exact=exact)
    proven: list[set[int]] = [set() for _ in cases]
    reason = ""
    for number, tree in enumerate(certificate.trees):
        region, prop = cases[tree.case]
        pending = frames(tree, f"tree {number}", network, region)
        while not reason and (some := list(itertools.islice(pending, batch(network)))):
            supplied = None if tree.bounds is None else certificate.bounds[tree.bounds]
            reason = judge.fault(f"tree {number}", some, region, prop.clauses, supplied)
        if reason:
            break
        proven[tree.case] |= covered(tree)
    for number, (_, prop) in enumerate(cases):
        missing = [clause.label for i, clause in enumerate(prop.clauses) if i not in proven[number]]
        if missing:
            reason = reason or f"no tree proves {missing[0]!r} on the whole region of case {number}"
    return Report(
        not reason,
        reason,
        "float32" if float32 else "real",
        judge.weakest,
        judge.claims,
        judge.exact,
        certificate.query.clauses,
        len(cases),
        network.inputs,
        0.0,
    )


def _check_fit(certificate: Certificate, network: Network) -> None:
    for slopes in certificate.bounds:
        for index, neuron in (*slopes.neurons.tolist(), *slopes.columns.tolist()):
            node = network.nodes[index] if 0 <= index < len(network.nodes) else None
            if not isinstance(node, ReluNode) or not 0 <= neuron < node.features:
                msg = f"the certificate has slopes for neuron {neuron} of node {index} that the network does not have"
                raise CertificateError(msg)
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


def _rounding_elsewhere(network: Network) -> str:
    """Why inference of the network rounds elsewhere than in the affine maps that were read, else ""."""
    if network.notes:
        return network.notes[0]
    others = {node.op_type for node in parse(network.model).graph.node} - _PLAIN
    return f"operator {min(others)}" if others else ""


class _Judge:
    """Decides claims, and counts what it decided."""

    def __init__(self, network: Network, *, float32: bool, exact: bool) -> None:
        self.claims = 0
        self.exact = 0
        self.weakest = np.inf
        self._network = network
        self._float32 = float32
        self._all_exact = exact
        self._bounds: Boxes | None = None
        self._whole: Boxes | None = None
        self._exactly: tuple[tuple[list[Fraction], list[Fraction]], ExactBox] | None = None
        self._clippers: dict[int, Clipper] = {}
        self._forms: dict[tuple[Clause, tuple[float, ...]], Form] = {}
        self._region: Region | None = None
        self._limits: Limits | None = None
        self._supplied: NeuronSlopes | None = None

    def fault(
        self,
        name: str,
        frames: list[Frame],
        region: Region,
        clauses: tuple[Clause, ...],
        supplied: NeuronSlopes | None,
    ) -> str:
        """Why a claim on some of these frames fails, else ""."""
        self._enter(region, supplied)
        clips: dict[int, list[tuple[int, Clip]]] = {}
        tasks: dict[int, list[_Task]] = {}
        for b, frame in enumerate(frames):
            for clip in frame.clips:
                clips.setdefault(clip.depth, []).append((b, clip))
            for number, claim, cell, depth in frame.tasks:
                tasks.setdefault(depth, []).append(_Task(b, number, cell, self._form(claim, clauses)))
        bounds = self._enclosed(frames) if clips or not self._all_exact else None
        boxes: dict[int, ExactBox] = {}
        # Depth by depth, as what clips tell is only needed at the next one.
        for depth in range(max((*clips, *tasks), default=0) + 1):
            some = tasks.get(depth, [])
            for first in range(0, len(some), _TOGETHER):
                if why := self._false(name, frames, bounds, some[first : first + _TOGETHER], region, boxes):
                    return why
            if bounds is not None:
                self._clip(bounds, clips.get(depth, []), clauses)
            for _, clip in clips.get(depth - 1, []):
                clip.known.clear()
        return ""

    def _enter(self, region: Region, supplied: NeuronSlopes | None) -> None:
        """Forgets what is known of boxes of another region, or by other slopes."""
        if self._region is region and self._supplied is supplied:
            return
        self._region, self._limits, self._supplied = region, Limits.of(region), supplied
        self._bounds = self._whole = self._exactly = None

    def _false(
        self,
        name: str,
        frames: list[Frame],
        bounds: Boxes | None,
        tasks: list[_Task],
        region: Region,
        boxes: dict[int, ExactBox],
    ) -> str:
        """Why one of these claims fails, else ""; ``boxes`` as in `_decide_exactly`."""
        self.claims += len(tasks)
        values = np.zeros(len(tasks)) if self._all_exact or bounds is None else self._values(bounds, tasks)
        for task, value in zip(tasks, values.tolist(), strict=True):
            bound, holds = value, value > 0
            if not holds and self._worth(frames[task.box], task, value):
                bound, holds = self._decide_exactly(frames[task.box], task, region, boxes)
            bound = task.form.of_unit_weight(bound)
            self.weakest = min(self.weakest, bound)
            if not holds:
                return f"{name}, node {task.number}: {task.form.label!r} is only bounded by {bound:.6g} there"
        return ""

    def _decide_exactly(
        self, frame: Frame, task: _Task, region: Region, boxes: dict[int, ExactBox]
    ) -> tuple[float, bool]:
        """The bound, rounded down, and whether it is positive; ``boxes`` keeps what is known of the frames."""
        from certificates import exact  # rarely needed, as is python-flint

        self.exact += 1
        region = exact.manageable(region)
        if task.box not in boxes:
            whole = _ends(region, frame.lower, frame.upper)
            box = self._exactly_around(whole, region)
            if frame.phases:
                box = exact.enclose(self._network, *whole, frame.phases, box, region, self._supplied)
            boxes[task.box] = box
        ends = _ends(region, task.cell.lower, task.cell.upper)
        found = exact.lower_bound(boxes[task.box], task.form.exact, task.cell, ends)
        if found is None:
            return np.inf, True
        return rounded_down(found + task.form.constant), found + task.form.constant > 0

    def _clip(self, bounds: Boxes, clips: list[tuple[int, Clip]], clauses: tuple[Clause, ...]) -> None:
        """Evaluates clips, each with the number of its box, that rest on equally many others."""
        for b, some in itertools.groupby(clips, key=lambda each: each[0]):
            box = bounds.take(np.array([b]))
            if b not in self._clippers:
                self._clippers[b] = Clipper(self._network, box)
            group = [clip for _, clip in some]
            forms = [self._form(clip.claim, clauses) for clip in group]
            C, zero = np.stack([form.C for form in forms]), np.zeros(len(group), np.intp)
            first = self._clippers[b].unclipped
            cells = [clip.cell if clip.cell.known else replace(clip.cell, known=first) for clip in group]
            found = linear_bounds(self._network, box, C, zero, cells)
            waiting = zip(group, forms, strict=True)
            for bound, part in found:
                pairs = list(itertools.islice(waiting, len(part)))
                # What an output's coefficient was rounded off is charged to claims alone.
                offset = np.array([-np.inf if form.error.any() else form.offset for _, form in pairs])
                told = self._clippers[b].clip(bound, offset, part)
                for (clip, _), known in zip(pairs, told, strict=True):
                    clip.known.update(known)

    def _worth(self, frame: Frame, task: _Task, value: float) -> bool:
        """Whether exact arithmetic may decide otherwise: it gains about twice what is charged for rounding."""
        if self._all_exact or self._float32:
            return self._all_exact
        lower, upper = frame.lower[None], frame.upper[None]
        uncharged = self._bounded(lower, upper, [frame.phases], unit=0.0)
        (best,) = self._values(uncharged, [replace(task, box=0)]).tolist()
        return not 2 * best - value <= 0

    def _enclosed(self, frames: list[Frame]) -> Boxes:
        """Bounds of the frames; the last ones are remembered with their clippers, for trees that split no box share
        their only one.
        """
        lower, upper = np.stack([f.lower for f in frames]), np.stack([f.upper for f in frames])
        phases = [f.phases for f in frames]
        last = self._bounds
        same = last is not None and np.array_equal(last.lower, lower) and np.array_equal(last.upper, upper)
        if last is None or not same or last.phases != phases:
            last = self._bounds = self._bounded(lower, upper, phases)
            self._clippers = {}
        return last

    def _bounded(self, lower: Array, upper: Array, phases: Sequence[Phases] = (), unit: float = UNIT) -> Boxes:
        """Bounds of boxes under phases."""
        again = functools.partial(
            enclose, self._network, lower, upper, phases, float32=self._float32, unit=unit, limits=self._limits
        )
        if any(phases):
            return again(around=self._around(lower, upper), supplied=self._supplied)
        bounds = again()
        return bounds if self._supplied is None else again(around=bounds, supplied=self._supplied)

    def _around(self, lower: Array, upper: Array) -> Boxes:
        """Bounds of the boxes whatever the phases: of a lone one where all are the same, as in trees of phases."""
        if (lower == lower[:1]).all() and (upper == upper[:1]).all():
            lower, upper = lower[:1], upper[:1]
        last = self._whole
        same = last is not None and np.array_equal(last.lower, lower) and np.array_equal(last.upper, upper)
        if last is None or not same:
            last = self._whole = self._bounded(lower, upper)
        return last

    def _exactly_around(self, ends: tuple[list[Fraction], list[Fraction]], region: Region) -> ExactBox:
        """The same in exact arithmetic, of one box."""
        from certificates import exact

        if self._exactly is None or self._exactly[0] != ends:
            box = exact.enclose(self._network, *ends, region=region)
            if self._supplied is not None:
                box = exact.enclose(self._network, *ends, around=box, region=region, supplied=self._supplied)
            self._exactly = ends, box
        return self._exactly[1]

    def _values(self, bounds: Boxes, tasks: list[_Task]) -> Array:
        """Lower bounds of the tasks' forms; −∞ claims nothing."""
        box = np.array([task.box for task in tasks])
        C = np.stack([task.form.C for task in tasks])
        error = np.stack([task.form.error for task in tasks])
        offset = np.array([task.form.offset for task in tasks])
        value = lower_bounds(self._network, bounds, C, box, [task.cell for task in tasks])
        with np.errstate(invalid="ignore", over="ignore"):
            charge = np.where(error > 0, error * bounds.magnitude[-1][box], 0).sum(-1) * (1 + 2.0**-20)
            total = value + offset - charge - 2.0**-50 * (np.abs(value) + np.abs(offset) + charge)
        # +∞ says that the cell is empty.
        return np.where(value == np.inf, value, np.where(np.isnan(total), -np.inf, total))

    def _form(self, claim: Claim, clauses: tuple[Clause, ...]) -> Form:
        key = clauses[claim.clause], claim.weights
        if key not in self._forms:
            self._forms[key] = Form.of(*key)
        return self._forms[key]


@dataclass(frozen=True, eq=False)
class _Task:
    """A claim: the box and the cell that it is about, the number of its node, and its form."""

    box: int
    number: int
    cell: Cell
    form: Form


def _ends(region: Region, lower: Array, upper: Array) -> tuple[list[Fraction], list[Fraction]]:
    """The exact ends of the region's part between ``lower`` and ``upper``."""
    low = [max(e, Fraction(v)) for e, v in zip(region.exact_lower, lower.tolist(), strict=True)]
    high = [min(e, Fraction(v)) for e, v in zip(region.exact_upper, upper.tolist(), strict=True)]
    return low, high
