"""The web process: ``service.app`` under uvicorn, on a socket that the supervisor already holds."""

from __future__ import annotations

import argparse
import signal
import socket

import uvicorn

from service.app import create_app
from service.limits import die_with_parent
from service.logs import start_logging
from service.settings import Settings

__all__ = ["main"]

#: On shutdown, open requests (long polls, event streams) may take this long to end.
_GRACE_SECONDS = 5


def main(settings: Settings, *, descriptor: int | None = None) -> None:
    """Answer HTTP until SIGTERM or SIGINT, on an inherited listening socket or on the settings' address."""
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    sockets = None if descriptor is None else [socket.socket(fileno=descriptor)]
    uvicorn.Server(config).run(sockets=sockets)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m service.web", description="The netproof web process.")
    parser.add_argument("--fd", type=int, help="inherited listening socket")
    parser.add_argument("--parent", type=int, help="stop when this process, which must be the parent, ends")
    options = parser.parse_args()
    if options.parent is not None:
        die_with_parent(options.parent, signal.SIGTERM)
    start_logging("web")
    main(Settings(), descriptor=options.fd)
