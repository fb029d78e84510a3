"""The short way for what is asked most: a job, by its identifier alone, and a question in JSON.

Requests without a query string and without headers that ask for more come here before FastAPI sees them, which spends
more on finding out what a route takes than the route takes. All others, and every other path, go the long way. Both
call the same functions, so an answer does not tell which way it came; the API's description knows the long one only.
"""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from service.access.dependencies import caller_of, permit
from service.access.principal import Scope as Allowed
from service.api.question import read_question
from service.api.showing import show, shown_response
from service.api.verify import submit, submitted_response
from service.parts import Parts

__all__ = ["JobShortcut", "QuestionShortcut"]

_JOB_PATH = re.compile(r"(?:/v1)?/jobs/([0-9A-HJKMNP-TV-Z]{26})")
_QUESTION_PATHS = frozenset({"/v1/verify", "/verify"})
#: Headers that change what is answered.
_JOB_LONG = frozenset({b"prefer"})
_QUESTION_LONG = frozenset({b"prefer", b"idempotency-key"})


class JobShortcut(BaseRoute):
    """``GET /v1/jobs/{id}``, for programs; browsers get a page."""

    path = "/v1/jobs/{job_id}"
    operation_id = "getJob"

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        plain = scope["type"] == "http" and scope["method"] == "GET" and not scope["query_string"]
        found = _JOB_PATH.fullmatch(scope["path"]) if plain else None
        if found is None or _names(scope) & _JOB_LONG or _wants_page(scope):
            return Match.NONE, {}
        return Match.FULL, {"path_params": {"job_id": found[1]}, "route": self}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        parts: Parts = request.app.state.parts
        caller = await caller_of(request)
        permit(caller, Allowed.READ)
        document = await show(scope["path_params"]["job_id"], parts, caller)
        await shown_response(document, request.headers.get("If-None-Match"))(scope, receive, send)


class QuestionShortcut(BaseRoute):
    """``POST /v1/verify``, for questions that nobody waits for."""

    path = "/v1/verify"
    operation_id = "verify"

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        plain = scope["type"] == "http" and scope["method"] == "POST" and not scope["query_string"]
        if not plain or scope["path"] not in _QUESTION_PATHS or _names(scope) & _QUESTION_LONG:
            return Match.NONE, {}
        return Match.FULL, {"route": self}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        parts: Parts = request.app.state.parts
        caller = await caller_of(request)
        permit(caller, Allowed.SUBMIT)
        job = await submit(await read_question(request, parts, caller), None, parts, caller)
        await submitted_response(job, parts, caller, {})(scope, receive, send)


def _names(scope: Scope) -> set[bytes]:
    return {name for name, _ in scope["headers"]}


def _wants_page(scope: Scope) -> bool:
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
