"""What is up and what runs here, as it travels over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from service.schema_base import AnswerModel
from service.workers import Licence
from solver.options import Backend

__all__ = [
    "BackendDocument",
    "Check",
    "Health",
    "Readiness",
    "SolverDocument",
    "Solvers",
    "Version",
    "WorkerDocument",
    "WorkersDocument",
]


class Health(AnswerModel):
    """The process is up."""

    status: Literal["ok"] = "ok"


class Check(AnswerModel):
    """One part that the service needs."""

    ok: bool
    degraded: bool = Field(default=False, description="it works, but somebody should look")
    detail: str


class Readiness(AnswerModel):
    """Whether a job that is sent now would be worked on."""

    ready: bool
    degraded: bool = Field(default=False, description="whether some part is")
    checks: dict[str, Check]


class SolverDocument(AnswerModel):
    """A MIP solver, as far as this service knows it."""

    name: Backend
    version: str | None = Field(description="null: not installed beside the web process")
    licence: str | None = Field(description="the best that a live worker has; null: there is no live worker")
    workers: int = Field(description="live workers that serve it")


class Solvers(AnswerModel):
    """MIP solvers and who serves them."""

    solvers: list[SolverDocument]


class BackendDocument(AnswerModel):
    """A MIP solver as one worker finds it."""

    version: str = Field(description="empty: not installed")
    licence: Licence
    terms: str = Field(description="the licence in words, or why there is none")
    variables: int | None = Field(description="most variables of a model under a size-limited licence")
    constraints: int | None = Field(description="most constraints under it")
    quadratic: int | None = Field(description="most variables under it where a model has quadratic terms")


class WorkerDocument(AnswerModel):
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


class WorkersDocument(AnswerModel):
    """The workers that have shown themselves lately."""

    workers: list[WorkerDocument]


class Version(AnswerModel):
    """What runs here."""

    name: Literal["netproof"] = "netproof"
    version: str
    api: Literal["v1"] = "v1"
