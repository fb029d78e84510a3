"""An audit as one page that needs nothing else: styles, drawings and pictures are in it, and no script."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from markupsafe import Markup

from networks.exact import exact
from service.dashboard.assets import STATIC
from service.dashboard.batch_view import audit_charts, epsilons_of
from service.dashboard.claims import property_of, region_of
from service.dashboard.evidence_view import Shown, evidence
from service.dashboard.pages import fragment

__all__ = ["audit_report"]

#: Inputs that are shown with pictures, and rows of each table; the records have all.
_PICTURED = 36
_ROWS = 100
_SLOWEST = 10


@dataclass(frozen=True, slots=True)
class _Broken:
    """An input with a counterexample: what there is to see of it."""

    record: dict[str, Any]
    shown: Shown
    wins: int | None


def audit_report(
    records: Sequence[dict[str, Any]],
    *,
    asked: dict[str, Any] | None = None,
    total: int | None = None,
    center: Callable[[int], tuple[list[float], list[int]] | None] = lambda _: None,
    now: datetime | None = None,
) -> str:
    """The page.

    Args:
        records: as `netproof audit --out` writes them, in the order of the file; those of an exported batch, which have
            an ``epsilon`` each, as well.
        asked: the first line of a file of records, where it has one: network, data set and query.
        total: inputs of the audit, where more were asked about than have a record.
        center: gives input and shape of an index of the data set, or None where that is not at hand.
        now: when the page is made.
    """
    about = (asked or {}).get("audit", {})
    query = about.get("query", {})
    done = [each for each in records if each.get("verdict") is not None]
    number = max(total or 0, len(records))
    counts = Counter(str(each["verdict"]) for each in done)
    epsilons = epsilons_of(records)
    stated = query | ({"epsilon": ", ".join(epsilons)} if epsilons else {})
    broken = [each for each in done if each["verdict"] == "counterexample"]
    return fragment(
        "audit_report.html",
        style=Markup("<style>") + Markup(_style()) + Markup("</style>"),  # noqa: S704 - our own sheets
        network=about.get("network", {}),
        data=about.get("data", {}),
        region=region_of(stated) if stated else "",
        property=property_of({"label": "of its own"}).replace("class of its own", "its own class") if stated else "",
        counts=counts,
        total=number,
        left=number - len(done),
        accuracy=(counts["robust"] / number, 1 - counts["counterexample"] / number) if number else (0.0, 1.0),
        certified=sum(each.get("trust") == "certified" for each in done),
        misclassified=sum(each.get("decided_by") == "replay" for each in broken),
        seconds=sum(float(each["seconds"]) for each in done),
        charts=audit_charts(done, number, epsilons),
        broken=[_broken(each, query, center) for each in broken[:_PICTURED]],
        more=max(0, len(broken) - _PICTURED),
        unknown=[each for each in done if each["verdict"] == "unknown"][:_ROWS],
        slowest=sorted(done, key=lambda each: -float(each["seconds"]))[:_SLOWEST],
        made=now or datetime.now(UTC),
        version=metadata.version("netproof"),
    )


def _style() -> str:
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in ("app.css", "charts.css"))


def _broken(
    record: dict[str, Any], query: dict[str, Any], center: Callable[[int], tuple[list[float], list[int]] | None]
) -> _Broken:
    found = record["counterexample"]
    given = center(int(record["index"]))
    domain = tuple(float(exact(end)) for end in query["domain"]) if query.get("domain") else None
    shown = evidence(
        given[0] if given else None,
        found,
        shape=given[1] if given else found["shape"],
        center_output=None,
        label=record.get("label"),
        domain=domain,
        name=f"outputs-{html.escape(str(record['index']))}",
    )
    output = found["output"]
    wins = max(range(len(output)), key=output.__getitem__) if len(output) > 1 else None
    return _Broken(record, shown, wins)
