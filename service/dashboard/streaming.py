"""Server-sent events that carry parts of pages; htmx puts each in its place."""

from __future__ import annotations

__all__ = ["closing_event", "message"]


def message(html: str) -> bytes:
    """An event without a name: htmx swaps its data in."""
    return b"".join(b"data: " + line.encode() + b"\n" for line in html.splitlines() if line.strip()) + b"\n"


def closing_event(name: str) -> bytes:
    """The event of an element's ``hx-sse:close``, after which htmx does not connect again."""
    return f"event: {name}\ndata: {name}\n\n".encode()
