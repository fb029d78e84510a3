"""Data sets: which there are, and what their inputs look like."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response, UploadFile
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from networks.errors import DatasetError, NetproofError
from service.api.datasets import known_dataset
from service.api.dependencies import PartsOfApp
from service.api.networks import pieces_of
from service.batch_models import DatasetRecord
from service.batch_views import batch_document, dataset_document
from service.dashboard.forms import Answers
from service.dashboard.pages import page, page_router
from service.dashboard.pictures import image, layout
from service.dataset_reading import stored_labels
from service.dataset_rows import read_rows
from service.errors import NotFoundError
from service.parts import Parts
from service.problems import INVALID_REQUEST, Fault, ProblemError, kind_of

__all__ = ["pictures", "router"]

router = page_router()
#: Pictures are no pages: browsers ask for them as images.
pictures = APIRouter(include_in_schema=False)

_AT_ONCE = 60
_FOREVER = "private, max-age=31536000, immutable"


@router.get("/datasets")
def list_datasets(request: Request, parts: PartsOfApp) -> Response:
    """The data sets that were uploaded last, and a form for another."""
    return page(request, "datasets.html", **_list(parts))


def _list(parts: Parts, answers: Answers | None = None) -> dict[str, Any]:
    datasets = [dataset_document(record) for record in parts.ledger.datasets.newest(limit=200)]
    return {
        "datasets": datasets,
        "pictured": {each.sha256 for each in datasets if layout(each.shape) is not None},
        "answers": answers or Answers(),
        "limit": parts.settings.max_dataset_bytes,
    }


@router.post("/datasets")
async def upload_dataset(
    request: Request,
    parts: PartsOfApp,
    dataset: UploadFile | None = None,
    images: UploadFile | None = None,
    labels: UploadFile | None = None,
    as_bytes: Annotated[bool, Form()] = False,
) -> Response:
    """Take a data set in and show it; a refused one brings the form back, with the reason."""
    try:
        files = _chosen(dataset, images, labels)
        streams = [pieces_of(file) for file in files]
        record, _ = await parts.datasets.take(streams, name=files[0].filename or "", as_bytes=as_bytes)
    except (NetproofError, ProblemError) as error:
        return await run_in_threadpool(_refused, request, parts, error)
    return RedirectResponse(f"/datasets/{record.sha256}", 303)


def _chosen(dataset: UploadFile | None, images: UploadFile | None, labels: UploadFile | None) -> list[UploadFile]:
    """The files that the form is about: browsers send a part without a name for each that was not chosen."""
    given = [file if file is not None and file.filename else None for file in (dataset, images, labels)]
    match given:
        case [UploadFile() as whole, None, None]:
            return [whole]
        case [None, UploadFile() as inputs, UploadFile() as classes]:
            return [inputs, classes]
    detail = "choose one .npz or .csv file, or two files: the images and the labels"
    raise ProblemError(INVALID_REQUEST, detail, errors=[Fault("/dataset", detail)])


def _refused(request: Request, parts: Parts, error: NetproofError | ProblemError) -> Response:
    kind = error.kind if isinstance(error, ProblemError) else kind_of(error)
    answers = Answers().refused(error, {"/dataset": "dataset"})
    return page(request, "datasets.html", status=kind.status, **_list(parts, answers))


@router.get("/datasets/{sha256}")
async def show_dataset(
    request: Request,
    sha256: str,
    parts: PartsOfApp,
    begin: Annotated[int, Query(ge=0, lt=2**31)] = 0,
    label: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
) -> Response:
    """What is known of a data set, and some of its inputs."""
    record = await known_dataset(sha256, parts)
    return await run_in_threadpool(_shown, request, record, begin, label, parts)


def _shown(request: Request, record: DatasetRecord, begin: int, label: int | None, parts: Parts) -> Response:
    labels = stored_labels(parts.artifacts.get(record.artifact).path)
    chosen = [i for i in range(begin, len(labels)) if label is None or labels[i] == label][: _AT_ONCE + 1]
    batches = [each for each in parts.ledger.batches.newest(limit=100) if each.dataset == record.sha256]
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
        names={each.sha256: each.name for each in parts.ledger.networks(limit=200)},
    )


@pictures.get("/datasets/{sha256}/{index}.png")
async def picture(sha256: str, index: int, parts: PartsOfApp) -> Response:
    """One input of a data set, one pixel for each of its entries."""
    record = await known_dataset(sha256, parts)
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
