"""What travels over HTTP, as pydantic models; queries have a module of their own, `service.queries`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from service.queries import QueryDocument, RequestModel
from service.queue import Priority
from service.states import JobState
from service.workers import Licence
from solver.options import Backend, Engine
from solver.verdict import Kind, Outcome, Reason, Semantics, Trust

__all__ = [
    "UNION_TAGS",
    "AttemptDocument",
    "BackendDocument",
    "CertificateDocument",
    "Check",
    "CheckDocument",
    "CounterexampleDocument",
    "FailureDocument",
    "Health",
    "InlineNetwork",
    "JobDocument",
    "JobPage",
    "Links",
    "NetworkDocument",
    "NetworkPage",
    "Problem",
    "ProblemFault",
    "ProductDocument",
    "ProgressDocument",
    "Readiness",
    "Sha256",
    "SolverDocument",
    "Solvers",
    "UniversalDocument",
    "VerdictDocument",
    "VerifyRequest",
    "Version",
    "WorkerDocument",
    "WorkersDocument",
]

_EXAMPLE_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

Sha256: TypeAlias = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the decompressed ONNX file, 64 lower-case hex digits",
        examples=[_EXAMPLE_SHA256],
    ),
]


class InlineNetwork(RequestModel):
    """A network inside the request, so that one call is enough; it is kept like an uploaded one."""

    onnx: str = Field(min_length=1, description="the ONNX file (or its gzip) in base64")


def _network_tag(value: object) -> str:
    return "inline" if isinstance(value, dict | InlineNetwork) else "known"


#: What pydantic puts into error locations where no request has it: names of union members, and a mark for names.
UNION_TAGS = frozenset({"inline", "known", "[key]"})


class VerifyRequest(RequestModel):
    """One question about one network, and what answering it may cost."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "network": _EXAMPLE_SHA256,
                    "query": {"input": [0.25, 0.5], "epsilon": 0.1, "domain": [0, 1], "label": 1},
                    "time_limit": 60,
                }
            ]
        }
    )

    network: Annotated[
        Annotated[Sha256, Tag("known")] | Annotated[InlineNetwork, Tag("inline")], Discriminator(_network_tag)
    ] = Field(description="sha256 of an uploaded network, or the network itself")
    query: QueryDocument
    engine: Engine = Field(default=Engine.AUTO, description="which rungs of the ladder may decide")
    backend: Backend = Field(default=Backend.AUTO, description="which MIP solver the `milp` engine uses")
    time_limit: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="seconds of solving; null: the service's default", examples=[60]
    )
    priority: Priority = Field(default=Priority.NORMAL, description="`high` goes before every `normal` job")
    seed: int = Field(default=0, ge=0, lt=2**32, description="starts the attacks' randomness")
    certificate: bool = Field(
        default=False, description="have a robust verdict proven by a certificate, where an engine leaves one"
    )
    reuse: bool = Field(
        default=True, description="take an answer that the service has already, see `cached_from`; false: decide anew"
    )


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class NetworkDocument(_Answer):
    """An uploaded network."""

    sha256: Sha256
    name: str = Field(description="name that it was uploaded under")
    size: int = Field(description="bytes of the decompressed ONNX file")
    input_shape: list[int] = Field(description="without the batch dimension", examples=[[1, 28, 28]])
    inputs: int = Field(description="number of input entries")
    outputs: int
    relus: int = Field(description="number of single ReLUs")
    parameters: int
    notes: list[str] = Field(description="what loading changed knowingly, e.g. that a final Softmax was left out")
    created_at: datetime
    links: dict[str, str]


class NetworkPage(_Answer):
    """The newest networks first."""

    networks: list[NetworkDocument]


class ProgressDocument(_Answer):
    """What is known while a query is being decided."""

    model_config = ConfigDict(extra="allow")

    stage: str = Field(description="the rung at work")
    seconds: float = Field(description="since solving started")
    margin: tuple[float | None, float | None] | None = Field(
        default=None, description="proven lower bound and smallest replayed margin; null: nothing known"
    )
    distance: tuple[float | None, float | None] | None = Field(
        default=None, description="for kind `distance`: no violation is nearer, and where one is; null: nothing known"
    )
    flips: tuple[int, int] | None = Field(
        default=None, description="for kind `universal`: inputs flipped so far, and how many can be at most"
    )
    open: int = Field(description="clauses not yet proven")
    nodes: int = Field(description="branch-and-bound nodes so far")
    helpers: int = Field(default=0, description="idle workers that search parts of the query at the moment")


class CounterexampleDocument(_Answer):
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


class CertificateDocument(_Answer):
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


class ProductDocument(_Answer):
    """The network that counterexample and certificate are about, where it is built of those that were given."""

    bytes: int
    sha256: Sha256


class UniversalDocument(_Answer):
    """One perturbation of many inputs."""

    flips: tuple[int, int] = Field(
        description="how many inputs it flips, as replayed, and how many any can flip at most, by the solver's word"
    )
    flipped: list[int] = Field(description="which it flips")
    robust: list[int] = Field(description="which no perturbation flips, as bounds prove")
    delta: list[float] = Field(description="the perturbation, in C order")


class VerdictDocument(_Answer):
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


class CheckDocument(_Answer):
    """What the independent checker found in a certificate."""

    accepted: bool = Field(description="whether the certificate proves its query about this network")
    reason: str = Field(description="why not, else empty")
    semantics: Semantics = Field(description="the strongest claim that is proven; `float32` includes `real`")
    summary: str = Field(description="the result and what it is about, in words")
    leaves: int = Field(description="claims that were checked: one for each clause and leaf of the proof")
    exact: int = Field(description="how many of them in exact arithmetic")
    weakest: float | None = Field(description="the smallest lower bound among the claims; null: none")
    clauses: int = Field(description="violations that the query names")
    regions: int = Field(description="regions that the query is about")
    inputs: int = Field(description="input entries of the network")
    seconds: float = Field(description="what checking took")
    network: Sha256
    certificate: CertificateDocument


class ProblemFault(_Answer):
    """One thing that is wrong in a request."""

    pointer: str = Field(description="JSON pointer into the body, or a parameter's name", examples=["/query/epsilon"])
    detail: str


class Problem(_Answer):
    """RFC 9457 problem details; further members depend on the type (e.g. `node`, `op`, `opset`, `shape`)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="stable name of the problem", examples=["urn:netproof:problem:invalid-request"])
    title: str
    status: int
    detail: str = Field(description="what came, what was expected and what to do")
    instance: str | None = Field(default=None, description="the request, as the service's log knows it")
    errors: list[ProblemFault] | None = None


class FailureDocument(_Answer):
    """Why a job failed."""

    type: str = Field(description="stable name", examples=["urn:netproof:problem:out-of-memory"])
    title: str
    detail: str = Field(description="what happened and what to do")


class AttemptDocument(_Answer):
    """One try at a job; there are several when a worker was lost."""

    number: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None = Field(description="state that the job went to when the attempt ended")
    reason: str | None


class Links(_Answer):
    """Where to go from a job."""

    self: str
    events: str
    network: str
    cancel: str | None = Field(default=None, description="while the job has not ended")
    counterexample: str | None = Field(default=None, description="if there is one")
    certificate: str | None = Field(default=None, description="if there is one")
    product: str | None = Field(default=None, description="the network that the evidence is about, if it was built")


class JobDocument(_Answer):
    """One query about one network, and how far it is."""

    id: str = Field(examples=["01JD3ZT8QY4M0V7C2H9K5N6RBX"])
    state: JobState
    network: Sha256
    batch: str | None = Field(description="the batch that it works for")
    part_of: str | None = Field(description="the job that it works for, where it searches a part of a hard query")
    request: dict[str, Any] = Field(
        description="as it was sent, completed by defaults; without `include=input`, `query.omitted` names what is long"
    )
    progress: ProgressDocument | None = Field(description="the latest report: the bounds so far")
    verdict: VerdictDocument | None = Field(description="once the job has ended, unless it failed")
    error: FailureDocument | None = Field(description="why the job failed")
    attempts: list[AttemptDocument] = Field(description="left out in lists")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: Links


class JobPage(_Answer):
    """The newest jobs first; `next_cursor` leads to older ones."""

    jobs: list[JobDocument]
    next_cursor: str | None


class Health(_Answer):
    """The process is up."""

    status: Literal["ok"] = "ok"


class Check(_Answer):
    """One part that the service needs."""

    ok: bool
    degraded: bool = Field(default=False, description="it works, but somebody should look")
    detail: str


class Readiness(_Answer):
    """Whether a job that is sent now would be worked on."""

    ready: bool
    degraded: bool = Field(default=False, description="whether some part is")
    checks: dict[str, Check]


class SolverDocument(_Answer):
    """A MIP solver, as far as this service knows it."""

    name: Backend
    version: str | None = Field(description="null: not installed beside the web process")
    licence: str | None = Field(description="the best that a live worker has; null: there is no live worker")
    workers: int = Field(description="live workers that serve it")


class Solvers(_Answer):
    """MIP solvers and who serves them."""

    solvers: list[SolverDocument]


class BackendDocument(_Answer):
    """A MIP solver as one worker finds it."""

    version: str = Field(description="empty: not installed")
    licence: Licence
    terms: str = Field(description="the licence in words, or why there is none")
    variables: int | None = Field(description="most variables of a model under a size-limited licence")
    constraints: int | None = Field(description="most constraints under it")
    quadratic: int | None = Field(description="most variables under it where a model has quadratic terms")


class WorkerDocument(_Answer):
    """One live worker."""

    name: str
    host: str
    pid: int
    version: str
    queues: list[str] = Field(description="that it serves, in the order in which it looks at them")
    backends: dict[str, BackendDocument] = Field(description="MIP solvers by name")
    threads: int = Field(description="of one job")
    memory_mb: int = Field(description="that one job may take")
    started_at: datetime
    job: str | None = Field(description="that it works on; null: it is idle")
    since: datetime = Field(description="when it took that job, or became idle")
    draining: bool = Field(description="it takes no further job, and ends with the one that it has")
    seen_at: datetime = Field(description="its last heartbeat, by its own clock")


class WorkersDocument(_Answer):
    """The workers that have shown themselves lately."""

    workers: list[WorkerDocument]


class Version(_Answer):
    """What runs here."""

    name: Literal["netproof"] = "netproof"
    version: str
    api: Literal["v1"] = "v1"
