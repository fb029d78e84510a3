"""The page of a job, what it does while the job runs, and its buttons."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, StreamingResponse

from service.access import Scope
from service.access.dependencies import READ, SUBMIT, Caller
from service.api.dependencies import Job, PartsOfApp
from service.dashboard.charts import Point
from service.dashboard.checks import check_result, checked
from service.dashboard.inside import call
from service.dashboard.job_view import JobView, job_view
from service.dashboard.pages import fragment, page, page_router, refused
from service.dashboard.streaming import closing_event, message
from service.events import Event
from service.models import JobRecord
from service.parts import Parts
from service.problems import INVALID_REQUEST, ProblemError
from service.streams import follow

__all__ = ["router"]

router = page_router()

#: Browsers without scripts load the page of a running job again after so many seconds.
_REFRESH_SECONDS = 3
_ENDED = "ended"


@router.get("/jobs/{job_id}", dependencies=[READ])
async def show_job(request: Request, job: Job, parts: PartsOfApp) -> Response:
    """Everything about a job."""
    refresh = None if job.terminal else _REFRESH_SECONDS
    return page(request, "job.html", view=await _view(request, job, parts), report=None, refresh=refresh)


@router.get("/jobs/{job_id}/live", dependencies=[READ])
async def follow_page(request: Request, job: Job, parts: PartsOfApp, caller: Caller) -> Response:
    """The page's content anew with each event of the job, as server-sent events, until the job has ended."""
    may_submit = caller.scope.includes(Scope.SUBMIT)

    async def messages() -> AsyncIterator[bytes]:
        past = await parts.events.recent(job.id)  # it is in the page already
        async for _ in follow(job.id, past[-1].id if past else None, parts):
            now = await run_in_threadpool(parts.ledger.job, job.id, owner=caller.reach)
            view = await _view(request, now, parts)
            yield message(fragment("job_content.html", view=view, report=None, may_submit=may_submit))
            if now.terminal:
                break
        yield closing_event(_ENDED)

    return StreamingResponse(messages(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


@router.post("/jobs/{job_id}/cancel", dependencies=[SUBMIT])
async def cancel(request: Request, job: Job) -> Response:
    """Stop the job, and show it; a button that was pressed too late does no harm."""
    if not job.terminal:
        answer = await call(request, "POST", f"/v1/jobs/{job.id}/cancel")
        if answer.is_error and answer.status_code != 409:
            return refused(request, answer)
    return RedirectResponse(f"/jobs/{job.id}", 303)


@router.post("/jobs/{job_id}/again", dependencies=[SUBMIT])
async def again(request: Request, job: Job) -> Response:
    """Ask the same once more, and decide it anew."""
    if job.batch is not None:
        detail = f"job {job.id} works for batch {job.batch}; try the batch's items again on its own page"
        raise ProblemError(INVALID_REQUEST, detail)
    if job.parent is not None:
        detail = f"job {job.id} is a part of job {job.parent}; ask that one's question again on its own page"
        raise ProblemError(INVALID_REQUEST, detail)
    answer = await call(request, "POST", "/v1/verify", json=job.request | {"reuse": False})
    if answer.is_error:
        return refused(request, answer)
    return RedirectResponse(f"/jobs/{answer.json()['id']}", 303)


@router.post("/jobs/{job_id}/check", dependencies=[READ])
async def check_certificate(request: Request, job: Job, parts: PartsOfApp) -> Response:
    """What the independent checker says now about the job's certificate: a part of the page, or without scripts all."""
    report = await checked(job.verdict, job.network, parts)
    return check_result(request, report) or page(
        request, "job.html", view=await _view(request, job, parts), report=report
    )


async def _view(request: Request, job: JobRecord, parts: Parts) -> JobView:
    past = [] if (job.verdict or {}).get("history") else await parts.events.recent(job.id)
    site = str(request.base_url).rstrip("/")
    return await run_in_threadpool(job_view, job, parts, [*_points(past)], site)


def _points(events: Iterable[Event]) -> Iterator[Point]:
    """The bounds that events tell of."""
    for event in events:
        bounds = event.data.get("margin") or event.data.get("distance")
        if event.kind == "progress" and bounds is not None:
            yield Point(float(event.data["seconds"]), *bounds)
