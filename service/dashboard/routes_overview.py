"""The first page: what is at work, what was found lately, and whether all is well."""

from __future__ import annotations

from typing import Any

import redis
from fastapi import Request, Response

from networks.examples import examples_folder
from service.access.dependencies import READ, Caller
from service.access.principal import Principal
from service.api.dependencies import PartsOfApp
from service.api.system import readiness
from service.batch_views import batch_document
from service.dashboard.names import network_names
from service.dashboard.pages import page, page_router
from service.load import Waiting
from service.parts import Parts
from service.queue import QUEUES
from service.views import job_document
from service.workers import WorkerRecord

__all__ = ["router"]

router = page_router()

_LATEST = 8


@router.get("/", dependencies=[READ])
def overview(request: Request, parts: PartsOfApp, caller: Caller, live: bool = False) -> Response:
    """Queues, workers, latest jobs and batches; ``live`` leaves out what is too dear to be tried every few seconds."""
    health = None if live else readiness(parts, Response())
    return page(request, "overview.html", refresh=10, health=health, **_found(parts, caller))


def _found(parts: Parts, caller: Principal) -> dict[str, Any]:
    workers = _workers(parts)
    load = parts.ledger.load()
    batches = parts.ledger.batches.newest(limit=_LATEST, owner=caller.reach)
    return {
        "workers": workers or [],
        "queues": []
        if workers is None
        else [_queue(name, load.queues.get(name, Waiting()), workers) for name in QUEUES],
        "whole": caller.reach is None,  # which job a worker has is for those to know who see all jobs
        "counts": parts.ledger.counts(),
        "jobs": [job_document(each, brief=True) for each in parts.ledger.jobs(limit=_LATEST, owner=caller.reach)],
        "batches": [batch_document(each, parts.ledger, len(workers or [])) for each in batches],
        "limit": parts.settings.max_model_bytes,
        "samples": examples_folder() is not None,
        "names": network_names(parts, caller),
    }


def _workers(parts: Parts) -> list[WorkerRecord] | None:
    try:
        return parts.dispatcher.workers()
    except redis.RedisError:
        return None


def _queue(name: str, waiting: Waiting, workers: list[WorkerRecord]) -> dict[str, Any]:
    served = sum(name in worker.queues for worker in workers)
    return {"name": name, "waiting": waiting, "workers": served}
