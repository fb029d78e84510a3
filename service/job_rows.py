"""Reading jobs from the ledger, one or many with the same two statements."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select

from service.errors import NotFoundError
from service.models import AttemptRecord, JobRecord, attempts, jobs

__all__ = ["read_job", "read_jobs"]

# built once: SQLAlchemy takes longer to put a statement together than SQLite to run it
_JOBS = select(jobs).where(jobs.c.id.in_(bindparam("identifiers", expanding=True)))
_JOBS_OF = _JOBS.where(jobs.c.owner == bindparam("owner"))
_ATTEMPTS = (
    select(attempts).where(attempts.c.job.in_(bindparam("identifiers", expanding=True))).order_by(attempts.c.number)
)


def read_job(connection: Connection, job_id: str, *, owner: str | None = None) -> JobRecord:
    """A job with its attempts, if it is one of ``owner``'s; None sees all. Raises NotFoundError."""
    found = read_jobs(connection, [job_id], owner=owner)
    if job_id not in found:
        raise NotFoundError(job_id, kind="job")
    return found[job_id]


def read_jobs(connection: Connection, identifiers: Sequence[str], *, owner: str | None = None) -> dict[str, JobRecord]:
    """Those of the jobs that there are, and are ``owner``'s, with their attempts."""
    wanted = list(identifiers)
    if owner is None:
        rows = connection.execute(_JOBS, {"identifiers": wanted}).mappings().all()
    else:
        rows = connection.execute(_JOBS_OF, {"identifiers": wanted, "owner": owner}).mappings().all()
    tries: dict[str, list[AttemptRecord]] = {}
    if begun := [row["id"] for row in rows if row["attempt"]]:
        for row in connection.execute(_ATTEMPTS, {"identifiers": begun}).mappings():
            tries.setdefault(row["job"], []).append(AttemptRecord.of(row))
    return {row["id"]: JobRecord.of(row, tuple(tries.get(row["id"], ()))) for row in rows}
