"""Sets of instances with known answers: what is solved, how fast, beside the published tools, and whether it is right.

    python -m benchmarks.sets acasxu mnist_fc … | --all [--limit-seconds S] [--only-firm] [--jobs N] [--filter TEXT]
                              [--resume FILE]

Each instance runs in a process of its own, with its set's time limit or ``--limit-seconds`` if that is less. Results
are appended to a CSV file as they come; with ``--resume``, what the file has already is not run again. At the end there
are tables and a cactus plot. The exit code is 1 if any answer contradicts a firm truth.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.cactus import cactus
from benchmarks.children import Limits, run_all
from benchmarks.instances import TOOLS, Instance, UnknownSetError, read_instances, select
from benchmarks.places import RESULTS, data_folder
from benchmarks.records import Judgement, Pair, Record, Spread, Summary, append, read_records

__all__ = ["main"]

_STYLES = {
    Judgement.WRONG: "bold red",
    Judgement.CRASHED: "red",
    Judgement.DISPUTED: "magenta",
    Judgement.REFUSED: "yellow",
    Judgement.UNKNOWN: "yellow",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    options = _parser().parse_args(arguments)
    # Read by numerical libraries when they are imported, which is later.
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    folder = data_folder()
    try:
        known = read_instances(folder)
        chosen = select(
            known, None if options.all else options.sets, only_firm=options.only_firm, containing=options.filter
        )
        path = options.resume or RESULTS / f"sets-{time.strftime('%Y%m%d-%H%M%S')}.csv"
        done = {record.key: record for record in read_records(path)}
    except FileNotFoundError as error:
        return _refuse(f"there is no {error.filename}; name the data folder in NETPROOF_DATA")
    except (UnknownSetError, ValueError) as error:
        return _refuse(str(error))
    path.parent.mkdir(parents=True, exist_ok=True)
    console = Console() if sys.stdout.isatty() else Console(width=220)
    limits = Limits(options.limit_seconds, threads=options.threads, megabytes=options.memory_mb)
    todo = [instance for instance in chosen if instance.key not in done]
    console.print(f"{len(chosen)} instances, {len(chosen) - len(todo)} of them done; results go to {path}")
    _run(console, folder, path, todo, limits, options.jobs, done)
    pairs = [(instance, done[instance.key]) for instance in chosen if instance.key in done]
    if not pairs:
        return _refuse("no instance is left after --only-firm and --filter")
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair[0].family, []).append(pair)
    for family, members in groups.items():
        _print_details(console, family, members)
    console.print(_table(groups | ({"all": pairs} if len(groups) > 1 else {})))
    cactus(path.with_suffix(".png"), ({"all": pairs} if len(groups) > 1 else {}) | groups)
    console.print(f"plot: {path.with_suffix('.png')}")
    return int(any(record.judgement is Judgement.WRONG for _, record in pairs))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sets", description=(__doc__ or "").partition("\n")[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("sets", nargs="*", default=[], metavar="SET", help="sets of the data folder")
    which.add_argument("--all", action="store_true", help="every set")
    parser.add_argument("--limit-seconds", type=float, metavar="S", help="where the set's own time limit is longer")
    parser.add_argument("--only-firm", action="store_true", help="only instances whose answer can be relied on")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="instances at the same time (default 1)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads for each (default 1)")
    parser.add_argument("--memory-mb", type=int, default=6144, metavar="MB", help="memory for each (default 6144)")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only instances whose name contains this")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="results to read and to append to")
    return parser


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


def _run(
    console: Console,
    folder: Path,
    path: Path,
    todo: Sequence[Instance],
    limits: Limits,
    jobs: int,
    done: dict[tuple[str, str, str], Record],
) -> None:
    """Run what is left to do, print a line for each and write it down; Ctrl-C ends it and keeps what is done."""
    names = {instance.key: instance.name for instance in todo}
    try:
        for count, record in enumerate(run_all(folder, todo, limits, jobs), start=1):
            append(path, record)
            done[record.key] = record
            what = record.decided_by or record.reason or record.detail.strip().rpartition("\n")[2][:80]
            place = f"{count}/{len(todo)} {record.family} {names[record.key]}"
            line = f"{place}: {record.answer} {record.seconds:.2f} s {what}"
            console.print(line, style=_STYLES.get(record.judgement), markup=False, highlight=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print(f"stopped; go on with --resume {path}")


def _print_details(console: Console, family: str, pairs: Sequence[Pair]) -> None:
    """What the final table only counts: names of what went wrong, reasons of refusals and of unknowns."""
    for instance, record in pairs:
        if record.judgement in {Judgement.WRONG, Judgement.DISPUTED, Judgement.CRASHED}:
            why = f"{record.answer}, known: {record.truth or 'nothing'}; {record.detail.strip().rpartition(chr(10))[2]}"
            text = f"{family} {record.judgement}: {instance.name}: {why}"
            console.print(text, style=_STYLES[record.judgement], markup=False, soft_wrap=True)
    for judgement in (Judgement.REFUSED, Judgement.UNKNOWN):
        reasons = Counter(
            (record.detail if judgement is Judgement.REFUSED else record.reason) or str(record.answer)
            for _, record in pairs
            if record.judgement is judgement
        )
        for reason, count in reasons.most_common(10):
            text = f"{family} {judgement}, {count} times: {reason.strip()}"
            console.print(text, style=_STYLES[judgement], markup=False, soft_wrap=True)


def _table(groups: Mapping[str, Sequence[Pair]]) -> Table:
    """One row for each set; a tool's cell has how many it solved and the median of its seconds."""
    verdicts = [str(judgement) for judgement in Judgement]
    table = Table("set", "instances", *verdicts, "mean s", "median s", "max s", *TOOLS)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, pairs in groups.items():
        summary = Summary.of(pairs)
        if name == "all":
            table.add_section()
        table.add_row(
            name,
            str(summary.instances),
            *(str(count) if count else "" for count in summary.counts.values()),
            *(f"{seconds:.2f}" for seconds in (summary.own.mean, summary.own.median, summary.own.greatest)),
            *(_published(spread) for spread in summary.published.values()),
            style=_STYLES[Judgement.WRONG] if summary.counts[Judgement.WRONG] else None,
        )
    return table


def _published(spread: Spread) -> str:
    return f"{spread.solved} / {spread.median:.2f} s" if spread.solved else ""


if __name__ == "__main__":
    sys.exit(main())
