"""What `Client` and `AsyncClient` share: conversations with a service, without the sending.

A conversation is a generator: it yields an `Ask`, is sent the answer, or has the answer's error thrown in, and returns
what was wanted. Each client runs it in its own way (`Client` blocks, `AsyncClient` awaits), with the retries that
`Patience` allows.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import random
import re
import time
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import httpx

from netproof.answers import BUSY, Document, NotFoundError, RefusedError, UnreachableError, answer_error, document_of
from netproof.job import Job, JobFailedError
from netproof.stating import as_json
from networks import Network
from solver.verdict import Counterexample

__all__ = ["Ask", "Conversation", "Patience", "Source", "content_of", "credentials", "is_sha256", "json_ask", "keyed"]

T = TypeVar("T")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GZIP_MAGIC = b"\x1f\x8b"
#: Seconds of one long poll; shorter than the idle limits that proxies usually set.
POLL_SECONDS = 25.0
#: A service that asks to wait for longer than that is not waited for.
_LONGEST_PAUSE = 60.0
_LONGEST_OWN_PAUSE = 5.0

#: A network: a path or the bytes of an ONNX file, plain or gzipped, or one that netproof has read.
Source: TypeAlias = str | Path | bytes | Network


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: what httpx takes, and how long its answer may take beyond the client's own limit.

    Attributes:
        method, path: of the request.
        wait: seconds that the service was asked to wait; None where it limits itself.
        options: ``params``, ``content`` and ``headers``.
    """

    method: str
    path: str
    wait: float | None = 0.0
    options: Mapping[str, Any] | None = None

    def arguments(self, timeout: float) -> dict[str, Any]:
        """Keyword arguments of ``httpx.Client.request``."""
        read = None if self.wait is None else timeout + self.wait
        return {**(self.options or {}), "timeout": httpx.Timeout(timeout, read=read)}


Conversation: TypeAlias = Generator[Ask, httpx.Response, T]


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and when a request is repeated that failed on the way or met a busy service.

    Every request of the clients may be repeated: networks are addressed by content, questions carry a key.
    """

    retries: int

    def after_answer(self, answer: httpx.Response, attempt: int) -> float:
        """Seconds to pause before the next attempt. Raises the answer's error where there will be none."""
        asked = answer.headers.get("Retry-After", "")
        pause = float(asked) if asked.isdigit() else self.pause(attempt)
        if attempt >= self.retries or answer.status_code not in BUSY or pause > _LONGEST_PAUSE:
            raise answer_error(answer)
        return pause

    def after_error(self, error: Exception, attempt: int, url: httpx.URL) -> float:
        """The same where no answer came. Raises UnreachableError."""
        if attempt >= self.retries:
            advice = (
                "is `netproof serve` running there?" if url.scheme else "begin the address with http:// or https://"
            )
            msg = f"{url} does not answer ({error}); {advice}"
            raise UnreachableError(msg) from error
        return self.pause(attempt)

    def pause(self, attempt: int) -> float:
        """Twice as long each time, and never quite the same, so that many clients do not come back at once."""
        return float(min(0.2 * 2**attempt, _LONGEST_OWN_PAUSE)) * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)


def credentials(headers: Mapping[str, str] | None, api_key: str | None) -> dict[str, str]:
    """The headers of every request: the given ones, and the key, by default the environment's, where there is one."""
    key = (os.environ.get("NETPROOF_API_KEY", "") if api_key is None else api_key).strip()
    return dict(headers or {}) | ({"Authorization": f"Bearer {key}"} if key else {})


def is_sha256(name: object) -> bool:
    """Whether ``name`` names something that the service knows."""
    return isinstance(name, str) and _SHA256.fullmatch(name) is not None


def keyed(idempotency_key: str | None) -> dict[str, str]:
    """Headers of a JSON request that may be repeated; a key is drawn where none is given."""
    return {"Content-Type": "application/json", "Idempotency-Key": idempotency_key or uuid.uuid4().hex}


def json_ask(method: str, path: str, body: Document, headers: Mapping[str, str] | None = None) -> Ask:
    """A request with a JSON body; NaN passes on purpose, since the service's answer names the entry."""
    sent = {"Content-Type": "application/json"} | dict(headers or {})
    return Ask(method, path, options={"content": json.dumps(body).encode(), "headers": sent})


def content_of(source: Source) -> tuple[bytes, str]:
    """A network's bytes and name."""
    match source:
        case bytes():
            return source, ""
        case Network():
            return source.model, source.name
        case _:
            return Path(source).read_bytes(), Path(source).name


def document(ask: Ask) -> Conversation[Document]:
    """Ask, for the JSON object that comes back."""
    return document_of((yield ask))


def content(ask: Ask) -> Conversation[bytes]:
    """Ask, for a file."""
    return (yield ask).content


def uploaded(source: Source) -> Conversation[Document]:
    """What the service knows of a network, which is sent if it is new."""
    data, name = content_of(source)
    digest = _digest(data)
    if digest is not None:
        with contextlib.suppress(NotFoundError):
            return (yield from document(Ask("GET", f"/v1/networks/{digest}")))
    options = {
        "content": data,
        "headers": {"Content-Type": "application/octet-stream"},
        "params": {"name": name} if name else {},
    }
    return (yield from document(Ask("POST", "/v1/networks", options=options)))


def named(source: Source) -> Conversation[str]:
    """The sha256 of a network that is named by it, or uploaded."""
    return source if isinstance(source, str) and is_sha256(source) else str((yield from uploaded(source))["sha256"])


def asked(
    network: Source, question: Mapping[str, Any], options: Mapping[str, Any], key: str | None
) -> Conversation[Job]:
    """The job of a new question."""
    sha256 = yield from named(network)
    other = yield from _other(question)
    body = {"network": sha256, "query": as_json({**question, **other}), **options}
    return Job((yield from document(json_ask("POST", "/v1/verify", body, keyed(key)))))


def _other(question: Mapping[str, Any]) -> Conversation[dict[str, Any]]:
    """The network that another is compared with, by its sha256 and uploaded if it is not known."""
    stated = question.get("equivalent_to")
    if stated is None:
        return {}
    inner = dict(stated) if isinstance(stated, Mapping) else {"network": stated}
    if isinstance(inner.get("network"), Source):
        inner["network"] = yield from named(inner["network"])
    return {"equivalent_to": inner}


def job(job_id: str, wait: float = 0.0) -> Conversation[Job]:
    """A job as it is, or as it ends within ``wait`` seconds."""
    options = {"params": {"wait": f"{wait:g}"}} if wait > 0 else None
    return Job((yield from document(Ask("GET", f"/v1/jobs/{job_id}", wait, options))))


def ended(job_id: str, deadline: float) -> Conversation[Job]:
    """A job when it ends, or as it is at ``deadline`` (monotonic). Raises JobFailedError."""
    found = yield from job(job_id)
    while not found.ended:
        rest = min(POLL_SECONDS, deadline - time.monotonic())
        if rest <= 0:
            return found
        found = yield from job(job_id, rest)
    if found.state == "failed":
        raise JobFailedError(found)
    return found


def cancelled(job_id: str) -> Conversation[Job]:
    """A job that was asked to stop, or has ended."""
    try:
        return Job((yield from document(Ask("POST", f"/v1/jobs/{job_id}/cancel"))))
    except RefusedError as error:
        if error.status != httpx.codes.CONFLICT:
            raise
    return (yield from job(job_id))


def counterexample(job_id: str) -> Conversation[Counterexample]:
    """The counterexample that a job found."""
    return Counterexample.from_json((yield from document(Ask("GET", f"/v1/jobs/{job_id}/counterexample"))))


def checked(certificate: str | Path | bytes, network: Source, *, exact: bool) -> Conversation[Document]:
    """What the service's checker finds."""
    data = certificate if isinstance(certificate, bytes) else Path(certificate).read_bytes()
    parameters = {"network": (yield from named(network))} | ({"exact": "true"} if exact else {})
    options = {"content": data, "headers": {"Content-Type": "application/zip"}, "params": parameters}
    return (yield from document(Ask("POST", "/v1/check", None, options)))  # the service ends one that takes too long


def version() -> Conversation[str]:
    """The service's version."""
    return str((yield from document(Ask("GET", "/v1/version")))["version"])


@dataclass
class Pages:
    """A list that comes in pages: ask for the `next` one as long as there is one, and `take` its members."""

    path: str
    member: str
    parameters: dict[str, Any]
    more: bool = True

    def next(self) -> Ask | None:
        """The request for the next page; None after the last."""
        given = {key: value for key, value in self.parameters.items() if value is not None}
        return Ask("GET", self.path, options={"params": given}) if self.more else None

    def take(self, page: Document) -> list[Document]:
        self.parameters["cursor"] = page["next_cursor"]
        self.more = bool(page["next_cursor"])
        return list(page[self.member])


def _digest(data: bytes) -> str | None:
    if data[:2] == _GZIP_MAGIC:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError):
            return None  # the service says what is wrong with it
    return hashlib.sha256(data).hexdigest()
