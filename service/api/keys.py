"""Keys, the audit log, and sessions of browsers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from service.access.dependencies import ADMIN, PUBLIC, READ, Caller
from service.access.keys import NewKey
from service.access.principal import Principal
from service.access.schemas import (
    AuditLine,
    AuditPage,
    CallerDocument,
    KeyDocument,
    KeyPage,
    KeyRequest,
    LoginRequest,
    NewKeyDocument,
    QuotaDocument,
    RotationRequest,
    UsedDocument,
)
from service.access.visits import close_session, open_session
from service.api.dependencies import PartsOfApp, json_body, read_body
from service.api.paging import Cursor
from service.problems import INVALID_REQUEST, MALFORMED_JSON, ProblemError, faults
from service.schema_base import RequestModel

__all__ = ["router"]

router = APIRouter(tags=["access"])

#: FastAPI reads a body that it validates before it asks who sent it, however long that is; these are read later.
_MAX_BYTES = 2**16

_Asked = TypeVar("_Asked", bound=RequestModel)


async def _asked(request: Request, model: type[_Asked]) -> _Asked:
    """The request's body; none at all stands for an object without members."""
    body = await read_body(request, _MAX_BYTES, "send a small JSON object")
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        if details[0]["type"] == "json_invalid":
            raise ProblemError(MALFORMED_JSON, f"{details[0]['msg']}; send one JSON object") from None
        found = faults(details)
        detail = f"{found[0].pointer or '/'}: {found[0].detail}"
        raise ProblemError(INVALID_REQUEST, detail, errors=found) from None


KeyId = Annotated[str, Path(max_length=16, description="identifier of the key, its part between the underscores")]


@router.post(
    "/keys",
    status_code=201,
    operation_id="createKey",
    dependencies=[ADMIN],
    summary="Make a key",
    response_description="The key, shown this once",
    openapi_extra=json_body(KeyRequest, required=True),
)
async def create_key(request: Request, parts: PartsOfApp, response: Response) -> NewKeyDocument:
    """Make a key for an owner, who sees what was made with any of the owner's keys."""
    asked = await _asked(request, KeyRequest)
    expires_at = None if asked.expires_days is None else datetime.now(UTC) + timedelta(days=asked.expires_days)
    made = await run_in_threadpool(
        parts.ledger.keys.create,
        asked.owner,
        asked.scope,
        name=asked.name,
        quota=asked.quota.quota(),
        expires_at=expires_at,
    )
    return _shown(made, response)


@router.get(
    "/keys",
    operation_id="listKeys",
    dependencies=[ADMIN],
    summary="List keys",
    response_description="All keys, without their secrets",
)
async def list_keys(
    parts: PartsOfApp, owner: Annotated[str | None, Query(max_length=64, description="only this owner's")] = None
) -> KeyPage:
    """List keys, those that are not valid any more included."""
    records = await run_in_threadpool(parts.ledger.keys.all, owner=owner)
    return KeyPage(keys=[KeyDocument.of(record) for record in records])


@router.get(
    "/keys/{key_id}",
    operation_id="getKey",
    dependencies=[ADMIN],
    summary="Show a key",
    response_description="The key, without its secret",
)
async def get_key(key_id: KeyId, parts: PartsOfApp) -> KeyDocument:
    """Show one key."""
    return KeyDocument.of(await run_in_threadpool(parts.ledger.keys.get, key_id))


@router.post(
    "/keys/{key_id}/rotate",
    status_code=201,
    operation_id="rotateKey",
    dependencies=[ADMIN],
    summary="Rotate a key",
    response_description="The new key, shown this once",
    openapi_extra=json_body(RotationRequest, required=False),
)
async def rotate_key(request: Request, key_id: KeyId, parts: PartsOfApp, response: Response) -> NewKeyDocument:
    """Make a new key for the same owner; the old one stays valid for a while, so that its users can change over."""
    asked = await _asked(request, RotationRequest)
    overlap = timedelta(hours=asked.overlap_hours)
    return _shown(await run_in_threadpool(parts.ledger.keys.rotate, key_id, overlap=overlap), response)


@router.post(
    "/keys/{key_id}/revoke",
    operation_id="revokeKey",
    dependencies=[ADMIN],
    summary="Revoke a key",
    response_description="The key, worthless from now on",
)
async def revoke_key(key_id: KeyId, parts: PartsOfApp) -> KeyDocument:
    """Make a key worthless; web processes notice within seconds. Again, it changes nothing."""
    return KeyDocument.of(await run_in_threadpool(parts.ledger.keys.revoke, key_id))


@router.get(
    "/audit",
    operation_id="listAudit",
    dependencies=[ADMIN],
    summary="Read the audit log",
    response_description="One page of the log",
)
async def list_audit(
    parts: PartsOfApp,
    limit: Annotated[int, Query(ge=1, le=1000, description="how many")] = 100,
    cursor: Cursor = None,
    owner: Annotated[str | None, Query(max_length=64, description="only this owner's requests")] = None,
    key: Annotated[str | None, Query(max_length=16, description="only requests with this key")] = None,
) -> AuditPage:
    """Read who changed what, who was refused, and who took evidence away, the newest first."""
    lines = await run_in_threadpool(parts.ledger.audit.lines, limit=limit + 1, before=cursor, owner=owner, key=key)
    following = lines[limit - 1].id if len(lines) > limit else None
    return AuditPage(lines=[AuditLine.of(line) for line in lines[:limit]], next_cursor=following)


@router.get(
    "/session",
    operation_id="whoAmI",
    dependencies=[READ],
    summary="Show who asks",
    response_description="The caller, its quota, and what its owner uses",
)
async def show_session(caller: Caller, parts: PartsOfApp) -> CallerDocument:
    """Show the key's owner, scope and quota, and what of it is used."""
    return await _described(caller, parts)


@router.post(
    "/session",
    operation_id="login",
    dependencies=[PUBLIC],
    summary="Open a session",
    response_description="The caller; the answer sets the session's cookie",
    openapi_extra=json_body(LoginRequest, required=True),
)
async def login(request: Request, parts: PartsOfApp, response: Response) -> CallerDocument:
    """Open a browser's session for a key: a cookie that no script sees, valid for half a day."""
    asked = await _asked(request, LoginRequest)
    return await _described(await open_session(request, response, asked.key), parts)


@router.delete(
    "/session",
    status_code=204,
    operation_id="logout",
    dependencies=[PUBLIC],
    summary="End the session",
    response_description="The session has ended",
)
async def logout(request: Request, response: Response) -> None:
    """End the browser's session, if there is one."""
    await close_session(request, response)


async def _described(caller: Principal, parts: PartsOfApp) -> CallerDocument:
    used = await run_in_threadpool(parts.ledger.usage.of, caller.owner)
    return CallerDocument(
        access=parts.settings.access_on,
        owner=caller.owner,
        key=caller.key,
        scope=caller.scope,
        session=caller.session,
        quota=QuotaDocument.of(caller.quota),
        used=UsedDocument(
            running=used.running, queued=used.queued, batches=used.batches, cpu_seconds=round(used.cpu_seconds, 3)
        ),
    )


def _shown(made: NewKey, response: Response) -> NewKeyDocument:
    response.headers["Cache-Control"] = "no-store"
    response.headers["Location"] = f"/v1/keys/{made.record.id}"
    return NewKeyDocument(key=made.text, record=KeyDocument.of(made.record))
