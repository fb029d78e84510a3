"""Cactus plots: how many instances are solved when each may take a given time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.records import Pair, published_seconds, solved_seconds

__all__ = ["cactus"]

#: Below this, differences are of no use to anyone, and a logarithmic axis would show little else.
_LEAST = 0.01


def cactus(path: Path, groups: Mapping[str, Sequence[Pair]], tools: Sequence[str]) -> None:
    """Write a PNG with one panel for each group of instances.

    A curve passes through (k, t) when k instances were each solved in at most t seconds: further right is more, lower
    is faster. The published tools' seconds include their start-up and come from the competition's machines.

    Args:
        path: the file to write.
        groups: the instances with their records, by title.
        tools: which others get a curve.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(3, len(groups))
    rows = math.ceil(len(groups) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5 * columns, 3.6 * rows), squeeze=False)
    panels = list(axes.flat)
    for panel, (title, pairs) in zip(panels, groups.items(), strict=False):
        curves = {"netproof": solved_seconds(pairs)} | {tool: published_seconds(pairs, tool) for tool in tools}
        for name, seconds in curves.items():
            heights = [max(_LEAST, taken) for taken in sorted(seconds)]
            width = 2.4 if name == "netproof" else 1.2
            panel.plot(range(1, len(heights) + 1), heights, label=name, linewidth=width, marker=".", markersize=3)
        panel.set(title=f"{title} ({len(pairs)})", xlabel="solved", ylabel="seconds", yscale="log")
        panel.grid(visible=True, alpha=0.3)
    for panel in panels[len(groups) :]:
        panel.remove()
    panels[0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
