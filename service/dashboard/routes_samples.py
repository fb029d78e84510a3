"""The example networks, for those who have none at hand."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from service.access.dependencies import SUBMIT
from service.dashboard.inside import call
from service.dashboard.pages import page, page_router
from service.errors import NotFoundError

__all__ = ["router", "samples"]

router = page_router()

_NETWORKS = ("digits_plain.onnx", "digits_robust.onnx")
_DATASET = "digits.npz"
#: Shipped inside the package; in a checkout, where they are made.
_FOLDERS = (Path(__file__).parent / "samples", Path(__file__).parents[2] / "examples")


def samples() -> Path | None:
    """The folder with the example networks and their data set, None where they were not installed."""
    return next((each for each in _FOLDERS if all((each / name).is_file() for name in (*_NETWORKS, _DATASET))), None)


@router.post("/samples", dependencies=[SUBMIT])
async def load_samples(request: Request) -> Response:
    """Take in the example networks and their data set, and go on to a first question."""
    folder = samples()
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
