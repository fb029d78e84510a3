"""Which requests are taken at all: addressed to this service, not sent by somebody else's page, and not too slowly.

A service on loopback asks nobody for a key, so it must not be driven by a web page that its user happens to visit:

* DNS rebinding makes a page of ``evil.example`` same-origin with ``127.0.0.1``, yet its requests still say ``Host:
  evil.example``. On loopback, only this machine's own names are answered; ``NETPROOF_ALLOWED_HOSTS`` names others.
* A page may send simple requests anywhere. Browsers tell where an unsafe one comes from (``Sec-Fetch-Site``, else
  ``Origin``); one from elsewhere is refused, whatever it carries. Programs send neither. With a session's cookie, a
  request that does not say where it comes from is refused, too.

There are no CORS headers, so a page from elsewhere reads no answer.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import FOREIGN_ORIGIN, MISDIRECTED, TOO_SLOW, ProblemError, problem_document, problem_response
from service.settings import Settings

__all__ = ["SESSION_COOKIE", "Guard", "allowed_hosts"]

#: The name of the dashboard's cookie, which browsers send by themselves.
SESSION_COOKIE = "netproof_session"
#: A body of which nothing comes for so long is not waited for any more.
PAUSE_SECONDS = 30.0

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_ANY = "*"


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """Names by which requests may address the service, in lower case and without port; ``*`` is any."""
    if settings.allowed_hosts:
        return frozenset(name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip())
    if settings.access_on or not settings.loopback:
        return frozenset({_ANY})  # who has no key gets nothing, and a rebound name has no cookie
    return frozenset({"localhost", "127.0.0.1", "[::1]", _bracketed(settings.host.lower())})


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host


class Guard:
    """ASGI middleware around the app.

    Args:
        app: the app.
        hosts: see `allowed_hosts`.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        problem = self._misdirected(headers) or _foreign(scope["method"], headers)
        if problem is not None:
            request_id = scope.get("state", {}).get("request_id")
            await problem_response(problem_document(problem), request_id=request_id)(scope, receive, send)
            return
        await self._app(scope, _paced(receive), send)

    def _misdirected(self, headers: Headers) -> ProblemError | None:
        host = headers.get("Host", "")
        if _ANY in self._hosts or _name(host) in self._hosts:
            return None
        detail = (
            f"the request is addressed to {host[:80]!r}, but this service answers to {', '.join(sorted(self._hosts))}; "
            "its operator may set NETPROOF_ALLOWED_HOSTS"
        )
        return ProblemError(MISDIRECTED, detail)


def _name(host: str) -> str:
    """A Host header without its port."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() else host.lower()


def _foreign(method: str, headers: Headers) -> ProblemError | None:
    """Why an unsafe request may have been sent by another site's page; None where it was not."""
    if method in _SAFE:
        return None
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None:
        if site in {"same-origin", "none"}:
            return None
        came = f"Sec-Fetch-Site: {site}"
    elif origin is not None:
        if urlsplit(origin).netloc.lower() == headers.get("Host", "").lower() != "":
            return None
        came = f"Origin: {origin[:80]}"
    elif f"{SESSION_COOKIE}=" in headers.get("Cookie", ""):
        came = "a session's cookie and neither Sec-Fetch-Site nor Origin"
    else:
        return None
    detail = (
        f"{method} with {came} comes from another site's page, which may not act here; use this service's own pages"
    )
    return ProblemError(FOREIGN_ORIGIN, detail)


def _paced(receive: Receive) -> Receive:
    """``receive``, but a body that stops coming ends the request with 408; waiting for a client to go may last."""
    complete = False

    async def paced() -> Message:
        nonlocal complete
        if complete:
            return await receive()
        try:
            async with asyncio.timeout(PAUSE_SECONDS):
                message = await receive()
        except TimeoutError:
            detail = f"nothing of the body came for {PAUSE_SECONDS:g} seconds; send it again"
            raise ProblemError(TOO_SLOW, detail) from None
        complete = not message.get("more_body", False)
        return message

    return paced
