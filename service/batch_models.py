"""The ledger's tables of data sets, batches and answers, and the records that its methods return."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    RowMapping,
    String,
    Table,
    UniqueConstraint,
    false,
)

from service.models import UtcDateTime, metadata
from service.states import BATCH_ENDED, BatchState, ItemState

__all__ = ["BatchRecord", "DatasetRecord", "ItemRecord", "answers", "batches", "datasets", "items"]

#: Exact decimals and quotients as `networks.exact.written` writes them, of numbers that requests may hold.
_EXACT = 160

datasets = Table(
    "datasets",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("artifact", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("name", String(255), nullable=False),
    Column("summary", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

batches = Table(
    "batches",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("network", String(64), ForeignKey("networks.sha256"), nullable=False),
    Column("dataset", String(64), ForeignKey("datasets.sha256"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("request", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("queue", String(32), nullable=False),
    Column("time_limit", Float, nullable=False),
    Column("total_limit", Float),
    Column("max_attempts", Integer, nullable=False),
    Column("inputs", Integer, nullable=False),
    Column("items", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("idempotency_key", String(255)),
    Column("fingerprint", String(64)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("owner", String(64), nullable=False, server_default="local"),
    Column("at_once", Integer),
    UniqueConstraint("idempotency_key"),
    Index("ix_batches_state", "state"),
    Index("ix_batches_id_owner", "id", "owner", unique=True),
    Index("ix_batches_owner", "owner", "id"),
)

items = Table(
    "items",
    metadata,
    Column("batch", String(26), ForeignKey("batches.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("input", Integer, nullable=False),
    Column("epsilon", String(_EXACT), nullable=False),
    Column("label", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("job", String(26)),
    Column("outcome", String(16)),
    Column("trust", String(16)),
    Column("decided_by", String(64)),
    Column("lower", Float),
    Column("upper", Float),
    Column("swept", Boolean, nullable=False),
    Column("sweep_seconds", Float, nullable=False),
    Column("search_seconds", Float, nullable=False),
    Column("verdict", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("cached_from", JSON(none_as_null=True)),
    Column("cached", Boolean, nullable=False, server_default=false()),
    Column("finished_at", UtcDateTime),
    Index("ix_items_state", "batch", "state", "lower"),
    Index("ix_items_input", "batch", "input"),
    Index("ix_items_job", "job"),
    # what counts are made of, so that they need not read rows, which hold verdicts
    Index(
        "ix_items_counted",
        *("batch", "epsilon", "state", "outcome", "trust", "swept", "cached"),
        *("decided_by", "search_seconds", "sweep_seconds"),
    ),
    Index("ix_items_finished", "batch", "finished_at"),
)

answers = Table(
    "answers",
    metadata,
    Column("question", String(64), primary_key=True),
    Column("owner", String(64), primary_key=True),
    Column("epsilon", String(_EXACT), primary_key=True),
    Column("outcome", String(16), primary_key=True),
    Column("engine", String(16), primary_key=True),
    Column("certified", Boolean, primary_key=True),
    Column("over_reals", Boolean, nullable=False),
    Column("job", String(26)),
    Column("batch", String(26)),
    Column("item", Integer),
    Column("created_at", UtcDateTime, nullable=False),
)


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """An uploaded data set.

    Attributes:
        sha256: of its content, see `networks.dataset.Dataset.sha256`.
        artifact: sha256 of the ``.npz`` file that it is kept as; ``size`` is that file's.
        summary: what `service.dataset_reading` found out: ``count``, ``shape``, ``dtype``, range of ``labels``.
    """

    sha256: str
    artifact: str
    size: int
    name: str
    summary: dict[str, Any]
    created_at: datetime

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        return cls(**row)


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One question about many inputs of a data set, at one or several epsilons.

    Attributes:
        request: what was asked, as `service.batch_admission` completes it.
        time_limit: seconds for each item, in the sweep and again in its exact search.
        total_limit: seconds of solving for all of it, None for unlimited.
        inputs, items: how many; an item is one input at one epsilon.
        revision: counts the changes of the record and of its items.
        changed_at: when its state changed last.
        owner: who asked; see `service.access`.
        at_once: how many jobs of its owner may run at the same time; None: any number.
    """

    id: str
    network: str
    dataset: str
    name: str
    request: dict[str, Any]
    state: BatchState
    queue: str
    time_limit: float
    total_limit: float | None
    max_attempts: int
    inputs: int
    items: int
    revision: int
    idempotency_key: str | None
    fingerprint: str | None
    created_at: datetime
    changed_at: datetime
    finished_at: datetime | None
    owner: str
    at_once: int | None

    @property
    def ended(self) -> bool:
        """Whether nothing happens until somebody asks for more."""
        return self.state in BATCH_ENDED

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        return cls(**{**row, "state": BatchState(row["state"])})


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """One input of a batch at one epsilon.

    Attributes:
        input: index in the data set.
        epsilon: as it was written in the request.
        job: the job that it belongs to, or that ended it.
        outcome, trust, decided_by, lower, upper: of its verdict, or the bounds so far; None where nothing is known.
        swept: whether the sweep has looked at it.
        verdict: as `solver.verdict.Verdict.to_json` writes it; None where it was not asked for, too.
        error: ``{"code", "message"}``, for ``failed``.
        cached_from: the answer that this one was taken from, see `service.reuse`.
        cached: whether there is one.
    """

    batch: str
    number: int
    input: int
    epsilon: str
    label: int
    state: ItemState
    job: str | None
    outcome: str | None
    trust: str | None
    decided_by: str | None
    lower: float | None
    upper: float | None
    swept: bool
    sweep_seconds: float
    search_seconds: float
    error: dict[str, Any] | None
    cached_from: dict[str, Any] | None
    cached: bool
    finished_at: datetime | None
    verdict: dict[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """What deciding it has taken."""
        return self.sweep_seconds + self.search_seconds

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        return cls(**{**row, "state": ItemState(row["state"])})
