"""From a template to a page, and the kind of route that pages have."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Coroutine
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import jinja2
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope as Connection

from networks.errors import NetproofError
from service.access.principal import Principal, Scope
from service.dashboard import wording
from service.dashboard.assets import asset_integrity, asset_url
from service.problems import INTERNAL, INVALID_REQUEST, UNAUTHENTICATED, ProblemError, faults, kind_of, problem_document

__all__ = ["THEMES", "PageRoute", "fragment", "page", "page_router", "problem_page", "refused", "wants_page"]

logger = logging.getLogger(__name__)

#: Scripts and styles come from here alone, and no other site may show a page inside its own.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
THEMES = ("auto", "light", "dark")
THEME_COOKIE = "netproof_theme"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"asset": asset_url, "integrity": asset_integrity}
    environment.filters |= wording.FILTERS
    return environment


def page(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """The page that ``templates/<template>`` makes of ``context``.

    Templates extend ``base.html`` and fill its blocks ``title`` and ``main``. A ``refresh`` in the context is how many
    seconds browsers without scripts wait before they load the page again.
    """
    theme = request.cookies.get(THEME_COOKIE, "auto")
    caller: Principal | None = getattr(request.state, "caller", None)
    shared = {
        "path": request.url.path,
        "here": _address(request),
        "caller": caller,
        "may_submit": caller is not None and caller.scope.includes(Scope.SUBMIT),
        "origin": str(request.base_url).rstrip("/"),
        "theme": theme if theme in THEMES else "auto",
        "refresh": None,
        "version": metadata.version("netproof"),
    }
    content = _environment().get_template(template).render(shared | context)
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Cache-Control": "private, no-cache",
        "Vary": "Accept, Cookie",
    }
    return HTMLResponse(content, status, headers)


def fragment(template: str, **context: Any) -> str:
    """A part of a page, which htmx puts into its place."""
    return _environment().get_template(template).render(context)


def _address(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def wants_page(scope: Connection) -> bool:
    """Whether a request comes from a browser's window: programs that do not name HTML get the API's answers."""
    return "text/html" in Headers(scope=scope).get("Accept", "")


class PageRoute(APIRoute):
    """A route of a page: for those who accept HTML, and with pages for problems as well.

    ``/jobs/{id}`` is a page for people and a JSON document for programs; who does not ask for HTML falls through to the
    API's route.
    """

    def matches(self, scope: Connection) -> tuple[Match, Connection]:
        if not wants_page(scope):
            return Match.NONE, {}
        return super().matches(scope)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await answer(request)
            except RequestValidationError as error:
                found = faults(error.errors())
                detail = "; ".join(f"{fault.pointer.rpartition('/')[2]}: {fault.detail}" for fault in found)
                return problem_page(request, ProblemError(INVALID_REQUEST, detail))
            except (NetproofError, ProblemError) as error:
                asks_key = isinstance(error, ProblemError) and error.kind is UNAUTHENTICATED
                if asks_key and request.method == "GET" and "HX-Request" not in request.headers:
                    return RedirectResponse(f"/login?{urlencode({'back': _address(request)})}", 303)
                return problem_page(request, error)

        return guarded


def page_router() -> APIRouter:
    """A router whose routes are pages."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


def refused(request: Request, answer: httpx.Response) -> Response:
    """A refusal of the API (see `service.dashboard.inside`) as a page."""
    return page(request, "problem.html", status=answer.status_code, problem=answer.json())


def problem_page(request: Request, error: NetproofError | ProblemError) -> Response:
    """A problem as a page: what came, what was expected, what to do."""
    document = problem_document(error)
    kind = error.kind if isinstance(error, ProblemError) else kind_of(error)
    if kind is INTERNAL:
        raise error  # unexpected: the outermost handler logs it and answers without its text
    headers = error.headers if isinstance(error, ProblemError) else {}
    answer = page(request, "problem.html", status=int(document["status"]), problem=document)
    answer.headers.update(headers)
    return answer
