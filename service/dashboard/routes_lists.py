"""The lists of jobs and of batches."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias
from urllib.parse import urlencode

from fastapi import Query, Request, Response

from service.access.dependencies import READ, Caller
from service.access.principal import Principal
from service.api.dependencies import PartsOfApp
from service.batch_views import batch_document
from service.dashboard.names import network_names
from service.dashboard.pages import page, page_router
from service.parts import Parts
from service.queue import alive
from service.states import BatchState, JobState
from service.views import job_document

__all__ = ["router"]

router = page_router()

_ROWS = 30
_REFRESH_SECONDS = 10

# forms send a choice of "any" as an empty text
_Network: TypeAlias = Annotated[str, Query(pattern=r"^([0-9a-f]{64})?$")]
_Cursor: TypeAlias = Annotated[str, Query(pattern=r"^([0-9A-HJKMNP-TV-Z]{26})?$")]


@router.get("/jobs", dependencies=[READ])
def list_jobs(
    request: Request,
    parts: PartsOfApp,
    caller: Caller,
    state: Annotated[str, Query(pattern=f"^({'|'.join(JobState)})?$")] = "",
    network: _Network = "",
    cursor: _Cursor = "",
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
        older=_older("/jobs", following, state=chosen, network=network),
        **_usual(network, cursor, parts, caller, moving=any(not record.terminal for record in records)),
    )


@router.get("/batches", dependencies=[READ])
def list_batches(
    request: Request,
    parts: PartsOfApp,
    caller: Caller,
    state: Annotated[str, Query(pattern=f"^({'|'.join(BatchState)})?$")] = "",
    network: _Network = "",
    cursor: _Cursor = "",
) -> Response:
    """Batches, the newest first."""
    chosen = BatchState(state) if state else None
    records = parts.ledger.batches.newest(
        limit=_ROWS + 1, before=cursor or None, state=chosen, network=network or None, owner=caller.reach
    )
    following = records[_ROWS - 1].id if len(records) > _ROWS else None
    workers = alive(parts.dispatcher)
    return page(
        request,
        "batches.html",
        batches=[batch_document(record, parts.ledger, workers) for record in records[:_ROWS]],
        state=chosen,
        states=list(BatchState),
        older=_older("/batches", following, state=chosen, network=network),
        **_usual(network, cursor, parts, caller, moving=any(not record.ended for record in records)),
    )


def _usual(network: str, cursor: str, parts: Parts, caller: Principal, *, moving: bool) -> dict[str, Any]:
    """What both lists show; their first pages follow what is ``moving``."""
    return {
        "network": network,
        "cursor": cursor,
        "live": not cursor,
        "refresh": _REFRESH_SECONDS if moving and not cursor else None,
        "names": network_names(parts, caller),
    }


def _older(path: str, cursor: str | None, **asked: str | None) -> str | None:
    members = {name: str(value) for name, value in asked.items() if value}
    return None if cursor is None else f"{path}?{urlencode(members | {'cursor': cursor})}"
