"""Networks: which there are, what one of them is made of, and where it is used."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from networks.errors import NetproofError
from service.api.dependencies import Network, PartsOfApp
from service.api.networks import take_file
from service.batch_views import batch_document
from service.dashboard.forms import Answers
from service.dashboard.pages import page, page_router
from service.parts import Parts
from service.problems import ProblemError, kind_of
from service.views import job_document, network_document

__all__ = ["router"]

router = page_router()

_LATEST = 8


@router.get("/networks")
def list_networks(request: Request, parts: PartsOfApp) -> Response:
    """The networks that were uploaded last, and a form for another."""
    return page(request, "networks.html", **_list(parts))


def _list(parts: Parts, answers: Answers | None = None) -> dict[str, Any]:
    networks = [network_document(record) for record in parts.ledger.networks(limit=200)]
    return {"networks": networks, "answers": answers or Answers(), "limit": parts.settings.max_model_bytes}


@router.post("/networks")
async def upload_network(request: Request, parts: PartsOfApp) -> Response:
    """Take a network in and show it; a refused one brings the form back, with the reason."""
    try:
        async with request.form(max_files=1, max_fields=4) as form:
            record, _ = await take_file(form.get("network"), parts)
    except (NetproofError, ProblemError) as error:
        return await run_in_threadpool(_refused, request, parts, error)
    return RedirectResponse(f"/networks/{record.sha256}", 303)


def _refused(request: Request, parts: Parts, error: NetproofError | ProblemError) -> Response:
    kind = error.kind if isinstance(error, ProblemError) else kind_of(error)
    answers = Answers().refused(error, {"/network": "network"})
    return page(request, "networks.html", status=kind.status, **_list(parts, answers))


@router.get("/networks/{sha256}")
def show_network(request: Request, network: Network, parts: PartsOfApp) -> Response:
    """A network's layers and numbers, and the jobs and batches about it."""
    jobs = parts.ledger.jobs(limit=_LATEST, network=network.sha256)
    batches = parts.ledger.batches.newest(limit=_LATEST, network=network.sha256)
    return page(
        request,
        "network.html",
        network=network_document(network),
        layers=network.summary.get("layers", []),
        output_shape=network.summary.get("output_shape", []),
        jobs=[job_document(record, brief=True) for record in jobs],
        batches=[batch_document(record, parts.ledger, 0) for record in batches],
        names={network.sha256: network.name},
    )
