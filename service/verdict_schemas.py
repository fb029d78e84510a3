"""Verdicts and their evidence, as they travel over HTTP."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from service.schema_base import AnswerModel, Sha256
from solver.verdict import Kind, Outcome, Reason, Semantics, Trust

__all__ = [
    "CertificateDocument",
    "CheckDocument",
    "CounterexampleDocument",
    "ProductDocument",
    "UniversalDocument",
    "VerdictDocument",
]


class CounterexampleDocument(AnswerModel):
    """An input on which ONNX Runtime's float32 output violates the property: one of the region, or, where that holds no
    float32 input, the one beside an exact input of it.
    """

    input: list[float] = Field(description="float32 values in C order")
    shape: list[int] = Field(description="shape of the network's input without the batch dimension")
    output: list[float] = Field(description="what ONNX Runtime answers, float32")
    clause: str = Field(description="the violated part of the property", examples=["class 3"])
    margin: float = Field(description="of the clause at this output, at most 0")
    exact_margin: float | None = Field(
        default=None,
        description=(
            "of the property at this input, or at `exact_input`, for the network over the reals, computed in rational "
            "arithmetic; where it is positive, only float32 rounding makes the violation"
        ),
    )
    exact_input: list[str] | None = Field(
        default=None,
        description=(
            "with trust `exact`: the rational input of the region at which the network over the reals violates the "
            "property, in C order, as exact decimals (or quotients); `input` is the float32 input beside it"
        ),
    )
    in_region: bool = Field(
        default=True, description="whether `input` lies in the region, without tolerance; else `exact_input` does"
    )


class CertificateDocument(AnswerModel):
    """A certificate, and, where the independent checker accepted it, what it found."""

    bytes: int
    sha256: str
    leaves: int | None = Field(default=None, description="claims that were checked: one for each clause and leaf")
    exact: int | None = Field(default=None, description="how many of them in exact arithmetic")
    weakest: float | None = Field(default=None, description="the smallest lower bound among the claims")
    seconds: float | None = Field(default=None, description="what checking took")
    proves: float | None = Field(
        default=None,
        description="for kinds `margin` and `distance`: the margin above which, or the distance up to which, it proves",
    )


class ProductDocument(AnswerModel):
    """The network that counterexample and certificate are about, where it is built of those that were given."""

    bytes: int
    sha256: Sha256


class UniversalDocument(AnswerModel):
    """One perturbation of many inputs."""

    flips: tuple[int, int] = Field(
        description="how many inputs it flips, as replayed, and how many any can flip at most, by the solver's word"
    )
    flipped: list[int] = Field(description="which it flips")
    robust: list[int] = Field(description="which no perturbation flips, as bounds prove")
    delta: list[float] = Field(description="the perturbation, in C order")


class VerdictDocument(AnswerModel):
    """The answer to a query, with its evidence: what `netproof verify --json` prints."""

    model_config = ConfigDict(extra="allow")

    verdict: Outcome
    trust: Trust | None = Field(description="whose word it rests on")
    semantics: Semantics | None = Field(
        default=None, description="which arithmetic a `robust` is about; `float32` includes `real`"
    )
    margin: tuple[float | None, float | None] = Field(
        description="proven lower bound, and upper bound that is replayed or, with trust `exact`, exact"
    )
    distance: tuple[float | None, float | None] = Field(
        default=(None, None),
        description=(
            "for kind `distance`: every violation is farther away than that (for norm `l0` at least that far), and the "
            "distance of `witness`; null: nothing proven, no violation known"
        ),
    )
    kind: Kind | Literal["universal"] = Field(default=Kind.DECIDE, description="what was asked")
    universal: UniversalDocument | None = Field(default=None, description="for kind `universal`")
    counterexample: CounterexampleDocument | None = Field(default=None, description="left out in lists")
    witness: CounterexampleDocument | None = Field(
        default=None,
        description=(
            "for kinds `margin` and `distance`: the replayed input that the upper end rests on; a margin's may keep "
            "the property; left out in lists"
        ),
    )
    certificate: CertificateDocument | None = Field(default=None, description="if the checker accepted one")
    product: ProductDocument | None = Field(
        default=None, description="for `equivalent_to` and `monotone`: the network that the evidence is about"
    )
    seconds: float
    stages: list[dict[str, Any]] = Field(default_factory=list, description="what each rung did; left out in lists")
    history: list[tuple[float, float | None, float | None]] = Field(
        default_factory=list,
        description=(
            "how the bounds came together: seconds, proven lower bound, smallest attained value, of the margin or of "
            "what `kind` asks for; left out in lists"
        ),
    )
    reason: Reason | None = Field(default=None, description="why the verdict is `unknown`")
    hint: str = Field(default="", description="what would help an `unknown`, or what is odd or missing")
    cached_from: dict[str, Any] | None = Field(
        default=None,
        description=(
            "the answer that this one was taken from: `job`, or `batch` and `item`; `epsilon` that it was found at, a "
            "larger one if robust, a smaller one if not; `seconds` that it took"
        ),
    )


class CheckDocument(AnswerModel):
    """What the independent checker found in a certificate."""

    accepted: bool = Field(description="whether the certificate proves its query about this network")
    reason: str = Field(description="why not, else empty")
    semantics: Semantics = Field(description="the strongest claim that is proven; `float32` includes `real`")
    summary: str = Field(description="the result and what it is about, in words")
    question: list[str] = Field(description="what the certificate is about: regions and what must hold there, in words")
    leaves: int = Field(description="claims that were checked: one for each clause and leaf of the proof")
    exact: int = Field(description="how many of them in exact arithmetic")
    weakest: float | None = Field(
        description="the smallest lower bound among the claims, for weights that sum to 1; null: none"
    )
    clauses: int = Field(description="violations that the query names")
    regions: int = Field(description="regions that the query is about")
    inputs: int = Field(description="input entries of the network")
    seconds: float = Field(description="what checking took")
    network: Sha256
    certificate: CertificateDocument
