"""Charts of lengths: how many of each verdict, scores of the classes, seconds of the stages, ReLUs of the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from service.dashboard.charts.drawing import WIDTH, Chart, Series, Table, element, svg, text, text_width
from service.dashboard.charts.frame import Frame
from service.dashboard.charts.scale import count, duration, linear, number, percent

__all__ = ["Histogram", "histogram", "layers", "scores", "stages", "verdict_counts"]

_ROW = 26.0
_BAR = 16.0
#: Longer names are cut; the table has them whole.
_LONGEST = 18


def verdict_counts(counts: Mapping[Series, int], *, name: str, title: str = "Verdicts") -> Chart:
    """One bar that is divided as the inputs are, and how many each part has."""
    total = sum(counts.values())
    if not total:
        return Chart(title, "", note="There is no input.")
    body, at = [], 0.0
    for series, many in counts.items():
        width = WIDTH * many / total
        if many:
            hint = f"<title>{escape(series.name)}: {count(many)}</title>"
            body.append(element("rect", f"bar {series.css}", hint, x=at, y=0, width=width, height=30))
        at += width
    for i, (series, many) in enumerate(counts.items()):
        y = 58 + i * _ROW
        body.append(element("rect", f"bar {series.css}", x=0, y=y - 12, width=14, height=14, rx=3))
        body.append(text(24, y, series.name, "word"))
        body.append(text(WIDTH - 84, y, count(many), "word end"))
        body.append(text(WIDTH, y, percent(many / total), "tick end"))
    description = ", ".join(f"{count(many)} {series.name}" for series, many in counts.items() if many)
    rows = [(series.name, count(many), percent(many / total)) for series, many in counts.items()]
    drawing = svg(name, title, f"Of {count(total)}: {description}.", 50 + len(counts) * _ROW, body)
    return Chart(title, drawing, Table(("verdict", "inputs", "share"), rows))


def scores(
    names: Sequence[str],
    series: Mapping[Series, Sequence[float]],
    *,
    name: str,
    title: str = "Outputs",
    marked: Mapping[int, str] | None = None,
    most: int = 12,
) -> Chart:
    """Outputs of a network at one or two inputs, a bar each; where they are many, the greatest of either input.

    Args:
        names: of the outputs.
        series: the outputs at each input.
        name: begins the drawing's identifiers.
        title: the caption.
        marked: outputs that are shown in any case, and what is said beside their names.
        most: outputs that are drawn.
    """
    given = {each: values for each, values in series.items() if values}
    if not given:
        return Chart(title, "", note="The network's outputs are not known.")
    marks = marked or {}
    rank = sorted(range(len(names)), key=lambda i: (i not in marks, -max(values[i] for values in given.values())))
    shown = sorted(rank[:most])
    every = [values[i] for values in given.values() for i in shown]
    labels = [_cut(names[i]) + (f" · {marks[i]}" if i in marks else "") for i in shown]
    left = max(map(text_width, labels)) + 8
    right = WIDTH - max(text_width(number(value)) for value in every) - 8
    scale = linear(min(*every, 0.0), max(*every, 0.0)).between(left, right)
    thick = _BAR if len(given) == 1 else 11.0
    row = len(given) * (thick + 2) + 8
    body = []
    for k, i in enumerate(shown):
        y = 4 + k * row
        css = "word end strong" if i in marks else "word end"
        body.append(text(left - 8, y + (row - 8) / 2 + 4, labels[k], css))
        for j, (each, values) in enumerate(given.items()):
            begin, end = sorted((scale(0), scale(values[i])))
            top = y + j * (thick + 2)
            body.append(element("rect", f"bar {each.css}", x=begin, y=top, width=max(end - begin, 1), height=thick))
            body.append(text(end + 5, top + thick - 2, number(values[i]), "tick small"))
    height = 8 + len(shown) * row
    body.append(element("line", "zero", x1=scale(0), x2=scale(0), y1=0, y2=height))
    best = {each.name: max(range(len(names)), key=values.__getitem__) for each, values in given.items()}
    description = "; ".join(f"{what}: highest is {names[i]}" for what, i in best.items()) + "."
    rows = [(names[i], *(number(values[i]) for values in given.values())) for i in range(len(names))]
    note = f"{len(shown)} of {len(names)} outputs; the numbers have all." if len(shown) < len(names) else ""
    return Chart(
        title,
        svg(name, title, description, height, body),
        Table(("output", *(each.name for each in given)), rows),
        tuple(given) if len(given) > 1 else (),
        note,
    )


def stages(spent: Sequence[tuple[str, float, str]], *, name: str) -> Chart:
    """Where the time went.

    Args:
        spent: name, seconds and facts of each stage, in this order; stages of one name share a bar.
        name: begins the drawing's identifiers.
    """
    title = "Where the time went"
    sums: dict[str, float] = {}
    times: dict[str, int] = {}
    for stage, seconds, _ in spent:
        sums[stage] = sums.get(stage, 0.0) + max(seconds, 0.0)
        times[stage] = times.get(stage, 0) + 1
    if not sums:
        return Chart(title, "", note="The answer was there already; no stage had to run.")
    labels = {stage: _cut(stage) + (f" ×{times[stage]}" if times[stage] > 1 else "") for stage in sums}
    values = {stage: duration(seconds) for stage, seconds in sums.items()}
    drawing = _rows(
        name,
        title,
        [(labels[stage], seconds, seconds, values[stage], "neutral") for stage, seconds in sums.items()],
        f"{duration(sum(sums.values()))} in all; most of it, {values[max(sums, key=sums.__getitem__)]}, in the stage "
        f"{max(sums, key=sums.__getitem__)}.",
    )
    rows = [(stage, duration(seconds), facts) for stage, seconds, facts in spent]
    return Chart(title, drawing, Table(("stage", "time", "what it came to"), rows))


def layers(counts: Sequence[tuple[str, int, int]], *, name: str) -> Chart:
    """How many ReLUs of each layer may be on or off within the region.

    Args:
        counts: name, ReLUs and unstable ReLUs of each layer.
        name: begins the drawing's identifiers.
    """
    title = "Unstable ReLUs of each layer"
    if not counts:
        return Chart(title, "", note="No bounds of the ReLUs were computed.")
    total, unstable = sum(size for _, size, _ in counts), sum(open_ for _, _, open_ in counts)
    drawing = _rows(
        name,
        title,
        [(_cut(layer), open_, size, f"{count(open_)} of {count(size)}", "neutral") for layer, size, open_ in counts],
        f"The sign of {count(unstable)} of {count(total)} ReLUs is open within the region.",
    )
    rows = [(layer, count(size), count(open_), percent(open_ / size if size else 0.0)) for layer, size, open_ in counts]
    note = f"{count(unstable)} of {count(total)}: these are what makes a question hard."
    return Chart(title, drawing, Table(("layer", "ReLUs", "unstable", "share"), rows), note=note)


def _rows(name: str, title: str, bars: Sequence[tuple[str, float, float, str, str]], description: str) -> str:
    """Bars below each other: name, length, length of its track, what stands behind it, and its class."""
    left = max(text_width(label) for label, *_ in bars) + 8
    right = WIDTH - max(text_width(value) for _, _, _, value, _ in bars) - 8
    most = max(*(track for _, _, track, _, _ in bars), 1e-12)
    body = []
    for i, (label, length, track, value, css) in enumerate(bars):
        y = i * _ROW
        body.append(text(left - 8, y + 14, label, "word end"))
        if track > length:
            body.append(element("rect", "track", x=left, y=y + 2, width=(right - left) * track / most, height=_BAR))
        width = (right - left) * length / most
        body.append(element("rect", f"bar {css}", x=left, y=y + 2, width=max(width, 1), height=_BAR))
        body.append(text(left + (right - left) * max(length, track) / most + 6, y + 14, value, "tick"))
    return svg(name, title, description, len(bars) * _ROW, body)


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


class Histogram:
    """Counts of values in bins of equal width, for one or several series.

    Args:
        low, high: ends of the first and the last bin.
        counts: for each series, how many values each bin has.
    """

    def __init__(self, low: float, high: float, counts: Mapping[Series, Sequence[int]]) -> None:
        self.low, self.high, self.counts = low, high, counts
        self.bins = max((len(each) for each in counts.values()), default=0)

    @classmethod
    def of(cls, values: Mapping[Series, Sequence[float]], *, bins: int = 24) -> Histogram:
        """Of values; their ends become round numbers."""
        every = [value for each in values.values() for value in each]
        if not every:
            return cls(0.0, 1.0, {})
        low, high, bins = round_bins(min(every), max(every), bins)
        counts = {series: [0] * bins for series in values}
        for series, each in values.items():
            for value in each:
                counts[series][min(int((value - low) / (high - low) * bins), bins - 1)] += 1
        return cls(low, high, counts)

    def edge(self, i: int) -> float:
        """Where bin ``i`` begins."""
        return self.low + (self.high - self.low) * i / self.bins


def round_bins(low: float, high: float, most: int) -> tuple[float, float, int]:
    """Round ends around values, and how many bins of round width lie between them; 0 never lies within a bin."""
    scale = linear(low, high, most=most)
    return scale.low, scale.high, max(1, len(scale.ticks) - 1)


def histogram(found: Histogram, *, name: str, title: str, across: str, note: str = "") -> Chart:
    """How values are distributed; series stand on top of each other.

    Args:
        found: the counts.
        name: begins the drawing's identifiers.
        title: the caption.
        across: what the values are.
        note: a sentence below it.
    """
    total = sum(sum(each) for each in found.counts.values())
    if not total:
        return Chart(title, "", note="Nothing to count yet.")
    sums = [sum(each[i] for each in found.counts.values()) for i in range(found.bins)]
    x = linear(found.low, found.high, most=6)
    frame = Frame.of(x, linear(0, max(sums), most=5, label=count, whole=True), across=across, upward="inputs")
    body = []
    for i in range(found.bins):
        base = 0
        left, right = frame.x(found.edge(i)), frame.x(found.edge(i + 1))
        for series, each in found.counts.items():
            if not each[i]:
                continue
            top, bottom = frame.y(base + each[i]), frame.y(base)
            hint = (
                f"<title>{number(found.edge(i))} to {number(found.edge(i + 1))}: {count(each[i])} "
                f"{escape(series.name)}</title>"
            )
            width = max(right - left - 1, 0.5)
            body.append(
                element(
                    "rect", f"bar {series.css}", hint, x=left + 0.5, y=top, width=width, height=max(bottom - top, 0)
                )
            )
            base += each[i]
    shown = [series for series, each in found.counts.items() if any(each)]
    fullest = max(range(found.bins), key=sums.__getitem__)
    description = (
        f"{count(total)} values from {number(found.low)} to {number(found.high)}; most, {count(sums[fullest])}, "
        f"between {number(found.edge(fullest))} and {number(found.edge(fullest + 1))}."
    )
    rows = [
        (f"{number(found.edge(i))} to {number(found.edge(i + 1))}", *(count(found.counts[s][i]) for s in shown))
        for i in range(found.bins)
    ]
    return Chart(
        title,
        svg(name, title, description, frame.height, [*frame.body, *body]),
        Table((across, *(series.name for series in shown)), rows),
        shown,
        note,
    )
