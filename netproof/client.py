"""A client of netproof's service, for Python programs and CI.

    client = Client("http://127.0.0.1:8000")
    job = client.verify("net.onnx", input=x, label=3, epsilon="8/255", domain=(0, 1))
    print(job.verdict, job.margin)

Every call may be repeated safely (networks are addressed by content, queries carry an idempotency key), so the client
retries by itself where the connection fails or the service is busy. What it raises is drawn as a tree in
`netproof.answers`.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from netproof import asking
from netproof.answers import (
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
from netproof.asking import Ask, Conversation, Pages, Patience, Source, credentials
from netproof.batches import Batch, Batches
from netproof.following import Following
from netproof.job import Event, Job, JobFailedError
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

T = TypeVar("T")


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
        self._patience = Patience(retries)
        sent = credentials(headers, api_key)
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
        return Batches(self._run, self._pages, self._follow)

    def upload(self, network: Source) -> Document:
        """Make a network known to the service; its file is sent only if the service does not have it.

        Args:
            network: path of an ``.onnx`` or ``.onnx.gz`` file, its bytes, or a network that netproof has read, such as
                `netproof.from_torch` returns.

        Returns:
            What the service knows of it: ``sha256``, ``inputs``, ``outputs``, ``input_shape``, ``relus``, …

        Raises:
            RefusedError: it is not ONNX, too large, or uses what netproof does not support; the message says which.
        """
        return self._run(asking.uploaded(network))

    def network(self, sha256: str) -> Document:
        """What the service knows of one network."""
        return self._run(asking.document(Ask("GET", f"/v1/networks/{sha256}")))

    def verify(
        self,
        network: Source,
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
        options = {
            "engine": engine,
            "backend": backend,
            "time_limit": time_limit,
            "priority": priority,
            "seed": seed,
            "certificate": certificate,
            "reuse": reuse,
        }
        job = self._run(asking.asked(network, question, options, idempotency_key))
        if wait is False:
            return job
        return self.wait(job.id, seconds=None if wait is True else float(wait), progress=progress)

    def wait(
        self, job_id: str, *, seconds: float | None = None, progress: Callable[[Document], None] | None = None
    ) -> Job:
        """Wait until a job ends, at most ``seconds``; the job as it is then.

        Raises:
            JobFailedError: the job ended without a verdict.
        """
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        if progress is not None:
            for event in self.events(job_id, seconds=seconds):
                if event.name == "progress":
                    progress(event.data)
        return self._run(asking.ended(job_id, deadline))

    def job(self, job_id: str, *, wait: float = 0.0) -> Job:
        """A job as it stands, or as it stands when it ends within ``wait`` seconds."""
        return self._run(asking.job(job_id, wait))

    def jobs(self, *, state: str | None = None, network: str | None = None, limit: int = 50) -> Iterator[Job]:
        """All jobs, newest first, fetched ``limit`` at a time."""
        pages = Pages("/v1/jobs", "jobs", {"limit": limit, "state": state, "network": network})
        for found in self._pages(pages):
            yield Job(found)

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; it keeps the bounds proven so far. A job that has ended stays as it is."""
        return self._run(asking.cancelled(job_id))

    def counterexample(self, job_id: str) -> Counterexample:
        """The counterexample that a job found, float32 arrays as replayed.

        Raises:
            NotFoundError: the job ended without one.
            RefusedError: the job has not ended.
        """
        return self._run(asking.counterexample(job_id))

    def certificate(self, job_id: str) -> bytes:
        """The certificate of what was proven, for `netproof check`.

        Raises:
            NotFoundError: the job ended without one.
            RefusedError: the job has not ended.
        """
        return self._run(asking.content(Ask("GET", f"/v1/jobs/{job_id}/certificate")))

    def product(self, job_id: str) -> bytes:
        """The ONNX file that the evidence of a question with ``equivalent_to`` or ``monotone`` is about.

        Raises:
            NotFoundError: the evidence is about the network that was given.
            RefusedError: the job has not ended.
        """
        return self._run(asking.content(Ask("GET", f"/v1/jobs/{job_id}/product")))

    def check(self, certificate: str | Path | bytes, network: Source, *, exact: bool = False) -> Document:
        """What the service's independent checker finds in a certificate; ``accepted`` says whether it proves its query.

        Args:
            certificate: path or bytes of the certificate.
            network: the network that it is about, as for `upload`, or the sha256 of one that the service knows.
            exact: decide every claim in exact arithmetic; about the reals alone, and slow.

        Raises:
            RefusedError: the file is no certificate, or one about another network, or the check takes too long.
        """
        return self._run(asking.checked(certificate, network, exact=exact))

    def solvers(self) -> Document:
        """Solvers, their versions and licences, and the workers that have them."""
        return self._run(asking.document(Ask("GET", "/v1/solvers")))

    def version(self) -> str:
        """Version of the service."""
        return self._run(asking.version())

    def events(self, job_id: str, *, after: str | None = None, seconds: float | None = None) -> Iterator[Event]:
        """A job's events as they happen, until it ends; a broken connection is resumed where it broke.

        Args:
            job_id: of the job.
            after: id of the last event that is known already; None: from the first one kept.
            seconds: at most that long; None: until the job ends.
        """
        path = f"/v1/jobs/{job_id}/events"
        yield from self._follow(path, lambda found: Job(found).ended, after, seconds)

    def _follow(
        self, path: str, ended: Callable[[Document], bool], after: str | None, seconds: float | None
    ) -> Iterator[Event]:
        following = Following(path, ended, after, seconds, self._patience)
        while not following.over:
            headers, timeout = following.headers(), following.timeout(self._timeout)
            try:
                with self._http.stream("GET", path, headers=headers, timeout=timeout) as answer:
                    if answer.is_error:
                        answer.read()
                        raise answer_error(answer)
                    for line in answer.iter_lines():
                        event = following.take(line)
                        if event is not None:
                            yield event
                        if following.over:
                            return
            except (httpx.TransportError, AnswerError) as error:
                following.broke(error, self._http.base_url)
            time.sleep(following.pause())

    def _pages(self, pages: Pages) -> Iterator[Document]:
        while (ask := pages.next()) is not None:
            yield from pages.take(document_of(self._send(ask)))

    def _run(self, conversation: Conversation[T]) -> T:
        ask = next(conversation)
        while True:
            try:
                answer = self._send(ask)
            except AnswerError as error:
                take = functools.partial(conversation.throw, error)
            else:
                take = functools.partial(conversation.send, answer)
            try:
                ask = take()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    def _send(self, ask: Ask) -> httpx.Response:
        attempt = 0
        while True:
            try:
                answer = self._http.request(ask.method, ask.path, **ask.arguments(self._timeout))
            except httpx.TransportError as error:
                pause = self._patience.after_error(error, attempt, self._http.base_url)
            else:
                if not answer.is_error:
                    return answer
                pause = self._patience.after_answer(answer, attempt)
            time.sleep(pause)
            attempt += 1
