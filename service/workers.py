"""Which workers there are: each tells Redis about itself every few seconds, and is forgotten when it falls silent.

A record is a key of its own that expires, so a worker that is killed vanishes by itself; a set holds the names. Whoever
asks reads both in two round trips, however many workers there are.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import redis

__all__ = ["BEAT_SECONDS", "BackendRecord", "Licence", "WorkerRecord", "announce", "live_workers", "withdraw"]

#: An idle worker shows itself this often, a busy one every second.
BEAT_SECONDS = 5
#: A worker that was silent for so long is gone: three beats, for a machine that is slow.
_LIFE_SECONDS = 3 * BEAT_SECONDS

_NAMES = "netproof:workers"


class Licence(enum.StrEnum):
    """What a worker may do with a MIP solver."""

    NONE = "none"  #: not installed, or nothing that allows its use
    LIMITED = "size-limited"  #: models up to a size
    FULL = "full"


@dataclass(frozen=True, slots=True)
class BackendRecord:
    """A MIP solver as one worker finds it.

    Attributes:
        version: "" where it is not installed.
        licence: what it may be used for.
        terms: the licence in words; with `Licence.NONE`, why there is none.
        variables, constraints, quadratic: the largest model that a size-limited licence covers, where ``quadratic``
            counts the variables of a model with quadratic terms; None without a limit.
    """

    version: str
    licence: Licence
    terms: str
    variables: int | None = None
    constraints: int | None = None
    quadratic: int | None = None

    def describe(self) -> str:
        """The licence for people."""
        match self.licence:
            case Licence.NONE:
                return f"none: {self.terms}"
            case Licence.FULL:
                return self.terms
            case Licence.LIMITED:
                return (
                    f"{self.terms}: at most {self.variables} variables and {self.constraints} constraints, "
                    f"{self.quadratic} variables where there are quadratic terms"
                )

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(**{**document, "licence": Licence(document["licence"])})


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """One live worker.

    Attributes:
        queues: that it serves, in the order in which it looks at them.
        backends: the MIP solvers by name.
        threads, memory_mb: what one job of it may use.
        job: that it works on, None when it is idle.
        since: when it took that job, or became idle.
        draining: whether it takes no further job, and ends with the one that it has.
        seen_at: its last heartbeat, by its own clock.
    """

    name: str
    host: str
    pid: int
    version: str
    queues: tuple[str, ...]
    backends: Mapping[str, BackendRecord]
    threads: int
    memory_mb: int
    started_at: datetime
    job: str | None
    since: datetime
    draining: bool
    seen_at: datetime

    @property
    def busy(self) -> bool:
        return self.job is not None

    def licence(self, backend: str) -> Licence:
        """What it may do with ``backend``; none where it serves no queue of it."""
        served = any(queue.partition("-")[0] == backend for queue in self.queues)
        return self.backends[backend].licence if served and backend in self.backends else Licence.NONE

    def to_json(self) -> dict[str, Any]:
        document = {name: getattr(self, name) for name in self.__dataclass_fields__}
        document["backends"] = {name: each.to_json() for name, each in self.backends.items()}
        return document | {name: document[name].isoformat() for name in _TIMES}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        backends = {name: BackendRecord.from_json(each) for name, each in document["backends"].items()}
        times = {name: datetime.fromisoformat(document[name]).astimezone(UTC) for name in _TIMES}
        return cls(**{**document, "queues": tuple(document["queues"]), "backends": backends, **times})


_TIMES = ("started_at", "since", "seen_at")


def announce(server: redis.Redis, record: WorkerRecord) -> None:
    """Say that a worker is there, until the next time.

    Raises:
        redis.RedisError: the queue server does not answer.
    """
    with server.pipeline(transaction=False) as pipe:
        pipe.set(_key(record.name), json.dumps(record.to_json()), ex=_LIFE_SECONDS)
        pipe.sadd(_NAMES, record.name)
        pipe.execute()


def withdraw(server: redis.Redis, name: str) -> None:
    """Forget a worker that has ended.

    Raises:
        redis.RedisError: the queue server does not answer.
    """
    server.delete(_key(name))
    server.srem(_NAMES, name)


def live_workers(server: redis.Redis) -> list[WorkerRecord]:
    """The workers that have shown themselves lately, by name.

    Raises:
        redis.RedisError: the queue server does not answer.
    """
    names = sorted(_text(name) for name in server.smembers(_NAMES))
    if not names:
        return []
    values = server.mget([_key(name) for name in names])
    silent = [name for name, value in zip(names, values, strict=True) if value is None]
    if silent:
        server.srem(_NAMES, *silent)  # one that was only slow adds itself again
    return [WorkerRecord.from_json(json.loads(value)) for value in values if value is not None]


def _key(name: str) -> str:
    return f"netproof:worker:{name}"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
