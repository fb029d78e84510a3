"""The example networks, for those who have none at hand."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from networks.examples import examples_folder
from service.access.dependencies import SUBMIT
from service.dashboard.inside import call
from service.dashboard.pages import page, page_router
from service.errors import NotFoundError

__all__ = ["router"]

router = page_router()

_NETWORKS = ("digits_plain.onnx", "digits_robust.onnx")
_DATASET = "digits.npz"


@router.post("/samples", dependencies=[SUBMIT])
async def load_samples(request: Request) -> Response:
    """Take in the example networks and their data set, and go on to a first question."""
    folder = examples_folder()
    if folder is None:
        raise NotFoundError(_DATASET, kind="example")
    known = {}
    for name in (*_NETWORKS, _DATASET):
        kind = "datasets" if name == _DATASET else "networks"
        content = await run_in_threadpool((folder / name).read_bytes)
        headers = {"Content-Type": "application/octet-stream"}
        answer = await call(request, "POST", f"/v1/{kind}", params={"name": name}, content=content, headers=headers)
        if not answer.is_success:
            return page(request, "problem.html", status=answer.status_code, problem=answer.json())
        known[name] = answer.json()["sha256"]
    first = {"network": known[_NETWORKS[-1]], "dataset": known[_DATASET], "index": 10, "epsilon": "0.05"}
    return RedirectResponse(f"/ask?{urlencode(first)}", 303)
