"""Following a job from the web process: waiting for its end, and its events as they come.

Redis only wakes the follower up early. Whether a job has ended is always read from the ledger, so a follower ends
rightly even if every event was lost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import redis

from service.events import AsyncEvents, Event
from service.models import JobRecord
from service.parts import Parts
from service.states import TERMINAL

__all__ = ["RESUME_MS", "follow", "wait_for_end"]

#: Longest silence of a stream before the ledger is asked again.
_SILENCE_SECONDS = 1.0
#: Pause between two questions to the ledger while Redis is away.
_PAUSE_SECONDS = 0.25

#: Milliseconds after which a stream that this process ended should be resumed.
RESUME_MS = 1000

_FIRST = "0-0"


async def wait_for_end(job: JobRecord, seconds: float, parts: Parts) -> JobRecord:
    """The job when it has ended, or as it is after ``seconds`` or when this process is about to end."""
    deadline = time.monotonic() + seconds
    after = _FIRST
    while not job.terminal and not parts.closing.is_set() and (rest := deadline - time.monotonic()) > 0:
        events = await _read(parts.events, job.id, after, min(rest, _SILENCE_SECONDS))
        if events:
            after = events[-1].id
            if all(event.kind == "progress" for event in events):
                continue  # it has come further, and not to its end
        job = await parts.jobs.ask((job.id, None))
    return job


async def follow(job_id: str, after: str | None, parts: Parts) -> AsyncIterator[Event]:
    """A job's events after the one with identifier ``after``, until the job has ended.

    The last event is then one of kind ``state`` with the final state; it has no identifier when Redis lost it. A stream
    that ends otherwise ends because this process does, and is to be resumed.
    """
    last = after or _FIRST
    silence = 0.0
    while not parts.closing.is_set():
        batch = await _read(parts.events, job_id, last, silence)
        for event in batch:
            last = event.id
            yield event
            if event.kind == "state" and event.data.get("state") in TERMINAL:
                return
        if not batch:
            job = await parts.jobs.ask((job_id, None))
            if job.terminal:
                yield Event("", "state", {"state": str(job.state), "attempt": job.attempt})
                return
            silence = _SILENCE_SECONDS


async def _read(events: AsyncEvents, job_id: str, after: str, seconds: float) -> list[Event]:
    """Events after ``after``, waiting at most ``seconds``; none, after a pause, if Redis is away."""
    try:
        # XREAD takes a block of 0 for "for ever"
        return await events.read(job_id, after, block_ms=max(1, round(seconds * 1000)) if seconds else None)
    except redis.RedisError:
        await asyncio.sleep(min(seconds, _PAUSE_SECONDS))
        return []
