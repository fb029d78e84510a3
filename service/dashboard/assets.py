"""Style sheet, scripts and icons: found once, and addressed by their content so that browsers may keep them forever."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from service.access.dependencies import PUBLIC
from service.errors import NotFoundError

__all__ = ["STATIC", "asset_integrity", "asset_url", "assets", "router"]

STATIC = Path(__file__).parent / "static"

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".LICENSE": "text/plain; charset=utf-8",
}
_FOREVER = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    media_type: str
    digest: str


@functools.cache
def assets() -> Mapping[str, _Asset]:
    """Every file under ``static/``, by its path there."""
    return {
        path.relative_to(STATIC).as_posix(): _read(path)
        for path in sorted(STATIC.rglob("*"))
        if path.suffix in _MEDIA_TYPES
    }


def _read(path: Path) -> _Asset:
    content = path.read_bytes()
    return _Asset(content, _MEDIA_TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:16])


def asset_url(name: str) -> str:
    """Where pages find ``static/<name>``; another content has another address."""
    return f"/static/{name}?v={assets()[name].digest}"


@functools.cache
def asset_integrity(name: str) -> str:
    """The hash of ``static/vendor/<name>`` that is on record, by which browsers refuse any other content."""
    manifest = json.loads((STATIC / "vendor" / "manifest.json").read_text())
    digest = base64.b64decode(manifest[name]["sha384"])
    return f"sha384-{base64.b64encode(digest).decode()}"


@router.get("/static/{name:path}", dependencies=[PUBLIC])
async def static_file(name: str, request: Request, v: str = "") -> Response:
    """A file of the dashboard; kept by browsers for good where the address names its content."""
    found = assets().get(name)
    if found is None:  # only files that were listed are ever opened, so no path leads elsewhere
        raise NotFoundError(name[:80], kind="static file")
    headers = {"ETag": f'"{found.digest}"', "Cache-Control": _FOREVER if v == found.digest else "no-cache"}
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)
