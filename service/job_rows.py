"""Reading jobs from the ledger, one or many with the same two statements."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from service.errors import NotFoundError
from service.models import AttemptRecord, JobRecord, attempts, jobs

__all__ = ["read_job", "read_jobs"]


def read_job(connection: Connection, job_id: str, *, owner: str | None = None) -> JobRecord:
    """A job with its attempts, if it is one of ``owner``'s; None sees all. Raises NotFoundError."""
    found = read_jobs(connection, [job_id], owner=owner)
    if job_id not in found:
        raise NotFoundError(job_id, kind="job")
    return found[job_id]


def read_jobs(connection: Connection, identifiers: Sequence[str], *, owner: str | None = None) -> dict[str, JobRecord]:
    """Those of the jobs that there are, and are ``owner``'s, with their attempts."""
    query = select(jobs).where(jobs.c.id.in_(identifiers))
    if owner is not None:
        query = query.where(jobs.c.owner == owner)
    rows = connection.execute(query).mappings().all()
    tries: dict[str, list[AttemptRecord]] = {}
    if begun := [row["id"] for row in rows if row["attempt"]]:
        for row in connection.execute(
            select(attempts).where(attempts.c.job.in_(begun)).order_by(attempts.c.number)
        ).mappings():
            tries.setdefault(row["job"], []).append(AttemptRecord.of(row))
    return {row["id"]: JobRecord.of(row, tuple(tries.get(row["id"], ()))) for row in rows}
