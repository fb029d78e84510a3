"""Removing what is not wanted any more, before it expires (`service.collection`)."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from service.access.dependencies import SUBMIT, Caller
from service.api.dependencies import Batch, Dataset, Job, Network, PartsOfApp
from service.batch_models import BatchRecord
from service.errors import InUseError
from service.models import JobRecord
from service.parts import Parts
from service.problems import JOB_NOT_ENDED, ProblemError

__all__ = ["router"]

router = APIRouter()

_removes = partial(router.delete, status_code=204, dependencies=[SUBMIT])


@_removes(
    "/jobs/{job_id}",
    tags=["jobs"],
    operation_id="deleteJob",
    summary="Remove a job",
    response_description="It is gone, with its evidence and what it answered for later questions",
)
async def delete_job(job: Job, parts: PartsOfApp) -> None:
    """Remove a job that has ended and that no batch and no other verdict needs.

    For some seconds it may still be shown.
    """
    if job.batch is not None:
        msg = f"job {job.id} belongs to batch {job.batch}; remove that with all its jobs"
        raise InUseError(msg)
    await _remove("job", job, parts)


@_removes(
    "/batches/{batch_id}",
    tags=["batches"],
    operation_id="deleteBatch",
    summary="Remove a batch",
    response_description="It is gone, with its items, jobs and their evidence",
)
async def delete_batch(batch: Batch, parts: PartsOfApp) -> None:
    """Remove a batch that has ended, with its items and jobs, unless another verdict was taken from it."""
    await _remove("batch", batch, parts)


@_removes(
    "/networks/{sha256}",
    tags=["networks"],
    operation_id="deleteNetwork",
    summary="Remove a network",
    response_description="You do not have it any more",
)
async def delete_network(network: Network, parts: PartsOfApp, caller: Caller) -> None:
    """Remove a network that none of your jobs and batches is about."""
    await run_in_threadpool(parts.ledger.retention.give_up, "network", network.sha256, owner=caller.reach)
    parts.recent.networks.forget((network.sha256, caller.reach))


@_removes(
    "/datasets/{sha256}",
    tags=["datasets"],
    operation_id="deleteDataset",
    summary="Remove a data set",
    response_description="You do not have it any more",
)
async def delete_dataset(dataset: Dataset, parts: PartsOfApp, caller: Caller) -> None:
    """Remove a data set that none of your batches is about."""
    await run_in_threadpool(parts.ledger.retention.give_up, "dataset", dataset.sha256, owner=caller.reach)


async def _remove(kind: str, record: JobRecord | BatchRecord, parts: Parts) -> None:
    if not await run_in_threadpool(parts.ledger.retention.remove_own, kind, record.id):
        detail = f"{kind} {record.id} is {record.state}; cancel it first, or wait for its end"
        raise ProblemError(JOB_NOT_ENDED, detail)
