"""What is up, what is ready, and what runs here."""

from __future__ import annotations

import shutil
from importlib import metadata

import redis
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from service import metrics
from service.access.dependencies import ADMIN, PUBLIC, READ
from service.api.dependencies import PartsOfApp
from service.parts import Parts
from service.problems import UNAVAILABLE, ProblemError
from service.readiness import examine
from service.solvers import describe
from service.system_schemas import Check, Health, Readiness, Solvers, Version, WorkerDocument, WorkersDocument
from service.tallies import LAST_SWEEP, Found
from service.workers import WorkerRecord

__all__ = ["probe", "probes", "router"]

router = APIRouter(tags=["system"])
#: Outside ``/v1``: what load balancers and orchestrators ask.
probes = APIRouter(tags=["system"])


@probes.get(
    "/healthz", operation_id="health", dependencies=[PUBLIC], summary="Is the process up?", response_description="It is"
)
async def health() -> Health:
    """Say that the process answers; for whether the service works, ask `/readyz`."""
    return Health()


@probes.get(
    "/readyz",
    operation_id="readiness",
    dependencies=[PUBLIC],
    summary="Would a job be worked on?",
    response_description="All parts are there",
    responses={503: {"model": Readiness, "description": "Some part is missing; `checks` says which and why"}},
)
def readiness(parts: PartsOfApp, response: Response) -> Readiness:
    """Try the ledger, the queue server and the artifacts, and look for live workers, each within a time limit.

    A part that is `degraded` works, but somebody should look; the answer is 200 then. Where callers need a key, it is
    not said in words how each part is.
    """
    found = probe(parts)
    if not found.ready:
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    response.headers["Cache-Control"] = "no-store"
    if not parts.settings.access_on:
        return found
    bare = {name: each.model_copy(update={"detail": ""}) for name, each in found.checks.items()}
    return found.model_copy(update={"checks": bare})


def probe(parts: Parts) -> Readiness:
    """Whether all parts are there, and how each of them is."""
    checks = examine(parts)
    if parts.leaving.is_set():
        checks["web"] = Check(ok=False, detail="this process is about to end; ask another")
    ready = all(check.ok for check in checks.values())
    return Readiness(ready=ready, degraded=any(check.degraded for check in checks.values()), checks=checks)


@probes.get(
    "/metrics",
    operation_id="metrics",
    dependencies=[ADMIN],
    summary="Tell Prometheus",
    response_class=PlainTextResponse,
    response_description="Metrics in Prometheus' text format",
)
def tell_metrics(parts: PartsOfApp) -> Response:
    """Tell how much there is to do and what was done; a part that does not answer is left out, see `netproof_up`."""
    answers = parts.probes.ask(
        {
            "ledger": parts.ledger.load,
            "queue": lambda: _tallies(parts),
            "workers": parts.dispatcher.workers,
            "artifacts": lambda: shutil.disk_usage(parts.settings.data_dir).free,
        }
    )
    scrape = metrics.Scrape(answers, target_seconds=parts.settings.scale_seconds)
    return Response(metrics.exposition(scrape), media_type=metrics.MEDIA_TYPE, headers={"Cache-Control": "no-store"})


def _tallies(parts: Parts) -> tuple[dict[str, Found], float | None]:
    swept = parts.dispatcher.redis.get(LAST_SWEEP)
    return parts.publisher.tallies.read(), None if swept is None else float(swept)


@router.get(
    "/solvers",
    operation_id="listSolvers",
    dependencies=[READ],
    summary="List the MIP solvers",
    response_description="What is known of them",
)
def list_solvers(parts: PartsOfApp) -> Solvers:
    """List the MIP solvers with version, licence and the number of live workers that serve them."""
    return Solvers(solvers=describe(_live(parts)))


@router.get(
    "/workers",
    operation_id="listWorkers",
    dependencies=[ADMIN],
    summary="List the workers",
    response_description="Those that are alive",
)
def list_workers(parts: PartsOfApp) -> WorkersDocument:
    """List the live workers: where they run, what they serve under which licences, and what each works on.

    A worker that falls silent is left out after a quarter of a minute.
    """
    return WorkersDocument(workers=[WorkerDocument(**worker.to_json()) for worker in _live(parts)])


def _live(parts: Parts) -> list[WorkerRecord]:
    try:
        return parts.dispatcher.workers()
    except redis.RedisError as error:
        detail = "the queue server, which knows the workers, does not answer; try again, and see /readyz"
        raise ProblemError(UNAVAILABLE, detail, headers={"Retry-After": "5"}) from error


@router.get(
    "/version",
    operation_id="version",
    dependencies=[READ],
    summary="Show the version",
    response_description="The version",
)
async def version() -> Version:
    """Show which version of netproof runs here."""
    return Version(version=metadata.version("netproof"))
