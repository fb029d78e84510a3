"""Batches and data sets of a service, for `netproof.AsyncClient`.

client = AsyncClient("http://127.0.0.1:8000")
batch = await client.batches.submit("net.onnx", "test.npz", epsilon="8/255", domain=(0, 1), end=1000)
async for now in client.batches.follow(batch.id):
    print(now.robust_accuracy)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from netproof import batch_asking
from netproof.answers import Document
from netproof.asking import Ask, Conversation, Pages, Source, content, document
from netproof.batch import Batch
from netproof.batch_asking import Data
from netproof.job import Event

__all__ = ["AsyncBatches"]

T = TypeVar("T")


class _Run(Protocol):
    async def __call__(self, conversation: Conversation[T], /) -> T: ...


class AsyncBatches:
    """What an asynchronous client can do with batches; ``AsyncClient.batches`` is one.

    Args:
        run: holds a conversation with the service.
        pages: the members of a list that comes in pages.
        follow: the events under a path, until one says the end.
    """

    def __init__(
        self,
        run: _Run,
        pages: Callable[[Pages], AsyncIterator[Document]],
        follow: Callable[[str, Callable[[Document], bool], str | None, float | None], AsyncIterator[Event]],
    ) -> None:
        self._run = run
        self._pages = pages
        self._follow = follow

    async def upload_dataset(self, data: Data, *, name: str = "", dtype: str = "float32") -> Document:
        """Make a data set known to the service; see `Batches.upload_dataset`."""
        return await self._run(batch_asking.uploaded(data, name=name, dtype=dtype))

    async def submit(
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
        """Ask the same question about many inputs; see `Batches.submit`."""
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
        return await self._run(batch_asking.submitted(network, data, epsilon, query, options, idempotency_key))

    async def get(self, batch_id: str, *, wait: float = 0.0) -> Batch:
        """A batch as it stands, or as it stands when it ends within ``wait`` seconds."""
        return await self._run(batch_asking.got(batch_id, wait))

    async def list(
        self, *, state: str | None = None, network: str | None = None, limit: int = 20
    ) -> AsyncIterator[Batch]:
        """All batches, newest first, fetched ``limit`` at a time."""
        pages = Pages("/v1/batches", "batches", {"limit": limit, "state": state, "network": network})
        async for found in self._pages(pages):
            yield Batch(found)

    async def wait(
        self, batch_id: str, *, seconds: float | None = None, progress: Callable[[Batch], None] | None = None
    ) -> Batch:
        """Wait until a batch ends, at most ``seconds``; the batch as it is then.

        Args:
            batch_id: of the batch.
            seconds: None for as long as it takes.
            progress: called about once a second.
        """
        return await self._run(batch_asking.ended(batch_id, seconds, progress))

    async def follow(self, batch_id: str, *, seconds: float | None = None) -> AsyncIterator[Batch]:
        """The batch whenever it has changed, until it has ended; a broken connection is resumed.

        Args:
            batch_id: of the batch.
            seconds: at most that long; None: until it ends.
        """
        path = f"/v1/batches/{batch_id}/events"
        async for event in self._follow(path, lambda found: Batch(found).ended, None, seconds):
            yield Batch(event.data)

    async def items(self, batch_id: str, *, limit: int = 500, **chosen: Any) -> AsyncIterator[Document]:
        """The items of a batch without their evidence, fetched ``limit`` at a time.

        Args:
            batch_id: of the batch.
            limit: of one page.
            chosen: ``state``, ``verdict``, ``label``, ``epsilon``, ``index`` to filter, ``sort`` by ``number``,
                ``seconds`` or ``margin``.
        """
        async for item in self._pages(Pages(f"/v1/batches/{batch_id}/items", "items", {"limit": limit, **chosen})):
            yield item

    async def item(self, batch_id: str, number: int) -> Document:
        """One item with its whole verdict in ``result``."""
        return await self._run(document(Ask("GET", f"/v1/batches/{batch_id}/items/{number}")))

    async def cancel(self, batch_id: str) -> Batch:
        """Ask a batch to stop; what is finished stays, and `resume` goes on."""
        return await self._run(batch_asking.cancelled(batch_id))

    async def resume(self, batch_id: str, *, total_limit: float | None = None) -> Batch:
        """Go on with a batch that was cancelled, or whose budget was spent."""
        return await self._run(batch_asking.posted(batch_id, "resume", {"total_limit": total_limit}))

    async def retry(self, batch_id: str, *, time_limit: float | None = None, unknown: bool = True) -> Batch:
        """Search again for what failed and, with ``unknown``, for what stayed undecided."""
        return await self._run(batch_asking.posted(batch_id, "retry", {"time_limit": time_limit, "unknown": unknown}))

    async def export(self, batch_id: str, path: str | Path, *, form: str | None = None) -> Path:
        """Write all items to a file: CSV, JSON lines or Parquet, by its suffix or as ``form`` says."""
        path = Path(path)
        path.write_bytes(await self._run(content(batch_asking.export_ask(batch_id, path, form))))
        return path
