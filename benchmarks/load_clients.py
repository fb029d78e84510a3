"""The clients of `benchmarks.load`, in a process of their own: many connections, little work for each request.

Reads what to do as JSON from stdin (the fields of `Plan`) and writes what was measured as JSON to stdout. Clients speak
HTTP/1.1 over connections that stay open, on uvloop, by hand: they share the cores with the service that they measure.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
import uvloop

__all__ = ["Plan", "main"]

#: A fresh question is polled this often.
_POLL_SECONDS = 0.25
_REQUEST_SECONDS = 60.0
_KEPT_ERRORS = 20
#: Jobs among which the next one to be looked at is chosen.
_RECENT = 500


@dataclass(frozen=True)
class Plan:
    """What clients do.

    Attributes:
        url: of the service.
        bodies: questions whose answers are known, as JSON texts.
        fresh: a question that is decided anew each time, as a JSON text.
        clients: connections, each with one request in flight at most.
        rate: cached questions a second of all clients together; 0: each client goes on as soon as it has its answer.
        fresh_rate: fresh questions a second among them.
        distinct: whether bodies are made unlike each other, by their time limits.
        warm_up: seconds that are not counted.
        seconds: that are.
        headers: of every request.
    """

    url: str
    bodies: list[str]
    fresh: str
    clients: int
    rate: float
    fresh_rate: float
    distinct: bool
    warm_up: float
    seconds: float
    headers: dict[str, str] = field(default_factory=dict)


class Connection(asyncio.Protocol):
    """One connection; answers come with a Content-Length or have no body."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[tuple[int, bytes, bytes]] | None = None
        self._needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by class

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the service closed the connection"))

    @property
    def open(self) -> bool:
        return self._transport is not None

    async def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer."""
        if self._transport is None:
            raise ConnectionResetError
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or len(self._buffer) < self._needed:
            return
        head = self._buffer[:end]
        status = int(head[9:12])
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r", 1)[0]) if at >= 0 and status not in {204, 304} else 0
        self._needed = end + 4 + length
        if len(self._buffer) < self._needed:
            return
        body, self._buffer, self._needed = self._buffer[end + 4 : self._needed], self._buffer[self._needed :], 0
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, head, body))


class Load:
    """Clients at work, and what they measured."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        target = urlsplit(plan.url)
        self._address = (target.hostname or "127.0.0.1", target.port or 80)
        fields = {"Host": target.netloc, **plan.headers}
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._begin = time.perf_counter() + plan.warm_up
        self._end = self._begin + plan.seconds
        self._period = plan.clients / plan.rate if plan.rate else 0.0
        self._asked = 0
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self.seconds: dict[str, list[float]] = {"cached POST": [], "fresh POST": [], "GET": [], "GET 304": []}
        self.errors: Counter[str] = Counter()
        self.ended: list[float] = []

    async def run(self) -> None:
        await asyncio.gather(*(self._client(number) for number in range(self._plan.clients)))

    async def _client(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        connection = Connection()
        due = time.perf_counter() + self._period * number / self._plan.clients
        every = self._plan.rate / self._plan.fresh_rate if self._plan.fresh_rate and self._plan.rate else 0
        while max(due, time.perf_counter()) < self._end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due = max(due + self._period, time.perf_counter() - self._period)
            self._asked += 1
            try:
                if not connection.open:
                    _, connection = await loop.create_connection(Connection, *self._address)
                if every and self._asked % round(every) == 0:
                    await self._fresh(connection)
                else:
                    await self._cached(connection, self._asked)
            except (OSError, TimeoutError) as error:
                self._fault(f"{type(error).__name__}: {error}")
                connection.close()
        connection.close()

    async def _cached(self, connection: Connection, number: int) -> None:
        body = self._plan.bodies[number % len(self._plan.bodies)]
        if self._plan.distinct:
            body = f'{body[:-1]},"time_limit":{60 + number / 1000:.3f}}}'
        status, _, answer = await self._ask("cached POST", connection, self._post(body))
        if status != 200 or b'"state":"succeeded"' not in answer or b'"cached_from":{' not in answer:
            self._fault(f"cached POST: {status} {answer[:200]!r}")
            return
        self._recent.append(_identifier(answer))
        job = self._recent[number * 7919 % len(self._recent)]  # a client may come to another web process than the asker
        status, head, answer = await self._ask("GET", connection, self._get(job, ""))
        if status != 200 or b'"state":"succeeded"' not in answer:
            self._fault(f"GET: {status} {answer[:200]!r}")
        status, _, answer = await self._ask("GET 304", connection, self._get(job, _tag(head)))
        if status != 304:
            self._fault(f"GET 304: {status} {answer[:200]!r}")

    async def _fresh(self, connection: Connection) -> None:
        begin = time.perf_counter()
        status, _, answer = await self._ask("fresh POST", connection, self._post(self._plan.fresh))
        if status != 202:
            self._fault(f"fresh POST: {status} {answer[:200]!r}")
            return
        job, tag = _identifier(answer), ""
        while time.perf_counter() - begin < _REQUEST_SECONDS:
            status, head, answer = await self._ask("GET", connection, self._get(job, tag))
            if status not in {200, 304} or b'"state":"failed"' in answer:
                self._fault(f"GET of a fresh job: {status} {answer[:200]!r}")
                return
            if b'"state":"succeeded"' in answer:
                self.ended.append(time.perf_counter() - begin)
                return
            tag = _tag(head)
            await asyncio.sleep(_POLL_SECONDS)
        self._fault("a fresh job did not end")

    async def _ask(self, kind: str, connection: Connection, request: bytes) -> tuple[int, bytes, bytes]:
        begin = time.perf_counter()
        async with asyncio.timeout(_REQUEST_SECONDS):
            answer = await connection.ask(request)
        if begin >= self._begin:
            self.seconds[kind].append(time.perf_counter() - begin)
        return answer

    def _post(self, body: str) -> bytes:
        head = f"POST /v1/verify HTTP/1.1\r\n{self._fields}Content-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    def _get(self, job: str, tag: str) -> bytes:
        known = f"If-None-Match: {tag}\r\n" if tag else ""
        return f"GET /v1/jobs/{job} HTTP/1.1\r\n{self._fields}{known}\r\n".encode()

    def _fault(self, what: str) -> None:
        if len(self.errors) < _KEPT_ERRORS or what in self.errors:
            self.errors[what] += 1
        else:
            self.errors["others"] += 1


def _identifier(answer: bytes) -> str:
    at = answer.index(b'"id":"') + 6
    return answer[at : at + 26].decode()


def _tag(head: bytes) -> str:
    at = head.lower().find(b"\r\netag:")
    return head[at + 7 :].split(b"\r", 1)[0].strip().decode() if at >= 0 else ""


def _summary(seconds: list[float], span: float) -> dict[str, Any]:
    if not seconds:
        return {"requests": 0, "rate": 0.0}
    p50, p95, p99 = (float(value) for value in np.percentile(seconds, [50, 95, 99]))
    return {"requests": len(seconds), "rate": len(seconds) / span, "p50": p50, "p95": p95, "p99": p99} | {
        "max": max(seconds)
    }


def main() -> None:
    """Work off the plan on stdin."""
    plan = Plan(**json.load(sys.stdin))
    load = Load(plan)
    uvloop.run(load.run())
    used = resource.getrusage(resource.RUSAGE_SELF)
    kinds = {kind: _summary(seconds, plan.seconds) for kind, seconds in load.seconds.items()}
    kinds["fresh, until it has ended"] = _summary(load.ended, plan.seconds)
    out = {"kinds": kinds, "errors": dict(load.errors), "cpu": used.ru_utime + used.ru_stime}
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
