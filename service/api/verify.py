"""Asking a question: one POST makes one job."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

import redis
from fastapi import APIRouter, Header, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from service.admission import admit, fingerprint, parse_request
from service.api.dependencies import PartsOfApp, Wait, job_headers, job_response, media_type, read_body
from service.api.networks import take_file
from service.models import JobRecord, NetworkRecord
from service.parts import Parts
from service.problems import INVALID_REQUEST, UNSUPPORTED_MEDIA_TYPE, Fault, ProblemError
from service.queue import queue_name
from service.schemas import InlineNetwork, JobDocument, VerifyRequest
from service.states import JobState
from service.streams import wait_for_end
from service.views import job_document

__all__ = ["router"]

logger = logging.getLogger(__name__)

router = APIRouter(tags=["verification"])

#: Room for the longest known VNNLIB files and for small networks; larger networks are uploaded by themselves.
_MAX_JSON_BYTES = 32 * 2**20
_FORM_FIELDS = ("query", "engine", "backend", "time_limit", "priority", "seed")

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/VerifyRequest"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "network": {"type": "string", "format": "binary", "description": "the ONNX file"},
                        "query": {"type": "string", "description": "the query, as JSON"},
                        "engine": {"type": "string"},
                        "backend": {"type": "string"},
                        "time_limit": {"type": "number"},
                        "priority": {"type": "string"},
                        "seed": {"type": "integer"},
                    },
                    "required": ["network", "query"],
                }
            },
        },
    }
}
_HEADERS = {
    "Location": {"schema": {"type": "string"}, "description": "the job"},
    "Retry-After": {"schema": {"type": "integer"}, "description": "seconds after which to ask again"},
}


@router.post(
    "/verify",
    status_code=202,
    operation_id="verify",
    summary="Verify a property of a network",
    response_model=JobDocument,
    responses={
        200: {"model": JobDocument, "description": "The job ended while the client waited"},
        202: {"description": "The job is queued or running", "headers": _HEADERS},
    },
    openapi_extra=_BODY,
)
async def verify(
    request: Request,
    parts: PartsOfApp,
    wait: Wait,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            pattern=r"^[\x20-\x7e]+$",
            description="the same key with the same request gives the same job; with another request it is refused",
        ),
    ] = None,
) -> Response:
    """Ask whether some input of a region breaks a property, and get a job that finds out.

    The network is named by its SHA-256, or comes along: in base64 as `{"onnx": "..."}`, or as a part of a form. What
    can be checked without solving is checked before the job is made; a refusal says what to change, by JSON pointer.
    """
    asked, network = await _read(request, parts)
    admitted = await run_in_threadpool(admit, asked, network, parts.settings)
    job = await run_in_threadpool(_submit, admitted, idempotency_key, parts)
    job = await wait_for_end(job, wait, ledger=parts.ledger, events=parts.events)
    document = job_document(job)
    headers = job_headers(job) | {"Location": document.links.self}
    if wait and "prefer" in request.headers:
        headers["Preference-Applied"] = f"wait={wait:g}"
    return job_response(document, 200 if job.terminal else 202, headers)


async def _read(request: Request, parts: Parts) -> tuple[VerifyRequest, NetworkRecord]:
    """What was asked, and the network that it is about."""
    given = media_type(request)
    if given == "application/json":
        advice = "upload a large network by POST /v1/networks and name it by its sha256"
        asked = parse_request(await read_body(request, _MAX_JSON_BYTES, advice))
        if isinstance(asked.network, InlineNetwork):
            network, _ = await parts.intake.take(_decoded(asked.network.onnx))
        else:
            network = await run_in_threadpool(parts.ledger.network, asked.network)
        return asked, network
    if given == "multipart/form-data":
        count = len(_FORM_FIELDS) + 1
        async with request.form(max_files=count, max_fields=count, max_part_size=_MAX_JSON_BYTES) as form:
            fields = {name: _scalar(await _text(form[name])) for name in _FORM_FIELDS if name in form}
            network, _ = await take_file(form.get("network"), parts)
        return parse_request(json.dumps({"network": network.sha256} | fields).encode()), network
    detail = (
        f"a query comes as application/json or multipart/form-data, got {given or 'no Content-Type'}; with curl: "
        "--json '{…}', or -F network=@net.onnx -F query='{…}'"
    )
    raise ProblemError(UNSUPPORTED_MEDIA_TYPE, detail)


async def _decoded(text: str) -> AsyncIterator[bytes]:
    try:
        yield base64.b64decode(text, validate=True)
    except binascii.Error as error:
        detail = f"onnx must be the network file in base64, on one line (with GNU: base64 -w0 net.onnx): {error}"
        raise ProblemError(INVALID_REQUEST, detail, errors=[Fault("/network/onnx", detail)]) from None


async def _text(part: UploadFile | str) -> str:
    """A form field, sent as text or as a small file (``-F query=@query.json``)."""
    if isinstance(part, str):
        return part
    return (await part.read(_MAX_JSON_BYTES)).decode(errors="replace")


def _scalar(text: str) -> Any:
    """A form field: JSON where it is JSON, else the text itself."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text


def _submit(request: dict[str, Any], idempotency_key: str | None, parts: Parts) -> JobRecord:
    """Record the job, then hand it to the queue; without the queue, the reaper hands it over later."""
    job, new = parts.ledger.submit(
        request["network"],
        request,
        queue=queue_name(request["backend"], request["priority"]),
        time_limit=request["time_limit"],
        max_attempts=parts.settings.max_attempts,
        idempotency_key=idempotency_key,
        fingerprint=fingerprint(request) if idempotency_key else None,
    )
    if new:
        parts.publisher.publish(job.id, "state", {"state": JobState.QUEUED, "attempt": 0})
        try:
            parts.dispatcher.enqueue(job)
        except redis.RedisError as error:
            logger.warning("job %s waits for the queue server: %s", job.id, error)
    return job
