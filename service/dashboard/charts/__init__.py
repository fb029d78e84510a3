"""Charts as SVG: pure functions from numbers to a `Chart`, which templates print as a ``figure``.

They need no library and no script, say the same to a screen reader as to the eye (title, description and a table of the
numbers), and take their colours from ``static/charts.css``.
"""

from __future__ import annotations

from service.dashboard.charts.bars import Histogram, histogram, layers, scores, stages, verdict_counts
from service.dashboard.charts.drawing import Chart, Series, Table
from service.dashboard.charts.lines import Point, cactus, closing_interval, convergence, epsilon_curve

__all__ = [
    "Chart",
    "Histogram",
    "Point",
    "Series",
    "Table",
    "cactus",
    "closing_interval",
    "convergence",
    "epsilon_curve",
    "histogram",
    "layers",
    "scores",
    "stages",
    "verdict_counts",
]
