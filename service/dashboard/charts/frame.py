"""The frame of a chart with two axes: where things go, grid, ticks and names of the axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.dashboard.charts.drawing import WIDTH, coordinate, element, text, text_width
from service.dashboard.charts.scale import Scale

__all__ = ["Frame", "area", "bands", "polyline"]

HEIGHT = 250.0
_TOP = 24.0
_BELOW = 42.0
_RIGHT = 14.0
_GAP = 8.0
#: Labels below each other need so much room.
_LINE = 15.0


@dataclass(frozen=True, slots=True)
class Frame:
    """Two scales in place, and the elements that show them."""

    x: Scale
    y: Scale
    height: float
    body: tuple[str, ...]

    @classmethod
    def of(cls, x: Scale, y: Scale, *, across: str, upward: str, height: float = HEIGHT) -> Frame:
        """A frame around the values of two scales.

        Args:
            x, y: the scales.
            across, upward: what they are about, with units.
            height: of the view box.
        """
        left = max(map(text_width, y.labels)) + _GAP + 4
        bottom = height - _BELOW
        placed = y.between(bottom, _TOP)
        along = x.between(left, WIDTH - _RIGHT)
        body = [text(0, 13, upward, "axis-name")]
        taken: list[float] = []
        for value, label in sorted(zip(placed.ticks, placed.labels, strict=True), key=lambda tick: tick[0] != 0):
            at = placed(value)
            if any(abs(at - other) < _LINE for other in taken):
                continue
            taken.append(at)
            body.append(element("line", "zero" if value == 0 else "grid", x1=left, x2=WIDTH - _RIGHT, y1=at, y2=at))
            body.append(text(left - _GAP, at + 4.5, label, "tick end"))
        body += _across(along, bottom)
        body.append(text((left + WIDTH - _RIGHT) / 2, height - 4, across, "axis-name middle"))
        return cls(along, placed, height, tuple(body))


def _across(x: Scale, bottom: float) -> list[str]:
    """Ticks of the horizontal axis: as many as fit beside each other, and none beyond the drawing."""
    drawn: list[str] = []
    free = -1e9
    for value, label in zip(x.ticks, x.labels, strict=True):
        at, half = x(value), text_width(label) / 2
        centre = max(half, min(at, WIDTH - half))
        if centre - half < free:
            continue
        free = centre + half + _GAP
        drawn.append(element("line", "grid", x1=at, x2=at, y1=bottom, y2=bottom + 4))
        drawn.append(text(centre, bottom + 17, label, "tick middle"))
    return drawn


def polyline(css: str, points: Sequence[tuple[float, float]]) -> str:
    """A line through points."""
    return element("polyline", css, points=" ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in points))


def area(css: str, above: Sequence[tuple[float, float]], below: Sequence[tuple[float, float]]) -> str:
    """What lies between two lines."""
    outline = [*above, *reversed(below)]
    return element("polygon", css, points=" ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in outline))


def bands(points: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """The steps of a value that keeps until the next point, and from the last one until ``end``."""
    steps: list[tuple[float, float]] = []
    for x, y in points:
        if steps:
            steps.append((x, steps[-1][1]))
        steps.append((x, y))
    if steps and end > steps[-1][0]:
        steps.append((end, steps[-1][1]))
    return steps
