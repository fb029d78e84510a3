"""The record of a job's bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.history import History


def report(seconds, lower, upper, name="margin"):
    return {"stage": "bab", "seconds": seconds, name: [lower, upper], "open": 1, "nodes": 0}


@given(st.lists(st.tuples(st.floats(0, 9), st.none() | st.floats(-5, 5)), max_size=2000))
def test_it_stays_short_and_ends_with_the_latest_change(reports):
    history = History()
    changes = []
    for i, (_, lower) in enumerate(reports):
        history.add(report(i, lower, None))
        if not changes or changes[-1][1] != lower:
            changes.append([i, lower, None])
    points = history.points()
    assert len(points) <= 161
    assert points[-1:] == changes[-1:]
    assert points[:1] == changes[:1]
    assert [point[0] for point in points] == sorted({point[0] for point in points})
    assert all(point in changes for point in points)


def test_distances_are_bounds_too_and_other_reports_are_none():
    history = History()
    history.add({"stage": "flips", "seconds": 0.0, "flips": [0, 3]})
    assert history.points() == []
    history.add(report(1.0, 0.5, 2.0, "distance"))
    history.add(report(2.0, 0.5, 2.0, "distance"))
    assert history.points() == [[1.0, 0.5, 2.0]]
