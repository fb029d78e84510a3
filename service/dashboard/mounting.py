"""The dashboard's place in the web application."""

from __future__ import annotations

import http

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from service.dashboard import (
    assets,
    routes_ask,
    routes_audit,
    routes_batches,
    routes_datasets,
    routes_jobs,
    routes_lists,
    routes_networks,
    routes_overview,
    routes_removal,
    routes_samples,
    routes_session,
)
from service.dashboard.pages import page, wants_page

__all__ = ["add_dashboard"]


def add_dashboard(app: FastAPI) -> None:
    """Add the pages to ``app``, before the API's routes of the same paths, and a page for what there is not."""
    app.include_router(assets.router)
    app.include_router(routes_datasets.pictures)
    for module in (
        routes_removal,  # before those that take any action
        routes_overview,
        routes_ask,
        routes_audit,
        routes_networks,
        routes_datasets,
        routes_jobs,
        routes_lists,
        routes_batches,
        routes_samples,
        routes_session,
    ):
        app.include_router(module.router)
    answer = app.exception_handlers[HTTPException]

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if not wants_page(request.scope) or request.url.path.startswith("/v1/"):
            return await answer(request, error)  # type: ignore[no-any-return, misc]
        return page(request, "problem.html", status=error.status_code, problem=_described(request, error))

    app.add_exception_handler(HTTPException, on_http_exception)


def _described(request: Request, error: HTTPException) -> dict[str, str | int]:
    status = http.HTTPStatus(error.status_code)
    if status is http.HTTPStatus.NOT_FOUND:
        detail = f"nothing is at {request.url.path}; the menu leads to what there is"
    elif status is http.HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.url.path} takes no {request.method}; go back and use the page's own buttons"
    else:
        detail = str(error.detail)
    return {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
