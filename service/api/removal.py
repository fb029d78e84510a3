"""Removing what is not wanted any more, before it expires (`service.collection`)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.concurrency import run_in_threadpool

from service.access.dependencies import SUBMIT, Caller
from service.api.batches import Batch
from service.api.datasets import known_dataset
from service.api.dependencies import Job, Network, PartsOfApp
from service.errors import InUseError
from service.problems import JOB_NOT_ENDED, ProblemError

__all__ = ["router"]

router = APIRouter()


@router.delete(
    "/jobs/{job_id}",
    status_code=204,
    tags=["jobs"],
    operation_id="deleteJob",
    dependencies=[SUBMIT],
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
    if not await run_in_threadpool(parts.ledger.retention.remove_own, "job", job.id):
        raise ProblemError(JOB_NOT_ENDED, f"job {job.id} is {job.state}; cancel it first, or wait for its end")


@router.delete(
    "/batches/{batch_id}",
    status_code=204,
    tags=["batches"],
    operation_id="deleteBatch",
    dependencies=[SUBMIT],
    summary="Remove a batch",
    response_description="It is gone, with its items, jobs and their evidence",
)
async def delete_batch(batch: Batch, parts: PartsOfApp) -> None:
    """Remove a batch that has ended, with its items and jobs, unless another verdict was taken from it."""
    if not await run_in_threadpool(parts.ledger.retention.remove_own, "batch", batch.id):
        raise ProblemError(JOB_NOT_ENDED, f"batch {batch.id} is {batch.state}; cancel it first, or wait for its end")


@router.delete(
    "/networks/{sha256}",
    status_code=204,
    tags=["networks"],
    operation_id="deleteNetwork",
    dependencies=[SUBMIT],
    summary="Remove a network",
    response_description="You do not have it any more",
)
async def delete_network(network: Network, parts: PartsOfApp, caller: Caller) -> None:
    """Remove a network that none of your jobs and batches is about."""
    await run_in_threadpool(parts.ledger.retention.give_up, "network", network.sha256, owner=caller.reach)
    parts.recent.networks.forget((network.sha256, caller.reach))


@router.delete(
    "/datasets/{sha256}",
    status_code=204,
    tags=["datasets"],
    operation_id="deleteDataset",
    dependencies=[SUBMIT],
    summary="Remove a data set",
    response_description="You do not have it any more",
)
async def delete_dataset(
    sha256: Annotated[str, Path(description="SHA-256 of the data set's content")], parts: PartsOfApp, caller: Caller
) -> None:
    """Remove a data set that none of your batches is about."""
    dataset = await known_dataset(sha256, parts, caller)
    await run_in_threadpool(parts.ledger.retention.give_up, "dataset", dataset.sha256, owner=caller.reach)
