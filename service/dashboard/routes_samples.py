"""The example networks, for those who have none at hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode

from fastapi import Response
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from service.api.dependencies import PartsOfApp
from service.dashboard.pages import page_router
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


@router.post("/samples")
async def load_samples(parts: PartsOfApp) -> Response:
    """Take in the example networks and their data set, and go on to a first question."""
    folder = samples()
    if folder is None:
        raise NotFoundError(_DATASET, kind="example")
    networks = [await parts.intake.take(_file(folder / name), name=name) for name in _NETWORKS]
    dataset, _ = await parts.datasets.take([_file(folder / _DATASET)], name=_DATASET)
    first = {"network": networks[-1][0].sha256, "dataset": dataset.sha256, "index": 10, "epsilon": "0.05"}
    return RedirectResponse(f"/ask?{urlencode(first)}", 303)


async def _file(path: Path) -> AsyncIterator[bytes]:
    yield await run_in_threadpool(path.read_bytes)
