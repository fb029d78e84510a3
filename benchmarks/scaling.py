"""How the cost of an answer grows: with batch size, with unstable ReLUs, with cores and with open cells.

    python -m benchmarks.scaling [batch memory unstable cores] [--seconds S] [--images N]

Every measurement is one call of `solver.verify` or `solver.audit.audit` with a part of its policy varied. The points go
to ``benchmarks/results/scaling.csv``, a plot with a panel for each measurement to ``scaling.png`` beside it.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import solver
from benchmarks.cactus import pyplot, save
from benchmarks.material import NETWORKS, Material, material
from benchmarks.places import RESULTS
from solver import Budget, Engine, Options, Outcome, Progress, policy
from solver.audit import Ball, audit

__all__ = ["Point", "main"]

#: An image of MNIST's test set, and a class, on which RSL18a keeps branch and bound busy for minutes.
_LASTING, _TARGET = 7, 2

_BATCHES = (1, 4, 16, 64, 128, 256, 512)
_RADII = {"WK17a": ("0.05", "0.1", "0.15", "0.2"), "RSL18a": ("0.04", "0.06", "0.08", "0.1")}
_RADII["mnist_fc 256x2"] = _RADII["mnist_fc 256x4"] = ("0.005", "0.01", "0.02", "0.03")


@dataclass(frozen=True, slots=True)
class Point:
    """One measured point: ``y`` at ``x`` in a series of a measurement; ``note`` says what to know about it."""

    measurement: str
    series: str
    x: float
    y: float
    note: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table for each measurement, write CSV and plot; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("which", nargs="*", choices=[*_MEASUREMENTS, []], metavar="MEASUREMENT", help="default: all")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="for one search (default 5)")
    parser.add_argument("--images", type=int, default=5, metavar="N", help="inputs for each radius (default 5)")
    options = parser.parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    points: list[Point] = []
    for name in options.which or _MEASUREMENTS:
        found = list(_MEASUREMENTS[name].measure(options.seconds, options.images))
        console.print(_table(name, found))
        points += found
    if not torch.cuda.is_available():
        console.print("GPU: torch sees none on this machine, so nothing was measured on one")
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "scaling.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([each.name for each in fields(Point)])
        writer.writerows(astuple(point) for point in points)
    _plot(path.with_suffix(".png"), points)
    console.print(f"points: {path}; plot: {path.with_suffix('.png')}")
    return 0


def _batch(seconds: float, _images: int) -> Iterator[Point]:
    chosen = material("RSL18a")
    for size in _BATCHES:
        with _policy("BAB_BATCH", size):
            began = time.process_time()
            nodes = _search(chosen, seconds)
        yield Point("batch", chosen.title, size, nodes / (time.process_time() - began))


def _memory(seconds: float, _images: int) -> Iterator[Point]:
    chosen = material("RSL18a")
    before = _resident()
    seen: list[Point] = []

    def note(progress: Progress) -> None:
        if progress.stage == "bab":
            seen.append(Point("memory", chosen.title, progress.open, (_resident() - before) / 2**20))

    _search(chosen, 3 * seconds, note)
    # A few points say as much as all of them.
    yield from seen[:: max(1, len(seen) // 10)]


def _unstable(seconds: float, images: int) -> Iterator[Point]:
    for name in NETWORKS:
        chosen = material(name)
        for radius in _RADII[name]:
            for index in range(images):
                query, began = chosen.query(index, radius), time.process_time()
                verdict = solver.verify(chosen.network, query, budget=Budget(seconds))
                taken = time.process_time() - began
                unstable = [stage.detail["unstable"] for stage in verdict.stages if stage.name == "linear"]
                if verdict.outcome is not Outcome.COUNTEREXAMPLE and unstable:
                    note = f"ε = {radius}" + ", open" * (verdict.outcome is Outcome.UNKNOWN)
                    yield Point("unstable", name, unstable[0], taken, note)


def _cores(seconds: float, images: int) -> Iterator[Point]:
    counts = range(1, (os.cpu_count() or 1) + 1)
    chosen, ball = material("WK17a"), Ball("0.1", domain=(0, 1))
    indices = range(min(20 * images, len(chosen.dataset)))
    for processes in counts:
        began = time.monotonic()
        records = list(audit(chosen.network, chosen.dataset, indices, ball, seconds=seconds, processes=processes))
        taken = time.monotonic() - began
        yield Point(
            "cores", "inputs audited a second", processes, len(records) / taken, f"start included, {taken:.1f} s"
        )
    deep = material("mnist_fc 256x4")
    for threads in counts:
        query, options = deep.query(0, "0.02"), Options(Engine.MILP)
        verdict = solver.verify(deep.network, query, options=options, budget=Budget(seconds, threads))
        for stage in verdict.stages:
            if stage.name == "tighten":
                solved = stage.detail["lp"]["solved"]
                yield Point("cores", "LPs of neurons a second", threads, solved / stage.seconds, f"{solved} solved")


@dataclass(frozen=True, slots=True)
class _Measurement:
    title: str
    x: str
    y: str
    measure: Callable[[float, int], Iterator[Point]]
    log: tuple[str, ...] = ()


_MEASUREMENTS = {
    "memory": _Measurement("memory of open cells", "open cells", "MiB more than at the start", _memory),
    "batch": _Measurement("batch size", "cells split together", "cells a CPU second", _batch, ("x",)),
    "unstable": _Measurement("unstable ReLUs", "unstable after backward bounds", "CPU seconds", _unstable, ("x", "y")),
    "cores": _Measurement("cores", "processes or threads", "a second", _cores),
}


def _search(chosen: Material, seconds: float, progress: Callable[[Progress], None] | None = None) -> int:
    """Branch and bound alone, for some seconds, on a query that does not end soon; the cells that it took."""
    verdict = solver.verify(
        chosen.network,
        chosen.query(_LASTING, targets=[_TARGET]),
        options=Options(Engine.BAB),
        budget=Budget(seconds),
        progress=progress,
    )
    return sum(int(stage.detail["nodes"]) for stage in verdict.stages if stage.name == "bab")


@contextmanager
def _policy(name: str, value: float) -> Iterator[None]:
    """One number of the policy changed."""
    before = getattr(policy, name)
    setattr(policy, name, value)
    try:
        yield
    finally:
        setattr(policy, name, before)


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _table(name: str, points: Sequence[Point]) -> Table:
    """The points; those of a radius together, as medians."""
    shape = _MEASUREMENTS[name]
    table = Table("series", shape.x, shape.y, "note", title=shape.title)
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        alone = "" if name == "unstable" else str(point.x)
        groups.setdefault((point.series, point.note.removesuffix(", open") + alone), []).append(point)
    for (series, _), members in groups.items():
        x, y = (statistics.median(getattr(point, axis) for point in members) for axis in ("x", "y"))
        is_open = sum(point.note.endswith("open") for point in members)
        note = members[0].note.removesuffix(", open")
        if name == "unstable":
            note += f", median of {len(members)} inputs" + f", {is_open} open" * (is_open > 0)
        table.add_row(series, f"{x:g}", f"{y:.3g}" if y < 1000 else f"{y:.0f}", note)
    return table


def _plot(path: Path, points: Sequence[Point]) -> None:
    names = list(dict.fromkeys(point.measurement for point in points))
    figure, axes = pyplot().subplots(1, len(names), figsize=(5 * len(names), 3.8), squeeze=False)
    for panel, name in zip(axes.flat, names, strict=True):
        shape = _MEASUREMENTS[name]
        for series in dict.fromkeys(point.series for point in points if point.measurement == name):
            members = [point for point in points if (point.measurement, point.series) == (name, series)]
            style = "none" if name == "unstable" else "-"
            panel.plot([p.x for p in members], [p.y for p in members], marker=".", linestyle=style, label=series)
        panel.set(title=shape.title, xlabel=shape.x, ylabel=shape.y, **{f"{axis}scale": "log" for axis in shape.log})
        panel.grid(visible=True, alpha=0.3)
        panel.legend(fontsize="x-small")
    save(figure, path)


if __name__ == "__main__":
    sys.exit(main())
