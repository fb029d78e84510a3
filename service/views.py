"""From the ledger's records to the documents that the API answers with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from service.closing import Failure
from service.models import JobRecord, NetworkRecord
from service.problems import KINDS, Kind
from service.schemas import (
    AttemptDocument,
    FailureDocument,
    JobDocument,
    Links,
    NetworkDocument,
    ProgressDocument,
)
from service.verdict_schemas import VerdictDocument

__all__ = [
    "Shown",
    "certificate_of",
    "counterexample_of",
    "failure_document",
    "job_document",
    "network_document",
    "product_of",
    "shown",
]

#: Members of a query that may hold megabytes; a client that sent them knows them.
_LONG = ("input", "inputs", "vnnlib")
_FAILURES: dict[str, str] = {
    Failure.OUT_OF_MEMORY: "The job ran out of memory",
    Failure.WORKER_LOST: "The job lost its workers",
    Failure.CRASHED: "The solver crashed",
    Failure.INTERNAL: "The job met an internal error",
}
#: Members of a verdict that lists leave out.
_EVIDENCE = ("counterexample", "witness", "stages", "statistics", "history")


def network_document(record: NetworkRecord) -> NetworkDocument:
    """A network as the API shows it."""
    summary = record.summary
    return NetworkDocument(
        sha256=record.sha256,
        name=record.name,
        size=record.size,
        input_shape=summary["input_shape"],
        inputs=summary["inputs"],
        outputs=summary["outputs"],
        relus=summary["relus"],
        parameters=summary["parameters"],
        notes=summary["notes"],
        created_at=record.created_at,
        links={"self": f"/v1/networks/{record.sha256}", "jobs": f"/v1/jobs?network={record.sha256}"},
    )


def job_document(record: JobRecord, *, include_input: bool = False, brief: bool = False) -> JobDocument:
    """A job as the API shows it.

    Args:
        record: the job.
        include_input: with the query's input or VNNLIB text.
        brief: as lists show it, without evidence and attempts.
    """
    request = record.request
    if not include_input:
        query = {key: value for key, value in request["query"].items() if key not in _LONG}
        request = request | {"query": query | {"omitted": [key for key in request["query"] if key in _LONG]}}
    verdict = record.verdict
    if verdict is not None and brief:
        verdict = {key: value for key, value in verdict.items() if key not in _EVIDENCE}
    here = f"/v1/jobs/{record.id}"
    return JobDocument(
        id=record.id,
        state=record.state,
        network=record.network,
        batch=record.batch,
        part_of=record.parent,
        request=request,
        progress=None if record.progress is None else ProgressDocument.model_validate(record.progress),
        verdict=None if verdict is None else VerdictDocument.model_validate(verdict),
        error=None if record.error is None else failure_document(record.error),
        attempts=[
            AttemptDocument(
                number=attempt.number,
                worker=attempt.worker,
                started_at=attempt.started_at,
                ended_at=attempt.ended_at,
                outcome=attempt.outcome,
                reason=attempt.reason,
            )
            for attempt in record.attempts
        ],
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        links=Links(
            self=here,
            events=f"{here}/events",
            network=f"/v1/networks/{record.network}",
            cancel=None if record.terminal else f"{here}/cancel",
            counterexample=f"{here}/counterexample" if counterexample_of(record) else None,
            certificate=f"{here}/certificate" if certificate_of(record) else None,
            product=f"{here}/product" if product_of(record) else None,
        ),
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """A job as it is sent: JSON, its entity tag, and whether nothing about it will change."""

    body: bytes
    tag: str
    ended: bool


def shown(record: JobRecord, *, include_input: bool = False) -> Shown:
    """The job's document as bytes."""
    body = job_document(record, include_input=include_input).model_dump_json().encode()
    return Shown(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', record.terminal)


def certificate_of(record: JobRecord) -> dict[str, Any] | None:
    """Size and sha256 of the certificate that proves a job's verdict."""
    return record.verdict.get("certificate") if record.verdict else None


def product_of(record: JobRecord) -> dict[str, Any] | None:
    """Size and sha256 of the network that a job's evidence is about, where it was built."""
    return record.verdict.get("product") if record.verdict else None


def counterexample_of(record: JobRecord) -> dict[str, Any] | None:
    """The counterexample that a job found, as `solver.verdict.Counterexample` writes it."""
    return record.verdict.get("counterexample") if record.verdict else None


def failure_document(error: dict[str, Any]) -> FailureDocument:
    """Why a job failed, in the terms of every other error of the API.

    The code is the name of the error's class, for which there is a kind, or one of `service.closing.Failure`.
    """
    kind = next((kind for cls, kind in KINDS.items() if cls.__name__ == error["code"]), None)
    if kind is None:
        kind = Kind(error["code"].replace("_", "-"), _FAILURES.get(error["code"], "The job failed"), 500)
    return FailureDocument(type=kind.uri, title=kind.title, detail=error["message"])
