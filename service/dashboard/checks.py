"""The independent checker's word on a certificate that the service keeps."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from service.checking import check
from service.dashboard.pages import fragment
from service.parts import Parts
from service.problems import NO_CERTIFICATE, ProblemError

__all__ = ["check_result", "checked"]


async def checked(verdict: dict[str, Any] | None, network: str, parts: Parts) -> dict[str, Any]:
    """What the checker says now, as `service.checking.check` returns it.

    Args:
        verdict: that the certificate came with.
        network: sha256 of the network that was asked about.
        parts: artifacts and readers.

    Raises:
        ProblemError: there is no certificate, or the check did not end.
    """
    found = (verdict or {}).get("certificate")
    if found is None:
        detail = "there is no certificate to check: only what is proven with certificate: true has one"
        raise ProblemError(NO_CERTIFICATE, detail)
    about = ((verdict or {}).get("product") or {}).get("sha256") or network
    certificate = await run_in_threadpool(parts.artifacts.get, found["sha256"])
    model = await run_in_threadpool(parts.artifacts.get, about)
    settings = parts.settings
    async with parts.checks:
        return await check(
            parts.readers,
            certificate.path,
            model.path,
            exact=False,
            seconds=settings.check_seconds,
            memory_mb=settings.memory_limit_mb,
        )


def check_result(request: Request, report: dict[str, Any]) -> Response | None:
    """The report as the part of a page that htmx asked for; None where a whole page was asked for."""
    if "HX-Request" not in request.headers:
        return None
    return Response(fragment("check_result.html", report=report), media_type="text/html")
