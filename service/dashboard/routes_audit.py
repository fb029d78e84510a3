"""The form that asks the same question about many inputs of a data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from service.access.dependencies import SUBMIT, Caller
from service.access.principal import Principal
from service.api.dependencies import PartsOfApp
from service.dashboard.asking import FormError
from service.dashboard.auditing import FIELDS, batch_of
from service.dashboard.commands import audit_commands
from service.dashboard.forms import Answers
from service.dashboard.inside import call
from service.dashboard.pages import page, page_router
from service.dashboard.routes_ask import choices, files_of, typed
from service.identifiers import new_id
from service.parts import Parts

__all__ = ["router"]

router = page_router()

_BLANK = {"norm": "linf", "kind": "decide", "low": "0", "high": "1", "begin": "0", "step": "1", "priority": "low"}


@router.get("/audit", dependencies=[SUBMIT])
def show_form(request: Request, parts: PartsOfApp, caller: Caller) -> Response:
    """The form, filled by what the address says."""
    return _form(request, parts, caller, Answers(_BLANK | dict(request.query_params)))


@router.post("/audit", dependencies=[SUBMIT])
async def audit(request: Request, parts: PartsOfApp, caller: Caller) -> Response:
    """Start the batch that the form states, and go to it; where something is wrong, the form comes back and says it."""
    texts, refusal = await typed(request)
    answers = Answers(texts)
    if refusal is not None:
        return await run_in_threadpool(_form, request, parts, caller, answers.refused(refusal, FIELDS))
    try:
        asked = batch_of(texts)
    except FormError as error:
        return await run_in_threadpool(_form, request, parts, caller, answers.refused(error.document, FIELDS))
    if texts.get("action") == "command":
        return await run_in_threadpool(_form, request, parts, caller, answers, asked)
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    key = {"Idempotency-Key": f"{texts.get('once', '')[:26]}-{digest}"}
    answer = await call(request, "POST", "/v1/batches", json=asked, headers=key)
    if answer.is_success:
        return RedirectResponse(f"/batches/{answer.json()['id']}", 303)
    return await run_in_threadpool(_form, request, parts, caller, answers.refused(answer, FIELDS))


def _form(
    request: Request, parts: Parts, caller: Principal, answers: Answers, asked: Mapping[str, Any] | None = None
) -> Response:
    offered = choices(parts, caller, answers.texts)
    origin, key = str(request.base_url).rstrip("/"), parts.settings.access_on
    shown = [] if asked is None else audit_commands(asked, files_of(offered, whole=True), origin, key=key)
    return page(
        request,
        "audit.html",
        status=answers.status,
        answers=answers,
        commands=shown,
        once=answers["once"] or new_id(),
        default_limit=parts.settings.default_time_limit,
        most=parts.settings.max_batch_items,
        **offered,
    )
