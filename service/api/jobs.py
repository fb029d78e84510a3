"""Jobs: how far a query is, what it found, and stopping it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from service.access.dependencies import READ, SUBMIT, Caller
from service.api.dependencies import Form, IfNoneMatch, Job, PartsOfApp, Wait
from service.api.paging import LINK, Cursor, next_link
from service.api.showing import artifact_response, job_response, shown_response
from service.errors import StateChangeError
from service.evidence import REPRESENTATIONS, choose, render
from service.models import JobRecord
from service.problems import JOB_ENDED, JOB_NOT_ENDED, NO_CERTIFICATE, NO_COUNTEREXAMPLE, NO_PRODUCT, ProblemError
from service.schema_base import Sha256
from service.schemas import JobDocument, JobPage
from service.states import JobState
from service.streams import RESUME_MS, follow, wait_for_end
from service.verdict_schemas import CounterexampleDocument
from service.views import certificate_of, counterexample_of, job_document, product_of, shown

__all__ = ["get_job", "router"]

router = APIRouter(tags=["jobs"])

Include = Annotated[
    list[Literal["input"]] | None,
    Query(description="`input`: with the query's input or VNNLIB text, which may be long"),
]


@router.get(
    "/jobs/{job_id}",
    operation_id="getJob",
    dependencies=[READ],
    summary="Show a job",
    response_model=JobDocument,
    response_description="The job",
    responses={
        200: {"headers": {"ETag": {"schema": {"type": "string"}}, "Retry-After": {"schema": {"type": "integer"}}}},
        304: {"description": "The job is as the client knows it (If-None-Match)"},
    },
)
async def get_job(
    job: Job,
    parts: PartsOfApp,
    wait: Wait,
    include: Include = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Show a job: its state, the bounds so far, and the verdict with its evidence once it has ended."""
    job = await wait_for_end(job, wait, parts)
    return shown_response(shown(job, include_input=bool(include)), if_none_match)


@router.get(
    "/jobs",
    operation_id="listJobs",
    dependencies=[READ],
    summary="List jobs",
    response_description="One page of jobs",
    responses={200: {"headers": LINK}},
)
async def list_jobs(
    parts: PartsOfApp,
    caller: Caller,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=200, description="how many")] = 50,
    cursor: Cursor = None,
    state: Annotated[JobState | None, Query(description="only jobs in this state")] = None,
    network: Annotated[Sha256 | None, Query(description="only jobs about this network")] = None,
    batch: Annotated[
        str | None,
        Query(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$", description="the jobs of this batch; by default those of none"),
    ] = None,
) -> JobPage:
    """List jobs, the newest first, without their evidence and attempts."""
    asked: dict[str, Any] = {"state": state, "network": network, "batch": batch}
    records = await run_in_threadpool(parts.ledger.jobs, limit=limit + 1, before=cursor, owner=caller.reach, **asked)
    following = records[limit - 1].id if len(records) > limit else None
    if following is not None:
        response.headers["Link"] = next_link("/v1/jobs", {"limit": limit, "cursor": following, **asked})
    return JobPage(jobs=[job_document(record, brief=True) for record in records[:limit]], next_cursor=following)


@router.get(
    "/jobs/{job_id}/events",
    operation_id="followJob",
    dependencies=[READ],
    summary="Follow a job",
    response_class=EventSourceResponse,
    response_description="Events of kind `progress` and `state`, until the job has ended",
)
async def follow_job(
    job: Job,
    parts: PartsOfApp,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", pattern=r"^\d{1,18}(-\d{1,18})?$", description="resume after this event"),
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a job by server-sent events: first what is kept of the past, then what happens, until it has ended."""
    async for event in follow(job.id, last_event_id, parts):
        yield ServerSentEvent(data=event.data, event=event.kind, id=event.id or None)
    if parts.closing.is_set():
        yield ServerSentEvent(retry=RESUME_MS, comment="this process ends; resume with Last-Event-ID")


@router.post(
    "/jobs/{job_id}/cancel",
    status_code=202,
    operation_id="cancelJob",
    dependencies=[SUBMIT],
    summary="Cancel a job",
    response_model=JobDocument,
    response_description="The job, cancelled or about to be",
)
async def cancel_job(job: Job, parts: PartsOfApp) -> Response:
    """Ask a job to stop. It ends within seconds and keeps the bounds proven so far; asking again changes nothing."""
    before = job.state
    try:
        job = await run_in_threadpool(parts.ledger.request_cancel, job.id)
    except StateChangeError as error:
        detail = f"job {job.id} has {error.before} already, and keeps what it found; there is nothing to cancel"
        raise ProblemError(JOB_ENDED, detail) from error
    if job.state is not before:
        state = {"state": job.state, "attempt": job.attempt}
        await run_in_threadpool(parts.publisher.publish, job.id, "state", state)
        if job.batch is not None:
            await run_in_threadpool(parts.advance, job.batch)
    document = job_document(job)
    return job_response(document, job, 202, {"Location": document.links.self})


@router.get(
    "/jobs/{job_id}/counterexample",
    operation_id="getCounterexample",
    dependencies=[READ],
    summary="Download a counterexample",
    response_model=CounterexampleDocument,
    response_description="The input that breaks the property, and the network's output",
    responses={200: {"content": {name: {"schema": {"type": "string"}} for name in REPRESENTATIONS.values()}}},
)
async def get_counterexample(
    job: Job,
    request: Request,
    format: Form = None,  # noqa: A002 - the name that the API uses
) -> Response:
    """Download a counterexample: JSON, NumPy (`npy`: the input; `npz`: input and output) or VNN-COMP's text.

    With trust `exact`, JSON has the exact input beside the float32 one, VNN-COMP's text has it in its place, and the
    NumPy forms have the float32 input alone.
    """
    found = counterexample_of(job)
    if found is None:
        _check_ended(job)
        verdict = job.verdict["verdict"] if job.verdict else "no verdict"
        raise ProblemError(NO_COUNTEREXAMPLE, f"job {job.id} {job.state} with {verdict}, so it has no counterexample")
    chosen = format or choose(request.headers.get("Accept"))
    return render(found, chosen, name=f"counterexample-{job.id}")


@router.get(
    "/jobs/{job_id}/certificate",
    operation_id="getCertificate",
    dependencies=[READ],
    summary="Download a certificate",
    response_class=FileResponse,
    response_description="The file that `netproof check` proves the verdict from",
    responses={200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def get_certificate(job: Job, parts: PartsOfApp) -> FileResponse:
    """Download the certificate of a robust verdict that was asked for with `certificate: true`."""
    found = certificate_of(job)
    if found is None:
        _check_ended(job)
        detail = (
            f"job {job.id} has no certificate: only what a request with certificate: true proves has one, and none "
            "where a MIP solver decided"
        )
        raise ProblemError(NO_CERTIFICATE, detail)
    return await artifact_response(found["sha256"], parts, "application/zip", f"certificate-{job.id}.zip")


@router.get(
    "/jobs/{job_id}/product",
    operation_id="getProduct",
    dependencies=[READ],
    summary="Download the network of a comparison",
    response_class=FileResponse,
    response_description="The ONNX file that counterexample and certificate are about",
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def get_product(job: Job, parts: PartsOfApp) -> FileResponse:
    """Download the network that the evidence of a question with `equivalent_to` or `monotone` is about.

    It depends on the networks that were given alone: `netproof product` builds the same bytes.
    """
    found = product_of(job)
    if found is None:
        _check_ended(job)
        detail = f"the evidence of job {job.id} is about the network that was given, /v1/networks/{job.network}"
        raise ProblemError(NO_PRODUCT, detail)
    return await artifact_response(found["sha256"], parts, "application/octet-stream", f"product-{job.id}.onnx")


def _check_ended(job: JobRecord) -> None:
    """Raise ProblemError, 409, where what is not there may come yet."""
    if not job.terminal:
        detail = f"job {job.id} is {job.state}; ask again when it has ended, or wait with ?wait= on /v1/jobs/{job.id}"
        raise ProblemError(JOB_NOT_ENDED, detail, headers={"Retry-After": "1"})
