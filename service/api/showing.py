"""Jobs, batches and files as answers: their headers, their entity tags, and jobs that were shown lately."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from service.access.principal import Principal
from service.batch_models import BatchRecord
from service.models import JobRecord
from service.parts import Parts
from service.schemas import JobDocument
from service.views import Shown, shown

__all__ = [
    "artifact_response",
    "batch_response",
    "job_response",
    "keep_shown",
    "show",
    "shown_response",
    "state_headers",
]

#: What an answer takes in memory beside its bytes.
_AROUND_BYTES = 500


def state_headers(*, ended: bool) -> dict[str, str]:
    """Headers of every answer that shows one job or batch: when to ask again, and not to trust a cache with it."""
    headers = {"Cache-Control": "no-cache"}
    if not ended:
        headers["Retry-After"] = "1"
    return headers


def job_response(document: JobDocument, job: JobRecord, status: int, headers: dict[str, str]) -> Response:
    """A job as JSON."""
    headers = state_headers(ended=job.terminal) | headers
    return Response(document.model_dump_json(), status, headers, media_type="application/json")


async def show(job_id: str, parts: Parts, caller: Principal) -> Shown:
    """A job that the caller may see; one that has ended and was shown lately is not read again.

    Raises:
        NotFoundError: there is none.
    """
    known = parts.recent.answers.get((job_id, caller.reach))
    if known is None:
        known = shown(await parts.jobs.ask((job_id, caller.reach)))
        if known.ended:
            keep_shown(job_id, known, parts, caller)
    return known


def keep_shown(job_id: str, document: Shown, parts: Parts, caller: Principal) -> None:
    """Remember how a job that has ended is shown."""
    parts.recent.answers.put((job_id, caller.reach), document, len(document.body) + _AROUND_BYTES)


def shown_response(document: Shown, if_none_match: str | None) -> Response:
    """The job, or 304 where the client has it."""
    headers = state_headers(ended=document.ended) | {"ETag": document.tag}
    if _knows(if_none_match, document.tag):
        return Response(status_code=304, headers=headers)
    return Response(document.body, 200, headers, media_type="application/json")


async def batch_response(batch: BatchRecord, parts: Parts, status: int, if_none_match: str | None = None) -> Response:
    """A batch as it is now, or 304 where the client has it."""
    seen = await parts.batches.now(batch.id)
    headers = state_headers(ended=seen.record.ended) | {"ETag": f'"{seen.tag}"'}
    if status == 202:
        headers["Location"] = seen.document.links["self"]
    if _knows(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(seen.document.model_dump_json(), status, headers, media_type="application/json")


async def artifact_response(sha256: str, parts: Parts, media_type: str, name: str) -> FileResponse:
    """A stored file, to be saved under ``name``. Raises NotFoundError where it is not there."""
    artifact = await run_in_threadpool(parts.artifacts.get, sha256)
    return FileResponse(artifact.path, media_type=media_type, filename=name)


def _knows(if_none_match: str | None, tag: str) -> bool:
    """Whether a request's ``If-None-Match`` names the entity tag of what would be answered."""
    if if_none_match is None:
        return False
    named = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return tag in named or if_none_match.strip() == "*"
