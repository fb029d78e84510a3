"""The first page: what is at work, what was found lately, and whether all is well."""

from __future__ import annotations

from typing import Any

import redis
from fastapi import Request, Response

from service.api.dependencies import PartsOfApp
from service.api.system import readiness
from service.batch_views import batch_document
from service.dashboard.pages import page, page_router
from service.parts import Parts
from service.queue import QUEUES
from service.views import job_document

__all__ = ["router"]

router = page_router()

_LATEST = 8


@router.get("/")
def overview(request: Request, parts: PartsOfApp) -> Response:
    """Queues, workers, latest jobs and batches."""
    return page(request, "overview.html", refresh=10, **_found(parts))


def _found(parts: Parts) -> dict[str, Any]:
    try:
        workers, depths = len(parts.dispatcher.workers()), parts.dispatcher.depths()
    except redis.RedisError:
        workers, depths = 0, {}
    jobs = [job_document(record, brief=True) for record in parts.ledger.jobs(limit=_LATEST)]
    batches = [batch_document(each, parts.ledger, workers) for each in parts.ledger.batches.newest(limit=_LATEST)]
    return {
        "health": readiness(parts, Response()),
        "workers": workers,
        "queues": [(name, depths[name]) for name in QUEUES if name in depths],
        "counts": parts.ledger.counts(),
        "jobs": jobs,
        "batches": batches,
        "names": {each.sha256: each.name for each in parts.ledger.networks(limit=200)},
    }
