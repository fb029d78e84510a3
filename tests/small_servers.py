"""Small HTTP servers, for tests of what asks them."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator

__all__ = ["Handler", "running"]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers in few words, and logs nothing; subclasses say what in `answer`."""

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        """Call `reply` once."""
        raise NotImplementedError

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        """Send an answer; names of headers have ``_`` for ``-``."""
        self.send_response(status)
        for name, value in {**headers, "Content_Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def running(handler: type[Handler]) -> Iterator[str]:
    """The URL of a server of its own, while the block runs."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
