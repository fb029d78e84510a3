"""Writing the audit log: one line for each request that changes something, is refused, or takes evidence away.

Requests without a key, and those beyond a rate limit, leave no line: they could fill the ledger.
"""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.parts import Parts

__all__ = ["Trail"]

logger = logging.getLogger(__name__)

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORBIDDEN = 403
#: Operations that hand out evidence, or everything that a batch found.
_EVIDENCE = frozenset(
    {"getCounterexample", "getCertificate", "getItemCounterexample", "getItemCertificate", "exportBatch"}
)


class Trail:
    """A layer around the app; without access control it lets everything pass."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = getattr(scope["app"].state, "parts", None) if scope["type"] == "http" else None
        if not isinstance(parts, Parts) or not parts.settings.access_on:
            await self._app(scope, receive, send)
            return
        answer: dict[str, Any] = {"status": 500, "object": scope["path"]}

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer["status"] = message["status"]
                answer["object"] = Headers(raw=message["headers"]).get("Location", scope["path"])
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        finally:
            if _matters(scope, answer["status"]):
                await _write(scope, answer, parts)


def _matters(scope: Scope, status: int) -> bool:
    state = scope.get("state", {})
    if state.get("caller") is None:
        return "refused" in state
    return scope["method"] not in _SAFE or status == _FORBIDDEN or _operation(scope) in _EVIDENCE


def _operation(scope: Scope) -> str:
    route = scope.get("route")
    return getattr(route, "operation_id", None) or getattr(route, "name", None) or str(scope["method"])


async def _write(scope: Scope, answer: dict[str, Any], parts: Parts) -> None:
    state = scope["state"]
    caller, refused = state.get("caller"), state.get("refused")
    try:
        line = parts.ledger.audit.line(
            _operation(scope),
            answer["object"],
            answer["status"],
            key=refused.id if refused is not None else getattr(caller, "key", None),
            owner=refused.owner if refused is not None else getattr(caller, "owner", None),
            request=state.get("request_id", ""),
            address=scope["client"][0] if scope.get("client") else "",
        )
        await parts.audit.ask(line)
    except SQLAlchemyError:
        logger.exception("request %s: the audit log could not be written", state.get("request_id"))
