"""A question on its way in: as JSON, or as a form with the network beside it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from networks.errors import VnnlibError
from service.access.principal import Principal
from service.access.quotas import longest, usual
from service.admission import admit, parse_request
from service.api.dependencies import known_network, media_type, read_body
from service.api.networks import take_file
from service.inflating import Inflating
from service.models import NetworkRecord
from service.parts import Parts
from service.posed import Posed
from service.problems import INVALID_REQUEST, MALFORMED_JSON, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, Fault, ProblemError
from service.schemas import InlineNetwork, VerifyRequest

__all__ = ["BODY", "decoded", "read_question"]

#: Room for the longest known VNNLIB files and for small networks; larger networks are uploaded by themselves.
_MAX_BYTES = 32 * 2**20
#: Longer bodies are read each time that they come.
_LONGEST_KEPT = 64 * 2**10

_FIELDS: dict[str, dict[str, Any]] = {
    "network": {"type": "string", "format": "binary", "description": "the ONNX file, plain or gzipped"},
    "query": {"type": "string", "description": "the query, as JSON"},
    "vnnlib": {"type": "string", "description": "instead of `query`: a VNNLIB file, plain or gzipped"},
    "engine": {"type": "string"},
    "backend": {"type": "string"},
    "time_limit": {"type": "number"},
    "priority": {"type": "string"},
    "seed": {"type": "integer"},
    "certificate": {"type": "boolean"},
    "reuse": {"type": "boolean"},
}

#: What the body may be, for the API's description: routes that read it themselves have to say so themselves.
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/VerifyRequest"}},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": _FIELDS, "required": ["network"]},
            },
        },
    }
}


async def read_question(request: Request, parts: Parts, caller: Principal) -> Posed:
    """What is asked, checked against the network that it is about; a network that comes along is taken in.

    Raises:
        ProblemError: the body is of no form that is understood, or the question does not fit the network.
        NetworkError: the network that came along cannot be verified.
        NotFoundError: the network that is named is not known.
    """
    given = media_type(request)
    if given == "application/json":
        advice = "upload a large network by POST /v1/networks and name it by its sha256"
        return await _from_json(await read_body(request, _MAX_BYTES, advice), parts, caller)
    if given == "multipart/form-data":
        limits = {"max_files": len(_FIELDS), "max_fields": len(_FIELDS), "max_part_size": _MAX_BYTES}
        async with request.form(**limits) as form:
            members = await _members(form)
            network, _ = await take_file(form.get("network"), parts, caller)
        posed = parse_request(_text_of(members | {"network": network.sha256}))
        return await run_in_threadpool(_posed, posed, network, parts, caller)
    detail = (
        f"a query comes as application/json or multipart/form-data, got {given or 'no Content-Type'}; with curl: "
        "--json '{…}', or -F network=@net.onnx -F vnnlib=@spec.vnnlib, or -F network=@net.onnx -F query='{…}'"
    )
    raise ProblemError(UNSUPPORTED_MEDIA_TYPE, detail)


async def _from_json(body: bytes, parts: Parts, caller: Principal) -> Posed:
    """The question of a JSON body; one that came lately is not read again, only whether its caller may ask it."""
    questions = parts.recent.questions
    key = hashlib.sha256(body).digest(), longest(caller, parts.settings)
    if (known := questions.get(key)) is not None:
        await known_network(known.request["network"], parts, caller)
        return known
    asked = parse_request(body)
    if isinstance(asked.network, InlineNetwork):
        network, _ = await parts.intake.take(decoded(asked.network.onnx), caller)
        return await run_in_threadpool(_posed, asked, network, parts, caller)
    network = await known_network(asked.network, parts, caller)
    posed = await run_in_threadpool(_posed, asked, network, parts, caller)
    if len(body) <= _LONGEST_KEPT and asked.query.equivalent_to is None:  # whose other network is the caller's matter
        questions.put(key, posed, len(body))
    return posed


def _posed(asked: VerifyRequest, network: NetworkRecord, parts: Parts, caller: Principal) -> Posed:
    find = partial(parts.ledger.network, owner=caller.reach)
    return Posed.of(admit(asked, network, usual(caller, parts.settings), find))


async def decoded(text: str) -> AsyncIterator[bytes]:
    """The bytes of a file that came in base64. Raises ProblemError where it is not."""
    try:
        yield base64.b64decode(text, validate=True)
    except ValueError as error:  # binascii.Error, or a text with other characters
        detail = f"onnx must be the network file in base64, on one line (with GNU: base64 -w0 net.onnx): {error}"
        raise ProblemError(INVALID_REQUEST, detail, errors=[Fault("/network/onnx", detail)]) from None


def _text_of(members: dict[str, Any]) -> bytes:
    """A form's members as the JSON object that they stand for."""
    try:
        return json.dumps(members).encode()
    except RecursionError as error:
        detail = "a field is nested more deeply than a query can be; see /openapi.json for its form"
        raise ProblemError(MALFORMED_JSON, detail) from error


async def _members(form: FormData) -> dict[str, Any]:
    """The form's fields as members of a `VerifyRequest`, all but the network."""
    members = {
        name: _value(await _text(part, name)) for name, part in form.items() if name not in {"network", "vnnlib"}
    }
    if "vnnlib" in form:
        if "query" in members:
            detail = "the form has both a query and a vnnlib; send one of them"
            raise ProblemError(INVALID_REQUEST, detail, errors=[Fault("/vnnlib", detail)])
        members["query"] = {"vnnlib": await _text(form["vnnlib"], "vnnlib")}
    return members


async def _text(part: UploadFile | str, name: str) -> str:
    """A field that was sent as text, or as a file (``-F query=@query.json``), which may be gzipped."""
    if isinstance(part, str):
        return part
    pieces: list[bytes] = []
    size = 0

    def keep(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        if size > _MAX_BYTES:
            raise ProblemError(TOO_LARGE, f"{name} is larger than {_MAX_BYTES} bytes, the most accepted here")
        pieces.append(piece)

    writer = Inflating(keep, name, VnnlibError)
    writer.write(await part.read(_MAX_BYTES + 1))
    writer.close()
    return b"".join(pieces).decode(errors="replace")


def _value(text: str) -> Any:
    """A field's value: JSON where it is JSON, else the text itself."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    return text
