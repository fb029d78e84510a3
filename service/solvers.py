"""Which MIP solvers there are, and who serves them.

The web process imports no solver. Versions come from the installed packages' metadata; licences are known only to
processes that load the solvers, so workers report them to Redis (see `report`) and the web process reads the reports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import redis
from rq.worker_registration import REDIS_WORKER_KEYS

from service.queue import queue_name
from service.schemas import SolverDocument
from solver.options import Backend

__all__ = ["describe", "report"]

_PACKAGES = {Backend.HIGHS: "highspy", Backend.GUROBI: "gurobipy"}
_KEY = "netproof:solvers"


def report(server: redis.Redis, backend: Backend, *, version: str, licence: str) -> None:
    """Write down what a worker knows of a solver."""
    server.hset(_KEY, str(backend), json.dumps({"version": version, "licence": licence}))


def describe(server: redis.Redis) -> list[SolverDocument]:
    """The solvers, with what workers reported of them and how many live workers serve their queues.

    Raises:
        redis.RedisError: the queue server does not answer.
    """
    reports: dict[str, dict[str, Any]] = {
        _text(name): json.loads(value) for name, value in server.hgetall(_KEY).items()
    }
    served = list(_served(server))
    return [
        SolverDocument(
            name=backend,
            version=reports.get(backend, {}).get("version") or _installed(package),
            licence=reports.get(backend, {}).get("licence"),
            workers=sum(queue_name(backend) in queues for queues in served),
        )
        for backend, package in _PACKAGES.items()
    ]


def _served(server: redis.Redis) -> Iterator[set[str]]:
    """The queues of each live worker; RQ lets the record of one that fell silent expire."""
    for key in server.smembers(REDIS_WORKER_KEYS):
        queues, death = server.hmget(key, "queues", "death")
        if queues is not None and death is None:
            yield set(_text(queues).split(","))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
