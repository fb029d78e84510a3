"""From the ledger's records of data sets and batches to the documents that the API answers with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from service.batch_models import BatchRecord, DatasetRecord, ItemRecord
from service.batch_schemas import BatchDocument, DatasetDocument, ItemDocument
from service.batches import Group
from service.ledger import Ledger
from service.outlook import counts_of, curve_of, left_of
from service.states import ItemState
from service.verdict_schemas import VerdictDocument
from service.views import failure_document
from solver.verdict import Outcome, Trust

__all__ = ["batch_document", "dataset_document", "item_document", "item_record"]

_MINUTE = 60.0


def dataset_document(record: DatasetRecord) -> DatasetDocument:
    """A data set as the API shows it."""
    summary = record.summary
    return DatasetDocument(
        sha256=record.sha256,
        name=record.name,
        count=summary["count"],
        shape=summary["shape"],
        features=summary["features"],
        dtype=summary["dtype"],
        labels=summary["labels"],
        size=record.size,
        created_at=record.created_at,
        links={"self": f"/v1/datasets/{record.sha256}"},
    )


def batch_document(record: BatchRecord, ledger: Ledger, workers: int) -> BatchDocument:
    """A batch as the API shows it, counted now.

    Args:
        record: the batch.
        ledger: that its items are in.
        workers: how many are alive, for the estimate of what is left.
    """
    groups = ledger.batches.groups(record.id)
    curve = curve_of(record, groups)
    here = f"/v1/batches/{record.id}"
    actions = {"resume": f"{here}/resume", "retry": f"{here}/retry"} if record.ended else {"cancel": f"{here}/cancel"}
    return BatchDocument(
        id=record.id,
        name=record.name,
        state=record.state,
        network=record.network,
        dataset=record.dataset,
        request=_shown(record),
        inputs=record.inputs,
        items=record.items,
        counts=counts_of(groups),
        robust_accuracy=curve[0].robust_accuracy if len(curve) == 1 else None,
        curve=curve,
        seconds=round(_seconds(groups), 6),
        per_minute=0 if record.ended else ledger.batches.ended_since(record.id, _MINUTE),
        left=None
        if record.ended
        else left_of(record, groups, ledger.batches.running_since(record.id), workers, datetime.now(UTC)),
        created_at=record.created_at,
        finished_at=record.finished_at,
        links={
            "self": here,
            "items": f"{here}/items",
            "events": f"{here}/events",
            "csv": f"{here}/export.csv",
            "jsonl": f"{here}/export.jsonl",
            "parquet": f"{here}/export.parquet",
            "jobs": f"/v1/jobs?batch={record.id}",
            **actions,
        },
    )


def _shown(record: BatchRecord) -> dict[str, Any]:
    """The request; a long list of indices is left to the items."""
    apart = {"network", "dataset", "name", "time_limit", "total_limit"}
    shown = {key: value for key, value in record.request.items() if key not in apart}
    if shown["selection"]["indices"] is not None:
        shown["selection"] = {"indices": f"{record.inputs} indices"}
    return shown | {"time_limit": record.time_limit, "total_limit": record.total_limit}


def _seconds(groups: Sequence[Group]) -> float:
    return sum(group.sweep_seconds + group.search_seconds for group in groups)


def item_document(record: ItemRecord, *, whole: bool = False) -> ItemDocument:
    """An item as the API shows it; with its ``whole`` verdict, if the record has it."""
    here = f"/v1/batches/{record.batch}/items/{record.number}"
    verdict = Outcome(record.outcome) if record.outcome and record.state is ItemState.DONE else None
    return ItemDocument(
        number=record.number,
        index=record.input,
        epsilon=record.epsilon,
        label=record.label,
        state=record.state,
        verdict=verdict,
        trust=Trust(record.trust) if record.trust else None,
        margin=(record.lower, record.upper),
        decided_by=record.decided_by,
        seconds=round(record.seconds, 6),
        cached_from=record.cached_from,
        error=None if record.error is None else failure_document(record.error),
        job=record.job,
        finished_at=record.finished_at,
        result=VerdictDocument.model_validate(record.verdict) if whole and record.verdict is not None else None,
        links=_item_links(record, here),
    )


def _item_links(record: ItemRecord, here: str) -> dict[str, str]:
    links = {"self": here}
    if record.job is not None:
        links["job"] = f"/v1/jobs/{record.job}"
    if record.state is ItemState.DONE and record.outcome == Outcome.COUNTEREXAMPLE:
        links["counterexample"] = f"{here}/counterexample"
    if record.trust == Trust.CERTIFIED:
        links["certificate"] = f"{here}/certificate"
    return links


def item_record(record: ItemRecord, batch: BatchRecord) -> dict[str, Any]:
    """An item as one line of ``export.jsonl``: the record that ``netproof audit --out`` writes, and its epsilon."""
    found = record.verdict if record.state is ItemState.DONE and record.verdict is not None else {"verdict": None}
    return {
        "index": record.input,
        "label": record.label,
        "epsilon": record.epsilon,
        "state": str(record.state),
        **found,
        "seconds": round(record.seconds, 6),
        "cached_from": record.cached_from,
        "error": record.error,
        "engine": batch.request["engine"],
        "limit": batch.time_limit,
    }
