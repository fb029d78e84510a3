"""Data sets: which there are, and what their inputs look like."""

from __future__ import annotations

import base64
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response, UploadFile
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from networks.errors import DatasetError
from service.access.dependencies import READ, SUBMIT, Caller
from service.access.principal import Principal
from service.api.dependencies import PartsOfApp, known_dataset
from service.batch_models import DatasetRecord
from service.batch_views import batch_document, dataset_document
from service.dashboard.forms import Answers, fault
from service.dashboard.inside import call
from service.dashboard.names import network_names
from service.dashboard.pages import page, page_router
from service.dashboard.pictures import image, layout
from service.dataset_reading import stored_labels
from service.dataset_rows import read_rows
from service.errors import NotFoundError
from service.parts import Parts

__all__ = ["pictures", "router"]

router = page_router()
#: Pictures are no pages: browsers ask for them as images.
pictures = APIRouter(include_in_schema=False)

_AT_ONCE = 60
_FOREVER = "private, max-age=31536000, immutable"


@router.get("/datasets", dependencies=[READ])
def list_datasets(request: Request, parts: PartsOfApp, caller: Caller) -> Response:
    """The data sets that were uploaded last, and a form for another."""
    return _list(request, parts, caller, Answers())


def _list(request: Request, parts: Parts, caller: Principal, answers: Answers) -> Response:
    records = parts.ledger.datasets.newest(limit=200, owner=caller.reach)
    datasets = [dataset_document(record) for record in records]
    return page(
        request,
        "datasets.html",
        status=answers.status,
        datasets=datasets,
        pictured={each.sha256 for each in datasets if layout(each.shape) is not None},
        answers=answers,
        limit=parts.settings.max_dataset_bytes,
    )


@router.post("/datasets", dependencies=[SUBMIT])
async def upload_dataset(
    request: Request,
    parts: PartsOfApp,
    caller: Caller,
    dataset: UploadFile | None = None,
    images: UploadFile | None = None,
    labels: UploadFile | None = None,
    as_bytes: Annotated[bool, Form()] = False,
) -> Response:
    """Take a data set in and show it; a refused one brings the form back, with the reason."""
    # browsers send a part without a name for each file that was not chosen
    given = {"dataset": dataset, "images": images, "labels": labels}
    chosen = {name: file for name, file in given.items() if file is not None and file.filename}
    if set(chosen) not in ({"dataset"}, {"images", "labels"}):
        wrong = fault(dataset="choose one .npz or .csv file, or two files: the images and the labels")
        answers = Answers().refused(wrong, {"dataset": "dataset"})
        return await run_in_threadpool(_list, request, parts, caller, answers)
    files = {name: (file.filename, file.file, "application/octet-stream") for name, file in chosen.items()}
    params = {"dtype": "uint8" if as_bytes else "float32"}
    answer = await call(request, "POST", "/v1/datasets", files=files, params=params)
    if answer.is_success:
        return RedirectResponse(f"/datasets/{answer.json()['sha256']}", 303)
    return await run_in_threadpool(_list, request, parts, caller, Answers().refused(answer, {}))


@router.get("/datasets/{sha256}", dependencies=[READ])
async def show_dataset(
    request: Request,
    sha256: str,
    parts: PartsOfApp,
    caller: Caller,
    begin: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    label: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
) -> Response:
    """What is known of a data set, and some of its inputs."""
    record = await known_dataset(sha256, parts, caller)
    return await run_in_threadpool(_shown, request, record, begin, label, parts, caller)


def _shown(
    request: Request, record: DatasetRecord, begin: int, label: int | None, parts: Parts, caller: Principal
) -> Response:
    labels = stored_labels(parts.artifacts.get(record.artifact).path)
    chosen = [i for i in range(begin, len(labels)) if label is None or labels[i] == label][: _AT_ONCE + 1]
    batches = [
        each for each in parts.ledger.batches.newest(limit=100, owner=caller.reach) if each.dataset == record.sha256
    ]
    return page(
        request,
        "dataset.html",
        dataset=dataset_document(record),
        pictured=layout(record.summary["shape"]),
        inputs=[(i, labels[i]) for i in chosen[:_AT_ONCE]],
        following=chosen[_AT_ONCE] if len(chosen) > _AT_ONCE else None,
        begin=begin,
        label=label,
        classes=sorted(set(labels)) if len(set(labels)) <= 200 else [],
        batches=[batch_document(each, parts.ledger, 0) for each in batches[:8]],
        names=network_names(parts, caller),
    )


@pictures.get("/datasets/{sha256}/{index}.png", dependencies=[READ])
async def picture(sha256: str, index: int, parts: PartsOfApp, caller: Caller) -> Response:
    """One input of a data set, one pixel for each of its entries."""
    record = await known_dataset(sha256, parts, caller)
    content = await run_in_threadpool(_drawn, record, index, parts)
    return Response(content, media_type="image/png", headers={"Cache-Control": _FOREVER})


def _drawn(record: DatasetRecord, index: int, parts: Parts) -> bytes:
    how = layout(record.summary["shape"])
    if how is None or not 0 <= index < record.summary["count"]:
        raise NotFoundError(str(index)[:20], kind="picture in this data set")
    rows = read_rows(parts.artifacts.get(record.artifact).path, index, index + 1, name=record.name)
    try:
        values = rows.input(0).tolist()
    except DatasetError as error:
        raise NotFoundError(str(index), kind="picture in this data set") from error
    url = image(values, how, min(0.0, *values), max(1.0, *values)).url
    return base64.b64decode(url.partition(",")[2])
