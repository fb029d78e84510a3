"""What the pages of a batch and of its items show, from the ledger's records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from networks.exact import exact
from service.batch_figures import Broken, Decided
from service.batch_models import BatchRecord
from service.batch_schemas import BatchDocument, PointDocument
from service.dashboard.charts import (
    Chart,
    Histogram,
    Point,
    Series,
    cactus,
    closing_interval,
    epsilon_curve,
    histogram,
    verdict_counts,
)
from service.ledger import Ledger
from service.states import BATCH_ENDED

__all__ = [
    "Failed",
    "audit_charts",
    "batch_charts",
    "cactus_of",
    "counts_chart",
    "epsilons_of",
    "failed_inputs",
    "margins_of",
]

ROBUST = Series("robust", "robust")
BROKEN = Series("counterexample", "not robust")
UNKNOWN = Series("unknown", "unknown")
FAILED = Series("failed", "failed")
LEFT = Series("left", "left")
_SERIES = {"robust": ROBUST, "counterexample": BROKEN, "unknown": UNKNOWN}


@dataclass(frozen=True, slots=True)
class Failed:
    """An input with a counterexample, and between which epsilons it breaks.

    Attributes:
        input, label: of the data set.
        number: of the item with the counterexample at the smallest epsilon.
        broken_at: that epsilon.
        robust_at: the greatest epsilon at which it is robust, "" if there is none.
    """

    input: int
    label: int
    number: int
    broken_at: str
    robust_at: str


def failed_inputs(found: Iterable[Broken]) -> list[Failed]:
    """Where inputs break, as far as is known."""
    failed = []
    for each in found:
        ordered = sorted(each.items, key=lambda item: exact(item[1]) if item[1] else 0)
        number, broken_at, _ = next(item for item in ordered if item[2] == "counterexample")
        robust = [epsilon for _, epsilon, outcome in ordered if outcome == "robust"]
        failed.append(Failed(each.input, each.label, number, broken_at, robust[-1] if robust else ""))
    return failed


def counts_chart(document: BatchDocument) -> Chart:
    """Items by verdict."""
    counts = document.counts
    found = {ROBUST: counts.robust, BROKEN: counts.counterexample, UNKNOWN: counts.unknown, FAILED: counts.failed}
    left = document.items - sum(found.values())
    return verdict_counts(found | ({LEFT: left} if left else {}), name="verdicts")


def batch_charts(record: BatchRecord, document: BatchDocument, ledger: Ledger, epsilon: str = "") -> list[Chart]:
    """The drawings of a batch.

    Args:
        record: the batch.
        document: the same, counted now.
        ledger: has the items.
        epsilon: the one whose interval is followed; by default the one that is open widest.
    """
    decided, share = ledger.figures.decided(record.id)
    note = "" if share == 1 else f"Drawn from {100 * share:.0f} % of the items, evenly chosen."
    shown = [counts_chart(document)]
    kind = record.request["query"].get("kind") or "decide"
    if kind == "decide":
        point = next((each for each in document.curve if each.epsilon == epsilon), _widest(document.curve))
        shown.append(_course(record, point, decided, document))
        if len(document.curve) > 1:
            shown.append(_curve(document.curve))
    if kind == "distance":
        shown.append(distortions_of(ledger.figures.distances(record.id)))
    else:
        shown.append(margins_of(((each.outcome, each.lower, each.upper) for each in decided), note))
    shown.append(cactus_of((each.outcome, each.seconds) for each in decided if not each.cached))
    return shown


def _widest(curve: Sequence[PointDocument]) -> PointDocument:
    """The point that is open widest; of closed ones the last."""
    return max(reversed(curve), key=lambda each: each.robust_accuracy[1] - each.robust_accuracy[0])


def _course(record: BatchRecord, point: PointDocument, decided: Sequence[Decided], document: BatchDocument) -> Chart:
    here = [each for each in decided if each.epsilon == point.epsilon]
    known = point.robust + point.counterexample
    read = sum(each.outcome in {"robust", "counterexample"} for each in here)
    weight = known / read if read else 1.0
    begun = record.created_at
    points, robust, broken = [Point(0.0, 0.0, 1.0)], 0.0, 0.0
    for each in here:
        robust += weight * (each.outcome == "robust")
        broken += weight * (each.outcome == "counterexample")
        at = max(0.0, (each.finished_at - begun).total_seconds())
        points.append(Point(at, robust / record.inputs, 1 - broken / record.inputs))
    points[-1] = Point(points[-1].at, *point.robust_accuracy)
    end = record.finished_at if record.state in BATCH_ENDED and record.finished_at else datetime.now(UTC)
    chart = closing_interval(points, name="course", total=record.inputs, end=(end - begun).total_seconds())
    if len(document.curve) == 1:
        return chart
    return Chart(f"{chart.title}, at ε {point.epsilon}", chart.drawing, chart.table, chart.legend, chart.note)


def _curve(curve: Sequence[PointDocument]) -> Chart:
    points = [Point(float(exact(each.epsilon)), *each.robust_accuracy) for each in curve]
    return epsilon_curve(points, [each.epsilon for each in curve], name="curve")


def margins_of(found: Iterable[tuple[str | None, float | None, float | None]], note: str = "") -> Chart:
    """How clearly inputs keep or break the property: what is proven of robust ones, what others attain."""
    values: dict[Series, list[float]] = {ROBUST: [], BROKEN: [], UNKNOWN: []}
    for outcome, lower, upper in found:
        series = _SERIES.get(outcome or "")
        value = upper if series is BROKEN else lower
        if series is not None and value is not None:
            values[series].append(value)
    note = note or "Of robust inputs the proven lower bound, of others the value that was attained."
    return histogram(Histogram.of(values), name="margins", title="Margins", across="margin", note=note)


def distortions_of(found: Iterable[tuple[float | None, float | None]]) -> Chart:
    """How far away the nearest violations are: the middle of what is known of each."""
    closed: dict[Series, list[float]] = {Series("lower", "proven and attained"): [], Series("unknown", "open"): []}
    done, open_ = closed.values()
    for low, high in found:
        if low is not None and high is not None and high - low <= 0.05 * max(high, 1e-9):
            done.append((low + high) / 2)
        elif low is not None or high is not None:
            open_.append(low if high is None else high)  # type: ignore[arg-type]
    note = "Open ones at the nearest violation that is known, or else at what is proven."
    return histogram(Histogram.of(closed), name="distortions", title="Minimum distortion", across="distance", note=note)


def cactus_of(found: Iterable[tuple[str | None, float]]) -> Chart:
    """How quickly inputs were decided."""
    costs: dict[Series, list[float]] = {ROBUST: [], BROKEN: []}
    for outcome, seconds in found:
        series = _SERIES.get(outcome or "")
        if series in costs:
            costs[series].append(seconds)
    return cactus({series: [*enumerate(sorted(each), 1)] for series, each in costs.items()}, name="cactus")


def audit_charts(records: Sequence[dict[str, Any]], total: int, epsilons: Sequence[str] = ()) -> list[Chart]:
    """The drawings of an audit.

    Args:
        records: that have a verdict, as `netproof audit --out` writes them, in the order of that file.
        total: how many there are to be.
        epsilons: of records that say at which they were decided, in ascending order.
    """
    counts = Counter(str(each["verdict"]) for each in records)
    found = {ROBUST: counts["robust"], BROKEN: counts["counterexample"], UNKNOWN: counts["unknown"]}
    left = total - len(records)
    shown = [verdict_counts(found | ({LEFT: left} if left else {}), name="verdicts")]
    if len(epsilons) > 1:
        shown.append(_epsilons(records, total // len(epsilons), epsilons))
    else:
        shown.append(_spent(records, total))
    margins = ((each["verdict"], *each["margin"]) for each in records)
    costs = ((each["verdict"], float(each["seconds"])) for each in records if not each.get("cached_from"))
    return [*shown, margins_of(margins), cactus_of(costs)]


def epsilons_of(records: Iterable[dict[str, Any]]) -> list[str]:
    """The epsilons that records name, in ascending order; none where they do not."""
    return sorted({str(each["epsilon"]) for each in records if each.get("epsilon")}, key=exact)


def _epsilons(records: Sequence[dict[str, Any]], inputs: int, epsilons: Sequence[str]) -> Chart:
    points = []
    for epsilon in epsilons:
        counts = Counter(str(each["verdict"]) for each in records if each["epsilon"] == epsilon)
        low, high = counts["robust"] / inputs, 1 - counts["counterexample"] / inputs
        points.append(Point(float(exact(epsilon)), low, high))
    return epsilon_curve(points, epsilons, name="curve")


def _spent(records: Sequence[dict[str, Any]], total: int) -> Chart:
    """The interval over the seconds that were spent; records do not say when they were written."""
    points, robust, broken, spent = [Point(0.0, 0.0, 1.0)], 0, 0, 0.0
    for each in records:
        spent += float(each["seconds"])
        robust += each["verdict"] == "robust"
        broken += each["verdict"] == "counterexample"
        points.append(Point(spent, robust / total, 1 - broken / total))
    chart = closing_interval(points, name="course", total=total)
    return Chart("Robust accuracy over seconds of solving", chart.drawing, chart.table, chart.legend, chart.note)
