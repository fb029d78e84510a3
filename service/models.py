"""The ledger's tables, and the records that its methods return.

Records are plain frozen values: nothing outside the ledger holds a live database row. All times are UTC and aware;
JSON columns hold finite numbers only, which every database accepts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)

from service.states import TERMINAL, JobState, NetworkState

__all__ = [
    "AttemptRecord",
    "JobRecord",
    "NetworkRecord",
    "UtcDateTime",
    "attempts",
    "condemned",
    "jobs",
    "metadata",
    "networks",
    "owned_key",
    "queued_job",
]


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite stores times without a zone, so the zone is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData()

networks = Table(
    "networks",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("name", String(255), nullable=False, default=""),
    Column("state", String(16), nullable=False),
    Column("summary", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("network", String(64), ForeignKey("networks.sha256"), nullable=False, index=True),
    Column("request", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("queue", String(32), nullable=False),
    Column("time_limit", Float, nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("losses", Integer, nullable=False, default=0),
    Column("max_attempts", Integer, nullable=False),
    Column("progress", JSON(none_as_null=True)),
    Column("verdict", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("idempotency_key", String(255)),
    Column("fingerprint", String(64)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("queued_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("cancelled_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("batch", String(26)),
    Column("owner", String(64), nullable=False, server_default="local"),
    Column("at_once", Integer),
    Column("parent", String(26)),
    Column("origin", JSON(none_as_null=True)),
    UniqueConstraint("idempotency_key"),
    # the reaper asks for what is queued or running; nearly every row is neither
    Index("ix_jobs_state_queued", "state", "queued_at"),
    Index("ix_jobs_batch", "batch", "state"),
    Index("ix_jobs_parent", "parent", "state"),
    # decides about what is not the caller's without a look at the row, which may hold megabytes
    Index("ix_jobs_id_owner", "id", "owner", unique=True),
    Index("ix_jobs_owner", "owner", "batch", "id"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job", String(26), ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("worker", String(128), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("lease_until", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("outcome", String(16)),
    Column("reason", String(1024)),
    Column("threads", Integer, nullable=False, server_default="1"),
)

#: What a collection found unreferenced, and since when; see `service.retention`.
condemned = Table(
    "condemned",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("since", UtcDateTime, nullable=False),
)


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """An uploaded network. ``summary`` is what `service.inspection` found out: shapes and counts, or the refusal."""

    sha256: str
    size: int
    name: str
    state: NetworkState
    summary: dict[str, Any]
    created_at: datetime

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        return cls(**{**row, "state": NetworkState(row["state"])})


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try at a job. ``outcome`` is the state that the job went to when the attempt ended, None while it runs."""

    job: str
    number: int
    worker: str
    started_at: datetime
    lease_until: datetime
    ended_at: datetime | None = None
    outcome: str | None = None
    reason: str | None = None
    threads: int = 1

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        return cls(**row)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One query about one network, and how far it is.

    Attributes:
        request: what was asked, see `service.request`.
        attempt: number of the newest attempt, 0 before the first; writes carry it, so that a late orphan's fail.
        losses: attempts that ended because their worker was lost.
        progress: `solver.Progress` as last reported, in JSON.
        verdict: `solver.Verdict` in JSON, for ``succeeded`` and for ``cancelled`` after it had started.
        error: ``{"code", "message"}``, for ``failed``.
        idempotency_key: digest of the owner's key, see `owned_key`.
        fingerprint: digest of the request that the idempotency key came with.
        batch: the batch that it works for, None for a question of its own.
        owner: who asked; see `service.access`.
        at_once: how many jobs of its owner may run at the same time, this one included; None: any number.
        parent: the job of which it is a part, see `service.subtrees`; None for a question.
        origin: the request and the trace that it belongs to, see `service.context`; None: nobody's.
    """

    id: str
    network: str
    request: dict[str, Any]
    state: JobState
    queue: str
    time_limit: float
    attempt: int
    losses: int
    max_attempts: int
    progress: dict[str, Any] | None
    verdict: dict[str, Any] | None
    error: dict[str, Any] | None
    idempotency_key: str | None
    fingerprint: str | None
    created_at: datetime
    queued_at: datetime
    started_at: datetime | None
    cancelled_at: datetime | None
    finished_at: datetime | None
    batch: str | None
    owner: str
    at_once: int | None
    parent: str | None
    origin: dict[str, str] | None
    attempts: tuple[AttemptRecord, ...] = field(default=())

    @property
    def terminal(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.state in TERMINAL

    @classmethod
    def of(cls, row: Mapping[str, Any] | RowMapping, tries: tuple[AttemptRecord, ...] = ()) -> Self:
        return cls(**{**row, "state": JobState(row["state"]), "attempts": tries})


def queued_job(
    identifier: str,
    network: str,
    request: dict[str, Any],
    queue: str,
    time_limit: float,
    max_attempts: int,
    moment: datetime,
    *,
    owner: str,
    at_once: int | None,
    origin: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The columns of a job that nobody has begun."""
    return {
        "id": identifier,
        "network": network,
        "request": request,
        "state": JobState.QUEUED,
        "queue": queue,
        "time_limit": time_limit,
        "max_attempts": max_attempts,
        "created_at": moment,
        "queued_at": moment,
        "owner": owner,
        "at_once": at_once,
        "origin": origin,
    }


def owned_key(owner: str, key: str | None) -> str | None:
    """What keeps the idempotency keys of different owners apart: a digest of both."""
    return None if key is None else hashlib.sha256(f"{owner}\0{key}".encode()).hexdigest()
