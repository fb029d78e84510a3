"""The lists of jobs and of batches."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import redis
from fastapi import Query, Request, Response

from service.access.dependencies import READ, Caller
from service.access.principal import Principal
from service.api.dependencies import PartsOfApp
from service.batch_views import batch_document
from service.dashboard.pages import page, page_router
from service.parts import Parts
from service.states import BatchState, JobState
from service.views import job_document

__all__ = ["router"]

router = page_router()

_ROWS = 30
_ULID = r"^([0-9A-HJKMNP-TV-Z]{26})?$"
#: Forms send a choice of "any" as an empty text.
_SHA256 = r"^([0-9a-f]{64})?$"


@router.get("/jobs", dependencies=[READ])
def list_jobs(
    request: Request,
    parts: PartsOfApp,
    caller: Caller,
    state: Annotated[str, Query(pattern=f"^({'|'.join(JobState)})?$")] = "",
    network: Annotated[str, Query(pattern=_SHA256)] = "",
    cursor: Annotated[str, Query(pattern=_ULID)] = "",
) -> Response:
    """Questions of their own, the newest first; those of a batch are on its page."""
    chosen = JobState(state) if state else None
    records = parts.ledger.jobs(
        limit=_ROWS + 1, before=cursor or None, state=chosen, network=network or None, owner=caller.reach
    )
    rows = [job_document(record, brief=True) for record in records[:_ROWS]]
    following = rows[-1].id if len(records) > _ROWS else None
    return page(
        request,
        "jobs.html",
        jobs=rows,
        state=chosen,
        states=list(JobState),
        network=network,
        cursor=cursor,
        older=_older("/jobs", following, state=chosen, network=network),
        live=not cursor,
        refresh=10 if not cursor and any(not record.terminal for record in records) else None,
        names=_names(parts, caller),
    )


@router.get("/batches", dependencies=[READ])
def list_batches(
    request: Request,
    parts: PartsOfApp,
    caller: Caller,
    state: Annotated[str, Query(pattern=f"^({'|'.join(BatchState)})?$")] = "",
    network: Annotated[str, Query(pattern=_SHA256)] = "",
    cursor: Annotated[str, Query(pattern=_ULID)] = "",
) -> Response:
    """Batches, the newest first."""
    chosen = BatchState(state) if state else None
    records = parts.ledger.batches.newest(
        limit=_ROWS + 1, before=cursor or None, state=chosen, network=network or None, owner=caller.reach
    )
    following = records[_ROWS - 1].id if len(records) > _ROWS else None
    workers = _workers(parts)
    return page(
        request,
        "batches.html",
        batches=[batch_document(record, parts.ledger, workers) for record in records[:_ROWS]],
        state=chosen,
        states=list(BatchState),
        network=network,
        cursor=cursor,
        older=_older("/batches", following, state=chosen, network=network),
        live=not cursor,
        refresh=10 if not cursor and any(not record.ended for record in records) else None,
        names=_names(parts, caller),
    )


def _older(path: str, cursor: str | None, **asked: str | None) -> str | None:
    members = {name: str(value) for name, value in asked.items() if value}
    return None if cursor is None else f"{path}?{urlencode(members | {'cursor': cursor})}"


def _names(parts: Parts, caller: Principal) -> dict[str, str]:
    return {each.sha256: each.name for each in parts.ledger.networks(limit=200, owner=caller.reach)}


def _workers(parts: Parts) -> int:
    try:
        return len(parts.dispatcher.workers())
    except redis.RedisError:
        return 0
