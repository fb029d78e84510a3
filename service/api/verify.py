"""Asking a question: one POST makes one job."""

from __future__ import annotations

import logging
from functools import partial
from typing import Annotated, Any

import redis
from fastapi import APIRouter, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from service import metrics
from service.access.dependencies import SUBMIT, Caller
from service.access.principal import Principal
from service.access.quotas import usual
from service.admission import admit, fingerprint
from service.api.dependencies import PartsOfApp, Wait, job_headers, job_response
from service.api.question import BODY, read_question
from service.models import JobRecord
from service.parts import Parts
from service.queue import queue_name
from service.reuse import asked
from service.schemas import JobDocument
from service.states import JobState
from service.streams import wait_for_end
from service.views import job_document

__all__ = ["router"]

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
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[\x20-\x7e]+$",
            description="the same key with the same request gives the same job; with another request it is refused",
        ),
    ] = None,
) -> Response:
    """Ask whether some input of a region breaks a property, and get a job that finds out.

    The network is named by its SHA-256, or comes along: in base64 as `{"onnx": "..."}`, or as a part of a form. What
    can be checked without solving is checked before the job is made; a refusal says what to change, by JSON pointer.
    """
    posed, network = await read_question(request, parts, caller)
    find = partial(parts.ledger.network, owner=caller.reach)
    admitted = await run_in_threadpool(admit, posed, network, usual(caller, parts.settings), find)
    job = await run_in_threadpool(_submit, admitted, idempotency_key, parts, caller)
    job = await wait_for_end(job, wait, parts)
    document = job_document(job)
    headers = job_headers(job) | {"Location": document.links.self}
    if wait and "prefer" in request.headers:
        headers["Preference-Applied"] = f"wait={wait:g}"
    return job_response(document, 200 if job.terminal else 202, headers)


def _submit(request: dict[str, Any], idempotency_key: str | None, parts: Parts, caller: Principal) -> JobRecord:
    """Record the job, then hand it to the queue; without the queue, the reaper hands it over later.

    A question whose answer is known already gets a job that has ended, of which nobody has to be told.
    """
    question = asked(request) if request["reuse"] else None
    known = None
    if question is not None:
        known = parts.ledger.answers.find([question], owner=caller.owner).get(question)
        metrics.cached(hit=known is not None)
    if known is None:
        parts.ledger.usage.check_questions(caller.owner, caller.quota)
    job, new = parts.ledger.submit(
        request["network"],
        request,
        queue=queue_name(request["backend"], request["priority"]),
        time_limit=request["time_limit"],
        max_attempts=parts.settings.max_attempts,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint(request) if idempotency_key else None,
        verdict=known,
        owner=caller.owner,
        at_once=caller.quota.running,
    )
    if new and known is None:
        parts.publisher.publish(job.id, "state", {"state": JobState.QUEUED, "attempt": 0})
        try:
            parts.dispatcher.enqueue(job)
        except redis.RedisError as error:
            logger.warning("job %s waits for the queue server: %s", job.id, error)
    return job
