"""Where a question about a MIP solver goes: to a worker that may use the solver, and if it must, one without limits.

There is one set of queues for each back end. A worker serves those whose solver it has a licence for
(`service.worker`), so a job waits where it can be solved. A model's size is only known when bounds have been computed,
so a job that turns out too large for a worker's size-limited licence moves to queues that full licences alone serve,
if there are any; else it fails, and its error names the licence.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.problems import KINDS, ProblemError
from service.workers import Licence, WorkerRecord
from solver.errors import BackendUnavailableError
from solver.options import Backend

__all__ = ["require_backend"]

_RETRY_SECONDS = 30


def require_backend(backend: str, workers: Sequence[WorkerRecord]) -> None:
    """Raise ProblemError, 503, if no worker that takes jobs may use ``backend``; HiGHS comes with every worker."""
    if backend != Backend.GUROBI:
        return
    if any(worker.licence(backend) is not Licence.NONE and not worker.draining for worker in workers):
        return
    alive = "1 worker is" if len(workers) == 1 else f"{len(workers)} workers are"
    detail = (
        f"no live worker has a licence for {backend} ({alive} alive); ask with backend auto or highs, or have a worker "
        f"with a licence started (netproof worker --queue {backend})"
    )
    raise ProblemError(KINDS[BackendUnavailableError], detail, headers={"Retry-After": str(_RETRY_SECONDS)})
