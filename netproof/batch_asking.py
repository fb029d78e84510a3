"""What clients ask about batches and data sets, without the sending; see `netproof.asking`."""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from netproof.answers import Document, NotFoundError
from netproof.asking import POLL_SECONDS, Ask, Conversation, Source, document, is_sha256, json_ask, keyed, named
from netproof.batch import Batch
from networks import Dataset
from networks.errors import InputError

__all__ = ["Data", "cancelled", "ended", "export_ask", "got", "posted", "selection_of", "submitted", "uploaded"]

#: Seconds of one long poll while there is somebody to tell of progress.
_LOOK_SECONDS = 1.0
_FORMS = ("csv", "jsonl", "parquet")

#: A data set: a path or the bytes of a file, or one in memory.
Data: TypeAlias = str | Path | bytes | Dataset


def uploaded(data: Data, *, name: str = "", dtype: str = "float32") -> Conversation[Document]:
    """What the service knows of a data set, which is sent if it is new."""
    known: str | None = None
    if isinstance(data, str | Path):
        name = name or Path(data).name
        content = Path(data).read_bytes()
        known = Dataset.read(data).sha256 if content.startswith(b"PK") else None
    elif isinstance(data, Dataset):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=data.stored, labels=data.labels)
        content, known, name = buffer.getvalue(), data.sha256, name or data.name
    else:
        content = data
    if known is not None:
        with contextlib.suppress(NotFoundError):
            return (yield from document(Ask("GET", f"/v1/datasets/{known}")))
    options = {
        "content": content,
        "headers": {"Content-Type": "application/octet-stream"},
        "params": {"dtype": dtype} | ({"name": name} if name else {}),
    }
    return (yield from document(Ask("POST", "/v1/datasets", options=options)))


def selection_of(indices: Sequence[int] | None, begin: int, end: int | None, step: int) -> Document:
    """Which inputs, as a request says it. Raises InputError where both forms are given."""
    if indices is None:
        return {"begin": begin, "end": end, "step": step}
    if (begin, end, step) == (0, None, 1):
        return {"indices": [int(index) for index in indices]}
    msg = "indices and begin, end, step both say which inputs; give one of them"
    raise InputError(msg)


def submitted(
    network: Source,
    data: Data,
    epsilon: float | str | Sequence[float | str],
    query: Mapping[str, Any],
    options: Mapping[str, Any],
    key: str | None,
) -> Conversation[Batch]:
    """A new batch."""
    several = isinstance(epsilon, Sequence) and not isinstance(epsilon, str)
    given = {name: value for name, value in query.items() if value is not None}
    body = {
        "network": (yield from named(network)),
        "dataset": data if is_sha256(data) else (yield from uploaded(data))["sha256"],
        "query": {"epsilon": list(epsilon) if several else epsilon, **given},  # type: ignore[arg-type]
        **options,
    }
    return Batch((yield from document(json_ask("POST", "/v1/batches", body, keyed(key)))))


def got(batch_id: str, wait: float = 0.0) -> Conversation[Batch]:
    """A batch as it is, or as it ends within ``wait`` seconds."""
    options = {"params": {"wait": f"{wait:g}"}} if wait > 0 else None
    return Batch((yield from document(Ask("GET", f"/v1/batches/{batch_id}", wait, options))))


def ended(batch_id: str, seconds: float | None, progress: Callable[[Batch], None] | None) -> Conversation[Batch]:
    """A batch when it ends, or as it is after ``seconds``."""
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    step = POLL_SECONDS if progress is None else _LOOK_SECONDS
    while True:
        rest = min(step, deadline - time.monotonic())
        batch = yield from got(batch_id, max(0.0, rest))
        if progress is not None:
            progress(batch)
        if batch.ended or rest <= 0:
            return batch


def cancelled(batch_id: str) -> Conversation[Batch]:
    """A batch that was asked to stop."""
    return Batch((yield from document(Ask("POST", f"/v1/batches/{batch_id}/cancel"))))


def posted(batch_id: str, action: str, body: Document) -> Conversation[Batch]:
    """A batch that goes on."""
    return Batch((yield from document(json_ask("POST", f"/v1/batches/{batch_id}/{action}", body))))


def export_ask(batch_id: str, path: Path, form: str | None) -> Ask:
    """The request for all items in the form that ``form`` or the path's suffix says."""
    form = form or path.suffix.removeprefix(".")
    if form not in _FORMS:
        msg = f"cannot tell the form of {path.name}; call it .csv, .jsonl or .parquet, or give form"
        raise InputError(msg)
    return Ask("GET", f"/v1/batches/{batch_id}/export.{form}", None)
