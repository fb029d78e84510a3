"""What a service answers: documents, or problems as exceptions.

ClientError (networks.errors.NetproofError)
├── UnreachableError (ConnectionError)     no answer, even after the retries
├── AnswerError                            the service answered with a problem document
│   ├── RefusedError (InputError)          4xx: the request has to change
│   │   ├── UnauthenticatedError (PermissionError)  401: no key, or one that is not valid
│   │   ├── ForbiddenError (PermissionError)        403: the key's scope does not suffice
│   │   ├── LimitError                     429: a quota is used up, or too many requests
│   │   └── NotFoundError (LookupError)    404: no such network, job or counterexample
│   └── ServiceError (RuntimeError)        5xx: the service has to change
└── JobFailedError (RuntimeError)          the job ended without a verdict (netproof.job)
"""

from __future__ import annotations

from typing import Any, TypeAlias

import httpx

from networks.errors import InputError, NetproofError

__all__ = [
    "BUSY",
    "AnswerError",
    "ClientError",
    "Document",
    "ForbiddenError",
    "LimitError",
    "NotFoundError",
    "RefusedError",
    "ServiceError",
    "UnauthenticatedError",
    "UnreachableError",
    "answer_error",
    "document_of",
]

Document: TypeAlias = dict[str, Any]

#: Answers that ask to try again: too many requests, and a part of the service that is on its way up or down.
BUSY = frozenset({429, 502, 503, 504})


class ClientError(NetproofError):
    """Root of what `Client` raises."""


class UnreachableError(ClientError, ConnectionError):
    """No answer, even after the retries."""


class AnswerError(ClientError):
    """The service answered with a problem document (RFC 9457).

    Attributes:
        status: HTTP status.
        problem: the whole document; ``type``, ``title``, ``detail``, ``errors`` and ``instance`` are its usual members.
    """

    def __init__(self, status: int, problem: Document) -> None:
        lines = [str(problem.get("detail") or problem.get("title") or f"HTTP status {status}")]
        lines += [f"{fault['pointer'] or '/'}: {fault['detail']}" for fault in problem.get("errors", [])]
        super().__init__("\n  ".join(lines) if len(lines) != 2 else lines[0])
        self.status = status
        self.problem = problem

    @property
    def type(self) -> str:
        """The problem's type URI, stable across versions."""
        return str(self.problem.get("type", "about:blank"))


class RefusedError(AnswerError, InputError):
    """4xx: the request has to change."""


class NotFoundError(RefusedError, LookupError):
    """404: no such network, job or counterexample."""


class UnauthenticatedError(RefusedError, PermissionError):
    """401: no key, or one that is not valid."""

    def __init__(self, status: int, problem: Document) -> None:
        advice = "; set NETPROOF_API_KEY, or say --api-key-file, or Client(api_key=…)"
        super().__init__(status, problem | {"detail": f"{problem.get('detail') or problem.get('title')}{advice}"})


class ForbiddenError(RefusedError, PermissionError):
    """403: the key's scope does not suffice."""


class LimitError(RefusedError):
    """429: a quota is used up, or too many requests."""


class ServiceError(AnswerError, RuntimeError):
    """5xx: the service has to change."""


def document_of(answer: httpx.Response) -> Document:
    """The JSON object in an answer. Raises ServiceError if there is none."""
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        given = answer.headers.get("Content-Type", "nothing")
        msg = f"{answer.request.url} answered with {given}, expected a JSON object; is it a netproof service?"
        raise ServiceError(answer.status_code, {"detail": msg})
    return document


_REFUSALS: dict[int, type[RefusedError]] = {
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    429: LimitError,
}


def answer_error(answer: httpx.Response) -> AnswerError:
    """The error that an answer of 4xx or 5xx stands for."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": f"{answer.status_code} {answer.reason_phrase}"}
    if answer.status_code in _REFUSALS:
        return _REFUSALS[answer.status_code](answer.status_code, problem)
    if answer.is_client_error:
        return RefusedError(answer.status_code, problem)
    return ServiceError(answer.status_code, problem)
