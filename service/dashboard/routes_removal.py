"""Buttons that delete: what has ended, or nobody needs."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from service.access.dependencies import SUBMIT
from service.dashboard.inside import call
from service.dashboard.pages import page_router, refused

__all__ = ["router"]

router = page_router()


@router.post("/{kind}/{identifier}/delete", dependencies=[SUBMIT])
async def delete(
    request: Request, kind: Literal["jobs", "batches", "networks", "datasets"], identifier: str
) -> Response:
    """Delete it and go to the list of its kind; what is still needed stays, and the page says for what."""
    answer = await call(request, "DELETE", f"/v1/{kind}/{quote(identifier, safe='')}")
    return refused(request, answer) if answer.is_error else RedirectResponse(f"/{kind}", 303)
