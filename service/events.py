"""Events of a job as it goes: its progress and its changes of state.

Each job has one Redis stream, ``netproof:events:{job}``, capped and expiring. Events are a courtesy to those who watch:
they may be lost with Redis, and whatever matters is in the ledger. So publishing never raises on a connection
fault, and a reader asks the ledger for the state when a stream stays silent.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio

from service.connections import connect, connect_async
from service.tallies import Tallies

__all__ = ["AsyncEvents", "Event", "Events"]

logger = logging.getLogger(__name__)

_CAP = 200
_KEEP_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``id`` orders events of a job and is what server-sent events resume by (``Last-Event-ID``).

    Attributes:
        kind: ``progress`` (data: `solver.Progress` in JSON) or ``state`` (data: ``{"state": ..., "attempt": ...}``).
    """

    id: str
    kind: str
    data: dict[str, Any]


class Events:
    """Publishes and reads events, for processes without an event loop.

    Attributes:
        tallies: counts that go the same way, and may be lost in the same way.
    """

    def __init__(self, url: str) -> None:
        # one try, and a short one: a job's heartbeat publishes, and must not miss its next
        self._redis = connect(url, retries=0, seconds=1.0)
        self.tallies = Tallies(self._redis)

    def publish(self, job: str, kind: str, data: dict[str, Any]) -> None:
        """Append an event to the job's stream; with Redis away, the event is dropped."""
        key = _key(job)
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.xadd(key, {"kind": kind, "data": json.dumps(data)}, maxlen=_CAP, approximate=True)
                pipe.expire(key, _KEEP_SECONDS)
                pipe.execute()
        except redis.RedisError as error:
            logger.warning("event %s of job %s is lost: %s", kind, job, error)

    def read(self, job: str, after: str = "0-0") -> list[Event]:
        """Events after the one with identifier ``after``.

        Raises:
            redis.RedisError: Redis does not answer, or ``after`` is not a stream identifier.
        """
        return _events(self._redis.xread({_key(job): after}))

    def close(self) -> None:
        self._redis.close()


class AsyncEvents:
    """Reads events in an event loop."""

    def __init__(self, url: str) -> None:
        self._redis = connect_async(url)

    async def read(self, job: str, after: str = "0-0", *, block_ms: int | None = None) -> list[Event]:
        """Events after the one with identifier ``after``; waits for the first at most ``block_ms``.

        Raises:
            redis.RedisError: Redis does not answer, or ``after`` is not a stream identifier.
        """
        return _events(await self._redis.xread({_key(job): after}, block=block_ms))

    async def recent(self, job: str) -> list[Event]:
        """The events that are kept; none where Redis does not answer."""
        try:
            return await self.read(job)
        except redis.RedisError:
            return []

    async def ping(self) -> None:
        """Raise redis.RedisError if the server does not answer."""
        await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose()


def _key(job: str) -> str:
    return f"netproof:events:{job}"


def _events(reply: Any) -> list[Event]:
    entries = [entry for _, stream in reply or [] for entry in stream]
    return [
        Event(identifier.decode(), fields[b"kind"].decode(), json.loads(fields[b"data"]))
        for identifier, fields in entries
    ]
