"""Which MIP solvers there are, and who serves them.

The web process imports no solver, and which licence there is only shows where a solver is loaded. So each worker has a
child (``python -m service.solvers``) load the solvers and report to Redis, and the web process reads the reports.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

import redis
from rq.worker_registration import REDIS_WORKER_KEYS

from service.connections import connect
from service.queue import queue_name
from service.schemas import SolverDocument
from service.settings import Settings
from solver.options import Backend

if TYPE_CHECKING:
    from solver.backends import Availability

__all__ = ["describe", "main", "report", "reported"]

_PACKAGES = {Backend.HIGHS: "highspy", Backend.GUROBI: "gurobipy"}
_KEY = "netproof:solvers"
_REPORT_SECONDS = 20


def report(server: redis.Redis, backend: Backend, found: Availability) -> None:
    """Write down what a worker found; a worker without the solver does not hide one that has it."""
    value = json.dumps({"version": found.version or None, "licence": _licence(found)})
    if found.ok:
        server.hset(_KEY, str(backend), value)
    else:
        server.hsetnx(_KEY, str(backend), value)


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


@contextlib.contextmanager
def reported(settings: Settings) -> Iterator[None]:
    """Have the solvers reported by a child while the caller does something else, such as importing them itself."""
    child = subprocess.Popen([sys.executable, "-m", __name__], env={**os.environ, **settings.environment()})
    try:
        yield
    finally:
        try:
            child.wait(_REPORT_SECONDS)
        except subprocess.TimeoutExpired:  # a licence server that does not answer must not keep a worker from work
            child.kill()
            child.wait()


def main() -> int:
    """Load every solver and report it."""
    from solver.backends import BACKENDS

    server = connect(Settings().queue_url)
    for backend, solver in BACKENDS.items():
        report(server, backend, solver.available())
    server.close()
    return 0


def _licence(found: Availability) -> str:
    if not found.ok:
        return f"none: {found.why}"
    if found.limit is None:
        return found.licence
    return f"{found.licence}: at most {found.limit.columns} variables and {found.limit.rows} constraints"


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


if __name__ == "__main__":
    sys.exit(main())
