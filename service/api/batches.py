"""Batches: one question about many inputs of a data set."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlencode

import anyio
import redis
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, StreamingResponse

from service.access.dependencies import READ, SUBMIT, Caller
from service.access.principal import Principal
from service.access.quotas import batch_budget, check_time_limit, usual
from service.admission import fingerprint
from service.api.datasets import known_dataset
from service.api.dependencies import PartsOfApp, Wait, media_type, read_body
from service.api.question import decoded
from service.batch_admission import admit_batch, parse_batch
from service.batch_models import BatchRecord, DatasetRecord, ItemRecord
from service.batch_schemas import (
    BatchDocument,
    BatchPage,
    BatchRequest,
    InlineInputs,
    ItemDocument,
    ItemPage,
    ResumeRequest,
    RetryRequest,
)
from service.batch_views import batch_document, item_document
from service.batches import ItemFilter
from service.closing import Closing
from service.dataset_reading import stored_labels
from service.errors import NotFoundError, StateChangeError
from service.evidence import REPRESENTATIONS, Representation, choose, render
from service.exports import MEDIA_TYPES, Export, export
from service.models import NetworkRecord
from service.parts import Parts
from service.problems import (
    INVALID_REQUEST,
    JOB_ENDED,
    NO_CERTIFICATE,
    NO_COUNTEREXAMPLE,
    UNSUPPORTED_MEDIA_TYPE,
    Fault,
    ProblemError,
    faults,
)
from service.queue import queue_name
from service.routing import require_backend
from service.schemas import CounterexampleDocument, InlineNetwork, Sha256
from service.states import BatchState, ItemState
from service.streams import RESUME_MS
from solver.verdict import Outcome

__all__ = ["Batch", "Item", "router"]

router = APIRouter(tags=["batches"])

#: Room for some thousand inputs inline; more are uploaded as a data set.
_MAX_BYTES = 64 * 2**20
_BATCH_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
#: A follower looks at the ledger this often: whatever happens to a batch, it is there first.
_LOOK_SECONDS = 0.5
#: After this silence an event is sent again, so that proxies keep the connection.
_SILENCE_SECONDS = 15.0

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/BatchRequest"}}},
    }
}
_RESUME: dict[str, Any] = {
    "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/ResumeRequest"}}}}
}
_RETRY: dict[str, Any] = {
    "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/RetryRequest"}}}}
}


async def _batch(
    batch_id: Annotated[str, Path(description="identifier of the batch")], parts: PartsOfApp, caller: Caller
) -> BatchRecord:
    if not _BATCH_ID.fullmatch(batch_id):  # nothing else ever reaches the database
        raise NotFoundError(batch_id[:40], kind="batch")
    return await run_in_threadpool(parts.ledger.batches.get, batch_id, owner=caller.reach)


Batch: TypeAlias = Annotated[BatchRecord, Depends(_batch)]


async def _item(
    batch: Batch,
    number: Annotated[int, Path(ge=0, lt=2**31, description="of the item in its batch")],
    parts: PartsOfApp,
) -> ItemRecord:
    return await run_in_threadpool(parts.ledger.batches.item, batch.id, number)


Item: TypeAlias = Annotated[ItemRecord, Depends(_item)]


@router.post(
    "/batches",
    status_code=202,
    operation_id="submitBatch",
    dependencies=[SUBMIT],
    summary="Ask about many inputs",
    response_model=BatchDocument,
    responses={202: {"description": "The batch is at work", "headers": {"Location": {"schema": {"type": "string"}}}}},
    openapi_extra=_BODY,
)
async def submit_batch(
    request: Request,
    parts: PartsOfApp,
    caller: Caller,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[\x20-\x7e]+$",
            description="the same key with the same request gives the same batch; with another request it is refused",
        ),
    ] = None,
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
    return await _shown(batch, parts, 202)


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
        _advance(batch, parts)
    return parts.ledger.batches.get(batch.id)


def _advance(batch: BatchRecord, parts: Parts) -> None:
    Closing(parts.ledger, parts.publisher, parts.dispatcher).advance(batch.id)


@router.get(
    "/batches",
    operation_id="listBatches",
    dependencies=[READ],
    summary="List batches",
    response_description="One page of batches",
    responses={200: {"headers": {"Link": {"schema": {"type": "string"}, "description": 'rel="next" (RFC 8288)'}}}},
)
async def list_batches(
    parts: PartsOfApp,
    caller: Caller,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=100, description="how many")] = 20,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$", description="`next_cursor` of the page before")
    ] = None,
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
        response.headers["Link"] = _next("/v1/batches", asked)
    workers = await run_in_threadpool(_workers, parts)
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
    if_none_match: Annotated[
        str | None, Header(alias="If-None-Match", description="an ETag that the client has")
    ] = None,
) -> Response:
    """Show a batch: its counts, the interval of robust accuracy at each epsilon, and what is left."""
    deadline = time.monotonic() + wait
    while not batch.ended and not parts.closing.is_set() and time.monotonic() < deadline:
        await anyio.sleep(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
        batch = (await parts.batches.lately(batch.id)).record
    return await _shown(batch, parts, 200, known=if_none_match)


@router.get(
    "/batches/{batch_id}/items",
    operation_id="listItems",
    dependencies=[READ],
    summary="List a batch's items",
    response_description="One page of items",
    responses={200: {"headers": {"Link": {"schema": {"type": "string"}, "description": 'rel="next" (RFC 8288)'}}}},
)
async def list_items(
    batch: Batch,
    parts: PartsOfApp,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=1000, description="how many")] = 100,
    cursor: Annotated[
        str | None,
        Query(max_length=200, pattern=r"^[A-Za-z0-9_-]+$", description="`next_cursor` of the page before"),
    ] = None,
    state: Annotated[ItemState | None, Query(description="only items in this state")] = None,
    verdict: Annotated[Outcome | None, Query(description="only items with this verdict")] = None,
    label: Annotated[int | None, Query(ge=0, lt=2**31, description="only inputs with this label")] = None,
    epsilon: Annotated[str | None, Query(max_length=120, description="only this epsilon, as it was written")] = None,
    index: Annotated[int | None, Query(ge=0, lt=2**31, description="only this input of the data set")] = None,
    sort: Annotated[
        Literal["number", "seconds", "margin"],
        Query(description="`seconds`: the longest first; `margin`: the smallest lower bound first"),
    ] = "number",
) -> ItemPage:
    """List a batch's items, without their evidence."""
    chosen = ItemFilter(state if verdict is None else ItemState.DONE, verdict, label, epsilon, index)
    if verdict is not None and state not in {None, ItemState.DONE}:
        detail = f"only items that are done have a verdict; leave out state={state}"
        raise ProblemError(INVALID_REQUEST, detail, errors=[Fault("state", detail)])
    after = None if cursor is None else _place(cursor)
    found = await run_in_threadpool(
        parts.ledger.batches.items, batch.id, chosen, limit=limit + 1, after=after, sort=sort
    )
    following = None
    if len(found) > limit:
        last = found[limit - 1]
        following = _cursor(
            last.number, {"seconds": -last.seconds, "margin": _margin(last.lower, last.upper)}.get(sort)
        )
        asked = {"limit": limit, "cursor": following, "state": state, "verdict": verdict, "label": label}
        asked |= {"epsilon": epsilon, "index": index, "sort": sort}
        response.headers["Link"] = _next(f"/v1/batches/{batch.id}/items", asked)
    return ItemPage(items=[item_document(item) for item in found[:limit]], next_cursor=following)


@router.get(
    "/batches/{batch_id}/items/{number}",
    operation_id="getItem",
    dependencies=[READ],
    summary="Show an item",
    response_description="The item with its whole verdict",
)
async def get_item(item: Item) -> ItemDocument:
    """Show one item of a batch, with its counterexample or certificate."""
    return item_document(item, whole=True)


@router.get(
    "/batches/{batch_id}/items/{number}/counterexample",
    operation_id="getItemCounterexample",
    dependencies=[READ],
    summary="Download an item's counterexample",
    response_model=CounterexampleDocument,
    response_description="The input that breaks the property, and the network's output",
    responses={200: {"content": {name: {"schema": {"type": "string"}} for name in REPRESENTATIONS.values()}}},
)
async def get_item_counterexample(
    item: Item,
    request: Request,
    format: Annotated[  # noqa: A002 - the name that the API uses
        Representation | None, Query(description="otherwise the Accept header decides; `json` by default")
    ] = None,
) -> Response:
    """Download a counterexample, in the forms that jobs offer theirs in."""
    found = (item.verdict or {}).get("counterexample")
    if found is None:
        detail = f"item {item.number} is {item.state} with {item.outcome or 'no verdict'}, so it has no counterexample"
        raise ProblemError(NO_COUNTEREXAMPLE, detail)
    chosen = format or choose(request.headers.get("Accept"))
    return render(found, chosen, name=f"counterexample-{item.batch}-{item.number}")


@router.get(
    "/batches/{batch_id}/items/{number}/certificate",
    operation_id="getItemCertificate",
    dependencies=[READ],
    summary="Download an item's certificate",
    response_class=FileResponse,
    response_description="The file that `netproof check` proves the verdict from",
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def get_item_certificate(item: Item, parts: PartsOfApp) -> FileResponse:
    """Download the certificate of a robust item of a batch with `certificate: true`; it may be of a larger ball."""
    found = (item.verdict or {}).get("certificate")
    if found is None:
        detail = (
            f"item {item.number} has no certificate: only robust items of a batch with certificate: true have one, and "
            "none where a MIP solver decided"
        )
        raise ProblemError(NO_CERTIFICATE, detail)
    path = (await run_in_threadpool(parts.artifacts.get, found["sha256"])).path
    return FileResponse(path, media_type="application/zip", filename=f"certificate-{item.batch}-{item.number}.zip")


@router.get(
    "/batches/{batch_id}/export.{form}",
    operation_id="exportBatch",
    dependencies=[READ],
    summary="Export a batch",
    response_class=StreamingResponse,
    response_description="Every item: a row of CSV or Parquet, or one line of JSON with its whole verdict",
    responses={200: {"content": {name: {"schema": {"type": "string"}} for name in MEDIA_TYPES.values()}}},
)
async def export_batch(
    batch: Batch, form: Annotated[Export, Path(description="`csv`, `jsonl` or `parquet`")], parts: PartsOfApp
) -> StreamingResponse:
    """Export all items of a batch, those without a verdict included, in the order of their numbers."""
    pieces = await run_in_threadpool(export, batch, parts.ledger, form)
    headers = {"Content-Disposition": f'attachment; filename="batch-{batch.id}.{form}"'}
    return StreamingResponse(pieces, headers=headers, media_type=MEDIA_TYPES[form])


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
        await anyio.sleep(_LOOK_SECONDS)
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
    return await _shown(batch, parts, 202)


@router.post(
    "/batches/{batch_id}/resume",
    status_code=202,
    operation_id="resumeBatch",
    dependencies=[SUBMIT],
    summary="Resume a batch",
    response_model=BatchDocument,
    response_description="The batch, at work",
    openapi_extra=_RESUME,
)
async def resume_batch(batch: Batch, request: Request, parts: PartsOfApp, caller: Caller) -> Response:
    """Go on with a batch that was cancelled or has spent its budget; no finished item is decided again."""
    asked = ResumeRequest.model_validate(await _members(request, ResumeRequest))
    limit = await run_in_threadpool(_budget, batch, asked.total_limit, parts, caller)
    record = await run_in_threadpool(parts.ledger.batches.resume, batch.id, total_limit=limit, caller=caller)
    await run_in_threadpool(_advance, record, parts)
    return await _shown(record, parts, 202)


@router.post(
    "/batches/{batch_id}/retry",
    status_code=202,
    operation_id="retryBatch",
    dependencies=[SUBMIT],
    summary="Try again what failed or stayed unknown",
    response_model=BatchDocument,
    response_description="The batch, at work",
    openapi_extra=_RETRY,
)
async def retry_batch(batch: Batch, request: Request, parts: PartsOfApp, caller: Caller) -> Response:
    """Search again for what failed and, unless told otherwise, for what stayed unknown, perhaps with more time."""
    asked = RetryRequest.model_validate(await _members(request, RetryRequest))
    check_time_limit(caller, parts.settings, asked.time_limit)
    record, _ = await run_in_threadpool(
        parts.ledger.batches.retry, batch.id, time_limit=asked.time_limit, unknown=asked.unknown, caller=caller
    )
    await run_in_threadpool(_advance, record, parts)
    return await _shown(record, parts, 202)


def _budget(batch: BatchRecord, asked: float | None, parts: Parts, caller: Principal) -> float | None:
    """The limit of all of a batch that goes on, within the caller's day."""
    groups = parts.ledger.batches.groups(batch.id)
    spent = sum(group.sweep_seconds + group.search_seconds for group in groups)
    return batch_budget(caller, parts.ledger.usage, asked if asked is not None else batch.total_limit, spent=spent)


async def _members(request: Request, model: type[ResumeRequest | RetryRequest]) -> dict[str, Any]:
    """The body of a request that may have none."""
    body = await read_body(request, 2**16, "send a small JSON object, or nothing")
    try:
        return model.model_validate_json(body or b"{}").model_dump()
    except ValidationError as error:
        found = faults(error.errors(include_url=False, include_context=False))
        detail = f"{found[0].pointer or '/'}: {found[0].detail}"
        raise ProblemError(INVALID_REQUEST, detail, errors=found) from None


async def _shown(batch: BatchRecord, parts: Parts, status: int, *, known: str | None = None) -> Response:
    seen = await parts.batches.now(batch.id)
    document, record = seen.document, seen.record
    headers = {"Cache-Control": "no-cache", "ETag": f'"{seen.tag}"'}
    if status == 202:
        headers["Location"] = document.links["self"]
    if not record.ended:
        headers["Retry-After"] = "1"
    tags = {tag.strip().removeprefix("W/") for tag in (known or "").split(",")}
    if headers["ETag"] in tags or (known or "").strip() == "*":
        return Response(status_code=304, headers=headers)
    return Response(document.model_dump_json(), status, headers, media_type="application/json")


def _workers(parts: Parts) -> int:
    try:
        return len(parts.dispatcher.workers())
    except redis.RedisError:
        return 0


def _next(path: str, asked: dict[str, Any]) -> str:
    target = urlencode({key: value for key, value in asked.items() if value is not None})
    return f'<{path}?{target}>; rel="next"'


def _margin(lower: float | None, upper: float | None) -> float:
    return next((end for end in (lower, upper) if end is not None), 1e308)


def _cursor(number: int, value: float | None) -> str:
    return base64.urlsafe_b64encode(json.dumps([value, number]).encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[Any, int]:
    """What a cursor says: the sort value and the number of the last item of the page before."""
    try:
        value, number = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not (isinstance(number, int) and 0 <= number < 2**53):
            raise ValueError(number)
        return (None if value is None else float(value)), number
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        detail = "it is not a cursor of this list; take next_cursor of the page before, with the same filters"
        raise ProblemError(INVALID_REQUEST, f"cursor: {detail}", errors=[Fault("cursor", detail)]) from error
