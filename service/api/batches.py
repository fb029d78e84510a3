"""Batches: one question about many inputs of a data set."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import Annotated

import anyio
import redis
from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from service.access.dependencies import READ, SUBMIT, Caller
from service.access.principal import Principal
from service.access.quotas import batch_budget, usual
from service.admission import fingerprint
from service.api.dependencies import (
    Batch,
    IfNoneMatch,
    PartsOfApp,
    Wait,
    idempotency_key_of,
    json_body,
    known_dataset,
    media_type,
    read_body,
)
from service.api.paging import LINK, Cursor, next_link
from service.api.question import decoded
from service.api.showing import batch_response
from service.batch_admission import admit_batch, parse_batch
from service.batch_models import BatchRecord, DatasetRecord
from service.batch_schemas import BatchDocument, BatchPage, BatchRequest, InlineInputs
from service.batch_views import batch_document
from service.batch_watch import LOOK_SECONDS
from service.dataset_reading import stored_labels
from service.models import NetworkRecord
from service.parts import Parts
from service.problems import INVALID_REQUEST, UNSUPPORTED_MEDIA_TYPE, Fault, ProblemError
from service.queue import alive, queue_name
from service.routing import require_backend
from service.schema_base import Sha256
from service.schemas import InlineNetwork
from service.states import BatchState

__all__ = ["router"]

router = APIRouter(tags=["batches"])

#: Room for some thousand inputs inline; more are uploaded as a data set.
_MAX_BYTES = 64 * 2**20


@router.post(
    "/batches",
    status_code=202,
    operation_id="submitBatch",
    dependencies=[SUBMIT],
    summary="Ask about many inputs",
    response_model=BatchDocument,
    responses={202: {"description": "The batch is at work", "headers": {"Location": {"schema": {"type": "string"}}}}},
    openapi_extra=json_body(BatchRequest, required=True),
)
async def submit_batch(
    request: Request,
    parts: PartsOfApp,
    caller: Caller,
    idempotency_key: Annotated[str | None, idempotency_key_of("batch")] = None,
) -> Response:
    """Ask the same question about many inputs of a data set, at one or several epsilons.

    Every input is swept with bounds and a short attack, in chunks; each that stays open gets an exact search of its
    own. The robust accuracy is an interval that closes meanwhile. Among the epsilons of an input, a robust verdict
    decides all smaller ones, and a counterexample all larger ones.
    """
    if media_type(request) != "application/json":
        detail = f"a batch comes as application/json, got {media_type(request) or 'no Content-Type'}; with curl: --json"
        raise ProblemError(UNSUPPORTED_MEDIA_TYPE, detail)
    advice = "upload the inputs by POST /v1/datasets and name them by their sha256"
    asked = parse_batch(await read_body(request, _MAX_BYTES, advice))
    network = await _network(asked, parts, caller)
    dataset = await _dataset(asked, parts, caller)
    batch = await run_in_threadpool(_submit, asked, network, dataset, idempotency_key, parts, caller)
    return await batch_response(batch, parts, 202)


async def _network(asked: BatchRequest, parts: Parts, caller: Principal) -> NetworkRecord:
    if isinstance(asked.network, InlineNetwork):
        return (await parts.intake.take(decoded(asked.network.onnx), caller))[0]
    return await run_in_threadpool(parts.ledger.network, asked.network, owner=caller.reach)


async def _dataset(asked: BatchRequest, parts: Parts, caller: Principal) -> DatasetRecord:
    if not isinstance(asked.dataset, InlineInputs):
        return await known_dataset(asked.dataset, parts, caller)
    if len(asked.dataset.inputs) != len(asked.dataset.labels):
        detail = f"there are {len(asked.dataset.inputs)} inputs but {len(asked.dataset.labels)} labels; each needs one"
        raise ProblemError(INVALID_REQUEST, detail, errors=[Fault("/dataset/labels", detail)])
    inline = asked.dataset
    record, _ = await run_in_threadpool(parts.datasets.take_inline, inline.inputs, inline.labels, caller)
    return record


def _submit(
    asked: BatchRequest,
    network: NetworkRecord,
    dataset: DatasetRecord,
    idempotency_key: str | None,
    parts: Parts,
    caller: Principal,
) -> BatchRecord:
    labels = stored_labels(parts.artifacts.get(dataset.artifact).path)
    find = partial(parts.ledger.network, owner=caller.reach)
    request, items = admit_batch(asked, network, dataset, labels, usual(caller, parts.settings), find)
    digest = fingerprint(request) if idempotency_key else None
    if idempotency_key and (earlier := parts.ledger.batches.earlier(caller.owner, idempotency_key, digest)):
        return earlier  # whatever may be asked by now
    with contextlib.suppress(redis.RedisError):
        require_backend(request["backend"], parts.dispatcher.workers())
    request["total_limit"] = batch_budget(caller, parts.ledger.usage, request["total_limit"])
    batch, new = parts.ledger.batches.submit(
        request,
        items,
        queue=queue_name(request["backend"], request["priority"]),
        max_attempts=parts.settings.max_attempts,
        idempotency_key=idempotency_key,
        fingerprint=digest,
        caller=caller,
    )
    if new:
        parts.advance(batch.id)
    return parts.ledger.batches.get(batch.id)


@router.get(
    "/batches",
    operation_id="listBatches",
    dependencies=[READ],
    summary="List batches",
    response_description="One page of batches",
    responses={200: {"headers": LINK}},
)
async def list_batches(
    parts: PartsOfApp,
    caller: Caller,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=100, description="how many")] = 20,
    cursor: Cursor = None,
    state: Annotated[BatchState | None, Query(description="only batches in this state")] = None,
    network: Annotated[Sha256 | None, Query(description="only batches about this network")] = None,
) -> BatchPage:
    """List batches, the newest first."""
    found = await run_in_threadpool(
        parts.ledger.batches.newest,
        limit=limit + 1,
        before=cursor,
        state=state,
        network=network,
        owner=caller.reach,
    )
    following = found[limit - 1].id if len(found) > limit else None
    if following is not None:
        asked = {"limit": limit, "cursor": following, "state": state, "network": network}
        response.headers["Link"] = next_link("/v1/batches", asked)
    workers = await run_in_threadpool(alive, parts.dispatcher)
    documents = [await run_in_threadpool(batch_document, each, parts.ledger, workers) for each in found[:limit]]
    return BatchPage(batches=documents, next_cursor=following)


@router.get(
    "/batches/{batch_id}",
    operation_id="getBatch",
    dependencies=[READ],
    summary="Show a batch",
    response_model=BatchDocument,
    response_description="The batch",
    responses={
        200: {"headers": {"ETag": {"schema": {"type": "string"}}, "Retry-After": {"schema": {"type": "integer"}}}},
        304: {"description": "The batch is as the client knows it (If-None-Match)"},
    },
)
async def get_batch(
    batch: Batch,
    parts: PartsOfApp,
    wait: Wait,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Show a batch: its counts, the interval of robust accuracy at each epsilon, and what is left."""
    deadline = time.monotonic() + wait
    while not batch.ended and not parts.closing.is_set() and time.monotonic() < deadline:
        await anyio.sleep(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
        batch = (await parts.batches.lately(batch.id)).record
    return await batch_response(batch, parts, 200, if_none_match)
