"""Charts: valid SVG inside its view box, readable labels, and the same said in words and numbers."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.dashboard.charts import (
    Chart,
    Histogram,
    Point,
    Series,
    cactus,
    closing_interval,
    convergence,
    epsilon_curve,
    histogram,
    layers,
    scores,
    stages,
    verdict_counts,
)
from service.dashboard.charts.drawing import coordinate, text_width
from service.dashboard.charts.scale import count, duration, linear, logarithmic, number, percent, symmetric

ROBUST, BROKEN = Series("robust", "robust"), Series("counterexample", "not robust")
SVG = "{http://www.w3.org/2000/svg}"
#: How far text may stand out of the box that its baseline and anchor are in.
MARGIN = 1.0

finite = st.floats(-1e9, 1e9)
positive = st.floats(0, 1e7)
names = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=40)


def drawn(chart: Chart) -> ET.Element:
    """The drawing, after checking what every drawing must be."""
    figure = ET.fromstring(chart.__html__())
    assert figure.tag == "figure"
    root = figure.find(f"{SVG}svg")
    assert root is not None
    assert root.get("role") == "img"
    title, description = root[0], root[1]
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert title.text
    assert description.text
    assert "nan" not in chart.drawing
    assert "inf" not in re.sub(r">[^<]*<", "><", chart.drawing)
    assert chart.table.rows
    assert all(len(row) == len(chart.table.head) for row in chart.table.rows)
    _, _, width, height = map(float, str(root.get("viewBox")).split())
    for item in root.iter():
        check_inside(item, width, height)
    check_labels(root)
    return root


def check_inside(item: ET.Element, width: float, height: float) -> None:
    for key in ("x", "x1", "x2", "cx"):
        assert -MARGIN <= float(item.get(key, 0)) <= width + MARGIN, ET.tostring(item)
    for key in ("y", "y1", "y2", "cy"):
        assert -MARGIN <= float(item.get(key, 0)) <= height + MARGIN, ET.tostring(item)
    for pair in (item.get("points") or "").split():
        x, y = map(float, pair.split(","))
        assert -MARGIN <= x <= width + MARGIN
        assert -MARGIN <= y <= height + MARGIN
    if item.tag == f"{SVG}rect":
        assert float(item.get("width", 0)) >= 0
        assert float(item.get("height", 0)) >= 0
        assert float(item.get("x", 0)) + float(item.get("width", 0)) <= width + MARGIN
        assert float(item.get("y", 0)) + float(item.get("height", 0)) <= height + MARGIN
    if item.tag == f"{SVG}text":
        wide, x, css = text_width(item.text or ""), float(item.get("x", 0)), str(item.get("class")).split()
        left = x - wide if "end" in css else x - wide / 2 if "middle" in css else x
        assert left >= -MARGIN, ET.tostring(item)
        assert left + wide <= width + MARGIN, ET.tostring(item)


def check_labels(root: ET.Element) -> None:
    """No two ticks of one axis stand on each other."""
    rows: dict[float, list[tuple[float, float]]] = {}
    columns: list[float] = []
    for item in root.iter(f"{SVG}text"):
        css = str(item.get("class")).split()
        half = text_width(item.text or "") / 2
        if "tick" in css and "middle" in css:
            rows.setdefault(float(item.get("y", 0)), []).append((float(item.get("x", 0)), half))
        elif "tick" in css and "end" in css:
            columns.append(float(item.get("y", 0)))
    for row in rows.values():
        for (a, wide), (b, wider) in zip(sorted(row), sorted(row)[1:], strict=False):
            assert b - a >= wide + wider
    assert all(b - a >= 12 for a, b in zip(sorted(columns), sorted(columns)[1:], strict=False))


@st.composite
def intervals(draw: st.DrawFn) -> list[Point]:
    times = sorted(draw(st.lists(positive, min_size=1, max_size=40)))
    lows = sorted(draw(st.lists(st.floats(0, 1), min_size=len(times), max_size=len(times))))
    return [Point(at, low, 1 - (1 - low) * low) for at, low in zip(times, lows, strict=True)]


@given(intervals(), st.integers(1, 10**7))
@settings(max_examples=40, deadline=None)
def test_closing_interval(points, total):
    chart = closing_interval(points, name="c", total=total)
    drawn(chart)
    assert percent(points[-1].low) in chart.note


@given(st.lists(st.tuples(positive, st.none() | finite, st.none() | finite), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_convergence(given_points):
    points = [Point(*each) for each in sorted(given_points, key=lambda each: each[0])]
    chart = convergence(points, name="c")
    if any(each.low is not None or each.high is not None for each in points):
        drawn(chart)
    else:
        assert not chart.drawing


def test_convergence_from_afar_still_shows_the_end():
    points = [Point(0, -1e6, None), Point(1, -0.5, 0.25), Point(2, -0.1, 0.25)]
    labels = [item.text for item in drawn(convergence(points, name="c")).iter(f"{SVG}text")]
    assert {"0", "0.1" if "0.1" in labels else "1"} <= set(labels)
    lines = [item.get("points", "").split() for item in drawn(convergence(points, name="c")).iter(f"{SVG}polyline")]
    heights = [float(line[-1].split(",")[1]) for line in lines]
    assert abs(heights[0] - heights[1]) > 5  # lower and upper end are told apart


@given(st.lists(finite, min_size=1, max_size=200), st.lists(finite, max_size=20))
@settings(max_examples=60, deadline=None)
def test_histogram_counts_everything(robust, broken):
    found = Histogram.of({ROBUST: robust, BROKEN: broken})
    assert sum(found.counts[ROBUST]) == len(robust)
    assert sum(found.counts[BROKEN]) == len(broken)
    drawn(histogram(found, name="h", title="Margins", across="margin"))


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=50))
@settings(max_examples=30, deadline=None)
def test_no_bin_of_a_histogram_holds_both_signs(values):
    found = Histogram.of({ROBUST: values})
    assert not any(found.edge(i) < -1e-9 and found.edge(i + 1) > 1e-9 for i in range(found.bins))


@given(st.lists(positive, min_size=1, max_size=400))
@settings(max_examples=40, deadline=None)
def test_cactus(costs):
    ranked = list(enumerate(sorted(costs), 1))
    chart = cactus({ROBUST: ranked, BROKEN: ranked[:3]}, name="c")
    drawn(chart)
    assert f"{count(len(costs))} robust" in chart.note


@given(st.lists(st.tuples(st.floats(1e-6, 1e4), st.floats(0, 1)), min_size=1, max_size=32, unique_by=lambda e: e[0]))
@settings(max_examples=30, deadline=None)
def test_epsilon_curve(given_points):
    points = [Point(at, low / 2, (low + 1) / 2) for at, low in sorted(given_points)]
    drawn(epsilon_curve(points, [f"{each.at:g}" for each in points], name="e"))


@given(st.lists(st.tuples(names, finite, finite), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_scores(outputs):
    labels, first, second = zip(*outputs, strict=True)
    chart = scores(labels, {ROBUST: first, BROKEN: second}, name="s", marked={0: "label"})
    drawn(chart)
    assert len(chart.table.rows) == len(outputs)


@given(st.lists(st.tuples(names, st.floats(0, 1e6), names), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_stages(spent):
    assert len(drawn(stages(spent, name="s")).findall(f"{SVG}rect")) == len({stage for stage, _, _ in spent})


@given(st.lists(st.tuples(names, st.integers(0, 10**7), st.integers(0, 10**7)), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_layers(counts):
    drawn(layers([(name, max(a, b), min(a, b)) for name, a, b in counts], name="l"))


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_verdict_counts(robust, broken, failed):
    counts = {ROBUST: robust, BROKEN: broken, Series("failed", "failed"): failed}
    parts = [item for item in drawn(verdict_counts(counts, name="v")).iter(f"{SVG}rect") if item.get("height") == "30"]
    assert sum(float(part.get("width", 0)) for part in parts) == pytest.approx(440, abs=0.1)


@pytest.mark.parametrize(
    "chart",
    [
        closing_interval([], name="c", total=3),
        convergence([], name="c"),
        convergence([Point(0, None, None)], name="c"),
        histogram(Histogram.of({ROBUST: []}), name="h", title="t", across="x"),
        cactus({ROBUST: []}, name="c"),
        epsilon_curve([], [], name="e"),
        scores([], {ROBUST: []}, name="s"),
        stages([], name="s"),
        layers([], name="l"),
        verdict_counts({ROBUST: 0}, name="v"),
    ],
)
def test_nothing_to_draw_is_said_in_words(chart):
    figure = ET.fromstring(chart.__html__())
    assert figure.find(f"{SVG}svg") is None
    assert "".join(figure.itertext()).strip() != chart.title


def test_text_is_escaped():
    chart = stages([("<script>&", 1.0, '"><b>')], name='"x"')
    assert "<script>" not in chart.__html__()
    ET.fromstring(chart.__html__())


def test_many_points_stay_a_small_drawing():
    points = [Point(i, i / 200_000, 1 - i / 400_000) for i in range(100_000)]
    assert len(closing_interval(points, name="c", total=10**5).__html__()) < 40_000


def test_a_coordinate_is_finite():
    with pytest.raises(ValueError, match="finite"):
        coordinate(math.nan)


@given(finite, finite)
@example(346176778.0, 348591978.0)
@settings(max_examples=100, deadline=None)
def test_linear_scales_hold_their_values_and_end_in_ticks(a, b):
    scale = linear(min(a, b), max(a, b))
    slack = (scale.high - scale.low) * 1e-8
    assert scale.low <= min(a, b) + slack
    assert scale.high >= max(a, b) - slack
    assert 2 <= len(scale.ticks) <= 14
    assert len(set(scale.labels)) == len(scale.labels) or abs(a - b) < 1e-6 * abs(a)


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
@settings(max_examples=60, deadline=None)
def test_logarithmic_scales_hold_their_values(a, b):
    scale = logarithmic(min(a, b), max(a, b))
    assert scale.low <= min(a, b) * (1 + 1e-9)
    assert scale.high >= max(a, b) * (1 - 1e-9)
    assert len(scale.ticks) <= 8


@given(finite, finite, st.floats(1e-6, 1e3))
@settings(max_examples=60, deadline=None)
def test_symmetric_scales_keep_the_order(a, b, fine):
    scale = symmetric(min(a, b, 0.0), max(a, b, 0.0), fine).between(0, 100)
    assert 0 <= scale(min(a, b)) <= scale(max(a, b)) <= 100


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.0004, "0.4 ms"),
        (0.038, "38 ms"),
        (2.5, "2.5 s"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (86400 * 2 + 7200, "2 d 2 h"),
        (0.9999, "1 s"),
        (59.99, "1 min"),
        (119.9, "2 min"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.5, "50 %"),
        (0.937, "93.7 %"),
        (0.9999, "99.99 %"),
        (0.999999, "> 99.99 %"),
        (1e-06, "< 0.01 %"),
        (0.0004, "0.04 %"),
    ],
)
def test_a_share_is_whole_only_where_it_is(share, words):
    assert percent(share) == words


@pytest.mark.parametrize(
    ("value", "step", "words"),
    [
        (0.1 + 0.2, 0.1, "0.3"),
        (-2, 1, "−2"),
        (2.5, 2.5, "2.5"),
        (12345, 1000, "12\u202f345"),
        (1e-07, None, "1e−7"),
        (1234567, None, "1.23e6"),
        (0.30000001, None, "0.3"),
    ],
)
def test_numbers(value, step, words):
    assert number(value, step) == words
