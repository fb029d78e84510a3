"""Errors over HTTP: RFC 9457 problem documents, and the one table that maps errors to them.

A problem's ``type`` is ``urn:netproof:problem:<slug>``: stable, and independent of where the service runs. ``detail``
says what came, what was expected and what to do; ``errors`` points into the request body with JSON pointers;
``instance`` carries the request's id, under which the server's log has the rest. Statuses without a kind of their own
use ``about:blank``, as the RFC asks.
"""

from __future__ import annotations

import http
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic_core import ErrorDetails
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from certificates.errors import CertificateError
from networks.errors import (
    DatasetError,
    InputError,
    NetproofError,
    NetworkError,
    NetworkFormatError,
    NetworkShapeError,
    NonFiniteWeightError,
    PropertyError,
    RegionError,
    SoundnessError,
    UnsupportedOperatorError,
    VnnlibError,
)
from service.artifacts import is_full
from service.database import is_full as database_is_full
from service.errors import (
    IdempotencyError,
    InUseError,
    NotFoundError,
    QuotaError,
    StateChangeError,
    StorageDamagedError,
    StorageError,
    StorageFullError,
    TooLargeError,
)
from solver.errors import BackendError, BackendUnavailableError, LicenceLimitError, NumericsError

__all__ = [
    "KINDS",
    "MEDIA_TYPE",
    "Fault",
    "Kind",
    "ProblemError",
    "faults",
    "handle_problems",
    "kind_of",
    "problem_document",
    "problem_response",
]

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: the slug that ends its type URI, its title and its HTTP status."""

    slug: str
    title: str
    status: int

    @property
    def uri(self) -> str:
        return f"urn:netproof:problem:{self.slug}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a request: a JSON pointer into its body (or a parameter's name) and what to do."""

    pointer: str
    detail: str


#: From error class to problem; a class that is missing takes the entry of its nearest base.
KINDS: dict[type[Exception], Kind] = {
    NetworkFormatError: Kind("unreadable-network", "The network file cannot be read", 422),
    NetworkShapeError: Kind("unsupported-shape", "The network's shapes cannot be fixed", 422),
    NonFiniteWeightError: Kind("non-finite-weight", "The network has weights that are not finite", 422),
    UnsupportedOperatorError: Kind("unsupported-operator", "The network uses an unsupported operator", 422),
    NetworkError: Kind("refused-network", "The network cannot be verified", 422),
    RegionError: Kind("invalid-region", "The input region is invalid", 422),
    PropertyError: Kind("invalid-property", "The property does not fit the network", 422),
    VnnlibError: Kind("invalid-vnnlib", "The VNNLIB specification cannot be read", 422),
    CertificateError: Kind("invalid-certificate", "The certificate cannot be checked", 422),
    DatasetError: Kind("invalid-dataset", "The data set cannot be used", 422),
    InputError: Kind("invalid-request", "The request is invalid", 422),
    BackendUnavailableError: Kind("backend-unavailable", "The solver is not available", 503),
    LicenceLimitError: Kind("licence-limit", "The model exceeds the solver's licence", 422),
    NumericsError: Kind("unfaithful-numerics", "The solver cannot represent the model faithfully", 422),
    BackendError: Kind("backend-failed", "The solver failed", 500),
    SoundnessError: Kind("contradiction", "Two proven facts contradict each other", 500),
    NotFoundError: Kind("not-found", "There is no such thing", 404),
    StateChangeError: Kind("illegal-state-change", "The job's state does not allow it", 409),
    InUseError: Kind("in-use", "Something else still needs it", 409),
    IdempotencyError: Kind("idempotency-key-reused", "The idempotency key belongs to another request", 422),
    StorageFullError: Kind("storage-full", "There is no room left to store what this needs", 507),
    StorageDamagedError: Kind("storage-damaged", "What is stored is damaged", 500),
    StorageError: Kind("storage-unavailable", "What is stored cannot be reached", 503),
    QuotaError: Kind("quota-exceeded", "The key's quota is used up", 429),
    TooLargeError: Kind("too-large", "The request is too large", 413),
    NetproofError: Kind("failed", "The request failed", 500),
}

TOO_LARGE = KINDS[TooLargeError]
INTERNAL = Kind("internal", "Internal server error", 500)
INVALID_REQUEST = KINDS[InputError]
MALFORMED_JSON = Kind("malformed-json", "The body is not JSON", 400)
UNSUPPORTED_MEDIA_TYPE = Kind("unsupported-media-type", "The body's media type is not supported", 415)
NOT_ACCEPTABLE = Kind("not-acceptable", "The representation is not offered", 406)
NO_COUNTEREXAMPLE = Kind("no-counterexample", "The job ended without a counterexample", 404)
CHECK_UNFINISHED = Kind("check-unfinished", "The check did not end within the limits", 422)
NO_CERTIFICATE = Kind("no-certificate", "The job ended without a certificate", 404)
NO_PRODUCT = Kind("no-product", "The job is about the network that was given", 404)
JOB_NOT_ENDED = Kind("job-not-ended", "The job has not ended", 409)
JOB_ENDED = Kind("job-ended", "The job has ended", 409)
UNAUTHENTICATED = Kind("unauthenticated", "The service does not know who asks", 401)
FORBIDDEN = Kind("forbidden", "The key does not allow it", 403)
MISDIRECTED = Kind("misdirected", "The request is addressed to another host", 421)
FOREIGN_ORIGIN = Kind("foreign-origin", "The request comes from another site", 403)
TOO_SLOW = Kind("too-slow", "The request did not come in time", 408)
QUOTA_EXCEEDED = Kind("quota-exceeded", "The key's quota is used up", 429)
RATE_LIMITED = Kind("rate-limited", "Too many requests", 429)
UNAVAILABLE = Kind("unavailable", "A part of the service is not available", 503)

#: When to ask again for what cannot be had now.
_LATER = {"Retry-After": "5"}

#: Pydantic's words where ours say better what to do.
_WORDS = {
    "missing": "is required; add it",
    "extra_forbidden": "is not a member that a request has; remove it or correct its name",
}
#: Errors whose message says by itself what came.
_COMPLETE = frozenset({"missing", "extra_forbidden", "exact_number"})


class ProblemError(Exception):
    """An error that already knows the problem document to answer with.

    Attributes:
        kind: type, title and status.
        detail: what came, what was expected and what to do.
        errors: the places in the request that are wrong.
        headers: HTTP headers of the answer, such as ``Retry-After``.
        extensions: further members of the document.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.extensions = dict(extensions or {})


@dataclass(frozen=True, slots=True)
class _Document:
    type: str
    title: str
    status: int
    detail: str
    errors: tuple[Fault, ...] = ()
    extensions: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [{"pointer": fault.pointer, "detail": fault.detail} for fault in self.errors]
        return document | self.extensions


def kind_of(error: BaseException | type[BaseException]) -> Kind:
    """The table's entry for an error or an error class; an unexpected one is a 500 that says nothing more."""
    cls = error if isinstance(error, type) else type(error)
    for base in cls.__mro__:
        if base in KINDS:
            return KINDS[base]
    return INTERNAL


def problem_document(error: NetproofError | ProblemError) -> dict[str, Any]:
    """The problem document of an error, without ``instance``; a failed job's ``error`` has this form too."""
    if isinstance(error, ProblemError):
        kind, extensions, errors = error.kind, error.extensions, error.errors
    else:
        kind, extensions, errors = kind_of(error), _place(error), ()
    return _Document(kind.uri, kind.title, kind.status, str(error), errors, extensions).to_json()


def problem_response(
    document: Mapping[str, Any], *, request_id: str | None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The HTTP answer that carries a problem document."""
    content = dict(document)
    if request_id is not None:
        content.setdefault("instance", f"urn:netproof:request:{request_id}")
    return JSONResponse(content, status_code=int(content["status"]), headers=dict(headers or {}), media_type=MEDIA_TYPE)


def faults(errors: Iterable[ErrorDetails | Mapping[str, Any]], *, tags: frozenset[str] = frozenset()) -> list[Fault]:
    """Pydantic's errors as faults; ``tags`` are names of union members, which occur in no request."""
    found = []
    for error in errors:
        location = [str(part) for part in error["loc"] if str(part) not in tags]
        pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in location)
        message = _WORDS.get(error["type"]) or str(error["msg"]).replace("Input should be", "must be")
        given = error.get("input")
        if error["type"] not in _COMPLETE and isinstance(given, str | int | float | bool | None):
            message += f", got {_shown(given)}"
        found.append(Fault(pointer, message))
    return found


def handle_problems(app: FastAPI) -> None:
    """Make ``app`` answer every error as a problem document."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(NetproofError, _on_netproof_error)
    app.add_exception_handler(OSError, _on_system_error)
    app.add_exception_handler(OperationalError, _on_database_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


def _place(error: NetproofError) -> dict[str, Any]:
    if isinstance(error, UnsupportedOperatorError):
        place = {"node": error.node, "op": error.op, "opset": error.opset, "shape": error.shape}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in place.items() if value}
    return {}


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _request_id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)


async def _on_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    return problem_response(problem_document(error), request_id=_request_id(request), headers=error.headers)


async def _on_netproof_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, NetproofError)
    if isinstance(error, StorageError) and not isinstance(error, StorageDamagedError):
        logger.error("request %s: %s", _request_id(request), error)
        return problem_response(problem_document(error), request_id=_request_id(request), headers=_LATER)
    if kind_of(error).status >= http.HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(
        error, BackendUnavailableError
    ):
        raise error  # unexpected here: the outermost handler logs it and answers without its text
    headers = {"Retry-After": str(error.seconds)} if isinstance(error, QuotaError) else None
    return problem_response(problem_document(error), request_id=_request_id(request), headers=headers)


async def _on_system_error(request: Request, error: Exception) -> JSONResponse:
    """A disk without room is the operator's to mend, and what was asked can be asked again; the rest is a fault."""
    if not is_full(error):
        raise error
    return _no_room(request, error)


async def _on_database_error(request: Request, error: Exception) -> JSONResponse:
    """A database that cannot be reached, or has no room, may be back in a moment; nothing was acknowledged."""
    assert isinstance(error, OperationalError)
    if database_is_full(error):
        return _no_room(request, error)
    logger.error("request %s: the ledger does not answer: %s", _request_id(request), error.orig)
    detail = "the ledger does not answer now; nothing was changed by this request, so ask again in a moment"
    document = problem_document(ProblemError(UNAVAILABLE, detail))
    return problem_response(document, request_id=_request_id(request), headers=_LATER)


def _no_room(request: Request, error: Exception) -> JSONResponse:
    logger.error("request %s: no room left: %s", _request_id(request), error)
    detail = "a disk of the service is full, so nothing was kept of this request; ask again when its operator made room"
    document = problem_document(ProblemError(KINDS[StorageFullError], detail))
    return problem_response(document, request_id=_request_id(request), headers=_LATER)


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [
        Fault(fault.pointer.removeprefix("/query/").removeprefix("/path/").removeprefix("/header/"), fault.detail)
        for fault in faults(error.errors())
    ]
    detail = "; ".join(f"parameter {fault.pointer}: {fault.detail}" for fault in found)
    document = problem_document(ProblemError(INVALID_REQUEST, detail, errors=found))
    return problem_response(document, request_id=_request_id(request))


def _methods_at(request: Request) -> str:
    """All methods that the path of ``request`` has; each route knows only its own."""
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        pattern = getattr(route, "path_regex", None)
        if pattern is not None and pattern.match(request.url.path):
            methods |= getattr(route, "methods", None) or set()
    return ", ".join(sorted(methods))


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = http.HTTPStatus(error.status_code)
    if status is http.HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {request.url.path}; see /openapi.json for what there is"
    elif status is http.HTTPStatus.METHOD_NOT_ALLOWED:
        error.headers = {"Allow": _methods_at(request)}
        detail = f"{request.method} is not possible at {request.url.path}; use {error.headers['Allow']}"
    else:
        detail = str(error.detail)
    document = _Document("about:blank", status.phrase, status.value, detail).to_json()
    return problem_response(document, request_id=_request_id(request), headers=error.headers)
