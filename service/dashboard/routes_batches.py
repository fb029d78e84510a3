"""The page of a batch, its table of items, and what it does while the batch runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import anyio
from fastapi import Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, StreamingResponse

from service.access import Scope
from service.access.dependencies import READ, SUBMIT, Caller
from service.api.dependencies import Batch, Item, PartsOfApp
from service.batch_models import BatchRecord
from service.batch_schemas import BatchDocument
from service.batch_views import batch_document
from service.dashboard.batch_view import batch_charts, failed_inputs
from service.dashboard.checks import check_result, checked
from service.dashboard.inside import call
from service.dashboard.item_view import item_view
from service.dashboard.pages import fragment, page, page_router, refused
from service.dashboard.pictures import layout
from service.dashboard.streaming import closing_event, message
from service.parts import Parts
from service.queue import alive
from solver.verdict import Outcome

__all__ = ["router"]

router = page_router()

_ROWS = 100
#: The drawings of a larger batch come after the rest of its page has been painted.
_DRAWN_AT_ONCE = 2000
_THUMBNAILS = 24
_LOOK_SECONDS = 1.0
_REFRESH_SECONDS = 5
_ENDED = "ended"
#: What the table can be narrowed down to: states of items and verdicts, in one list.
_STATUS = ("robust", "counterexample", "unknown", "failed", "open", "searching", "sweeping", "pending")
_SORTS = {"number": "as asked", "margin": "smallest margin", "seconds": "longest"}

Text = Annotated[str, Query(max_length=120)]
Cursor = Annotated[str, Query(max_length=200)]


async def _choice(
    status: Annotated[str, Query(max_length=20)] = "",
    label: Text = "",
    epsilon: Text = "",
    index: Text = "",
    sort: Text = "number",
) -> dict[str, str]:
    return {"status": status, "label": label, "epsilon": epsilon, "index": index, "sort": sort}


#: Which items the table shows, and in which order.
Choice = Annotated[dict[str, str], Depends(_choice)]


@router.get("/batches/{batch_id}", dependencies=[READ])
async def show_batch(
    request: Request,
    batch: Batch,
    parts: PartsOfApp,
    chosen: Choice,
    cursor: Cursor = "",
    drawings: Annotated[
        bool, Query(description="with the drawings of a large batch, for browsers without scripts")
    ] = False,
) -> Response:
    """How far a batch is, what it found, and its items."""
    rows = await _rows(request, batch, chosen | {"cursor": cursor}, parts)
    if isinstance(rows, Response):
        return rows
    drawn = drawings or batch.items <= _DRAWN_AT_ONCE
    shown = await run_in_threadpool(_shown, batch, parts, chosen["epsilon"], drawn=drawn)
    network = await run_in_threadpool(parts.ledger.network, batch.network)
    dataset = await run_in_threadpool(parts.ledger.datasets.get, batch.dataset)
    return page(
        request,
        "batch.html",
        **shown,
        network=network,
        dataset=dataset,
        rows=rows,
        chosen=chosen,
        statuses=_STATUS,
        sorts=_SORTS,
        refresh=None if batch.ended else _REFRESH_SECONDS,
    )


@router.get("/batches/{batch_id}/rows", dependencies=[READ])
async def show_rows(
    request: Request,
    batch: Batch,
    parts: PartsOfApp,
    chosen: Choice,
    cursor: Cursor = "",
) -> Response:
    """Rows of the table: the first page of a choice, or the one that a cursor leads to."""
    rows = await _rows(request, batch, chosen | {"cursor": cursor}, parts)
    if isinstance(rows, Response):
        return rows
    return _part("batch_rows.html", batch=batch, rows=rows, chosen=chosen)


@router.get("/batches/{batch_id}/charts", dependencies=[READ])
def show_charts(batch: Batch, parts: PartsOfApp, epsilon: Text = "") -> Response:
    """The drawings anew."""
    return _part("batch_charts.html", **_shown(batch, parts, epsilon))


@router.get("/batches/{batch_id}/live", dependencies=[READ])
async def follow_page(batch: Batch, parts: PartsOfApp, caller: Caller) -> Response:
    """The figures anew whenever they have changed, as server-sent events, until the batch has ended."""
    may_submit = caller.scope.includes(Scope.SUBMIT)

    async def messages() -> AsyncIterator[bytes]:
        last = ""
        while not parts.closing.is_set():
            now = await run_in_threadpool(parts.ledger.batches.get, batch.id, owner=caller.reach)
            document = await run_in_threadpool(_document, now, parts)
            text = fragment("batch_figures.html", document=document, may_submit=may_submit)
            yield b": still here\n\n" if text == last else message(text)
            if now.ended:
                yield closing_event(_ENDED)
                return
            last = text
            await anyio.sleep(_LOOK_SECONDS)

    return StreamingResponse(messages(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


@router.get("/batches/{batch_id}/items/{number}", dependencies=[READ])
async def show_item(request: Request, batch: Batch, item: Item, parts: PartsOfApp) -> Response:
    """Everything about an item."""
    return page(request, "item.html", view=await run_in_threadpool(item_view, item, batch, parts), report=None)


@router.post("/batches/{batch_id}/items/{number}/check", dependencies=[READ])
async def check_certificate(request: Request, batch: Batch, item: Item, parts: PartsOfApp) -> Response:
    """What the independent checker says now about an item's certificate."""
    report = await checked(item.verdict, batch.network, parts)
    shown = check_result(request, report)
    if shown is None:
        view = await run_in_threadpool(item_view, item, batch, parts)
        shown = page(request, "item.html", view=view, report=report)
    return shown


@router.post("/batches/{batch_id}/{action}", dependencies=[SUBMIT])
async def act(request: Request, batch: Batch, action: Literal["cancel", "resume", "retry"]) -> Response:
    """Cancel, resume or retry the batch, and show it."""
    answer = await call(request, "POST", f"/v1/batches/{batch.id}/{action}")
    if answer.is_error and answer.status_code != 409:  # a button that was pressed too late does no harm
        return refused(request, answer)
    return RedirectResponse(f"/batches/{batch.id}", 303)


def _part(template: str, **context: Any) -> Response:
    return Response(fragment(template, **context), media_type="text/html", headers={"Cache-Control": "no-cache"})


def _document(batch: BatchRecord, parts: Parts) -> BatchDocument:
    return batch_document(batch, parts.ledger, alive(parts.dispatcher))


def _shown(batch: BatchRecord, parts: Parts, epsilon: str, *, drawn: bool = True) -> dict[str, Any]:
    document = _document(batch, parts)
    return {
        "batch": batch,
        "document": document,
        "drawn": drawn,
        "charts": batch_charts(batch, document, parts.ledger, epsilon) if drawn else [],
        "failed": failed_inputs(parts.ledger.figures.broken(batch.id, limit=_THUMBNAILS)) if drawn else [],
        "thumbnails": _THUMBNAILS,
        "pictured": layout(parts.ledger.datasets.get(batch.dataset).summary["shape"]) is not None,
    }


async def _rows(
    request: Request, batch: BatchRecord, chosen: Mapping[str, str], parts: Parts
) -> dict[str, Any] | Response:
    """A page of items as the API lists them, and where the next one is."""
    status = chosen["status"]
    asked = {name: chosen[name] for name in ("label", "epsilon", "index", "sort", "cursor") if chosen[name]}
    if status:
        asked["verdict" if status in set(Outcome) else "state"] = status
    answer = await call(request, "GET", f"/v1/batches/{batch.id}/items", params=asked | {"limit": str(_ROWS)})
    if answer.is_error:
        return refused(request, answer)
    found: dict[str, Any] = answer.json()
    distances = None
    if batch.request["query"].get("kind") == "distance":
        numbers = [item["number"] for item in found["items"]]
        distances = await run_in_threadpool(parts.ledger.figures.distances_of, batch.id, numbers)
    here = {name: value for name, value in chosen.items() if value}
    following = found["next_cursor"] and urlencode(here | {"cursor": found["next_cursor"]})
    return {
        "items": found["items"],
        "distances": distances,
        "first": not chosen["cursor"],
        "here": urlencode(here),
        "following": following,
    }
