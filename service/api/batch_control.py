"""Batches at work: following them, stopping them and going on with them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Annotated, TypeVar

import anyio
from fastapi import APIRouter, Header, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from service.access.dependencies import READ, SUBMIT, Caller
from service.access.principal import Principal
from service.access.quotas import batch_budget, check_time_limit
from service.admission import validated
from service.api.dependencies import Batch, PartsOfApp, json_body, read_body
from service.api.showing import batch_response
from service.batch_models import BatchRecord
from service.batch_schemas import BatchDocument, ResumeRequest, RetryRequest
from service.batch_watch import LOOK_SECONDS
from service.errors import StateChangeError
from service.parts import Parts
from service.problems import INVALID_REQUEST, JOB_ENDED, ProblemError
from service.streams import RESUME_MS

__all__ = ["router"]

router = APIRouter(tags=["batches"])

#: After this silence an event is sent again, so that proxies keep the connection.
_SILENCE_SECONDS = 15.0

_Asked = TypeVar("_Asked", ResumeRequest, RetryRequest)


@router.get(
    "/batches/{batch_id}/events",
    operation_id="followBatch",
    dependencies=[READ],
    summary="Follow a batch",
    response_class=EventSourceResponse,
    response_description="Events of kind `progress`, and one of kind `state` when the batch has ended",
)
async def follow_batch(
    batch: Batch,
    parts: PartsOfApp,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", pattern=r"^[0-9a-f]{1,64}$", description="the state that the client knows"),
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a batch by server-sent events: the whole document whenever it has changed, until the batch has ended.

    Every event says all that is known, so none has to be sent twice; the last has the kind `state`.
    """
    known, silent = last_event_id or "", time.monotonic()
    while not parts.closing.is_set():
        seen = await parts.batches.lately(batch.id)
        ended = seen.record.ended
        if seen.tag != known or ended or time.monotonic() - silent > _SILENCE_SECONDS:
            kind = "state" if ended else "progress"
            yield ServerSentEvent(data=seen.document.model_dump(mode="json"), event=kind, id=seen.tag)
            known, silent = seen.tag, time.monotonic()
        if ended:
            return
        await anyio.sleep(LOOK_SECONDS)
    yield ServerSentEvent(retry=RESUME_MS, comment="this process ends; ask again")


@router.post(
    "/batches/{batch_id}/cancel",
    status_code=202,
    operation_id="cancelBatch",
    dependencies=[SUBMIT],
    summary="Cancel a batch",
    response_model=BatchDocument,
    response_description="The batch, cancelled or about to be",
)
async def cancel_batch(batch: Batch, parts: PartsOfApp) -> Response:
    """Ask a batch to stop. Finished items stay, the others wait for `resume`; asking again changes nothing."""
    try:
        batch = await run_in_threadpool(parts.ledger.batches.request_cancel, batch.id)
    except StateChangeError as error:
        detail = f"batch {batch.id} is {error.before}; there is nothing to cancel"
        raise ProblemError(JOB_ENDED, detail) from error
    return await batch_response(batch, parts, 202)


@router.post(
    "/batches/{batch_id}/resume",
    status_code=202,
    operation_id="resumeBatch",
    dependencies=[SUBMIT],
    summary="Resume a batch",
    response_model=BatchDocument,
    response_description="The batch, at work",
    openapi_extra=json_body(ResumeRequest),
)
async def resume_batch(batch: Batch, request: Request, parts: PartsOfApp, caller: Caller) -> Response:
    """Go on with a batch that was cancelled or has spent its budget; no finished item is decided again."""
    asked = await _asked(request, ResumeRequest)
    limit = await run_in_threadpool(_budget, batch, asked.total_limit, parts, caller)
    record = await run_in_threadpool(parts.ledger.batches.resume, batch.id, total_limit=limit, caller=caller)
    await run_in_threadpool(parts.advance, record.id)
    return await batch_response(record, parts, 202)


@router.post(
    "/batches/{batch_id}/retry",
    status_code=202,
    operation_id="retryBatch",
    dependencies=[SUBMIT],
    summary="Try again what failed or stayed unknown",
    response_model=BatchDocument,
    response_description="The batch, at work",
    openapi_extra=json_body(RetryRequest),
)
async def retry_batch(batch: Batch, request: Request, parts: PartsOfApp, caller: Caller) -> Response:
    """Search again for what failed and, unless told otherwise, for what stayed unknown, perhaps with more time."""
    asked = await _asked(request, RetryRequest)
    check_time_limit(caller, parts.settings, asked.time_limit)
    record, _ = await run_in_threadpool(
        parts.ledger.batches.retry, batch.id, time_limit=asked.time_limit, unknown=asked.unknown, caller=caller
    )
    await run_in_threadpool(parts.advance, record.id)
    return await batch_response(record, parts, 202)


def _budget(batch: BatchRecord, asked: float | None, parts: Parts, caller: Principal) -> float | None:
    """The limit of all of a batch that goes on, within the caller's day."""
    groups = parts.ledger.batches.groups(batch.id)
    spent = sum(group.sweep_seconds + group.search_seconds for group in groups)
    return batch_budget(caller, parts.ledger.usage, asked if asked is not None else batch.total_limit, spent=spent)


async def _asked(request: Request, model: type[_Asked]) -> _Asked:
    """The body of a request that may have none."""
    body = await read_body(request, 2**16, "send a small JSON object, or nothing")
    found = validated(model, body or b"{}", frozenset())
    if not isinstance(found, list):
        return found
    raise ProblemError(INVALID_REQUEST, f"{found[0].pointer or '/'}: {found[0].detail}", errors=found)
