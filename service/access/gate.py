"""The gate: finds out who asks, within rate limits, and remembers it for a moment.

A key, or a session's token, is looked up in the ledger and then known to the process for `_REMEMBERED_SECONDS`, so a
revoked key may open something for that long. What is remembered goes by the SHA-256 of what was shown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from service.access.keys import digest_of
from service.access.limiter import Limiter
from service.access.models import KeyRecord
from service.access.principal import EVERYBODY, Principal, Quota
from service.guard import SESSION_COOKIE as COOKIE
from service.ledger import Ledger
from service.problems import RATE_LIMITED, UNAUTHENTICATED, Kind, ProblemError
from service.settings import Settings

__all__ = ["COOKIE", "Gate"]

_REMEMBERED_SECONDS = 2.0
_MOST_REMEMBERED = 10_000
#: Failures of one address: so many at once, and then one in so many seconds.
_FAILURES = 20
_FAILURE_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a request shows of itself: a key, or the token of a session."""

    text: str
    session: bool


class Gate:
    """Identifies callers, for one web process."""

    def __init__(self, settings: Settings, ledger: Ledger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._ledger = ledger
        self._limiter = Limiter(settings.queue_url)
        self._clock = clock
        self._known: dict[str, tuple[float, Principal]] = {}

    async def identify(self, request: Request) -> Principal:
        """Who asks.

        Raises:
            ProblemError: 401 where that is not known, 429 where it asks, or fails, too often.
        """
        if not self._settings.access_on:
            return EVERYBODY
        shown = _shown(request)
        if shown is None:
            detail = "this service wants a key: send Authorization: Bearer np_…, or X-API-Key; its operator makes keys"
            raise _unauthenticated(detail)
        caller = await self._look_up(shown, request)
        await self._limit(caller)
        return caller

    async def admit(self, request: Request, text: str) -> KeyRecord:
        """The valid key that ``text`` is, for opening a session.

        Raises:
            ProblemError: as `identify`.
        """
        key = await run_in_threadpool(self._ledger.keys.find, text)
        return await self._valid(key, request)

    def principal(self, key: KeyRecord, *, session: bool) -> Principal:
        """The caller that a valid key stands for."""
        return Principal(key.owner, key.id, key.scope, key.quota.or_else(self._quota), session=session)

    def forget(self, text: str) -> None:
        """Look a key or a session up anew when it is shown next."""
        self._known.pop(digest_of(text), None)

    async def close(self) -> None:
        await self._limiter.close()

    async def _look_up(self, shown: _Shown, request: Request) -> Principal:
        known = digest_of(shown.text)
        until, caller = self._known.get(known, (0.0, EVERYBODY))
        if self._clock() < until:
            return caller
        find = self._ledger.sessions.find if shown.session else self._ledger.keys.find
        key = await self._valid(await run_in_threadpool(find, shown.text), request)
        await run_in_threadpool(self._ledger.keys.touch, key)
        caller = self.principal(key, session=shown.session)
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[known] = (self._clock() + _REMEMBERED_SECONDS, caller)
        return caller

    async def _valid(self, key: KeyRecord | None, request: Request) -> KeyRecord:
        if key is not None and key.valid(datetime.now(UTC)):
            return key
        address = request.client.host if request.client else "-"
        wait = await self._limiter.take(f"failures:{address}", rate=1 / _FAILURE_SECONDS, burst=_FAILURES)
        if wait:
            raise _limited(RATE_LIMITED, f"{address} has shown too many wrong keys; wait", wait)
        request.state.refused = key  # for the audit log
        if key is None:
            detail = "the key is not one of this service, or the session has ended; show another"
            raise _unauthenticated(detail)
        state = "was revoked" if key.revoked_at is not None else f"expired on {key.expires_at:%Y-%m-%d}"
        detail = f"the key {key.id} {state}; ask the service's operator for another"
        raise _unauthenticated(detail)

    async def _limit(self, caller: Principal) -> None:
        quota = caller.quota
        if quota.rate is None or caller.key is None:
            return
        burst = quota.burst or max(1, math.ceil(quota.rate))
        wait = await self._limiter.take(f"key:{caller.key}", rate=quota.rate, burst=burst)
        if wait:
            detail = f"this key may ask {quota.rate:g} times a second, {burst} at once; ask less often"
            raise _limited(RATE_LIMITED, detail, wait)

    @property
    def _quota(self) -> Quota:
        """What keys may use that say nothing themselves."""
        settings = self._settings
        return Quota(
            running=settings.quota_running,
            queued=settings.quota_queued,
            batches=settings.quota_batches,
            cpu_seconds=settings.quota_cpu_seconds,
            model_bytes=settings.quota_model_bytes,
            time_limit=settings.quota_time_limit,
            rate=settings.quota_rate,
            burst=settings.quota_burst,
        )


def _shown(request: Request) -> _Shown | None:
    """The key of a header, or else the session of a cookie."""
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer" and text.strip():
        return _Shown(text.strip(), session=False)
    if given := request.headers.get("X-API-Key", "").strip():
        return _Shown(given, session=False)
    if cookie := request.cookies.get(COOKIE):
        return _Shown(cookie, session=True)
    return None


def _unauthenticated(detail: str) -> ProblemError:
    return ProblemError(UNAUTHENTICATED, detail, headers={"WWW-Authenticate": 'Bearer realm="netproof"'})


def _limited(kind: Kind, detail: str, wait: float) -> ProblemError:
    return ProblemError(kind, detail, headers={"Retry-After": str(max(1, math.ceil(wait)))})
