"""The asynchronous client: `Client`'s methods, to be awaited.

async with AsyncClient("http://127.0.0.1:8000") as client:
    job = await client.verify("net.onnx", input=x, label=3, epsilon="8/255", domain=(0, 1), wait=False)
    async for event in client.events(job.id):
        print(event.name, event.data)
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from netproof import asking
from netproof.answers import AnswerError, Document, answer_error, document_of
from netproof.asking import Ask, Conversation, Pages, Patience, Source, credentials
from netproof.async_batches import AsyncBatches
from netproof.following import Following
from netproof.job import Event, Job
from solver.verdict import Counterexample

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient:
    """A connection to one service, for programs with an event loop; its arguments are those of `Client`."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retries: int = 5,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout = timeout
        self._patience = Patience(retries)
        sent = credentials(headers, api_key)
        self._http = httpx.AsyncClient(base_url=url, timeout=timeout, headers=sent, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @property
    def batches(self) -> AsyncBatches:
        """Batches and data sets of the service."""
        return AsyncBatches(self._run, self._pages, self._follow)

    async def upload(self, network: Source) -> Document:
        """Make a network known to the service; see `Client.upload`."""
        return await self._run(asking.uploaded(network))

    async def network(self, sha256: str) -> Document:
        """What the service knows of one network."""
        return await self._run(asking.document(Ask("GET", f"/v1/networks/{sha256}")))

    async def verify(
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
        """Ask one question about one network; see `Client.verify`."""
        options = {
            "engine": engine,
            "backend": backend,
            "time_limit": time_limit,
            "priority": priority,
            "seed": seed,
            "certificate": certificate,
            "reuse": reuse,
        }
        job = await self._run(asking.asked(network, question, options, idempotency_key))
        if wait is False:
            return job
        return await self.wait(job.id, seconds=None if wait is True else float(wait), progress=progress)

    async def wait(
        self, job_id: str, *, seconds: float | None = None, progress: Callable[[Document], None] | None = None
    ) -> Job:
        """Wait until a job ends, at most ``seconds``; the job as it is then.

        Raises:
            JobFailedError: the job ended without a verdict.
        """
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        if progress is not None:
            async for event in self.events(job_id, seconds=seconds):
                if event.name == "progress":
                    progress(event.data)
        return await self._run(asking.ended(job_id, deadline))

    async def job(self, job_id: str, *, wait: float = 0.0) -> Job:
        """A job as it stands, or as it stands when it ends within ``wait`` seconds."""
        return await self._run(asking.job(job_id, wait))

    async def jobs(
        self, *, state: str | None = None, network: str | None = None, limit: int = 50
    ) -> AsyncIterator[Job]:
        """All jobs, newest first, fetched ``limit`` at a time."""
        pages = Pages("/v1/jobs", "jobs", {"limit": limit, "state": state, "network": network})
        async for found in self._pages(pages):
            yield Job(found)

    async def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; it keeps the bounds proven so far. A job that has ended stays as it is."""
        return await self._run(asking.cancelled(job_id))

    async def counterexample(self, job_id: str) -> Counterexample:
        """The counterexample that a job found, float32 arrays as replayed.

        Raises:
            NotFoundError: the job ended without one.
            RefusedError: the job has not ended.
        """
        return await self._run(asking.counterexample(job_id))

    async def certificate(self, job_id: str) -> bytes:
        """The certificate of what was proven, for `netproof check`.

        Raises:
            NotFoundError: the job ended without one.
            RefusedError: the job has not ended.
        """
        return await self._run(asking.content(Ask("GET", f"/v1/jobs/{job_id}/certificate")))

    async def product(self, job_id: str) -> bytes:
        """The ONNX file that the evidence of a question with ``equivalent_to`` or ``monotone`` is about.

        Raises:
            NotFoundError: the evidence is about the network that was given.
            RefusedError: the job has not ended.
        """
        return await self._run(asking.content(Ask("GET", f"/v1/jobs/{job_id}/product")))

    async def check(self, certificate: str | Path | bytes, network: Source, *, exact: bool = False) -> Document:
        """What the service's independent checker finds in a certificate; see `Client.check`."""
        return await self._run(asking.checked(certificate, network, exact=exact))

    async def solvers(self) -> Document:
        """Solvers, their versions and licences, and the workers that have them."""
        return await self._run(asking.document(Ask("GET", "/v1/solvers")))

    async def version(self) -> str:
        """Version of the service."""
        return await self._run(asking.version())

    async def events(
        self, job_id: str, *, after: str | None = None, seconds: float | None = None
    ) -> AsyncIterator[Event]:
        """A job's events as they happen, until it ends; a broken connection is resumed where it broke.

        Args:
            job_id: of the job.
            after: id of the last event that is known already; None: from the first one kept.
            seconds: at most that long; None: until the job ends.
        """
        path = f"/v1/jobs/{job_id}/events"
        async for event in self._follow(path, lambda found: Job(found).ended, after, seconds):
            yield event

    async def _follow(
        self, path: str, ended: Callable[[Document], bool], after: str | None, seconds: float | None
    ) -> AsyncIterator[Event]:
        following = Following(path, ended, after, seconds, self._patience)
        while not following.over:
            headers, timeout = following.headers(), following.timeout(self._timeout)
            try:
                async with self._http.stream("GET", path, headers=headers, timeout=timeout) as answer:
                    if answer.is_error:
                        await answer.aread()
                        raise answer_error(answer)
                    async for line in answer.aiter_lines():
                        event = following.take(line)
                        if event is not None:
                            yield event
                        if following.over:
                            return
            except (httpx.TransportError, AnswerError) as error:
                following.broke(error, self._http.base_url)
            await asyncio.sleep(following.pause())

    async def _pages(self, pages: Pages) -> AsyncIterator[Document]:
        while (ask := pages.next()) is not None:
            for member in pages.take(document_of(await self._send(ask))):
                yield member

    async def _run(self, conversation: Conversation[T]) -> T:
        ask = next(conversation)
        while True:
            try:
                answer = await self._send(ask)
            except AnswerError as error:
                take = functools.partial(conversation.throw, error)
            else:
                take = functools.partial(conversation.send, answer)
            try:
                ask = take()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    async def _send(self, ask: Ask) -> httpx.Response:
        attempt = 0
        while True:
            try:
                answer = await self._http.request(ask.method, ask.path, **ask.arguments(self._timeout))
            except httpx.TransportError as error:
                pause = self._patience.after_error(error, attempt, self._http.base_url)
            else:
                if not answer.is_error:
                    return answer
                pause = self._patience.after_answer(answer, attempt)
            await asyncio.sleep(pause)
            attempt += 1
