"""A client of netproof's service, for Python programs and CI.

    client = Client("http://127.0.0.1:8000")
    job = client.verify("net.onnx", input=x, label=3, epsilon="8/255", domain=(0, 1))
    print(job.verdict, job.margin)

Every call may be repeated safely (networks are addressed by content, queries carry an idempotency key), so the client
retries by itself where the connection fails or the service is busy. What it raises is drawn as a tree in
`netproof.answers`.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import json
import math
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from netproof.answers import (
    BUSY,
    AnswerError,
    ClientError,
    Document,
    ForbiddenError,
    LimitError,
    NotFoundError,
    RefusedError,
    ServiceError,
    UnauthenticatedError,
    UnreachableError,
    answer_error,
    document_of,
)
from netproof.batches import Batch, Batches
from netproof.job import Event, Job, JobFailedError, parse_events
from netproof.stating import as_json
from solver.verdict import Counterexample

__all__ = [
    "AnswerError",
    "Batch",
    "Batches",
    "Client",
    "ClientError",
    "Event",
    "ForbiddenError",
    "Job",
    "JobFailedError",
    "LimitError",
    "NotFoundError",
    "RefusedError",
    "ServiceError",
    "UnauthenticatedError",
    "UnreachableError",
]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GZIP_MAGIC = b"\x1f\x8b"
#: Seconds of one long poll; shorter than the idle limits that proxies usually set.
_POLL_SECONDS = 25.0
#: A service that asks to wait for longer than that is not waited for.
_LONGEST_PAUSE = 60.0


class Client:
    """A connection to one service; safe to share between threads.

    Args:
        url: where the service listens.
        timeout: seconds for connecting, sending, and for the answer beyond what was asked to wait.
        api_key: shown with every request; None: ``NETPROOF_API_KEY`` of the environment, where that is set.
        retries: repetitions after a failed connection or a busy answer, with growing pauses or as long as the service
            says (``Retry-After``); one that asks for more than a minute is an error at once.
        headers: sent with every request.
        transport: another httpx transport, for tests and proxies.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retries: int = 5,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._timeout = timeout
        self._retries = retries
        shown = api_key if api_key is not None else os.environ.get("NETPROOF_API_KEY", "")
        sent = dict(headers or {}) | ({"Authorization": f"Bearer {shown.strip()}"} if shown.strip() else {})
        self._http = httpx.Client(base_url=url, timeout=timeout, headers=sent, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def batches(self) -> Batches:
        """Batches and data sets of the service."""
        return Batches(self._request, self.upload, self._timeout)

    def upload(self, network: str | Path | bytes) -> Document:
        """Make a network known to the service; its file is sent only if the service does not have it.

        Args:
            network: path of an ``.onnx`` or ``.onnx.gz`` file, or its bytes.

        Returns:
            What the service knows of it: ``sha256``, ``inputs``, ``outputs``, ``input_shape``, ``relus``, …

        Raises:
            RefusedError: it is not ONNX, too large, or uses what netproof does not support; the message says which.
        """
        data, name = (network, "") if isinstance(network, bytes) else (Path(network).read_bytes(), Path(network).name)
        digest = _digest(data)
        if digest is not None:
            with contextlib.suppress(NotFoundError):
                return self.network(digest)
        parameters = {"name": name} if name else {}
        headers = {"Content-Type": "application/octet-stream"}
        return document_of(self._request("POST", "/v1/networks", content=data, headers=headers, params=parameters))

    def network(self, sha256: str) -> Document:
        """What the service knows of one network."""
        return document_of(self._request("GET", f"/v1/networks/{sha256}"))

    def verify(
        self,
        network: str | Path | bytes,
        *,
        engine: str = "auto",
        backend: str = "auto",
        time_limit: float | None = None,
        priority: str = "normal",
        seed: int = 0,
        certificate: bool = False,
        reuse: bool = True,
        idempotency_key: str | None = None,
        wait: bool | float = True,
        progress: Callable[[Document], None] | None = None,
        **question: Any,
    ) -> Job:
        """Ask one question about one network.

        Args:
            network: path or bytes of an ONNX file, or the sha256 of one that the service knows.
            engine: ``auto``, ``bounds``, ``milp`` or ``bab``.
            backend: ``auto``, ``highs`` or ``gurobi``.
            time_limit: seconds of solving; None: the service's default.
            priority: ``normal`` or ``high``.
            seed: of the attacks.
            certificate: have a robust verdict proven by a certificate, where an engine leaves one; see `certificate`.
            reuse: take an answer that the service has already; see ``cached_from`` of the verdict.
            idempotency_key: the same key and request give the same job; one is drawn per call otherwise.
            wait: True: until the job ends; a number: at most that many seconds; False: return at once.
            progress: called with every progress report while waiting.
            question: region and property, by the names and in the forms of `netproof.verify`: ``input``, ``epsilon``,
                ``label``, ``vnnlib`` and so on.

        Raises:
            RefusedError: the network or the query cannot be used; the message says what to change.
            JobFailedError: the job ended without a verdict.
        """
        known = isinstance(network, str) and _SHA256.fullmatch(network)
        body: Document = {
            "network": network if known else self.upload(network)["sha256"],
            "query": as_json(question | self._other(question)),
            "engine": engine,
            "backend": backend,
            "time_limit": time_limit,
            "priority": priority,
            "seed": seed,
            "certificate": certificate,
            "reuse": reuse,
        }
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        # NaN passes here on purpose: the service's answer names the entry
        job = Job(document_of(self._request("POST", "/v1/verify", content=json.dumps(body).encode(), headers=headers)))
        if wait is False:
            return job
        return self.wait(job.id, seconds=None if wait is True else float(wait), progress=progress)

    def _other(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The network that another is compared with, by its sha256 and uploaded if it is not known."""
        stated = question.get("equivalent_to")
        if stated is None:
            return {}
        inner = dict(stated) if isinstance(stated, Mapping) else {"network": stated}
        other = inner.get("network")
        if isinstance(other, str | Path | bytes) and not (isinstance(other, str) and _SHA256.fullmatch(other)):
            inner["network"] = self.upload(other)["sha256"]
        return {"equivalent_to": inner}

    def wait(
        self, job_id: str, *, seconds: float | None = None, progress: Callable[[Document], None] | None = None
    ) -> Job:
        """Wait until a job ends, at most ``seconds``; the job as it is then.

        Raises:
            JobFailedError: the job ended without a verdict.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        if progress is not None:
            for event in self.events(job_id, seconds=seconds):
                if event.name == "progress":
                    progress(event.data)
        job = self.job(job_id)
        while not job.ended:
            rest = _POLL_SECONDS if deadline is None else min(_POLL_SECONDS, deadline - time.monotonic())
            if rest <= 0:
                return job
            job = self.job(job_id, wait=rest)
        if job.state == "failed":
            raise JobFailedError(job)
        return job

    def job(self, job_id: str, *, wait: float = 0.0) -> Job:
        """A job as it stands, or as it stands when it ends within ``wait`` seconds."""
        parameters = {"wait": f"{wait:g}"} if wait > 0 else {}
        timeout = self._timeout + wait
        return Job(document_of(self._request("GET", f"/v1/jobs/{job_id}", params=parameters, timeout=timeout)))

    def jobs(self, *, state: str | None = None, network: str | None = None, limit: int = 50) -> Iterator[Job]:
        """All jobs, newest first, fetched ``limit`` at a time."""
        parameters: dict[str, Any] = {"limit": limit}
        parameters |= {key: value for key, value in {"state": state, "network": network}.items() if value}
        while True:
            page = document_of(self._request("GET", "/v1/jobs", params=parameters))
            yield from map(Job, page["jobs"])
            if not page["next_cursor"]:
                return
            parameters["cursor"] = page["next_cursor"]

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; it keeps the bounds proven so far. A job that has ended stays as it is."""
        try:
            return Job(document_of(self._request("POST", f"/v1/jobs/{job_id}/cancel")))
        except RefusedError as error:
            if error.status == httpx.codes.CONFLICT:
                return self.job(job_id)
            raise

    def counterexample(self, job_id: str) -> Counterexample:
        """The counterexample that a job found, float32 arrays as replayed.

        Raises:
            NotFoundError: the job ended without one.
            RefusedError: the job has not ended.
        """
        return Counterexample.from_json(document_of(self._request("GET", f"/v1/jobs/{job_id}/counterexample")))

    def certificate(self, job_id: str) -> bytes:
        """The certificate of what was proven, for `netproof check`.

        Raises:
            NotFoundError: the job ended without one.
            RefusedError: the job has not ended.
        """
        return self._request("GET", f"/v1/jobs/{job_id}/certificate").content

    def product(self, job_id: str) -> bytes:
        """The ONNX file that the evidence of a question with ``equivalent_to`` or ``monotone`` is about.

        Raises:
            NotFoundError: the evidence is about the network that was given.
            RefusedError: the job has not ended.
        """
        return self._request("GET", f"/v1/jobs/{job_id}/product").content

    def check(self, certificate: str | Path | bytes, network: str | Path | bytes, *, exact: bool = False) -> Document:
        """What the service's independent checker finds in a certificate; ``accepted`` says whether it proves its query.

        Args:
            certificate: path or bytes of the certificate.
            network: path or bytes of the ONNX file that it is about, or the sha256 of one that the service knows.
            exact: decide every claim in exact arithmetic; about the reals alone, and slow.

        Raises:
            RefusedError: the file is no certificate, or one about another network, or the check takes too long.
        """
        data = certificate if isinstance(certificate, bytes) else Path(certificate).read_bytes()
        known = isinstance(network, str) and _SHA256.fullmatch(network)
        parameters = {"network": network if known else self.upload(network)["sha256"]}
        if exact:
            parameters["exact"] = "true"
        headers = {"Content-Type": "application/zip"}
        timeout = httpx.Timeout(self._timeout, read=None)  # the service ends a check that takes too long
        return document_of(
            self._request("POST", "/v1/check", content=data, headers=headers, params=parameters, timeout=timeout)
        )

    def solvers(self) -> Document:
        """Solvers, their versions and licences, and the workers that have them."""
        return document_of(self._request("GET", "/v1/solvers"))

    def version(self) -> str:
        """Version of the service."""
        return str(document_of(self._request("GET", "/v1/version"))["version"])

    def events(self, job_id: str, *, after: str | None = None, seconds: float | None = None) -> Iterator[Event]:
        """A job's events as they happen, until it ends; a broken connection is resumed where it broke.

        Args:
            job_id: of the job.
            after: id of the last event that is known already; None: from the first one kept.
            seconds: at most that long; None: until the job ends.
        """
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        last, failures = after, 0
        while (rest := deadline - time.monotonic()) > 0:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            timeout = httpx.Timeout(self._timeout, read=min(self._timeout, rest))
            try:
                with self._http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=timeout) as answer:
                    if answer.is_error:
                        answer.read()
                        raise answer_error(answer)
                    lines = itertools.takewhile(lambda _: time.monotonic() < deadline, answer.iter_lines())
                    for event in parse_events(lines):
                        last, failures = event.id or last, 0
                        yield event
                        if event.name == "state" and Job(event.data | {"id": job_id}).ended:
                            return
            except (httpx.TransportError, AnswerError) as error:
                if isinstance(error, AnswerError) and error.status not in BUSY:
                    raise
                if time.monotonic() >= deadline:
                    return
                failures += 1
                if failures > self._retries:
                    raise _unreachable(self._http.base_url, error) from error
            # a stream that ends before the job does was cut off by a restart or a proxy
            time.sleep(min(_pause(failures), max(0.0, deadline - time.monotonic())))

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                answer = self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                if last:
                    raise _unreachable(self._http.base_url, error) from error
                time.sleep(_pause(attempt))
                continue
            if not answer.is_error:
                return answer
            pause = _retry_after(answer, _pause(attempt))
            if last or answer.status_code not in BUSY or pause > _LONGEST_PAUSE:
                raise answer_error(answer)
            time.sleep(pause)
        msg = "unreachable: the last attempt returns or raises"
        raise AssertionError(msg)


def _pause(attempt: int) -> float:
    return float(min(0.2 * 2**attempt, 5.0))


def _retry_after(answer: httpx.Response, otherwise: float) -> float:
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else otherwise


def _unreachable(url: httpx.URL, error: Exception) -> UnreachableError:
    return UnreachableError(f"{url} does not answer ({error}); is `netproof serve` running there?")


def _digest(data: bytes) -> str | None:
    if data[:2] == _GZIP_MAGIC:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError):
            return None  # the service says what is wrong with it
    return hashlib.sha256(data).hexdigest()
