"""What routes have in common: the app's parts, what paths and headers name, and how long a client waits."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Header, Path, Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from service.access.dependencies import Caller
from service.access.principal import Principal
from service.batch_models import BatchRecord, DatasetRecord, ItemRecord
from service.errors import NotFoundError
from service.evidence import Representation
from service.models import JobRecord, NetworkRecord
from service.parts import Parts
from service.problems import INVALID_REQUEST, TOO_LARGE, Fault, ProblemError

__all__ = [
    "Batch",
    "Dataset",
    "Form",
    "IfNoneMatch",
    "Item",
    "Job",
    "Network",
    "PartsOfApp",
    "Wait",
    "given_once",
    "idempotency_key_of",
    "json_body",
    "known_dataset",
    "known_network",
    "media_type",
    "read_body",
]

#: Of jobs and batches, see `service.identifiers`.
_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Query parameters that are lists.
_LISTS = frozenset({"include"})
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})", re.IGNORECASE)


async def _parts(request: Request) -> Parts:  # a coroutine, as FastAPI sends plain functions to a thread
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


PartsOfApp: TypeAlias = Annotated[Parts, Depends(_parts)]


async def given_once(request: Request) -> None:
    """Refuse query parameters that come several times: of which of them would the answer be?

    Raises:
        ProblemError: one does.
    """
    names = Counter(name for name, _ in request.query_params.multi_items() if name not in _LISTS)
    found = [Fault(name[:80], f"given {count} times; give it once") for name, count in names.items() if count > 1]
    if found:
        raise ProblemError(INVALID_REQUEST, f"{found[0].pointer}: {found[0].detail}", errors=found[:20])


async def _wait(
    parts: PartsOfApp,
    wait: Annotated[
        float | None,
        Query(ge=0, allow_inf_nan=False, description="seconds to wait for the job's end, up to the service's limit"),
    ] = None,
    prefer: Annotated[
        str | None, Header(alias="Prefer", description="`wait=N`: the same as the parameter (RFC 7240)")
    ] = None,
) -> float:
    if wait is None:
        preference = _PREFER_WAIT.search(prefer or "")
        wait = float(preference[1]) if preference else 0.0
    return min(wait, parts.settings.wait_max)


Wait: TypeAlias = Annotated[float, Depends(_wait)]


async def _job(
    job_id: Annotated[str, Path(description="identifier of the job")], parts: PartsOfApp, caller: Caller
) -> JobRecord:
    if not _ID.fullmatch(job_id):  # nothing else ever reaches the database
        raise NotFoundError(job_id[:40], kind="job")
    return await parts.jobs.ask((job_id, caller.reach))


Job: TypeAlias = Annotated[JobRecord, Depends(_job)]


async def _batch(
    batch_id: Annotated[str, Path(description="identifier of the batch")], parts: PartsOfApp, caller: Caller
) -> BatchRecord:
    if not _ID.fullmatch(batch_id):
        raise NotFoundError(batch_id[:40], kind="batch")
    return await run_in_threadpool(parts.ledger.batches.get, batch_id, owner=caller.reach)


Batch: TypeAlias = Annotated[BatchRecord, Depends(_batch)]


async def _item(
    batch: Batch,
    number: Annotated[int, Path(ge=0, lt=2**31, description="of the item in its batch")],
    parts: PartsOfApp,
) -> ItemRecord:
    return await run_in_threadpool(parts.ledger.batches.item, batch.id, number)


Item: TypeAlias = Annotated[ItemRecord, Depends(_item)]


async def known_network(sha256: str, parts: Parts, caller: Principal) -> NetworkRecord:
    """A network that the caller may use. Raises NotFoundError."""
    key = sha256, caller.reach
    known = parts.recent.networks.get(key)
    if known is None:
        known = await run_in_threadpool(parts.ledger.network, sha256, owner=caller.reach)
        parts.recent.networks.put(key, known)
    return known


async def _network(
    sha256: Annotated[str, Path(description="SHA-256 of the decompressed ONNX file")],
    parts: PartsOfApp,
    caller: Caller,
) -> NetworkRecord:
    if not _SHA256.fullmatch(sha256):
        raise NotFoundError(sha256[:80], kind="network")
    return await known_network(sha256, parts, caller)


Network: TypeAlias = Annotated[NetworkRecord, Depends(_network)]


async def known_dataset(sha256: str, parts: Parts, caller: Principal) -> DatasetRecord:
    """The data set with this hash, if the caller sees it. Raises NotFoundError."""
    if not _SHA256.fullmatch(sha256):
        raise NotFoundError(sha256[:80], kind="data set")
    return await run_in_threadpool(parts.ledger.datasets.get, sha256, owner=caller.reach)


async def _dataset(
    sha256: Annotated[str, Path(description="SHA-256 of the data set's content")],
    parts: PartsOfApp,
    caller: Caller,
) -> DatasetRecord:
    return await known_dataset(sha256, parts, caller)


Dataset: TypeAlias = Annotated[DatasetRecord, Depends(_dataset)]

IfNoneMatch: TypeAlias = Annotated[str | None, Header(alias="If-None-Match", description="an ETag that the client has")]

Form: TypeAlias = Annotated[
    Representation | None, Query(description="otherwise the Accept header decides; `json` by default")
]


def idempotency_key_of(thing: str) -> Any:
    """The header by which a client that asks again gets the ``thing`` that it got before."""
    return Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description=f"the same key with the same request gives the same {thing}; with another request it is refused",
    )


def json_body(model: type[BaseModel], **more: Any) -> dict[str, Any]:
    """What the body may be, for the API's description: routes that read it themselves have to say so themselves."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {**more, "content": {"application/json": {"schema": schema}}}}


def media_type(request: Request) -> str:
    """The body's media type without parameters, in lower case."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, limit: int, advice: str) -> bytes:
    """The whole body, at most ``limit`` bytes.

    Raises:
        ProblemError: 413, with ``advice`` on what to do instead.
    """
    pieces, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise ProblemError(TOO_LARGE, f"the body is larger than {limit} bytes, the most accepted here; {advice}")
        pieces.append(chunk)
    return b"".join(pieces)
