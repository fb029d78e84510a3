"""Data sets: uploaded once, addressed by the SHA-256 of their content ever after."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from service.access.dependencies import READ, SUBMIT, Caller
from service.api.dependencies import Dataset, PartsOfApp, media_type
from service.api.networks import pieces_of
from service.batch_schemas import DatasetDocument, DatasetPage
from service.batch_views import dataset_document
from service.problems import INVALID_REQUEST, UNSUPPORTED_MEDIA_TYPE, Fault, ProblemError

__all__ = ["router"]

router = APIRouter(tags=["datasets"])

_BINARY = frozenset(
    {"", "application/octet-stream", "application/zip", "application/x-npz", "application/gzip", "text/csv"}
)

_FILE = {"type": "string", "format": "binary"}
_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "an .npz or .csv file; or images and labels apart, as .npy or IDX files; each may be gzipped",
        "content": {
            "application/octet-stream": {"schema": _FILE},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "dataset": _FILE | {"description": "an .npz or .csv file"},
                        "images": _FILE | {"description": "instead: an .npy or IDX file, with `labels`"},
                        "labels": _FILE,
                    },
                }
            },
        },
    }
}


@router.post(
    "/datasets",
    status_code=201,
    operation_id="uploadDataset",
    dependencies=[SUBMIT],
    summary="Upload a data set",
    response_model=DatasetDocument,
    responses={
        200: {"model": DatasetDocument, "description": "The service has this data set already"},
        201: {"description": "The data set was read and kept", "headers": {"Location": {"schema": {"type": "string"}}}},
    },
    openapi_extra=_UPLOAD_BODY,
)
async def upload_dataset(
    request: Request,
    response: Response,
    parts: PartsOfApp,
    caller: Caller,
    name: Annotated[str, Query(max_length=255, description="a name for messages and lists")] = "",
    dtype: Annotated[
        Literal["float32", "uint8"],
        Query(description="of a CSV file: `uint8` takes its entries as bytes of images, which are divided by 255"),
    ] = "float32",
) -> DatasetDocument:
    """Upload labelled inputs: `.npz` with `images` and `labels`, `.npy` or IDX pairs, or CSV with the label first.

    A process of its own reads the files, under limits on time and memory; pickled objects are refused. The data set is
    addressed by its content, so uploading the same inputs again, in whatever form, is harmless.
    """
    given = media_type(request)
    as_bytes = dtype == "uint8"
    if given in _BINARY:
        record, new = await parts.datasets.take([request.stream()], caller, name=name, as_bytes=as_bytes)
    elif given == "multipart/form-data":
        async with request.form(max_files=2, max_fields=2) as form:
            files = _files(dict(form))
            streams = [pieces_of(file) for file in files]
            label = name or files[0].filename or ""
            record, new = await parts.datasets.take(streams, caller, name=label, as_bytes=as_bytes)
    else:
        detail = (
            f"a data set comes as application/octet-stream or multipart/form-data, got {given}; with curl: "
            "-H 'Content-Type: application/octet-stream' --data-binary @data.npz, or -F images=@x.npy -F labels=@y.npy"
        )
        raise ProblemError(UNSUPPORTED_MEDIA_TYPE, detail)
    response.status_code = 201 if new else 200
    document = dataset_document(record)
    response.headers["Location"] = document.links["self"]
    return document


def _files(form: dict[str, Any]) -> list[UploadFile]:
    """The form's files: a data set, or images and labels."""
    wanted = ["images", "labels"] if "images" in form else ["dataset"]
    files = [form.get(part) for part in wanted]
    for part, file in zip(wanted, files, strict=True):
        if not isinstance(file, UploadFile):
            detail = f"the form needs a file named {part}; with curl: -F {part}=@file"
            raise ProblemError(INVALID_REQUEST, detail, errors=[Fault(f"/{part}", detail)])
    return [file for file in files if isinstance(file, UploadFile)]


@router.get(
    "/datasets",
    operation_id="listDatasets",
    dependencies=[READ],
    summary="List data sets",
    response_description="The newest data sets",
)
async def list_datasets(
    parts: PartsOfApp, caller: Caller, limit: Annotated[int, Query(ge=1, le=200, description="how many")] = 50
) -> DatasetPage:
    """List the data sets that were uploaded last."""
    records = await run_in_threadpool(parts.ledger.datasets.newest, limit=limit, owner=caller.reach)
    return DatasetPage(datasets=[dataset_document(record) for record in records])


@router.get(
    "/datasets/{sha256}",
    operation_id="getDataset",
    dependencies=[READ],
    summary="Show a data set",
    response_description="The data set",
)
async def get_dataset(dataset: Dataset) -> DatasetDocument:
    """Show what is known of one data set."""
    return dataset_document(dataset)
