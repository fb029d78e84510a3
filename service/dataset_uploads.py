"""A data set's way in: files to disk under limits, to a process that reads them, to an artifact and a record.

A data set is addressed by the hash of its content (element types, shapes, values), so the same inputs are the same data
set in whatever form they came, and it is what ``netproof audit`` writes into its records.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool

from networks.dataset import Dataset
from networks.errors import DatasetError
from service.access.principal import Principal
from service.artifacts import Artifacts
from service.batch_models import DatasetRecord
from service.dataset_reading import read_upload, summary_of
from service.ledger import Ledger
from service.readers import Readers
from service.receiving import file_label, receive
from service.settings import Settings

__all__ = ["DatasetIntake"]

_EMPTY = "the request has no data set in it; send the bytes of an .npz or .csv file, or images and labels as a form"
#: Data sets that are read at the same time.
_READERS = 2


class DatasetIntake:
    """Takes data sets in, for one process."""

    def __init__(self, settings: Settings, ledger: Ledger, artifacts: Artifacts, readers: Readers) -> None:
        self._settings = settings
        self._ledger = ledger
        self._artifacts = artifacts
        self._readers = readers
        self._places = asyncio.Semaphore(_READERS)

    async def take(
        self, files: Sequence[AsyncIterable[bytes]], caller: Principal, *, name: str = "", as_bytes: bool = False
    ) -> tuple[DatasetRecord, bool]:
        """Keep the data set that ``files`` hold; returns its record and whether it is new to the caller's owner.

        Args:
            files: one data set, or its images and its labels; each may be gzipped.
            caller: whose it becomes.
            name: what the user calls it; used in messages and lists, never as a path.
            as_bytes: see `networks.dataset_files.read_dataset`.

        Raises:
            DatasetError: it cannot be read.
            TooLargeError: it has more bytes than the settings allow.
        """
        limit = self._settings.max_dataset_bytes
        label = file_label(name, "dataset")
        with ExitStack() as stack:
            uploads = [stack.enter_context(self._artifacts.upload(limit=limit)) for _ in files]
            for upload, chunks in zip(uploads, files, strict=True):
                await receive(chunks, upload, label, DatasetError, empty=_EMPTY)
            converted = stack.enter_context(self._artifacts.upload())
            async with self._places:
                summary = await read_upload(
                    self._readers,
                    tuple(upload.path for upload in uploads),
                    converted.path,
                    name=label,
                    as_bytes=as_bytes,
                    seconds=self._settings.inspect_seconds,
                    memory_mb=self._settings.memory_limit_mb,
                    max_bytes=limit,
                )
            return await run_in_threadpool(self._keep, converted.path, label, summary, caller)

    def take_inline(self, images: list[Any], labels: list[int], caller: Principal) -> tuple[DatasetRecord, bool]:
        """Keep inputs that came inside a request, as float32; they become the caller's.

        Raises:
            DatasetError: they are not numbers, or not of one shape.
        """
        try:
            array = np.asarray(images, dtype=np.float64)
        except (ValueError, TypeError) as error:
            msg = f"the inputs must be numbers, in lists of equal lengths: {error}"
            raise DatasetError(msg) from error
        with np.errstate(over="ignore"):
            dataset = Dataset.of(array.reshape(len(array), -1).astype(np.float32), np.asarray(labels), "inline")
        if not np.isfinite(dataset.stored).all():
            wrong = int(np.argwhere(~np.isfinite(dataset.stored))[0][0])
            msg = f"input {wrong} has an entry that is not finite in float32"
            raise DatasetError(msg)
        buffer = io.BytesIO()
        np.savez(buffer, images=dataset.stored, labels=dataset.labels)
        artifact = self._artifacts.put(buffer.getvalue())
        found = self._record(summary_of(dataset), artifact.sha256, artifact.size, "inline", caller)
        self._artifacts.confirm(buffer.getvalue())
        return found

    def _keep(self, path: Path, name: str, summary: dict[str, Any], caller: Principal) -> tuple[DatasetRecord, bool]:
        with path.open("rb") as stream, self._artifacts.upload() as upload:
            while piece := stream.read(2**20):
                upload.write(piece)
            artifact = upload.commit()
            found = self._record(summary, artifact.sha256, artifact.size, name, caller)
            upload.confirm()
        return found

    def _record(
        self, summary: dict[str, Any], artifact: str, size: int, name: str, caller: Principal
    ) -> tuple[DatasetRecord, bool]:
        facts = {key: value for key, value in summary.items() if key != "sha256"}
        return self._ledger.datasets.add(
            summary["sha256"], artifact=artifact, size=size, name=name, summary=facts, owner=caller.owner
        )
