"""Questions, networks, jobs and problems, as they travel over HTTP.

What a question asks is in `service.queries`, verdicts are in `service.verdict_schemas`, batches in
`service.batch_schemas`, keys in `service.access.schemas`, and what is up in `service.system_schemas`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, Tag

from service.queries import QueryDocument
from service.queue import Priority
from service.schema_base import EXAMPLE_SHA256, AnswerModel, RequestModel, Sha256
from service.states import JobState
from service.verdict_schemas import VerdictDocument
from solver.options import Backend, Engine

__all__ = [
    "UNION_TAGS",
    "AttemptDocument",
    "FailureDocument",
    "InlineNetwork",
    "JobDocument",
    "JobPage",
    "Links",
    "NetworkDocument",
    "NetworkPage",
    "Problem",
    "ProblemFault",
    "ProgressDocument",
    "VerifyRequest",
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
                    "network": EXAMPLE_SHA256,
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


class NetworkDocument(AnswerModel):
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


class NetworkPage(AnswerModel):
    """The newest networks first."""

    networks: list[NetworkDocument]


class ProgressDocument(AnswerModel):
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


class ProblemFault(AnswerModel):
    """One thing that is wrong in a request."""

    pointer: str = Field(description="JSON pointer into the body, or a parameter's name", examples=["/query/epsilon"])
    detail: str


class Problem(AnswerModel):
    """RFC 9457 problem details; further members depend on the type (e.g. `node`, `op`, `opset`, `shape`)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="stable name of the problem", examples=["urn:netproof:problem:invalid-request"])
    title: str
    status: int
    detail: str = Field(description="what came, what was expected and what to do")
    instance: str | None = Field(default=None, description="the request, as the service's log knows it")
    errors: list[ProblemFault] | None = None


class FailureDocument(AnswerModel):
    """Why a job failed."""

    type: str = Field(description="stable name", examples=["urn:netproof:problem:out-of-memory"])
    title: str
    detail: str = Field(description="what happened and what to do")


class AttemptDocument(AnswerModel):
    """One try at a job; there are several when a worker was lost."""

    number: int
    worker: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None = Field(description="state that the job went to when the attempt ended")
    reason: str | None


class Links(AnswerModel):
    """Where to go from a job."""

    self: str
    events: str
    network: str
    cancel: str | None = Field(default=None, description="while the job has not ended")
    counterexample: str | None = Field(default=None, description="if there is one")
    certificate: str | None = Field(default=None, description="if there is one")
    product: str | None = Field(default=None, description="the network that the evidence is about, if it was built")


class JobDocument(AnswerModel):
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


class JobPage(AnswerModel):
    """The newest jobs first; `next_cursor` leads to older ones."""

    jobs: list[JobDocument]
    next_cursor: str | None
