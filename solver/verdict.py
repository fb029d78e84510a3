"""Verdicts, the evidence that they carry, and progress reports."""

from __future__ import annotations

import enum
import hashlib
import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from certificates.checker import Report
from networks.exact import exact, written

__all__ = ["Counterexample", "Kind", "Outcome", "Progress", "Reason", "Semantics", "Stage", "Trust", "Verdict"]


class Kind(enum.StrEnum):
    """What is asked about a query."""

    DECIDE = "decide"  #: whether a region holds a violation
    MARGIN = "margin"  #: the least margin over the regions
    DISTANCE = "distance"  #: how far the nearest violation is from the region's center


class Outcome(enum.StrEnum):
    """What was found out: the three verdicts."""

    ROBUST = "robust"
    COUNTEREXAMPLE = "counterexample"
    UNKNOWN = "unknown"


class Trust(enum.StrEnum):
    """Whose word a decided verdict rests on."""

    CERTIFIED = "certified"  #: the independent checker accepted a certificate
    SOLVER = "solver"  #: the prover says so: its own bounds, or a MIP solver
    REPLAYED = "replayed"  #: ONNX Runtime reproduces the violation
    EXACT = "exact"  #: exact arithmetic over the reals, where the region holds no float32 point


class Semantics(enum.StrEnum):
    """Which arithmetic of the network a ``robust`` verdict is about."""

    REAL = "real"  #: the network over the reals, with its stored weights taken exactly
    FLOAT32 = "float32"  #: that, and float32 inference in any order of summation


class Reason(enum.StrEnum):
    """Why a verdict is ``unknown``."""

    TIMEOUT = "timeout"
    MEMORY = "memory"
    CANCELLED = "cancelled"
    NUMERICS = "numerics"
    INCOMPLETE = "incomplete"  #: the chosen engine cannot decide further (``--engine bounds``)


@dataclass(frozen=True, eq=False)
class Counterexample:
    """A float32 input of the region whose ONNX Runtime output violates the property; or an exact witness.

    An exact witness belongs to a region that holds no float32 point. It is a rational point of that region at which the
    network over the reals violates the property, as exact arithmetic has shown. ``input`` is then the float32 point
    beside it, where ONNX Runtime violates the same clause.

    Attributes:
        input: shape of the network's input without batch dimension, float32.
        output: what ONNX Runtime returned for it, float32, shape ``(outputs,)``.
        clause: label of the violated clause.
        margin: the clause's exact margin at ``output``, at most 0 (rounded to float for display).
        exact_margin: the property's margin at `point` for the network over the reals with its stored weights,
            computed in rational arithmetic (rounded to float for display, its sign kept). Where it is positive, only
            float32 rounding makes the violation; an exact witness never has that. None where nobody has computed it.
        exact_input: the exact witness, one rational for each entry in C order; None where ``input`` lies in the region.

    That `point` lies in the region, without tolerance, is what makes it one of these.
    """

    input: NDArray[np.float32]
    output: NDArray[np.float32]
    clause: str
    margin: float
    exact_margin: float | None = None
    exact_input: tuple[Fraction, ...] | None = None

    @property
    def point(self) -> tuple[Fraction, ...]:
        """The point of the region, one rational for each entry in C order."""
        if self.exact_input is not None:
            return self.exact_input
        return tuple(Fraction(v) for v in self.input.reshape(-1).tolist())

    @property
    def trust(self) -> Trust:
        """Whose word it rests on."""
        return Trust.REPLAYED if self.exact_input is None else Trust.EXACT

    @property
    def attained(self) -> float:
        """The margin that some point of the region attains: replayed, or over the reals for an exact witness."""
        if self.exact_input is None:
            return self.margin
        assert self.exact_margin is not None
        return self.exact_margin

    def to_json(self) -> dict[str, Any]:
        return {
            "input": self.input.reshape(-1).astype(float).tolist(),
            "shape": list(self.input.shape),
            "output": self.output.astype(float).tolist(),
            "clause": self.clause,
            "margin": self.margin,
            "exact_margin": None if self.exact_margin is None else finite(self.exact_margin),
            "exact_input": None if self.exact_input is None else [written(v) for v in self.exact_input],
            "in_region": self.exact_input is None,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """The counterexample that `to_json` wrote; float32 values and rationals come back exactly."""
        witness = document.get("exact_input")
        return cls(
            input=np.asarray(document["input"], dtype=np.float32).reshape(document["shape"]),
            output=np.asarray(document["output"], dtype=np.float32),
            clause=document["clause"],
            margin=document["margin"],
            exact_margin=document.get("exact_margin"),
            exact_input=None if witness is None else tuple(exact(v) for v in witness),
        )


@dataclass(frozen=True)
class Stage:
    """One rung of the ladder: what it was, what it cost and what it proved."""

    name: str
    seconds: float
    detail: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "seconds": round(self.seconds, 6), **self.detail}


@dataclass(frozen=True)
class Progress:
    """What is known while a query is being decided.

    Attributes:
        stage: the rung at work.
        seconds: since the query started.
        lower: proven lower bound of the margin over what is still open (−inf when nothing is proven yet).
        upper: smallest replayed margin so far (+inf when there is none).
        open: clauses not yet proven.
        nodes: branch-and-bound nodes (or boxes) so far.
        measures: what ``lower`` and ``upper`` are about: "margin" or "distance".
        helpers: processes that search parts of it, beside the one that reports.
    """

    stage: str
    seconds: float
    lower: float = -math.inf
    upper: float = math.inf
    open: int = 0
    nodes: int = 0
    measures: str = "margin"
    helpers: int = 0

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "stage": self.stage,
            "seconds": round(self.seconds, 3),
            self.measures: [finite(self.lower), finite(self.upper)],
            "open": self.open,
            "nodes": self.nodes,
        }
        return document | {"helpers": self.helpers} if self.helpers else document


@dataclass(frozen=True, eq=False)
class Verdict:
    """The answer to a query, with its evidence.

    Attributes:
        outcome: robust, counterexample or unknown.
        trust: whose word that rests on; None for ``unknown``.
        seconds: for the decision.
        stages: the rungs of the ladder that ran, in order.
        counterexample: the input that violates the property.
        reason: why the outcome is ``unknown``.
        margin: proven lower bound of the property's margin over the region, and the smallest one that was attained:
            replayed, or exact with trust ``exact``. The lower bound is at least 0 only for ``robust``; an upper bound
            at most 0 comes with a counterexample.
        decided_by: the stage that settled the query, "" if none did.
        open: labels of the clauses that are not proven.
        hint: what would help, for ``unknown``; what is odd about a counterexample; why a certificate that was asked
            for is missing.
        statistics: facts about the query (ReLUs, unstable ReLUs, …).
        certificate: the file that the independent checker accepted; for the kind ``decide`` only with trust
            ``certified``.
        checked: what the checker found in it.
        kind: what was asked.
        distance: for the kind ``distance`` a proven lower bound, and the distance of `witness` (see docs/questions.md).
        witness: for the kinds ``margin`` and ``distance`` the replayed input that the upper end rests on; a margin's
            may keep the property.
        proves: for these kinds the threshold that the certificate is about: the margin that the property keeps above,
            or the distance up to which it holds.
    """

    outcome: Outcome
    trust: Trust | None
    margin: tuple[float, float]
    seconds: float
    stages: tuple[Stage, ...] = ()
    counterexample: Counterexample | None = None
    reason: Reason | None = None
    decided_by: str = ""
    open: tuple[str, ...] = ()
    hint: str = ""
    statistics: dict[str, Any] = field(default_factory=dict)
    certificate: bytes | None = field(default=None, repr=False)
    checked: Report | None = None
    kind: Kind = Kind.DECIDE
    distance: tuple[float, float] | None = None
    witness: Counterexample | None = None
    proves: float | None = None

    @property
    def semantics(self) -> Semantics | None:
        """Which arithmetic the verdict, or the certificate, is about; None where nothing was proven."""
        if self.outcome is not Outcome.ROBUST and self.checked is None:
            return None
        return Semantics(self.checked.semantics) if self.checked is not None else Semantics.REAL

    def to_json(self) -> dict[str, Any]:
        """The verdict as one JSON object, as docs/evidence.md describes it; infinite bounds become null."""
        return {
            "verdict": str(self.outcome),
            "trust": str(self.trust) if self.trust else None,
            "semantics": str(self.semantics) if self.semantics else None,
            "margin": [finite(self.margin[0]), finite(self.margin[1])],
            "distance": [None, None] if self.distance is None else [finite(end) for end in self.distance],
            "counterexample": self.counterexample.to_json() if self.counterexample else None,
            "certificate": self._described() if self.certificate else None,
            "kind": str(self.kind),
            "witness": self.witness.to_json() if self.witness else None,
            "seconds": round(self.seconds, 6),
            "stages": [stage.to_json() for stage in self.stages],
            "reason": str(self.reason) if self.reason else None,
            "decided_by": self.decided_by,
            "open": list(self.open),
            "hint": self.hint,
            "statistics": self.statistics,
        }

    def _described(self) -> dict[str, Any]:
        assert self.certificate is not None
        known = {"bytes": len(self.certificate), "sha256": hashlib.sha256(self.certificate).hexdigest()}
        if self.checked is None:
            return known
        report = self.checked
        weakest = finite(report.weakest)
        return known | {
            "leaves": report.claims,
            "exact": report.exact,
            "weakest": weakest,
            "seconds": round(report.seconds, 6),
            "proves": self.proves,
        }


def finite(value: float) -> float | None:
    """``value``, or None where JSON has no number for it."""
    return value if math.isfinite(value) else None
