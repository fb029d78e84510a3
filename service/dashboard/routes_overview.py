"""The first page: what is at work, what was found lately, and whether all is well."""

from __future__ import annotations

from typing import Any

import redis
from fastapi import Request, Response

from service.access.dependencies import READ, Caller
from service.access.principal import Principal
from service.api.dependencies import PartsOfApp
from service.api.system import readiness
from service.batch_views import batch_document
from service.dashboard.pages import page, page_router
from service.dashboard.routes_samples import samples
from service.parts import Parts
from service.queue import QUEUES
from service.views import job_document
from service.workers import WorkerRecord

__all__ = ["router"]

router = page_router()

_LATEST = 8


@router.get("/", dependencies=[READ])
def overview(request: Request, parts: PartsOfApp, caller: Caller) -> Response:
    """Queues, workers, latest jobs and batches."""
    return page(request, "overview.html", refresh=10, **_found(parts, caller))


def _found(parts: Parts, caller: Principal) -> dict[str, Any]:
    workers: list[WorkerRecord]
    try:
        workers, depths = len(parts.dispatcher.workers()), parts.dispatcher.depths()
    except redis.RedisError:
        workers, depths = [], {}
    jobs = [job_document(record, brief=True) for record in parts.ledger.jobs(limit=_LATEST, owner=caller.reach)]
    batches = [
        batch_document(each, parts.ledger, len(workers))
        for each in parts.ledger.batches.newest(limit=_LATEST, owner=caller.reach)
    ]
    return {
        "health": readiness(parts, Response()),
        "workers": workers,
        "queues": [
            {
                "name": name,
                "depth": depths[name],
                "age": None,
                "workers": sum(name in worker.queues for worker in workers),
            }
            for name in QUEUES
            if name in depths
        ],
        "counts": parts.ledger.counts(),
        "jobs": jobs,
        "batches": batches,
        "limit": parts.settings.max_model_bytes,
        "samples": samples() is not None,
        "names": {each.sha256: each.name for each in parts.ledger.networks(limit=200, owner=caller.reach)},
    }
