"""What a browser keeps about its reader: the key that it logged in with, and the colours."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Form, Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from service.access.dependencies import PUBLIC
from service.access.gate import COOKIE
from service.access.principal import EVERYBODY, Principal
from service.access.visits import close_session, open_session
from service.api.dependencies import PartsOfApp
from service.dashboard.pages import THEME_COOKIE, THEMES, page, page_router
from service.parts import Parts
from service.problems import UNAUTHENTICATED, ProblemError, problem_document

__all__ = ["local_path", "router"]

router = page_router()

_YEAR_SECONDS = 365 * 86_400


def local_path(target: str) -> str:
    """``target`` if it is a path of this site, else the overview: a form must not lead readers elsewhere."""
    outside = not target.startswith("/") or target.startswith(("//", "/\\")) or not target.isprintable()
    return "/" if outside else target


@router.post("/theme", dependencies=[PUBLIC])
async def choose_theme(theme: Annotated[str, Form()] = "auto", back: Annotated[str, Form()] = "/") -> Response:
    """Remember which colours the reader wants, and go back to the page."""
    answer = RedirectResponse(local_path(back), 303)
    chosen = theme if theme in THEMES else "auto"
    answer.set_cookie(THEME_COOKIE, chosen, max_age=_YEAR_SECONDS, httponly=True, samesite="strict")
    return answer


@router.get("/login", dependencies=[PUBLIC])
async def show_login(request: Request, parts: PartsOfApp, back: str = "/") -> Response:
    """A form for a key; for those who have logged in, what their key may do."""
    caller = await _known(request, parts)
    used = None if caller is None else await run_in_threadpool(parts.ledger.usage.of, caller.owner)
    needed = parts.settings.access_on
    return page(request, "login.html", back=local_path(back), problem=None, used=used, needed=needed)


async def _known(request: Request, parts: Parts) -> Principal | None:
    """Who asks, if the browser's cookie is still good."""
    if not parts.settings.access_on:
        request.state.caller = EVERYBODY
        return EVERYBODY
    if COOKIE not in request.cookies:
        return None
    try:
        request.state.caller = await parts.gate.identify(request)
    except ProblemError as error:
        if error.kind is not UNAUTHENTICATED:
            raise
        return None
    return cast("Principal", request.state.caller)


@router.post("/login", dependencies=[PUBLIC])
async def login(
    request: Request, parts: PartsOfApp, key: Annotated[str, Form()] = "", back: Annotated[str, Form()] = "/"
) -> Response:
    """Open a session for a key; a wrong one brings the form back."""
    answer = RedirectResponse(local_path(back), 303)
    try:
        await open_session(request, answer, key)
    except ProblemError as error:
        problem = problem_document(error)
        return page(
            request,
            "login.html",
            status=error.kind.status,
            back=local_path(back),
            problem=problem,
            used=None,
            needed=parts.settings.access_on,
        )
    return answer


@router.post("/logout", dependencies=[PUBLIC])
async def logout(request: Request) -> Response:
    """End the session."""
    answer = RedirectResponse("/login", 303)
    await close_session(request, answer)
    return answer
