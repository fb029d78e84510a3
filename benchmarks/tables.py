"""Tables of a run over sets of instances: what was solved and how fast, beside what others solved in the same time."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.records import Judgement, Pair, Spread, Summary, published_seconds

__all__ = ["STYLES", "main_table", "others_table", "print_details", "write_summary"]

#: How lines about judgements that want attention look.
STYLES = {
    Judgement.WRONG: "bold red",
    Judgement.CRASHED: "red",
    Judgement.DISPUTED: "magenta",
    Judgement.REFUSED: "yellow",
    Judgement.UNKNOWN: "yellow",
}


def main_table(groups: Mapping[str, Sequence[Pair]], tools: Sequence[str]) -> Table:
    """One row for each set; the cell of one of ``tools`` has how many it solved and the median of its seconds."""
    verdicts = [str(judgement) for judgement in Judgement]
    table = _table("instances", *verdicts, "mean s", "median s", "max s", *tools)
    for name, pairs in groups.items():
        summary = Summary.of(pairs, tools)
        own = summary.own
        if name == "all":
            table.add_section()
        table.add_row(
            name,
            str(summary.instances),
            *(str(count or "") for count in summary.counts.values()),
            *(f"{seconds:.2f}" for seconds in (own.mean, own.median, own.greatest)),
            *(f"{each.solved} / {each.median:.2f} s" if each.solved else "" for each in summary.published.values()),
            style=STYLES[Judgement.WRONG] if summary.counts[Judgement.WRONG] else None,
        )
    return table


def others_table(groups: Mapping[str, Sequence[Pair]]) -> Table:
    """How many instances of each set netproof and every other tool solved in the same time, the best tool first."""
    pairs = [pair for members in groups.values() for pair in members]
    solved = {tool: len(published_seconds(pairs, tool)) for tool in _others(groups)}
    tools = [tool for tool, count in sorted(solved.items(), key=lambda item: -item[1]) if count]
    table = _table("instances", "netproof", *tools)
    for name, members in groups.items():
        summary = Summary.of(members, tools)
        if name == "all":
            table.add_section()
        others = (str(each.solved or "") for each in summary.published.values())
        table.add_row(name, str(summary.instances), str(summary.own.solved), *others)
    return table


def write_summary(path: Path, groups: Mapping[str, Sequence[Pair]]) -> None:
    """A CSV with a line for each set and tool: how many it solved, and the mean, median and greatest seconds."""
    others = _others(groups)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["set", "instances", "tool", "solved", "wrong", "mean", "median", "max"])
        for name, pairs in groups.items():
            summary = Summary.of(pairs, others)
            rows: dict[str, tuple[Spread, object]] = {"netproof": (summary.own, summary.counts[Judgement.WRONG])}
            rows |= {tool: (spread, "") for tool, spread in summary.published.items() if spread.solved}
            for tool, (spread, wrong) in rows.items():
                seconds = (spread.mean, spread.median, spread.greatest)
                writer.writerow([name, summary.instances, tool, spread.solved, wrong, *(f"{s:.3f}" for s in seconds)])


def print_details(console: Console, family: str, pairs: Sequence[Pair]) -> None:
    """What the tables only count: names of what went wrong, reasons of refusals and of unknowns."""
    for instance, record in pairs:
        if record.judgement in {Judgement.WRONG, Judgement.DISPUTED, Judgement.CRASHED}:
            why = f"{record.answer}, known: {record.truth or 'nothing'}; {record.detail.strip().rpartition(chr(10))[2]}"
            text = f"{family} {record.judgement}: {instance.name}: {why}"
            console.print(text, style=STYLES[record.judgement], markup=False, soft_wrap=True)
    for judgement in (Judgement.REFUSED, Judgement.UNKNOWN):
        reasons = Counter(
            (record.detail if judgement is Judgement.REFUSED else record.reason) or str(record.answer)
            for _, record in pairs
            if record.judgement is judgement
        )
        for reason, count in reasons.most_common(10):
            text = f"{family} {judgement}, {count} times: {reason.strip()}"
            console.print(text, style=STYLES[judgement], markup=False, soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table("set")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _others(groups: Mapping[str, Sequence[Pair]]) -> list[str]:
    """Every other tool that decided something, in the order in which they come."""
    return list(dict.fromkeys(t for pairs in groups.values() for instance, _ in pairs for t in instance.published))
