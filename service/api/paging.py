"""Pages of lists: where one begins, and how its answer names the next."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias
from urllib.parse import urlencode

from fastapi import Query

__all__ = ["LINK", "Cursor", "next_link"]

#: Where a page begins in a list whose rows have ordered identifiers: after the last row of the page before.
Cursor: TypeAlias = Annotated[
    str | None, Query(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$", description="`next_cursor` of the page before")
]

#: The header of pages, for the API's description.
LINK: dict[str, Any] = {"Link": {"schema": {"type": "string"}, "description": 'rel="next" (RFC 8288)'}}


def next_link(path: str, asked: dict[str, Any]) -> str:
    """The ``Link`` header that leads to the page that begins at ``asked["cursor"]``, with the same filters."""
    target = urlencode({key: value for key, value in asked.items() if value is not None})
    return f'<{path}?{target}>; rel="next"'
