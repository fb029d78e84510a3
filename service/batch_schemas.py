"""Data sets and batches as they travel over HTTP; `service.schemas` has the rest."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeAlias

from pydantic import Field, Tag, WithJsonSchema
from pydantic.types import Discriminator

from service.queue import Priority
from service.schema_base import AnswerModel, RequestModel, Sha256
from service.schemas import FailureDocument, InlineNetwork
from service.states import BatchState, ItemState
from service.verdict_schemas import VerdictDocument
from solver.options import Backend, Engine
from solver.verdict import Outcome, Trust

__all__ = [
    "BATCH_TAGS",
    "BatchDocument",
    "BatchPage",
    "BatchRequest",
    "CountsDocument",
    "DatasetDocument",
    "DatasetPage",
    "DatasetSha256",
    "InlineInputs",
    "ItemDocument",
    "ItemPage",
    "LeftDocument",
    "PointDocument",
    "ResumeRequest",
    "RetryRequest",
    "SelectionRequest",
]

DatasetSha256: TypeAlias = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the data set's content (element types, shapes and values), 64 lower-case hex digits",
    ),
]


class DatasetDocument(AnswerModel):
    """An uploaded data set."""

    sha256: DatasetSha256
    name: str = Field(description="name that it was uploaded under")
    count: int = Field(description="number of inputs")
    shape: list[int] = Field(description="of one input", examples=[[28, 28]])
    features: int = Field(description="entries of one input")
    dtype: str = Field(description="element type; `uint8` is divided by 255", examples=["uint8"])
    labels: list[int] = Field(min_length=2, max_length=2, description="least and greatest label")
    size: int = Field(description="bytes that it takes here")
    created_at: datetime
    links: dict[str, str]


class DatasetPage(AnswerModel):
    """The newest data sets first."""

    datasets: list[DatasetDocument]


_TEMPLATE = {
    "type": "object",
    "description": (
        "A question without `input` and `label`, which the data set gives: `epsilon`, one or a list of up to 32 (null "
        "only for the kind `distance`), and "
        "whatever else such a query may hold, see QueryDocument."
    ),
    "properties": {
        "epsilon": {
            "anyOf": [
                {"type": "number"},
                {"type": "string"},
                {"type": "array", "items": {"anyOf": [{"type": "number"}, {"type": "string"}]}, "minItems": 1},
            ]
        }
    },
    "additionalProperties": True,
    "examples": [{"epsilon": ["2/255", "8/255"], "domain": [0, 1]}],
}


class InlineInputs(RequestModel):
    """Inputs inside the request; they are kept like an uploaded data set."""

    inputs: Annotated[
        list[Any],
        Field(min_length=1),
        WithJsonSchema(
            {
                "type": "array",
                "items": {"type": "array", "items": {}},
                "minItems": 1,
                "description": "one list for each input, flat or nested, of numbers in the network's input units",
            }
        ),
    ]
    labels: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(min_length=1, description="one for each input")


class SelectionRequest(RequestModel):
    """Which inputs of the data set: a list of indices, or those from `begin` to `end` in steps."""

    indices: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = Field(
        default=None, min_length=1, description="each at most once; instead of the other members"
    )
    begin: int = Field(default=0, ge=0, lt=2**31)
    end: int | None = Field(default=None, ge=0, lt=2**31, description="the first that is not taken; null: all")
    step: int = Field(default=1, ge=1, lt=2**31)


def _network_tag(value: object) -> str:
    return "inline" if isinstance(value, dict | InlineNetwork) else "known"


def _dataset_tag(value: object) -> str:
    return "inputs" if isinstance(value, dict | InlineInputs) else "stored"


#: Names of union members: pydantic puts them into error locations, where no request has them.
BATCH_TAGS = frozenset({"inline", "known", "inputs", "stored"})

_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BatchRequest(RequestModel):
    """One question about many inputs, and what answering it may cost."""

    network: Annotated[
        Annotated[Sha256, Tag("known")] | Annotated[InlineNetwork, Tag("inline")], Discriminator(_network_tag)
    ] = Field(description="sha256 of an uploaded network, or the network itself")
    dataset: Annotated[
        Annotated[DatasetSha256, Tag("stored")] | Annotated[InlineInputs, Tag("inputs")],
        Discriminator(_dataset_tag),
    ] = Field(description="sha256 of an uploaded data set, or inputs with their labels")
    query: Annotated[dict[str, Any], WithJsonSchema(_TEMPLATE)]
    selection: SelectionRequest = Field(default=SelectionRequest(), description="by default every input")
    name: str = Field(default="", max_length=255, description="for lists")
    engine: Engine = Field(default=Engine.AUTO, description="which rungs of the ladder may decide")
    backend: Backend = Field(default=Backend.AUTO, description="which MIP solver the `milp` engine uses")
    time_limit: _Seconds | None = Field(
        default=None,
        description="seconds for each item, in the sweep and again in its own search; null: the service's default",
    )
    total_limit: _Seconds | None = Field(
        default=None, description="seconds of solving for the whole batch; null: unlimited"
    )
    priority: Priority = Field(default=Priority.LOW, description="of its jobs; `low` lets single questions go first")
    seed: int = Field(default=0, ge=0, lt=2**32, description="starts the attacks' randomness")
    certificate: bool = Field(default=False, description="have robust verdicts proven by certificates")
    reuse: bool = Field(default=True, description="take answers that the service has already; false: decide anew")


class ResumeRequest(RequestModel):
    """How to go on."""

    total_limit: _Seconds | None = Field(default=None, description="a new budget for the whole batch; null: as before")


class RetryRequest(RequestModel):
    """What to try again."""

    time_limit: _Seconds | None = Field(default=None, description="seconds for each item; null: as before")
    unknown: bool = Field(default=True, description="undecided items, too, and not only failed ones")


class CountsDocument(AnswerModel):
    """Items by state and by verdict."""

    pending: int = Field(description="nobody has looked at them")
    sweeping: int = Field(description="with a sweep job")
    open: int = Field(description="left undecided by the sweep; each waits for a job of its own")
    searching: int = Field(description="with an exact job")
    done: int = Field(description="have their verdict")
    failed: int = Field(description="have an error")
    robust: int
    counterexample: int
    unknown: int = Field(description="of those that are done")
    misclassified: int = Field(description="counterexamples that are the input itself")
    certified: int = Field(description="robust, and the checker accepted the certificate")
    cached: int = Field(description="taken from other answers, see `cached_from` of the items")


class PointDocument(AnswerModel):
    """One point of the curve over epsilon."""

    epsilon: str = Field(description="as it was written")
    robust: int
    counterexample: int
    undecided: int
    robust_accuracy: tuple[float, float] = Field(description="least and greatest share that can be robust")


class LeftDocument(AnswerModel):
    """What is left, and how long it may take."""

    items: int
    seconds: float | None = Field(description="null: nothing to go by yet, or nobody is at work")
    at_most: bool = Field(
        description="whether `seconds` is an upper bound, because no exact search has ended yet; else it goes by what "
        "items have cost so far"
    )
    workers: int = Field(description="live workers that the estimate counts on")


class BatchDocument(AnswerModel):
    """One question about many inputs, and how far it is."""

    id: str = Field(examples=["01JD3ZT8QY4M0V7C2H9K5N6RBX"])
    name: str
    state: BatchState
    network: Sha256
    dataset: DatasetSha256
    request: dict[str, Any] = Field(description="as it was sent, completed by defaults")
    inputs: int
    items: int = Field(description="inputs times epsilons")
    counts: CountsDocument
    robust_accuracy: tuple[float, float] | None = Field(
        description="the interval so far, closed when all is decided; null with several epsilons, see `curve`"
    )
    curve: list[PointDocument] = Field(description="one point for each epsilon, in ascending order")
    seconds: float = Field(description="of solving, summed over the items")
    per_minute: int = Field(description="items that ended in the last minute")
    left: LeftDocument | None = Field(description="while it is at work")
    created_at: datetime
    finished_at: datetime | None
    links: dict[str, str]


class BatchPage(AnswerModel):
    """The newest batches first; `next_cursor` leads to older ones."""

    batches: list[BatchDocument]
    next_cursor: str | None


class ItemDocument(AnswerModel):
    """One input of a batch at one epsilon."""

    number: int
    index: int = Field(description="of the input in the data set")
    epsilon: str
    label: int
    state: ItemState
    verdict: Outcome | None
    trust: Trust | None
    margin: tuple[float | None, float | None]
    decided_by: str | None
    seconds: float
    cached_from: dict[str, Any] | None = Field(description="the answer that this one was taken from")
    error: FailureDocument | None
    job: str | None = Field(description="the job that it belongs to, or that ended it")
    finished_at: datetime | None
    result: VerdictDocument | None = Field(default=None, description="the whole verdict; left out in lists")
    links: dict[str, str]


class ItemPage(AnswerModel):
    """Items of a batch; `next_cursor` leads to more."""

    items: list[ItemDocument]
    next_cursor: str | None
