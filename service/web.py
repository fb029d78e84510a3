"""The web process: ``service.app`` under uvicorn, on a socket that the supervisor already holds."""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import time

import uvicorn

from service.app import create_app
from service.limits import die_with_parent
from service.logs import start_logging
from service.protocol import BoundedProtocol
from service.settings import Settings
from service.tracing import start_tracing, stop_tracing

__all__ = ["WebServer", "main"]

#: On shutdown, open requests (long polls, event streams, uploads) may take this long to end.
_GRACE_SECONDS = 5
_TICK_SECONDS = 0.1


class WebServer(uvicorn.Server):
    """Uvicorn with the app of ``settings``; before it waits for open requests to end, it asks them to."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_app(settings)
        config = uvicorn.Config(
            self._app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,  # `service.middleware` logs requests, with their identifiers
            ws="none",
            http=BoundedProtocol,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Be not ready first, for as long as load balancers need to notice; then end what is open, and end."""
        parts = self._app.state.parts
        parts.leaving.set()
        deadline = time.monotonic() + parts.settings.shutdown_delay
        while time.monotonic() < deadline and not self.force_exit:
            await asyncio.sleep(min(_TICK_SECONDS, max(0.0, deadline - time.monotonic())))
        parts.closing.set()
        await super().shutdown(sockets)


def main(settings: Settings, *, descriptor: int | None = None) -> None:
    """Answer HTTP until SIGTERM or SIGINT, on an inherited listening socket or on the settings' address."""
    sockets = None if descriptor is None else [socket.socket(fileno=descriptor)]
    start_tracing()
    WebServer(settings).run(sockets=sockets)
    stop_tracing()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m service.web", description="The netproof web process.")
    parser.add_argument("--fd", type=int, help="inherited listening socket")
    parser.add_argument("--parent", type=int, help="stop when this process, which must be the parent, ends")
    options = parser.parse_args()
    if options.parent is not None:
        die_with_parent(options.parent, signal.SIGTERM)
    settings = Settings()
    start_logging("web", settings.log_format)
    main(settings, descriptor=options.fd)
