"""Uvicorn's HTTP protocol, with limits on how long and how large a request's head may be.

Uvicorn waits for ever for the rest of a head, and with httptools keeps however much comes: a handful of slow clients
could hold every connection, and one quick client all memory. The pace of bodies is `service.guard`'s.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["HEAD_BYTES", "HEAD_SECONDS", "BoundedProtocol"]

#: From a connection's first byte, or from its being made, until a request's head has come.
HEAD_SECONDS = 15.0
HEAD_BYTES = 2**16
#: What may still come of a body that was answered before its end, such as one that is too large.
_REST_BYTES = 2**26

if TYPE_CHECKING:
    _Base = asyncio.Protocol
else:
    _Base = AutoHTTPProtocol


class BoundedProtocol(_Base):
    """One connection. A head that is too slow is answered by 408, one that is too large by 431, and both are closed."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    cycle: Any

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._waited_for = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse, b"408 Request Timeout")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
            return
        self._waited_for += len(data)
        unread = self.cycle is not None and self.cycle.more_body
        if self._waited_for > (_REST_BYTES if unread else HEAD_BYTES):
            self._refuse(b"431 Request Header Fields Too Large")
        elif self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse, b"408 Request Timeout")

    def _stop_waiting(self) -> None:
        self._waited_for = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: bytes) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()
