"""Items of batches: what was found of each input, and all of it to take away."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, StreamingResponse

from service.access.dependencies import READ
from service.api.dependencies import Batch, Form, Item, PartsOfApp
from service.api.paging import LINK, next_link
from service.api.showing import artifact_response
from service.batch_schemas import ItemDocument, ItemPage
from service.batch_views import item_document
from service.evidence import REPRESENTATIONS, choose, render
from service.exports import MEDIA_TYPES, Export, export
from service.item_rows import ItemFilter
from service.problems import INVALID_REQUEST, NO_CERTIFICATE, NO_COUNTEREXAMPLE, Fault, ProblemError
from service.states import ItemState
from service.verdict_schemas import CounterexampleDocument
from solver.verdict import Outcome

__all__ = ["router"]

router = APIRouter(tags=["batches"])


@router.get(
    "/batches/{batch_id}/items",
    operation_id="listItems",
    dependencies=[READ],
    summary="List a batch's items",
    response_description="One page of items",
    responses={200: {"headers": LINK}},
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
        response.headers["Link"] = next_link(f"/v1/batches/{batch.id}/items", asked)
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
    format: Form = None,  # noqa: A002 - the name that the API uses
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
    name = f"certificate-{item.batch}-{item.number}.zip"
    return await artifact_response(found["sha256"], parts, "application/zip", name)


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
