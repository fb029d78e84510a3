"""Forms ask the API what programs ask it, so people and programs meet the same checks, limits and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from fastapi import Request

__all__ = ["call"]

#: By these the API knows who asks, from which page, and under which name the log has it.
_PASSED_ON = ("Authorization", "Cookie", "Host", "Origin", "Sec-Fetch-Site", "User-Agent", "X-API-Key", "traceparent")


async def call(
    request: Request, method: str, path: str, *, headers: Mapping[str, str] | None = None, **content: Any
) -> httpx.Response:
    """Answer of this very app to a request that it is sent from within, on behalf of the one who sent ``request``.

    Args:
        request: of the page.
        method, path: of the API.
        headers: in addition to the reader's own.
        content: ``json``, ``content``, ``files`` or ``params``, as httpx takes them.
    """
    passed = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
    passed["X-Request-ID"] = request.state.request_id
    client = (request.client.host, request.client.port) if request.client else ("127.0.0.1", 0)
    transport = httpx.ASGITransport(request.app, client=client)
    async with httpx.AsyncClient(transport=transport, base_url=str(request.base_url), timeout=None) as inside:  # noqa: S113 - the service keeps its own limits
        return await inside.request(method, path, headers={**passed, **(headers or {})}, **content)
