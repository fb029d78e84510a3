"""Which MIP solvers there are, and who serves them.

The web process imports no solver, and which licence there is only shows where a solver is loaded. So each worker has a
child (``python -m service.solvers``) load the solvers and say what it found, which becomes part of the worker's record.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import TYPE_CHECKING

from service.queue import queue_name
from service.system_schemas import SolverDocument
from service.workers import BackendRecord, Licence, WorkerRecord
from solver.options import Backend

if TYPE_CHECKING:
    from solver.backends import Availability

__all__ = ["describe", "main", "probed", "recorded"]

logger = logging.getLogger(__name__)

_PACKAGES = {Backend.HIGHS: "highspy", Backend.GUROBI: "gurobipy"}
_PROBE_SECONDS = 60
_ORDER = tuple(Licence)


def describe(workers: Sequence[WorkerRecord]) -> list[SolverDocument]:
    """The solvers, with the best that live workers have of them and how many serve their queues."""
    documents = []
    for backend, package in _PACKAGES.items():
        found = [worker.backends[backend] for worker in workers if backend in worker.backends]
        best = max(found, key=lambda each: _ORDER.index(each.licence), default=None)
        documents.append(
            SolverDocument(
                name=backend,
                version=(best.version if best else "") or _installed(package),
                licence=best.describe() if best else None,
                workers=sum(queue_name(backend) in worker.queues for worker in workers),
            )
        )
    return documents


def recorded(found: Availability) -> BackendRecord:
    """What a worker says of a solver."""
    if not found.ok:
        return BackendRecord(found.version, Licence.NONE, found.why)
    if found.limit is None:
        return BackendRecord(found.version, Licence.FULL, found.licence)
    limit = found.limit
    return BackendRecord(
        found.version, Licence.LIMITED, found.licence, limit.columns, limit.rows, quadratic=limit.quadratic
    )


@contextlib.contextmanager
def probed() -> Iterator[dict[str, BackendRecord]]:
    """Have a child look at the solvers while the caller does something else, such as importing them itself.

    What it found is in the mapping when the block has ended. A licence server that does not answer must not keep a
    worker from work: what is not known in time counts as missing.
    """
    child = subprocess.Popen([sys.executable, "-m", __name__], env=dict(os.environ), stdout=subprocess.PIPE)
    found: dict[str, BackendRecord] = {}
    try:
        yield found
    except BaseException:
        child.kill()
        child.communicate()
        raise
    try:
        out, _ = child.communicate(timeout=_PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        out, _ = child.communicate()
    for line in out.splitlines():
        name, document = json.loads(line)
        found[name] = BackendRecord.from_json(document)
    for backend in _PACKAGES:
        if backend not in found:
            why = f"{backend} said nothing within {_PROBE_SECONDS} s (status {child.returncode}); see the worker's log"
            logger.warning("%s", why)
            found[backend] = BackendRecord("", Licence.NONE, why)


def main() -> int:
    """Load every solver and print what is found, each as soon as it is."""
    from solver.backends import BACKENDS

    for backend, solver in BACKENDS.items():
        print(json.dumps([str(backend), recorded(solver.available()).to_json()]), flush=True)
    return 0


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
