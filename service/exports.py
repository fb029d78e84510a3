"""A batch's items as a file: CSV, JSON lines or Parquet, read from the ledger a page at a time."""

from __future__ import annotations

import csv
import enum
import io
import json
from collections.abc import Iterator
from typing import Any

from service.batch_models import BatchRecord, ItemRecord
from service.batch_views import item_record
from service.ledger import Ledger
from service.problems import NOT_ACCEPTABLE, ProblemError
from service.states import ItemState

__all__ = ["COLUMNS", "MEDIA_TYPES", "Export", "export"]

_PAGE = 500

#: Columns of CSV and Parquet, with their Parquet types.
COLUMNS: dict[str, str] = {
    "index": "int64",
    "label": "int64",
    "epsilon": "string",
    "state": "string",
    "verdict": "string",
    "trust": "string",
    "semantics": "string",
    "margin_lower": "float64",
    "margin_upper": "float64",
    "distance_lower": "float64",
    "distance_upper": "float64",
    "seconds": "float64",
    "decided_by": "string",
    "reason": "string",
    "error": "string",
    "cached_from": "string",
    "job": "string",
    "finished_at": "string",
}


class Export(enum.StrEnum):
    """Forms of an export, by their file suffix."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


MEDIA_TYPES: dict[Export, str] = {
    Export.CSV: "text/csv; charset=utf-8",
    Export.JSONL: "application/x-ndjson",
    Export.PARQUET: "application/vnd.apache.parquet",
}


def export(batch: BatchRecord, ledger: Ledger, form: Export) -> Iterator[bytes]:
    """The file, piece by piece, with every item in the order of its number, those without a verdict included.

    Raises:
        ProblemError: Parquet, without the package that writes it; raised before the first piece.
    """
    match form:
        case Export.CSV:
            return _csv(batch, ledger)
        case Export.JSONL:
            return _jsonl(batch, ledger)
        case Export.PARQUET:
            return _parquet(batch, ledger)


def _pages(batch: BatchRecord, ledger: Ledger) -> Iterator[list[ItemRecord]]:
    after = None
    while page := ledger.batches.items(batch.id, limit=_PAGE, after=after, verdicts=True):
        yield page
        after = (None, page[-1].number)


def _row(item: ItemRecord) -> dict[str, Any]:
    verdict = (item.verdict or {}) if item.state is ItemState.DONE else {}
    distance = verdict.get("distance") or (None, None)
    return {
        "index": item.input,
        "label": item.label,
        "epsilon": item.epsilon,
        "state": str(item.state),
        "verdict": item.outcome if item.state is ItemState.DONE else None,
        "trust": item.trust,
        "semantics": verdict.get("semantics"),
        "margin_lower": item.lower,
        "margin_upper": item.upper,
        "distance_lower": distance[0],
        "distance_upper": distance[1],
        "seconds": round(item.seconds, 6),
        "decided_by": item.decided_by,
        "reason": verdict.get("reason"),
        "error": item.error["message"] if item.error else None,
        "cached_from": _origin(item.cached_from),
        "job": item.job,
        "finished_at": item.finished_at.isoformat() if item.finished_at else None,
    }


def _origin(source: dict[str, Any] | None) -> str | None:
    """Where an answer was taken from: a job, or an item of a batch."""
    if source is None:
        return None
    place = source["job"] if "job" in source else f"{source['batch']}/{source['item']}"
    return f"{place} at {source['epsilon']}" if "epsilon" in source else str(place)


def _csv(batch: BatchRecord, ledger: Ledger) -> Iterator[bytes]:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    for page in _pages(batch, ledger):
        writer.writerows(_row(item) for item in page)
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


def _jsonl(batch: BatchRecord, ledger: Ledger) -> Iterator[bytes]:
    for page in _pages(batch, ledger):
        yield "".join(json.dumps(item_record(item, batch)) + "\n" for item in page).encode()


def _parquet(batch: BatchRecord, ledger: Ledger) -> Iterator[bytes]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        detail = (
            "this service has no pyarrow, which writes Parquet: take export.csv or export.jsonl, or ask its operator "
            "for pip install 'netproof[parquet]'"
        )
        raise ProblemError(NOT_ACCEPTABLE, detail) from error
    return _row_groups(batch, ledger, pa, pq)


def _row_groups(batch: BatchRecord, ledger: Ledger, pa: Any, pq: Any) -> Iterator[bytes]:
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()])
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema) as writer:
        for page in _pages(batch, ledger):
            writer.write_table(pa.Table.from_pylist([_row(item) for item in page], schema=schema))
            yield _taken(sink)
    yield _taken(sink)


def _taken(sink: io.BytesIO) -> bytes:
    """What was written since last time; a Parquet file is written front to back."""
    piece = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return piece
