"""Rate limits: token buckets in Redis, which all web processes share.

With Redis away, each process keeps its buckets to itself, at the same rates: the limits then hold for each process and
not for all together, and requests are answered as before.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

import redis
import redis.asyncio

from service.connections import connect_async

__all__ = ["Limiter"]

logger = logging.getLogger(__name__)

# KEYS[1]  the bucket: a hash with `tokens`, and `at`, when they were counted (milliseconds of the server's clock)
# ARGV     tokens a second; the most that it holds; how many are to be taken
# returns  milliseconds until there are enough, 0 if they were taken
_TAKE = """
local rate, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(kept[1]) or burst, tonumber(kept[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate / 1000)
local wait = 0
if tokens >= cost then
  tokens = tokens - cost
else
  wait = math.ceil((cost - tokens) / rate * 1000)
end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return wait
"""

#: An answer may take that long before the limits are kept here.
_PATIENCE_SECONDS = 0.5
#: After a failure Redis is left alone for that long.
_AWAY_SECONDS = 2.0
#: Buckets that one process keeps while Redis is away.
_MOST = 10_000


class Limiter:
    """Takes tokens from buckets."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = connect_async(url, retries=0, seconds=_PATIENCE_SECONDS)
        self._script = self._redis.register_script(_TAKE)
        self._clock = clock
        self._back = 0.0
        self._local: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def take(self, bucket: str, *, rate: float, burst: int, cost: int = 1) -> float:
        """Seconds until the bucket has ``cost`` tokens, 0 if they were there and are now taken."""
        if self._clock() >= self._back:
            try:
                waiting = await self._script(keys=[f"netproof:rate:{bucket}"], args=[rate, burst, cost])
                return float(waiting) / 1000
            except (redis.RedisError, OSError) as error:
                logger.warning("rate limits are kept by each process while Redis is away: %s", error)
                self._back = self._clock() + _AWAY_SECONDS
        return self._take_here(bucket, rate, burst, cost)

    async def close(self) -> None:
        await self._redis.aclose()

    def _take_here(self, bucket: str, rate: float, burst: int, cost: int) -> float:
        now = self._clock()
        tokens, at = self._local.pop(bucket, (float(burst), now))
        tokens = min(float(burst), tokens + (now - at) * rate)
        wait = 0.0 if tokens >= cost else (cost - tokens) / rate
        self._local[bucket] = (tokens if wait else tokens - cost, now)
        if len(self._local) > _MOST:
            self._local.popitem(last=False)
        return wait
