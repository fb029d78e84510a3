"""Browsers: a session is opened with a key and closed again; used by the API and by the dashboard's login page."""

from __future__ import annotations

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from service.access.gate import COOKIE
from service.access.principal import EVERYBODY, Principal
from service.access.sessions import SESSION_HOURS
from service.parts import Parts

__all__ = ["close_session", "open_session"]


async def open_session(request: Request, response: Response, key: str) -> Principal:
    """Open a session for ``key`` and set its cookie on ``response``.

    Without access control there is nothing to open, and nothing is set.

    Raises:
        ProblemError: 401, it is no valid key; 429, too many were tried.
    """
    parts: Parts = request.app.state.parts
    if not parts.settings.access_on:
        return EVERYBODY
    record = await parts.gate.admit(request, key.strip())
    token = await run_in_threadpool(parts.ledger.sessions.open, record)
    # Strict: no other site's link or form brings it along; no script sees it
    response.set_cookie(
        COOKIE,
        token,
        max_age=SESSION_HOURS * 3600,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    response.headers["Cache-Control"] = "no-store"
    caller = parts.gate.principal(record, session=True)
    request.state.caller = caller
    return caller


async def close_session(request: Request, response: Response) -> None:
    """End the session of the request's cookie, if it has one, and have the browser forget it."""
    parts: Parts = request.app.state.parts
    token = request.cookies.get(COOKIE)
    if token:
        await run_in_threadpool(parts.ledger.sessions.close, token)
        parts.gate.forget(token)
    response.delete_cookie(COOKIE, path="/", secure=request.url.scheme == "https", httponly=True, samesite="strict")
