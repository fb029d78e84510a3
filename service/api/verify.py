"""Asking a question: one POST makes one job."""

from __future__ import annotations

import contextlib
import logging
from typing import Annotated

import redis
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from service import metrics
from service.access.dependencies import SUBMIT, Caller
from service.access.principal import Principal
from service.admission import fingerprint
from service.api.dependencies import PartsOfApp, Wait, idempotency_key_of
from service.api.question import BODY, read_question
from service.api.showing import keep_shown, state_headers
from service.context import origin
from service.models import JobRecord
from service.parts import Parts
from service.posed import Posed
from service.queue import queue_name
from service.routing import require_backend
from service.schemas import JobDocument
from service.states import JobState
from service.streams import wait_for_end
from service.submissions import Submission
from service.views import shown
from solver.options import Backend

__all__ = ["router", "submit", "submitted_response"]

logger = logging.getLogger(__name__)

router = APIRouter(tags=["verification"])

_HEADERS = {
    "Location": {"schema": {"type": "string"}, "description": "the job"},
    "Retry-After": {"schema": {"type": "integer"}, "description": "seconds after which to ask again"},
}


@router.post(
    "/verify",
    status_code=202,
    operation_id="verify",
    dependencies=[SUBMIT],
    summary="Verify a property of a network",
    response_model=JobDocument,
    responses={
        200: {"model": JobDocument, "description": "The job ended while the client waited"},
        202: {"description": "The job is queued or running", "headers": _HEADERS},
    },
    openapi_extra=BODY,
)
async def verify(
    request: Request,
    parts: PartsOfApp,
    caller: Caller,
    wait: Wait,
    idempotency_key: Annotated[str | None, idempotency_key_of("job")] = None,
) -> Response:
    """Ask whether some input of a region breaks a property, and get a job that finds out.

    The network is named by its SHA-256, or comes along: in base64 as `{"onnx": "..."}`, or as a part of a form. What
    can be checked without solving is checked before the job is made; a refusal says what to change, by JSON pointer.
    """
    posed = await read_question(request, parts, caller)
    job = await wait_for_end(await submit(posed, idempotency_key, parts, caller), wait, parts)
    applied = {"Preference-Applied": f"wait={wait:g}"} if wait and "prefer" in request.headers else {}
    return submitted_response(job, parts, caller, applied)


async def submit(posed: Posed, idempotency_key: str | None, parts: Parts, caller: Principal) -> JobRecord:
    """Record the job, then hand it to the queue; without the queue, the reaper hands it over later.

    A question whose answer is known already gets a job that has ended, of which nobody has to be told.
    """
    request = posed.request
    if request["backend"] == Backend.GUROBI:
        await run_in_threadpool(_require_backend, posed, parts, caller)
    job, new = await parts.submissions.ask(
        Submission(
            request,
            queue_name(request["backend"], request["priority"]),
            request["time_limit"],
            parts.settings.max_attempts,
            asked=posed.asked,
            idempotency_key=idempotency_key,
            fingerprint=fingerprint(request) if idempotency_key else None,
            owner=caller.owner,
            quota=caller.quota,
            origin=origin(),
        )
    )
    if posed.asked is not None and new:
        metrics.cached(hit=job.terminal)
    if new and not job.terminal:
        await run_in_threadpool(_announce, job, parts)
    return job


def _require_backend(posed: Posed, parts: Parts, caller: Principal) -> None:
    """Raise ProblemError, 503, where nobody could work on the question; an answer that is known needs nobody.

    Without the queue server, which knows the workers, the benefit of the doubt is given.
    """
    if posed.asked is not None and parts.ledger.answers.find([posed.asked], owner=caller.owner):
        return
    with contextlib.suppress(redis.RedisError):
        require_backend(posed.request["backend"], parts.dispatcher.workers())


def _announce(job: JobRecord, parts: Parts) -> None:
    parts.publisher.publish(job.id, "state", {"state": JobState.QUEUED, "attempt": 0})
    try:
        parts.dispatcher.enqueue(job)
    except redis.RedisError as error:
        logger.warning("job %s waits for the queue server: %s", job.id, error)


def submitted_response(job: JobRecord, parts: Parts, caller: Principal, applied: dict[str, str]) -> Response:
    """The answer to a question: its job, which ended already or is to be asked for."""
    document = shown(job)
    if document.ended:
        keep_shown(job.id, document, parts, caller)
    headers = state_headers(ended=document.ended) | {"Location": f"/v1/jobs/{job.id}"} | applied
    return Response(document.body, 200 if document.ended else 202, headers, media_type="application/json")
