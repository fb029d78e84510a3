"""Cactus plots: how many instances are solved when each may take a given time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.records import Pair, published_seconds, solved_seconds

__all__ = ["NAMES", "cactus", "pyplot", "save"]

#: Below this, differences are of no use to anyone, and a logarithmic axis would show little else.
_LEAST = 0.01
#: More dots than this run into each other.
_FEW = 40
#: How the tools write themselves, where that is not their key.
NAMES = {"alpha_beta_crown": "α,β-CROWN", "verinet": "VeriNet", "marabou": "Marabou"}


def cactus(path: Path, groups: Mapping[str, Sequence[Pair]], tools: Sequence[str]) -> None:
    """Write a picture (PNG or SVG, by its suffix) with one panel for each group of instances.

    A curve passes through (k, t) when k instances were each solved in at most t seconds: further right is more, lower
    is faster. The published tools' seconds include their start-up and come from the competition's machines.

    Args:
        path: the file to write.
        groups: the instances with their records, by title.
        tools: which others get a curve.
    """
    plt = pyplot()
    columns = min(3, len(groups))
    rows = math.ceil(len(groups) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5 * columns, 3.6 * rows), squeeze=False)
    panels = list(axes.flat)
    for panel, (title, pairs) in zip(panels, groups.items(), strict=False):
        curves = {"netproof": solved_seconds(pairs)} | {tool: published_seconds(pairs, tool) for tool in tools}
        for name, seconds in curves.items():
            heights = [max(_LEAST, taken) for taken in sorted(seconds)]
            width = 2.4 if name == "netproof" else 1.2
            dots = {"marker": ".", "markersize": 3} if len(heights) <= _FEW else {}
            panel.plot(range(1, len(heights) + 1), heights, label=NAMES.get(name, name), linewidth=width, **dots)
        panel.set(title=f"{title} ({len(pairs)})", xlabel="solved", ylabel="seconds", yscale="log")
        panel.grid(visible=True, alpha=0.3)
    for panel in panels[len(groups) :]:
        panel.remove()
    panels[0].legend(fontsize="small")
    save(figure, path)


def pyplot() -> ModuleType:
    """Matplotlib without a screen; an SVG of the same numbers has the same bytes, and letters for text."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "netproof", "svg.fonttype": "none"})
    from matplotlib import pyplot as plt

    return plt


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG or SVG, and forget it."""
    figure.tight_layout()
    figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot().close(figure)
