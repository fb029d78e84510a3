"""What routes have in common: the app's parts, identifiers in paths, and how long a client waits."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from fastapi import Depends, Header, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from service.access.dependencies import Caller
from service.errors import NotFoundError
from service.models import JobRecord, NetworkRecord
from service.parts import Parts
from service.problems import TOO_LARGE, ProblemError
from service.schemas import JobDocument

__all__ = ["Job", "Network", "PartsOfApp", "Wait", "job_headers", "job_response", "media_type", "read_body"]

_JOB_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", re.IGNORECASE)


def _parts(request: Request) -> Parts:
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


PartsOfApp: TypeAlias = Annotated[Parts, Depends(_parts)]


def _wait(
    parts: PartsOfApp,
    wait: Annotated[
        float | None,
        Query(ge=0, allow_inf_nan=False, description="seconds to wait for the job's end, up to the service's limit"),
    ] = None,
    prefer: Annotated[
        str | None, Header(alias="Prefer", description="`wait=N`: the same as the parameter (RFC 7240)")
    ] = None,
) -> float:
    if wait is None:
        preference = _PREFER_WAIT.search(prefer or "")
        wait = float(preference[1]) if preference else 0.0
    return min(wait, parts.settings.wait_max)


Wait: TypeAlias = Annotated[float, Depends(_wait)]


async def _job(
    job_id: Annotated[str, Path(description="identifier of the job")], parts: PartsOfApp, caller: Caller
) -> JobRecord:
    if not _JOB_ID.fullmatch(job_id):  # nothing else ever reaches the database
        raise NotFoundError(job_id[:40], kind="job")
    return await run_in_threadpool(parts.ledger.job, job_id, owner=caller.reach)


Job: TypeAlias = Annotated[JobRecord, Depends(_job)]


async def _network(
    sha256: Annotated[str, Path(description="SHA-256 of the decompressed ONNX file")],
    parts: PartsOfApp,
    caller: Caller,
) -> NetworkRecord:
    if not _SHA256.fullmatch(sha256):
        raise NotFoundError(sha256[:80], kind="network")
    return await run_in_threadpool(parts.ledger.network, sha256, owner=caller.reach)


Network: TypeAlias = Annotated[NetworkRecord, Depends(_network)]


def media_type(request: Request) -> str:
    """The body's media type without parameters, in lower case."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, limit: int, advice: str) -> bytes:
    """The whole body, at most ``limit`` bytes.

    Raises:
        ProblemError: 413, with ``advice`` on what to do instead.
    """
    pieces, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise ProblemError(TOO_LARGE, f"the body is larger than {limit} bytes, the most accepted here; {advice}")
        pieces.append(chunk)
    return b"".join(pieces)


def job_headers(record: JobRecord) -> dict[str, str]:
    """Headers of every answer that shows one job: when to ask again, and not to trust a cache with it."""
    headers = {"Cache-Control": "no-cache"}
    if not record.terminal:
        headers["Retry-After"] = "1"
    return headers


def job_response(document: JobDocument, status: int, headers: dict[str, str]) -> Response:
    """A job as JSON."""
    return Response(document.model_dump_json(), status, headers, media_type="application/json")
