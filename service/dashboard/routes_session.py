"""What a browser keeps about its reader: the colours."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form, Response
from fastapi.responses import RedirectResponse

from service.access.dependencies import PUBLIC
from service.dashboard.pages import THEME_COOKIE, THEMES, page_router

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
