"""Checking a certificate: the independent checker's word, without a job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from service.access.dependencies import READ, Caller, permit
from service.access.principal import Principal, Scope
from service.api.dependencies import PartsOfApp, media_type
from service.api.networks import pieces_of, take_file
from service.checking import check
from service.models import NetworkRecord
from service.parts import Parts
from service.problems import INVALID_REQUEST, UNSUPPORTED_MEDIA_TYPE, Fault, ProblemError
from service.schema_base import Sha256
from service.verdict_schemas import CertificateDocument, CheckDocument

__all__ = ["router"]

router = APIRouter(tags=["verification"])

_BINARY = frozenset({"", "application/octet-stream", "application/zip"})

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "a certificate, alone or in a form with its network",
        "content": {
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "certificate": {"type": "string", "format": "binary"},
                        "network": {
                            "type": "string",
                            "format": "binary",
                            "description": "the ONNX file, plain or gzipped; or the sha256 of one that the service has",
                        },
                    },
                    "required": ["certificate", "network"],
                }
            },
        },
    }
}


@router.post(
    "/check",
    operation_id="check",
    dependencies=[READ],
    summary="Check a certificate",
    response_description="What the independent checker found",
    openapi_extra=_BODY,
)
async def check_certificate(
    request: Request,
    parts: PartsOfApp,
    caller: Caller,
    network: Annotated[Sha256 | None, Query(description="sha256 of the network, where it does not come along")] = None,
    exact: Annotated[
        bool, Query(description="decide every claim in exact arithmetic; about the reals alone, and slow")
    ] = False,
) -> CheckDocument:
    """Check that a certificate proves its query about a network.

    The certificate is the body, with `?network=` naming the network by its SHA-256; or both are parts of a form. A
    process of its own reads both files and computes every bound anew; it trusts neither the prover nor a solver, and
    nothing in the certificate. `accepted: false` with a `reason` means that the file proves nothing. That the query in
    the certificate is the one that you mean is yours to see: `question` says it in words.
    """
    given = media_type(request)
    if given in _BINARY:
        if network is None:
            detail = "name the network by its sha256, ?network=…, or send certificate and network as a form"
            raise ProblemError(INVALID_REQUEST, detail, errors=[Fault("network", detail)])
        record = await run_in_threadpool(parts.ledger.network, network, owner=caller.reach)
        return await _checked(request.stream(), record, parts, exact=exact)
    if given == "multipart/form-data":
        async with request.form(max_files=2, max_fields=2) as form:
            record = await _network(form, parts, caller)
            certificate = form.get("certificate")
            if not isinstance(certificate, UploadFile):
                detail = "the form needs a file named certificate; with curl: -F certificate=@proof.zip"
                raise ProblemError(INVALID_REQUEST, detail, errors=[Fault("/certificate", detail)])
            return await _checked(pieces_of(certificate), record, parts, exact=exact)
    detail = (
        f"a certificate comes as application/zip or multipart/form-data, got {given}; with curl: "
        "-F certificate=@proof.zip -F network=@net.onnx"
    )
    raise ProblemError(UNSUPPORTED_MEDIA_TYPE, detail)


async def _network(form: FormData, parts: Parts, caller: Principal) -> NetworkRecord:
    """The network that a form names, or brings along, which takes a key that may upload it."""
    part = form.get("network")
    if isinstance(part, str):
        return await run_in_threadpool(parts.ledger.network, part, owner=caller.reach)
    permit(caller, Scope.SUBMIT)
    record, _ = await take_file(part, parts, caller)
    return record


async def _checked(
    certificate: AsyncIterator[bytes], network: NetworkRecord, parts: Parts, *, exact: bool
) -> CheckDocument:
    settings = parts.settings
    model = await run_in_threadpool(parts.artifacts.get, network.sha256)
    with parts.artifacts.upload(limit=settings.max_model_bytes) as upload:
        async for chunk in certificate:
            await run_in_threadpool(upload.write, chunk)
        async with parts.checks:
            found = await check(
                parts.readers,
                upload.path,
                model.path,
                exact=exact,
                seconds=settings.check_seconds,
                memory_mb=settings.memory_limit_mb,
            )
        described = CertificateDocument(bytes=upload.size, sha256=upload.sha256)
    return CheckDocument(
        accepted=found["proven"],
        reason=found["reason"],
        semantics=found["semantics"],
        summary=found["summary"],
        question=found["question"],
        leaves=found["claims"],
        exact=found["exact"],
        weakest=found["weakest"],
        clauses=found["clauses"],
        regions=found["regions"],
        inputs=found["inputs"],
        seconds=round(found["seconds"], 6),
        network=network.sha256,
        certificate=described,
    )
