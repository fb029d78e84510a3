"""Networks: uploaded once, addressed by the SHA-256 of their content ever after."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from service.access.dependencies import READ, SUBMIT, Caller
from service.access.principal import Principal
from service.api.dependencies import Network, PartsOfApp, media_type
from service.models import NetworkRecord
from service.parts import Parts
from service.problems import INVALID_REQUEST, UNSUPPORTED_MEDIA_TYPE, Fault, ProblemError
from service.schemas import NetworkDocument, NetworkPage
from service.views import network_document

__all__ = ["pieces_of", "router", "take_file"]

router = APIRouter(tags=["networks"])

_BINARY = frozenset(
    {"", "application/octet-stream", "application/onnx", "application/x-onnx", "application/gzip", "application/x-gzip"}
)
_PIECE = 2**20

_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "an ONNX file, plain or gzipped",
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"network": {"type": "string", "format": "binary"}},
                    "required": ["network"],
                }
            },
        },
    }
}


@router.post(
    "/networks",
    status_code=201,
    operation_id="uploadNetwork",
    dependencies=[SUBMIT],
    summary="Upload a network",
    response_model=NetworkDocument,
    responses={
        200: {"model": NetworkDocument, "description": "The service has this network already"},
        201: {"description": "The network was read and kept", "headers": {"Location": {"schema": {"type": "string"}}}},
    },
    openapi_extra=_UPLOAD_BODY,
)
async def upload_network(
    request: Request,
    response: Response,
    parts: PartsOfApp,
    caller: Caller,
    name: Annotated[str, Query(max_length=255, description="a name for messages and lists")] = "",
) -> NetworkDocument:
    """Upload an ONNX file, plain or gzipped, as the body or as the `network` part of a form.

    The file is read at once, so a network that cannot be verified is refused here, with the node, operator and shape
    that are not supported. Uploading the same file again is harmless.
    """
    given = media_type(request)
    if given in _BINARY:
        record, new = await parts.intake.take(request.stream(), caller, name=name)
    elif given == "multipart/form-data":
        async with request.form(max_files=1, max_fields=4) as form:
            record, new = await take_file(form.get("network") or form.get("file"), parts, caller, name=name)
    else:
        detail = (
            f"a network comes as application/octet-stream or multipart/form-data, got {given}; with curl: "
            "-H 'Content-Type: application/octet-stream' --data-binary @net.onnx, or -F network=@net.onnx"
        )
        raise ProblemError(UNSUPPORTED_MEDIA_TYPE, detail)
    response.status_code = 201 if new else 200
    document = network_document(record)
    response.headers["Location"] = document.links["self"]
    return document


async def take_file(part: object, parts: Parts, caller: Principal, *, name: str = "") -> tuple[NetworkRecord, bool]:
    """Take in the network in a form's ``network`` part; it becomes the caller's.

    Raises:
        ProblemError: the part is missing or is not a file.
    """
    if not isinstance(part, UploadFile):
        detail = "the form needs a file named network; with curl: -F network=@net.onnx"
        raise ProblemError(INVALID_REQUEST, detail, errors=[Fault("/network", detail)])
    return await parts.intake.take(pieces_of(part), caller, name=name or part.filename or "")


async def pieces_of(part: UploadFile) -> AsyncIterator[bytes]:
    """The content of a form's file, piece by piece."""
    while piece := await part.read(_PIECE):
        yield piece


@router.get(
    "/networks",
    operation_id="listNetworks",
    dependencies=[READ],
    summary="List networks",
    response_description="The newest networks",
)
async def list_networks(
    parts: PartsOfApp, caller: Caller, limit: Annotated[int, Query(ge=1, le=200, description="how many")] = 50
) -> NetworkPage:
    """List the networks that were uploaded last."""
    records = await run_in_threadpool(parts.ledger.networks, limit=limit, owner=caller.reach)
    return NetworkPage(networks=[network_document(record) for record in records])


@router.get(
    "/networks/{sha256}",
    operation_id="getNetwork",
    dependencies=[READ],
    summary="Show a network",
    response_description="The network",
)
async def get_network(network: Network) -> NetworkDocument:
    """Show what is known of one network."""
    return network_document(network)
