"""The numbers and pictures of the manual's performance page, from measurements that the repository keeps.

    python -m benchmarks.performance [--sets RESULTS.csv] [--scaling POINTS.csv]

``benchmarks/measured/sets.csv`` holds one line for each instance of the last whole run of `benchmarks.sets`, with the
published seconds of other tools, ``unstable.csv`` the points of ``benchmarks.scaling unstable``. With ``--sets`` and
``--scaling`` the results of other runs take their places; the former needs the data folder. Then the pictures are drawn
in ``docs/pictures``, and the tables between the marks of ``docs/performance.md`` are written.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.cactus import NAMES, cactus, pyplot, save
from benchmarks.instances import TOOLS, Instance, read_instances
from benchmarks.places import ROOT, data_folder
from benchmarks.records import Answer, Judgement, Pair, Record, Summary, published_seconds, read_records, solved_seconds

__all__ = ["KEPT", "PAGE", "main", "read_kept", "tables", "written"]

KEPT = ROOT / "benchmarks" / "measured" / "sets.csv"
PAGE = ROOT / "docs" / "performance.md"
PICTURES = ROOT / "docs" / "pictures"
POINTS = KEPT.with_name("unstable.csv")

_COLUMNS = ("family", "onnx", "vnnlib", "truth", "allowed", "answer", "judgement", "seconds", "load_seconds")
_COLUMNS += ("read_seconds", "decided_by", "reason")
#: The panels of the picture: all instances, and the two sets that most tools take part in.
_PANELS = ("acasxu", "mnist_fc")
_WITHIN = (0.1, 1.0, 10.0, 60.0)
#: What a reader knows of a stage, from `docs/ladder.md`.
_STAGES = {
    "replay": "the input itself",
    "interval": "interval bounds",
    "linear": "backward linear bounds",
    "attack": "a short attack",
    "alpha": "optimised slopes",
    "tighten": "LPs for neurons",
    "bab": "input splits or ReLU splits",
    "deep": "ReLU splits that bound all neurons anew",
    "milp": "the MILP",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Take over results, if any are named; then draw and write; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.performance", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--sets", type=Path, metavar="RESULTS", help="results of benchmarks.sets to keep from now on")
    parser.add_argument(
        "--scaling", type=Path, metavar="POINTS", help="points of benchmarks.scaling to keep from now on"
    )
    options = parser.parse_args(arguments)
    if options.scaling is not None:
        lines = options.scaling.read_text().splitlines(keepends=True)
        POINTS.write_text("".join(line for line in lines if line.startswith(("measurement,", "unstable,"))))
    if options.sets is not None:
        known = {instance.key: instance for instance in read_instances(data_folder())}
        keep(KEPT, [(known[record.key], record) for record in read_records(options.sets)])
    pairs = read_kept(KEPT)
    panels = {"all": pairs} | {name: _members(pairs, name) for name in _PANELS}
    cactus(PICTURES / "cactus.svg", panels, TOOLS)
    with POINTS.open(newline="") as file:
        _scatter(PICTURES / "unstable.svg", list(csv.DictReader(file)))
    PAGE.write_text(written(PAGE.read_text(), tables(pairs)))
    return 0


def keep(path: Path, pairs: Sequence[Pair]) -> None:
    """Write what the page needs of some instances and their records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*_COLUMNS, *TOOLS])
        for instance, record in pairs:
            fields = [getattr(record, name) for name in _COLUMNS]
            shown = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in fields]
            writer.writerow([*shown, *(instance.published.get(tool, "") for tool in TOOLS)])


def read_kept(path: Path) -> list[Pair]:
    """The instances and records that `keep` wrote."""
    with path.open(newline="") as file:
        return [_pair(row) for row in csv.DictReader(file)]


def _pair(row: Mapping[str, str]) -> Pair:
    key = row["family"], row["onnx"], row["vnnlib"]
    allowed = float(row["allowed"])
    published = {tool: float(row[tool]) for tool in TOOLS if row[tool]}
    record = Record(
        *key,
        truth=row["truth"],
        firm=True,
        allowed=allowed,
        answer=Answer(row["answer"]),
        judgement=Judgement(row["judgement"]),
        seconds=float(row["seconds"]),
        load_seconds=float(row["load_seconds"]),
        read_seconds=float(row["read_seconds"]),
        decided_by=row["decided_by"],
        reason=row["reason"],
    )
    return Instance(*key, allowed, row["truth"], firm=True, published=published), record


def tables(pairs: Sequence[Pair]) -> dict[str, str]:
    """The page's tables in Markdown, by their names."""
    return {
        "sets": _sets(pairs),
        "within": _within(pairs),
        "stages": _stages(pairs),
        "slower": _slower(pairs),
        "open": _open(pairs),
    }


def written(page: str, found: Mapping[str, str]) -> str:
    """The page with its tables in place.

    Raises:
        ValueError: the page has no marks for a table.
    """
    for name, table in found.items():
        mark = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = mark.subn(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", page)
        if count != 1:
            msg = f"the page has {count} places for the table {name!r}, expected one between its mark and <!-- end -->"
            raise ValueError(msg)
    return page


def _members(pairs: Sequence[Pair], family: str) -> list[Pair]:
    return [pair for pair in pairs if pair[0].family == family]


def _sets(pairs: Sequence[Pair]) -> str:
    groups = {family: _members(pairs, family) for family in dict.fromkeys(instance.family for instance, _ in pairs)}
    rows = []
    for name, members in (groups | {"**all**": list(pairs)}).items():
        summary = Summary.of(members)
        own = summary.own
        published = (f"{each.solved}; {each.median:.1f}" if each.solved else "–" for each in summary.published.values())
        seconds = (f"{value:.2f}" for value in (own.median, own.mean, own.greatest))
        rows.append((name, str(summary.instances), str(own.solved), *seconds, *published))
    head = ("set", "instances", "solved", "median s", "mean s", "max s", "α,β-CROWN", "nnenum", "VeriNet", "Marabou")
    return _markdown(head, rows)


def _within(pairs: Sequence[Pair]) -> str:
    limits = [f"{limit:g} s" for limit in _WITHIN]
    rows = []
    for name, seconds in (
        ("netproof, deciding", solved_seconds(pairs)),
        ("α,β-CROWN, published", published_seconds(pairs, "alpha_beta_crown")),
        ("nnenum, published", published_seconds(pairs, "nnenum")),
    ):
        counts = (str(sum(taken <= limit for taken in seconds)) for limit in _WITHIN)
        rows.append((name, *counts, str(len(seconds))))
    return _markdown(("solved within", *limits, "the set's limit"), rows)


def _stages(pairs: Sequence[Pair]) -> str:
    solved = [record for _, record in pairs if record.judgement is Judgement.SOLVED]
    rows = []
    for stage in dict.fromkeys([*_STAGES, *(record.decided_by for record in solved)]):
        seconds = [record.seconds for record in solved if record.decided_by == stage]
        if seconds:
            figures = f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"
            rows.append((_STAGES.get(stage, stage), f"`{stage}`", str(len(seconds)), *figures))
    return _markdown(("what decided", "`decided_by`", "instances", "median s", "max s"), rows)


def _slower(pairs: Sequence[Pair]) -> str:
    """On how many instances that netproof solved another tool's published seconds are fewer."""
    rows = []
    solved = [pair for pair in pairs if pair[1].judgement is Judgement.SOLVED]
    for family in dict.fromkeys(instance.family for instance, _ in solved):
        members = _members(solved, family)
        quicker = [
            [tool for tool in TOOLS if instance.published.get(tool, math.inf) < record.seconds]
            for instance, record in members
        ]
        if any(quicker):
            counts = (str(sum(tool in tools for tools in quicker) or "") for tool in TOOLS)
            rows.append((family, str(len(members)), str(sum(map(bool, quicker))), *counts))
    return _markdown(("set", "solved", "any of the four quicker", *(NAMES.get(tool, tool) for tool in TOOLS)), rows)


def _open(pairs: Sequence[Pair]) -> str:
    rows = []
    for instance, record in pairs:
        if record.judgement is not Judgement.SOLVED:
            others = [tool for tool in TOOLS if published_seconds([(instance, record)], tool)]
            ended = f"{record.reason} after {record.seconds:.0f} s"
            rows.append((instance.family, instance.name, ended, ", ".join(NAMES.get(tool, tool) for tool in others)))
    return _markdown(("set", "instance", "ended", "decided by, of the four"), rows)


def _scatter(path: Path, points: Sequence[Mapping[str, str]]) -> None:
    """CPU seconds over unstable ReLUs: a dot where a query was decided, a cross where its time ran out."""
    figure, panel = pyplot().subplots(figsize=(7, 4))
    for number, series in enumerate(dict.fromkeys(point["series"] for point in points)):
        members = [point for point in points if point["series"] == series]
        for marker, left in ((".", False), ("x", True)):
            chosen = [point for point in members if point["note"].endswith("open") is left]
            places = [float(point["x"]) for point in chosen], [float(point["y"]) for point in chosen]
            label = None if left else series
            panel.plot(*places, marker=marker, linestyle="none", color=f"C{number}", label=label)
    panel.plot([], [], marker="x", linestyle="none", color="gray", label="not decided")
    panel.set(xlabel="unstable ReLUs after backward bounds", ylabel="CPU seconds", xscale="log", yscale="log")
    panel.grid(visible=True, alpha=0.3)
    panel.legend(fontsize="small")
    save(figure, path)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
