"""Batches and data sets of a service, for `netproof.Client`.

client = Client("http://127.0.0.1:8000")
batch = client.batches.submit("net.onnx", "test.npz", epsilon="8/255", domain=(0, 1), end=1000)
batch = client.batches.wait(batch.id, progress=lambda now: print(now.robust_accuracy))
client.batches.export(batch.id, "records.csv")
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from netproof.answers import Document, NotFoundError, document_of
from networks import Dataset
from networks.errors import InputError

__all__ = ["Batch", "Batches"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Seconds of one long poll while there is somebody to tell of progress, and while there is not.
_LOOK_SECONDS = 1.0
_POLL_SECONDS = 25.0
_FORMS = ("csv", "jsonl", "parquet")


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as the service described it in ``document``."""

    document: Document

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def state(self) -> str:
        """One of running, cancelling, cancelled, exhausted, finished."""
        return str(self.document["state"])

    @property
    def ended(self) -> bool:
        """Whether nothing happens until somebody resumes or retries it."""
        return self.state in {"cancelled", "exhausted", "finished"}

    @property
    def counts(self) -> dict[str, int]:
        """Items by state and by verdict."""
        return dict(self.document["counts"])

    @property
    def items(self) -> int:
        """Inputs times epsilons."""
        return int(self.document["items"])

    @property
    def undecided(self) -> int:
        """Items that are neither robust nor have a counterexample."""
        return self.items - self.counts["robust"] - self.counts["counterexample"]

    @property
    def curve(self) -> list[tuple[str, float, float]]:
        """For each epsilon, ascending: it, and the least and greatest share of inputs that can be robust."""
        return [(point["epsilon"], *point["robust_accuracy"]) for point in self.document["curve"]]

    @property
    def robust_accuracy(self) -> tuple[float, float] | None:
        """The interval of the robust accuracy; None with several epsilons, see `curve`."""
        found = self.document["robust_accuracy"]
        return None if found is None else (found[0], found[1])

    @property
    def seconds_left(self) -> tuple[float, bool] | None:
        """An estimate, and whether it is only an upper bound; None where there is nothing to go by."""
        left = self.document["left"]
        return None if left is None or left["seconds"] is None else (left["seconds"], left["at_most"])


class Batches:
    """What a client can do with batches; ``Client.batches`` is one.

    Args:
        request: sends a request with the client's retries: method, path, and httpx's arguments.
        upload: makes a network known to the service.
        timeout: of an answer, seconds.
    """

    def __init__(
        self, request: Callable[..., httpx.Response], upload: Callable[[str | Path | bytes], Document], timeout: float
    ) -> None:
        self._request = request
        self._upload = upload
        self._timeout = timeout

    def upload_dataset(self, data: str | Path | bytes | Dataset, *, name: str = "", dtype: str = "float32") -> Document:
        """Make a data set known to the service; one that it has is not sent again.

        Args:
            data: path or bytes of an ``.npz`` or CSV file, or a data set in memory.
            name: for lists.
            dtype: ``uint8`` takes the entries of a CSV file as bytes of images.

        Raises:
            RefusedError: it is no data set; the message says why.
        """
        if isinstance(data, str | Path):
            name = name or Path(data).name
            content = Path(data).read_bytes()
            known = Dataset.read(data).sha256 if content.startswith(b"PK") else None
        elif isinstance(data, Dataset):
            buffer = io.BytesIO()
            np.savez_compressed(buffer, images=data.stored, labels=data.labels)
            content, known, name = buffer.getvalue(), data.sha256, name or data.name
        else:
            content, known = data, None
        if known is not None:
            with contextlib.suppress(NotFoundError):
                return document_of(self._request("GET", f"/v1/datasets/{known}"))
        parameters = {"dtype": dtype} | ({"name": name} if name else {})
        headers = {"Content-Type": "application/octet-stream"}
        return document_of(self._request("POST", "/v1/datasets", content=content, headers=headers, params=parameters))

    def submit(
        self,
        network: str | Path | bytes,
        data: str | Path | bytes | Dataset,
        *,
        epsilon: float | str | Sequence[float | str],
        indices: Sequence[int] | None = None,
        begin: int = 0,
        end: int | None = None,
        step: int = 1,
        time_limit: float | None = None,
        total_limit: float | None = None,
        engine: str = "auto",
        backend: str = "auto",
        priority: str = "low",
        seed: int = 0,
        certificate: bool = False,
        reuse: bool = True,
        name: str = "",
        idempotency_key: str | None = None,
        **query: Any,
    ) -> Batch:
        """Ask the same question about many inputs, at one or several epsilons.

        Args:
            network: path or bytes of an ONNX file, or the sha256 of one that the service knows.
            data: path or bytes of a data set, a data set in memory, or the sha256 of one that the service knows.
            epsilon: radius, or radii, of the balls; a text such as ``"8/255"`` is exact.
            indices: which inputs, instead of ``begin``, ``end`` and ``step``.
            begin, end, step: inputs from ``begin`` to before ``end``, every ``step``-th; by default all.
            time_limit: seconds for each item, in the sweep and again in its own search; None: the service's default.
            total_limit: seconds of solving for the whole batch; None: unlimited.
            engine, backend, seed, certificate: see `netproof.verify`.
            priority: ``low``, ``normal`` or ``high``.
            reuse: take answers that the service has already.
            name: for lists.
            idempotency_key: the same key and request give the same batch; one is drawn per call otherwise.
            query: further members of the question, such as ``domain``, ``norm`` and ``targets``.

        Raises:
            RefusedError: the parts do not fit together; the message says what to change.
        """
        if indices is None:
            selection: Document = {"begin": begin, "end": end, "step": step}
        elif (begin, end, step) == (0, None, 1):
            selection = {"indices": [int(index) for index in indices]}
        else:
            msg = "indices and begin, end, step both say which inputs; give one of them"
            raise InputError(msg)
        several = isinstance(epsilon, Sequence) and not isinstance(epsilon, str)
        body = {
            "network": network if _known(network) else self._upload(network)["sha256"],
            "dataset": data if _known(data) else self.upload_dataset(data)["sha256"],
            "query": {"epsilon": list(epsilon) if several else epsilon}  # type: ignore[arg-type]
            | {key: value for key, value in query.items() if value is not None},
            "selection": selection,
            "name": name,
            "engine": engine,
            "backend": backend,
            "time_limit": time_limit,
            "total_limit": total_limit,
            "priority": priority,
            "seed": seed,
            "certificate": certificate,
            "reuse": reuse,
        }
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return Batch(document_of(self._request("POST", "/v1/batches", content=_json(body), headers=headers)))

    def get(self, batch_id: str, *, wait: float = 0.0) -> Batch:
        """A batch as it stands, or as it stands when it ends within ``wait`` seconds."""
        parameters = {"wait": f"{wait:g}"} if wait > 0 else {}
        timeout = self._timeout + wait
        return Batch(document_of(self._request("GET", f"/v1/batches/{batch_id}", params=parameters, timeout=timeout)))

    def list(self, *, state: str | None = None, network: str | None = None, limit: int = 20) -> Iterator[Batch]:
        """All batches, newest first, fetched ``limit`` at a time."""
        asked = {"limit": limit, "state": state, "network": network}
        return map(Batch, self._pages("/v1/batches", "batches", asked))

    def wait(
        self, batch_id: str, *, seconds: float | None = None, progress: Callable[[Batch], None] | None = None
    ) -> Batch:
        """Wait until a batch ends, at most ``seconds``; the batch as it is then.

        Args:
            batch_id: of the batch.
            seconds: None for as long as it takes.
            progress: called about once a second.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        step = _POLL_SECONDS if progress is None else _LOOK_SECONDS
        while True:
            rest = step if deadline is None else min(step, deadline - time.monotonic())
            batch = self.get(batch_id, wait=max(0.0, rest))
            if progress is not None:
                progress(batch)
            if batch.ended or rest <= 0:
                return batch

    def items(self, batch_id: str, *, limit: int = 500, **chosen: Any) -> Iterator[Document]:
        """The items of a batch without their evidence, fetched ``limit`` at a time.

        Args:
            batch_id: of the batch.
            limit: of one page.
            chosen: ``state``, ``verdict``, ``label``, ``epsilon``, ``index`` to filter, ``sort`` by ``number``,
                ``seconds`` or ``margin``.
        """
        return self._pages(f"/v1/batches/{batch_id}/items", "items", {"limit": limit, **chosen})

    def item(self, batch_id: str, number: int) -> Document:
        """One item with its whole verdict in ``result``."""
        return document_of(self._request("GET", f"/v1/batches/{batch_id}/items/{number}"))

    def cancel(self, batch_id: str) -> Batch:
        """Ask a batch to stop; what is finished stays, and `resume` goes on."""
        return Batch(document_of(self._request("POST", f"/v1/batches/{batch_id}/cancel")))

    def resume(self, batch_id: str, *, total_limit: float | None = None) -> Batch:
        """Go on with a batch that was cancelled, or whose budget was spent."""
        return self._post(f"/v1/batches/{batch_id}/resume", {"total_limit": total_limit})

    def retry(self, batch_id: str, *, time_limit: float | None = None, unknown: bool = True) -> Batch:
        """Search again for what failed and, with ``unknown``, for what stayed undecided."""
        return self._post(f"/v1/batches/{batch_id}/retry", {"time_limit": time_limit, "unknown": unknown})

    def export(self, batch_id: str, path: str | Path, *, form: str | None = None) -> Path:
        """Write all items to a file: CSV, JSON lines or Parquet, by its suffix or as ``form`` says."""
        path = Path(path)
        form = form or path.suffix.removeprefix(".")
        if form not in _FORMS:
            msg = f"cannot tell the form of {path.name}; call it .csv, .jsonl or .parquet, or give form"
            raise InputError(msg)
        timeout = httpx.Timeout(self._timeout, read=None)
        answer = self._request("GET", f"/v1/batches/{batch_id}/export.{form}", timeout=timeout)
        path.write_bytes(answer.content)
        return path

    def _post(self, path: str, body: Document) -> Batch:
        headers = {"Content-Type": "application/json"}
        return Batch(document_of(self._request("POST", path, content=_json(body), headers=headers)))

    def _pages(self, path: str, member: str, asked: Document) -> Iterator[Document]:
        parameters = {key: value for key, value in asked.items() if value is not None}
        while True:
            page = document_of(self._request("GET", path, params=parameters))
            yield from page[member]
            if not page["next_cursor"]:
                return
            parameters["cursor"] = page["next_cursor"]


def _known(name: object) -> bool:
    return isinstance(name, str) and _SHA256.fullmatch(name) is not None


def _json(body: Document) -> bytes:
    return json.dumps(body).encode()
