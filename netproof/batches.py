"""Batches and data sets of a service, for `netproof.Client`.

client = Client("http://127.0.0.1:8000")
batch = client.batches.submit("net.onnx", "test.npz", epsilon="8/255", domain=(0, 1), end=1000)
batch = client.batches.wait(batch.id, progress=lambda now: print(now.robust_accuracy))
client.batches.export(batch.id, "records.csv")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from netproof import batch_asking
from netproof.answers import Document
from netproof.asking import Ask, Conversation, Pages, Source, content, document
from netproof.batch import Batch
from netproof.batch_asking import Data
from netproof.job import Event

__all__ = ["Batch", "Batches"]

T = TypeVar("T")


class _Run(Protocol):
    def __call__(self, conversation: Conversation[T], /) -> T: ...


class Batches:
    """What a client can do with batches; ``Client.batches`` is one.

    Args:
        run: holds a conversation with the service.
        pages: the members of a list that comes in pages.
        follow: the events under a path, until one says the end.
    """

    def __init__(
        self,
        run: _Run,
        pages: Callable[[Pages], Iterator[Document]],
        follow: Callable[[str, Callable[[Document], bool], str | None, float | None], Iterator[Event]],
    ) -> None:
        self._run = run
        self._pages = pages
        self._follow = follow

    def upload_dataset(self, data: Data, *, name: str = "", dtype: str = "float32") -> Document:
        """Make a data set known to the service; one that it has is not sent again.

        Args:
            data: path or bytes of an ``.npz`` or CSV file, or a data set in memory.
            name: for lists.
            dtype: ``uint8`` takes the entries of a CSV file as bytes of images.

        Raises:
            RefusedError: it is no data set; the message says why.
        """
        return self._run(batch_asking.uploaded(data, name=name, dtype=dtype))

    def submit(
        self,
        network: Source,
        data: Data,
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
        options = {
            "selection": batch_asking.selection_of(indices, begin, end, step),
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
        return self._run(batch_asking.submitted(network, data, epsilon, query, options, idempotency_key))

    def get(self, batch_id: str, *, wait: float = 0.0) -> Batch:
        """A batch as it stands, or as it stands when it ends within ``wait`` seconds."""
        return self._run(batch_asking.got(batch_id, wait))

    def list(self, *, state: str | None = None, network: str | None = None, limit: int = 20) -> Iterator[Batch]:
        """All batches, newest first, fetched ``limit`` at a time."""
        pages = Pages("/v1/batches", "batches", {"limit": limit, "state": state, "network": network})
        for found in self._pages(pages):
            yield Batch(found)

    def wait(
        self, batch_id: str, *, seconds: float | None = None, progress: Callable[[Batch], None] | None = None
    ) -> Batch:
        """Wait until a batch ends, at most ``seconds``; the batch as it is then.

        Args:
            batch_id: of the batch.
            seconds: None for as long as it takes.
            progress: called about once a second.
        """
        return self._run(batch_asking.ended(batch_id, seconds, progress))

    def follow(self, batch_id: str, *, seconds: float | None = None) -> Iterator[Batch]:
        """The batch whenever it has changed, until it has ended; a broken connection is resumed.

        Args:
            batch_id: of the batch.
            seconds: at most that long; None: until it ends.
        """
        path = f"/v1/batches/{batch_id}/events"
        for event in self._follow(path, lambda found: Batch(found).ended, None, seconds):
            yield Batch(event.data)

    def items(self, batch_id: str, *, limit: int = 500, **chosen: Any) -> Iterator[Document]:
        """The items of a batch without their evidence, fetched ``limit`` at a time.

        Args:
            batch_id: of the batch.
            limit: of one page.
            chosen: ``state``, ``verdict``, ``label``, ``epsilon``, ``index`` to filter, ``sort`` by ``number``,
                ``seconds`` or ``margin``.
        """
        yield from self._pages(Pages(f"/v1/batches/{batch_id}/items", "items", {"limit": limit, **chosen}))

    def item(self, batch_id: str, number: int) -> Document:
        """One item with its whole verdict in ``result``."""
        return self._run(document(Ask("GET", f"/v1/batches/{batch_id}/items/{number}")))

    def cancel(self, batch_id: str) -> Batch:
        """Ask a batch to stop; what is finished stays, and `resume` goes on."""
        return self._run(batch_asking.cancelled(batch_id))

    def resume(self, batch_id: str, *, total_limit: float | None = None) -> Batch:
        """Go on with a batch that was cancelled, or whose budget was spent."""
        return self._run(batch_asking.posted(batch_id, "resume", {"total_limit": total_limit}))

    def retry(self, batch_id: str, *, time_limit: float | None = None, unknown: bool = True) -> Batch:
        """Search again for what failed and, with ``unknown``, for what stayed undecided."""
        return self._run(batch_asking.posted(batch_id, "retry", {"time_limit": time_limit, "unknown": unknown}))

    def export(self, batch_id: str, path: str | Path, *, form: str | None = None) -> Path:
        """Write all items to a file: CSV, JSON lines or Parquet, by its suffix or as ``form`` says."""
        path = Path(path)
        path.write_bytes(self._run(content(batch_asking.export_ask(batch_id, path, form))))
        return path
