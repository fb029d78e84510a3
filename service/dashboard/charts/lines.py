"""Charts of something that goes along: intervals that close, bounds that converge, times, and the curve over ε."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeVar

from service.dashboard.charts.drawing import Chart, Series, Table, element, svg
from service.dashboard.charts.frame import Frame, area, bands, polyline
from service.dashboard.charts.scale import (
    Scale,
    count,
    duration,
    linear,
    logarithmic,
    number,
    percent,
    symmetric,
    time_unit,
)

__all__ = ["Point", "cactus", "closing_interval", "convergence", "epsilon_curve"]

T = TypeVar("T")

#: More corners than this are not seen, and no table of numbers needs more rows than the second.
_CORNERS = 160
_ROWS = 40
#: A bound that was so many times farther away than the interval is wide now needs a scale by powers of ten.
_FAR = 25.0
#: What is nearer to 0 than this share of the range is drawn at 0.
_NEAREST = 1e-9
#: A lower bound below this says that the value is positive; as a length it would mislead.
_SIGN_ONLY = 1e-9


@dataclass(frozen=True, slots=True)
class Point:
    """Least and greatest value that is possible, at a place of the horizontal axis; None: nothing known."""

    at: float
    low: float | None
    high: float | None


def closing_interval(points: Sequence[Point], *, name: str, total: int, end: float | None = None) -> Chart:
    """The interval of the robust accuracy as it closed.

    Args:
        points: seconds since the beginning and the interval from then on, in this order.
        name: begins the drawing's identifiers.
        total: inputs that the shares are of.
        end: seconds until which the last interval has held; by default until the last point.
    """
    title = "Robust accuracy over time"
    known = [each for each in points if each.low is not None and each.high is not None]
    if not known:
        return Chart(title, "", note="No input is decided yet.")
    end = max(end or 0.0, known[-1].at)
    shares = linear(0, 1, most=6, label=percent)
    frame = Frame.of(_time(end), shares, across=_time_name(end), upward="share of the inputs")
    chosen = _thinned(known, _CORNERS)
    low = bands([(frame.x(each.at), frame.y(each.low or 0.0)) for each in chosen], frame.x(end))
    high = bands([(frame.x(each.at), frame.y(_or_one(each.high))) for each in chosen], frame.x(end))
    ground, ceiling = frame.y(0), frame.y(1)
    body = [
        area("fill robust", low, [(low[0][0], ground), (low[-1][0], ground)]),
        area("fill unknown", high, low),
        area("fill counterexample", [(high[0][0], ceiling), (high[-1][0], ceiling)], high),
        polyline("line robust", low),
        polyline("line counterexample", high),
    ]
    last = known[-1]
    interval = _shares(last.low or 0.0, _or_one(last.high))
    description = f"After {duration(end)}, the robust accuracy of {count(total)} inputs is {interval}."
    rows = [(duration(each.at), percent(each.low or 0.0), percent(_or_one(each.high))) for each in _few(known)]
    return Chart(
        title,
        svg(name, title, description, frame.height, [*body, *frame.body]),
        Table(("after", "proven robust", "not refuted"), rows),
        (Series("robust", "proven robust"), Series("unknown", "open"), Series("counterexample", "refuted")),
        description,
    )


def _or_one(value: float | None) -> float:
    return 1.0 if value is None else value


def convergence(points: Sequence[Point], *, name: str, measures: str = "margin", end: float | None = None) -> Chart:
    """A lower and an upper bound as they came together.

    Args:
        points: seconds since the beginning, proven lower bound and smallest attained value from then on.
        name: begins the drawing's identifiers.
        measures: what is bounded: ``margin`` or ``distance``.
        end: seconds until which the last bounds have held.
    """
    title = f"Bounds of the {measures} over time"
    known = [each for each in points if each.low is not None or each.high is not None]
    if not known:
        return Chart(title, "", note="No bound was reported.")
    end = max(end or 0.0, known[-1].at)
    values = [value for each in known for value in (each.low, each.high) if value is not None]
    frame = Frame.of(_time(end), _bound_scale(values, known[-1]), across=_time_name(end), upward=measures)
    chosen = _thinned(known, _CORNERS)
    lower = [(frame.x(each.at), frame.y(each.low)) for each in chosen if each.low is not None]
    upper = [(frame.x(each.at), frame.y(each.high)) for each in chosen if each.high is not None]
    steps = {"lower": bands(lower, frame.x(end)), "upper": bands(upper, frame.x(end))}
    body = [polyline(f"line {css}", line) for css, line in steps.items() if line]
    body += [
        element("circle", f"dot {css}", cx=line[-1][0], cy=line[-1][1], r=3.5) for css, line in steps.items() if line
    ]
    last = (_latest(known, "low"), _latest(known, "high"))
    proven = "nothing is proven" if last[0] is None else f"the {measures} is proven to be {_least(last[0])}"
    attained = "none is attained" if last[1] is None else f"{number(last[1])} is attained"
    description = f"After {duration(end)}, {proven}, and {attained}."
    rows = [(duration(each.at), _bound(each.low), _bound(each.high)) for each in _few(known)]
    return Chart(
        title,
        svg(name, title, description, frame.height, [*frame.body, *body]),
        Table(("after", "proven at least", "attained"), rows),
        (Series("lower", "proven lower bound"), Series("upper", "smallest attained value")),
        description,
    )


def _latest(points: Sequence[Point], end: str) -> float | None:
    return next((getattr(each, end) for each in reversed(points) if getattr(each, end) is not None), None)


def _least(value: float) -> str:
    """A lower bound in words. Searches that clip their cells prove the sign and no more."""
    return "above 0" if 0 < value < _SIGN_ONLY else f"at least {number(value)}"


def _bound(value: float | None) -> str:
    return "–" if value is None else number(value)


def _bound_scale(values: Sequence[float], last: Point) -> Scale:
    """Even, or by powers of ten where the first bounds were far from what they came to."""
    now = [abs(value) for value in (last.low, last.high) if value is not None and value != 0]
    fine = max(now, default=0.0)
    low, high = min(*values, 0.0), max(*values, 0.0)
    if fine and max(-low, high) > _FAR * fine:
        return symmetric(low, high, max(fine, _NEAREST * max(-low, high)))
    return linear(low, high)


def cactus(costs: Mapping[Series, Sequence[tuple[int, float]]], *, name: str) -> Chart:
    """How many were solved within how many seconds each: one rising line for each series.

    Args:
        costs: for each series, pairs of a rank and the seconds of the input that has it, ranks ascending from 1; ranks
            may be left out.
        name: begins the drawing's identifiers.
    """
    title = "Solved within a time each"
    known = {series: [(rank, max(cost, 1e-4)) for rank, cost in ranked] for series, ranked in costs.items() if ranked}
    if not known:
        return Chart(title, "", note="Nothing is solved yet.")
    every = [cost for ranked in known.values() for _, cost in ranked]
    most = max(ranked[-1][0] for ranked in known.values())
    along = linear(0, most, most=5, label=count, whole=True)
    frame = Frame.of(along, logarithmic(min(every), max(every), label=duration), across="inputs", upward="time for one")
    body = []
    for series, ranked in known.items():
        line = [(frame.x(rank), frame.y(cost)) for rank, cost in _thinned(ranked, _CORNERS)]
        body.append(polyline(f"line {series.css}", [(frame.x(0), line[0][1]), *line]))
        body.append(element("circle", f"dot {series.css}", cx=line[-1][0], cy=line[-1][1], r=3))
    sentences = [
        f"{count(ranked[-1][0])} {series.name}, the slowest in {duration(ranked[-1][1])}"
        for series, ranked in known.items()
    ]
    rows = [
        (series.name, count(rank), duration(cost))
        for series, ranked in known.items()
        for rank, cost in _few(ranked, 12)
    ]
    description = "; ".join(sentences) + "."
    return Chart(
        title,
        svg(name, title, description, frame.height, [*frame.body, *body]),
        Table(("verdict", "solved", "within"), rows),
        tuple(known),
        description,
    )


def epsilon_curve(points: Sequence[Point], texts: Sequence[str], *, name: str) -> Chart:
    """The interval of the robust accuracy at each ε.

    Args:
        points: ε and the interval there, in ascending order.
        texts: the epsilons as they were written.
        name: begins the drawing's identifiers.
    """
    title = "Robust accuracy over ε"
    if not points:
        return Chart(title, "", note="The question has no ε.")
    along = linear(0, points[-1].at or 1.0, most=6)
    frame = Frame.of(along, linear(0, 1, label=percent), across="ε", upward="share of the inputs")
    low = [(frame.x(each.at), frame.y(each.low or 0.0)) for each in points]
    high = [(frame.x(each.at), frame.y(_or_one(each.high))) for each in points]
    body = [area("fill unknown", high, low)] if len(points) > 1 else []
    if len(points) > 1:
        body += [polyline("line robust", low), polyline("line counterexample", high)]
    for (x, bottom), (_, top), point, written in zip(low, high, points, texts, strict=True):
        hint = f"<title>{escape(f'ε {written}: {_shares(point.low or 0.0, _or_one(point.high))}')}</title>"
        body.append(element("line", "whisker", x1=x, x2=x, y1=bottom, y2=top))
        body.append(element("circle", "dot counterexample", hint, cx=x, cy=top, r=3.5))
        body.append(element("circle", "dot robust", hint, cx=x, cy=bottom, r=3.5))
    rows = [
        (written, percent(each.low or 0.0), percent(_or_one(each.high)))
        for each, written in zip(points, texts, strict=True)
    ]
    description = "; ".join(
        f"ε {written}: {_shares(each.low or 0.0, _or_one(each.high))}"
        for written, each in zip(texts, points, strict=True)
    )
    return Chart(
        title,
        svg(name, title, f"{description}.", frame.height, [*frame.body, *body]),
        Table(("ε", "proven robust", "not refuted"), rows),
        (Series("robust", "proven robust"), Series("counterexample", "not refuted")),
    )


def _shares(low: float, high: float) -> str:
    if high - low < 1e-12:
        return percent(low)
    return f"between {percent(low)} and {percent(high)}"


def _time(end: float) -> Scale:
    unit = time_unit(end)
    scale = linear(0, max(end, 1e-3) / unit.seconds, most=5)
    ticks = tuple(tick * unit.seconds for tick in scale.ticks if tick * unit.seconds <= max(end, 1e-3) * (1 + 1e-9))
    # the axis ends where the data do: a last step that is empty says nothing
    return Scale(0.0, max(end, 1e-3), 0.0, 1.0, ticks, scale.labels[: len(ticks)], _same)


def _same(value: float) -> float:
    return value


def _time_name(end: float) -> str:
    return f"time in {time_unit(end).name}"


def _thinned(points: Sequence[T], most: int) -> list[T]:
    """At most about ``most`` of the points, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def _few(points: Sequence[T], most: int = _ROWS) -> list[T]:
    return _thinned(points, most)
