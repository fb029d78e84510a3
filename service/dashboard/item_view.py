"""What the page of a batch's item shows: one input at one epsilon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.batch_models import BatchRecord, ItemRecord
from service.batch_schemas import ItemDocument
from service.batch_views import item_document
from service.batch_work import labelled
from service.batches import ItemFilter
from service.dashboard.charts import Chart
from service.dashboard.claims import claim_of, property_of, reason_of, region_of, trust_of
from service.dashboard.evidence_view import Shown
from service.dashboard.job_view import answer_charts, evidence_of
from service.models import NetworkRecord
from service.parts import Parts

__all__ = ["ItemView", "item_view"]


@dataclass(frozen=True, slots=True)
class ItemView:
    """Everything that the template of an item prints; see `service.dashboard.job_view.JobView`.

    Attributes:
        others: the same input at the batch's other epsilons, as the API shows it.
        asked: the same question as fields of the form that asks one.
    """

    item: ItemDocument
    batch: BatchRecord
    network: NetworkRecord
    region: str
    property: str
    claim: str
    trust: str
    reason: str
    evidence: Shown
    charts: Sequence[Chart]
    others: Sequence[ItemDocument]
    asked: Mapping[str, str]


def item_view(item: ItemRecord, batch: BatchRecord, parts: Parts) -> ItemView:
    """What there is to show of an item."""
    network = parts.ledger.network(batch.network)
    query = {**batch.request["query"], "dataset": batch.dataset, "index": item.input}
    query |= labelled(query, item.label) | ({"epsilon": item.epsilon} if item.epsilon else {})
    verdict = item.verdict
    same = parts.ledger.batches.items(batch.id, ItemFilter(input=item.input))
    return ItemView(
        item=item_document(item, whole=True),
        batch=batch,
        network=network,
        region=region_of(query),
        property=property_of(query),
        claim=claim_of(verdict) if verdict is not None else "",
        trust=trust_of(verdict) if verdict is not None else "",
        reason=reason_of(verdict) if verdict is not None else "",
        evidence=evidence_of(query, verdict or {}, network, parts),
        charts=answer_charts(verdict) if verdict is not None else (),
        others=[item_document(each) for each in same] if len(same) > 1 else (),
        asked=_asked(batch, item),
    )


def _asked(batch: BatchRecord, item: ItemRecord) -> dict[str, str]:
    query = batch.request["query"]
    low, high = query.get("domain") or ("", "")
    texts = {"network": batch.network, "dataset": batch.dataset, "index": str(item.input), "epsilon": item.epsilon}
    texts |= {name: query[name] for name in ("norm", "kind") if query.get(name)}
    return texts | {"low": str(low), "high": str(high)}
