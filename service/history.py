"""How a job's bounds came together: a thinned record of its progress, which is kept with its verdict."""

from __future__ import annotations

from typing import Any

__all__ = ["History"]

#: More points than this are not seen in any drawing; then every second one is left out.
_MOST = 160
_MEASURES = ("margin", "distance")


class History:
    """Collects what a job reports, in any number of reports.

    Only changes are kept: a bound holds until the next point. When there are too many, the record is thinned from then
    on to half of its resolution, and the latest point is always the last.
    """

    def __init__(self) -> None:
        self._points: list[list[float | None]] = []
        self._latest: list[float | None] | None = None
        self._every = 1
        self._seen = 0

    def add(self, document: dict[str, Any]) -> None:
        """Take note of a report, as `solver.Progress.to_json` writes it; one without bounds is passed over."""
        bounds = next((document[name] for name in _MEASURES if name in document), None)
        if bounds is None:
            return
        point = [document["seconds"], *bounds]
        if self._latest is not None and point[1:] == self._latest[1:]:
            return
        self._latest = point
        if self._seen % self._every == 0:
            self._points.append(point)
        self._seen += 1
        if len(self._points) > _MOST:
            self._points = self._points[::2]
            self._every *= 2

    def points(self) -> list[list[float | None]]:
        """``[seconds, lower, upper]`` of each point, in the order of time."""
        if self._latest is None or self._points[-1] is self._latest:
            return list(self._points)
        return [*self._points, self._latest]
