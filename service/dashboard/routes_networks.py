"""Networks: which there are, what one of them is made of, and where it is used."""

from __future__ import annotations

import httpx
from fastapi import Request, Response, UploadFile
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile as StarletteUpload

from service.access.dependencies import READ, SUBMIT, Caller
from service.access.principal import Principal
from service.api.dependencies import Network, PartsOfApp
from service.batch_views import batch_document
from service.dashboard.forms import Answers, fault
from service.dashboard.inside import call
from service.dashboard.pages import page, page_router
from service.parts import Parts
from service.views import job_document, network_document

__all__ = ["router", "send_network"]

router = page_router()

_LATEST = 8


@router.get("/networks", dependencies=[READ])
def list_networks(request: Request, parts: PartsOfApp, caller: Caller) -> Response:
    """The networks that were uploaded last, and a form for another."""
    return _list(request, parts, caller, Answers())


def _list(request: Request, parts: Parts, caller: Principal, answers: Answers) -> Response:
    networks = [network_document(record) for record in parts.ledger.networks(limit=200, owner=caller.reach)]
    limit = parts.settings.max_model_bytes
    return page(request, "networks.html", status=answers.status, networks=networks, answers=answers, limit=limit)


@router.post("/networks", dependencies=[SUBMIT])
async def upload_network(
    request: Request, parts: PartsOfApp, caller: Caller, network: UploadFile | None = None
) -> Response:
    """Take a network in and show it; a refused one brings the form back, with the reason."""
    if network is None or not network.filename:
        answers = Answers().refused(fault(network="choose a file"), {"network": "network"})
        return await run_in_threadpool(_list, request, parts, caller, answers)
    answer = await send_network(request, network)
    if answer.is_success:
        return RedirectResponse(f"/networks/{answer.json()['sha256']}", 303)
    return await run_in_threadpool(_list, request, parts, caller, Answers().refused(answer, {}))


async def send_network(request: Request, file: StarletteUpload) -> httpx.Response:
    """The API's answer to the upload of a form's file."""
    files = {"network": (file.filename, file.file, "application/octet-stream")}
    return await call(request, "POST", "/v1/networks", files=files)


@router.get("/networks/{sha256}", dependencies=[READ])
def show_network(request: Request, network: Network, parts: PartsOfApp, caller: Caller) -> Response:
    """A network's layers and numbers, and the jobs and batches about it."""
    jobs = parts.ledger.jobs(limit=_LATEST, network=network.sha256, owner=caller.reach)
    batches = parts.ledger.batches.newest(limit=_LATEST, network=network.sha256, owner=caller.reach)
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
