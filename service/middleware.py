"""What every request passes: an identifier, a size limit, security headers, and a last resort for errors.

Written as plain ASGI, since server-sent events must stream through it untouched.
"""

from __future__ import annotations

import logging
import random
import re
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import metrics, tracing
from service.context import bound, traceparent
from service.identifiers import new_id
from service.problems import INTERNAL, TOO_LARGE, ProblemError, problem_document, problem_response

__all__ = ["Envelope"]

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: Asked every few seconds by load balancers: not worth a line in the log each.
_PROBES = frozenset({"/healthz", "/readyz"})
#: The API returns data, never pages: nothing in an answer may run, load or be framed. Routes that differ set their own.
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Envelope:
    """Outermost layer around the app.

    Args:
        app: the app.
        max_body_bytes: a longer request body is answered by 413, from its Content-Length or while it comes in.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._limit = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("X-Request-ID", "")
        # a name for lines of the log, which nobody has to be kept from guessing
        request_id = given if _REQUEST_ID.fullmatch(given) else new_id(entropy=random.getrandbits(80))
        scope.setdefault("state", {})["request_id"] = request_id
        announced = headers.get("Content-Length", "")
        received, status, begun, answered = 0, 0, time.perf_counter(), 0.0

        async def limited_receive() -> Message:
            nonlocal received
            if received == 0 and announced.isdecimal() and int(announced) > self._limit:
                raise self._too_large()
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise self._too_large()
            return message

        async def dressed_send(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], time.perf_counter()
                answer = MutableHeaders(scope=message)
                answer["X-Request-ID"] = request_id
                for name, value in _SECURITY_HEADERS.items():
                    answer.setdefault(name, value)
            await send(message)

        given_parent = headers.get("traceparent")
        traced = tracing.begin(scope["method"], given_parent)
        parent = traceparent(given_parent) if traced is None else traced.parent
        with bound(request=request_id, traceparent=parent):
            try:
                await self._app(scope, limited_receive, dressed_send)
            except ClientDisconnect:
                logger.info("the client went away")
            except Exception:
                logger.exception("the request failed: %s %r", scope["method"], scope["path"])
                if status:
                    raise  # too late for another answer; the server closes the connection
                detail = f"this is a fault of the service; its log has more under request {request_id}"
                document = problem_document(ProblemError(INTERNAL, detail))
                await problem_response(document, request_id=request_id)(scope, receive, dressed_send)
            finally:
                ended = time.perf_counter()
                _account(scope, status, ended - begun, (answered or ended) - begun)
                if traced is not None:
                    traced.end(_route(scope), status)

    def _too_large(self) -> ProblemError:
        return ProblemError(TOO_LARGE, f"the request's body is larger than {self._limit} bytes, the most accepted here")


def _account(scope: Scope, status: int, seconds: float, until_answer: float) -> None:
    """Count a request, and give it its line in the log; a query string is nobody's business there."""
    method, path, route = scope["method"], scope["path"], _route(scope)
    metrics.requested(method, route, status, until_answer)
    level = logging.DEBUG if path in _PROBES else logging.INFO
    if not logger.isEnabledFor(level):
        return
    milliseconds = round(seconds * 1e3, 1)
    members = {"method": method, "path": path, "route": route, "status": status, "milliseconds": milliseconds}
    with bound(job=scope.get("path_params", {}).get("job_id")):
        logger.log(level, "%s %r %d %g ms", method, path, status, milliseconds, extra={"members": members})


def _route(scope: Scope) -> str:
    """The template of the route that answered; what nothing answers has one name, however many paths are tried."""
    included = scope.get("fastapi", {}).get("effective_route_context")  # a route alone does not know its prefix
    return str(getattr(included, "path", None) or getattr(scope.get("route"), "path", "other"))
