"""Connections to Redis or Valkey, each with a retry policy that is stated and not inherited.

redis-py's ``from_url`` retries nothing unless it is told to, and a worker that meets a restarting server then dies.
"""

from __future__ import annotations

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

__all__ = ["PATIENT", "PROMPT", "connect", "connect_async"]

#: Retries for processes whose work is the queue: with pauses of at most 5 s they ride out some five minutes.
PATIENT = 60
#: Retries where someone waits for an answer: under a second altogether.
PROMPT = 2

#: Replies then have the same shape whatever the server's age.
_PROTOCOL = 2

_TRANSIENT: list[type[redis.RedisError]] = [redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError]


def connect(url: str, *, retries: int = PROMPT, seconds: float = 5.0) -> redis.Redis:
    """A client for ``redis://``, ``rediss://`` or ``unix://`` URLs.

    Args:
        url: of the server.
        retries: of an operation that meets a server which is away or loading.
        seconds: that connecting, and any single answer, may take.
    """
    retry = Retry(ExponentialBackoff(cap=5.0, base=0.1), retries, supported_errors=tuple(_TRANSIENT))
    return redis.Redis.from_url(
        url,
        retry=retry,
        retry_on_error=_TRANSIENT,
        socket_connect_timeout=seconds,
        socket_timeout=seconds,
        protocol=_PROTOCOL,
    )


def connect_async(url: str, *, retries: int = PROMPT, seconds: float | None = None) -> redis.asyncio.Redis:
    """The same for asyncio, by default without a limit on answers: readers of streams wait for as long as they say."""
    retry = AsyncRetry(ExponentialBackoff(cap=5.0, base=0.1), retries, supported_errors=tuple(_TRANSIENT))
    return redis.asyncio.Redis.from_url(
        url,
        retry=retry,
        retry_on_error=_TRANSIENT,
        socket_connect_timeout=seconds or 5.0,
        socket_timeout=seconds,
        protocol=_PROTOCOL,
    )
