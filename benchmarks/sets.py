"""Sets of instances with known answers: what is solved, how fast, beside other tools, and whether it is right.

    python -m benchmarks.sets acasxu mnist_fc … | --all [--only-firm] [--filter TEXT] [--jobs N] [--threads N]
                              [--workers N] [--limit-seconds S] [--limit-scale F] [--resume FILE]
                              [--peer NAME [--peer-python EXE]]

Each instance runs in a process of its own, with its set's time limit or what ``--limit-seconds`` and ``--limit-scale``
leave of it. Results are appended to a CSV file as they come; with ``--resume``, what the file has already is not run
again. At the end there are tables, a summary as CSV and a cactus plot. A peer, if any, runs on the same instances after
netproof. The exit code is 1 if any answer of netproof contradicts a firm truth.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.cactus import cactus
from benchmarks.children import Decide, Limits, decide, run_all
from benchmarks.instances import TOOLS, Instance, UnknownSetError, read_instances, select
from benchmarks.peers import PEERS, missing, peer
from benchmarks.places import RESULTS, data_folder
from benchmarks.records import Judgement, Pair, Record, append, read_records
from benchmarks.tables import STYLES, main_table, others_table, print_details, write_summary

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    options = _parser().parse_args(arguments)
    # Read by numerical libraries when they are imported, which is later.
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    folder = data_folder()
    path = options.resume or RESULTS / f"sets-{time.strftime('%Y%m%d-%H%M%S')}.csv"
    try:
        known = read_instances(folder)
        chosen = select(
            known, None if options.all else options.sets, only_firm=options.only_firm, containing=options.filter
        )
        # What cannot run, or was written by something else, is found out before anything has run.
        lacking = [why for name in options.peer if (why := missing(name, options.peer_python))]
        for name in ("", *options.peer):
            read_records(_results(path, name))
    except FileNotFoundError as error:
        return _refuse(f"there is no {error.filename}; name the data folder in NETPROOF_DATA")
    except (UnknownSetError, ValueError) as error:
        return _refuse(str(error))
    if lacking:
        return _refuse("; ".join(lacking))
    if not chosen:
        return _refuse("no instance is left after --only-firm and --filter")
    path.parent.mkdir(parents=True, exist_ok=True)
    console = Console() if sys.stdout.isatty() else Console(width=220)
    limits = Limits(
        options.limit_seconds,
        options.limit_scale,
        threads=options.threads,
        workers=options.workers,
        megabytes=options.memory_mb,
    )
    found: dict[str, dict[tuple[str, str, str], Record]] = {name: {} for name in ("", *options.peer)}
    try:
        for name, records in found.items():
            body = peer(name, options.peer_python) if name else decide
            _run(console, folder, _results(path, name), chosen, limits, options.jobs, body, records)
    except KeyboardInterrupt:
        console.print(f"stopped; go on with --resume {path}")
    tools = [*TOOLS, *(f"{name} here" for name in options.peer)]
    for name, tool in zip(options.peer, tools[len(TOOLS) :], strict=True):
        theirs = found[name]
        chosen = [_beside(instance, tool, theirs.get(instance.key)) for instance in chosen]
        wrong = sum(record.judgement is Judgement.WRONG for record in theirs.values())
        console.print(f"{name}: {len(theirs)} instances run, {wrong} answers contradict what is known", markup=False)
    pairs = [(instance, found[""][instance.key]) for instance in chosen if instance.key in found[""]]
    if not pairs:
        return 0
    _show(console, path, pairs, tools)
    return int(any(record.judgement is Judgement.WRONG for _, record in pairs))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sets", description=(__doc__ or "").partition("\n")[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("sets", nargs="*", default=[], metavar="SET", help="sets of the data folder")
    which.add_argument("--all", action="store_true", help="every set")
    parser.add_argument("--only-firm", action="store_true", help="only instances whose answer can be relied on")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only instances whose name contains this")
    parser.add_argument("--limit-seconds", type=float, metavar="S", help="where the set's own time limit is longer")
    parser.add_argument("--limit-scale", type=float, default=1.0, metavar="F", help="share of the set's own time limit")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="instances at the same time (default 1)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads for each (default 1)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that search each (default 1)")
    parser.add_argument("--memory-mb", type=int, default=6144, metavar="MB", help="memory for each (default 6144)")
    parser.add_argument(
        "--peer", action="append", default=[], choices=PEERS, help="run this verifier on the same instances too"
    )
    parser.add_argument("--peer-python", default=sys.executable, metavar="EXE", help="the Python that has the peers")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="results to read and to append to")
    return parser


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


def _results(path: Path, name: str) -> Path:
    """Where the records of a peer are, "" for netproof itself."""
    return path.with_suffix(f".{name}.csv") if name else path


def _run(
    console: Console,
    folder: Path,
    path: Path,
    chosen: Sequence[Instance],
    limits: Limits,
    jobs: int,
    body: Decide,
    done: dict[tuple[str, str, str], Record],
) -> None:
    """Fill ``done`` from the file, run what it lacks, print a line for each and write it down."""
    allowed = {instance.key: limits.allowed(instance) for instance in chosen}
    for record in read_records(path):
        if record.key in allowed and record.stands(allowed[record.key]):
            done[record.key] = replace(record, allowed=allowed[record.key])
    todo = [instance for instance in chosen if instance.key not in done]
    names = {instance.key: instance.name for instance in todo}
    console.print(f"{len(chosen)} instances, {len(chosen) - len(todo)} of them done; results go to {path}")
    for count, record in enumerate(run_all(folder, todo, limits, jobs, body), start=1):
        append(path, record)
        done[record.key] = record
        what = record.decided_by or record.reason or record.detail.strip().rpartition("\n")[2][:80]
        place = f"{count}/{len(todo)} {record.family} {names[record.key]}"
        line = f"{place}: {record.answer} {record.seconds:.2f} s {what}"
        console.print(line, style=STYLES.get(record.judgement), markup=False, highlight=False, soft_wrap=True)


def _beside(instance: Instance, tool: str, record: Record | None) -> Instance:
    """The instance with the seconds of a peer that solved it."""
    if record is None or record.judgement is not Judgement.SOLVED:
        return instance
    return replace(instance, published={**instance.published, tool: record.seconds})


def _show(console: Console, path: Path, pairs: Sequence[Pair], tools: Sequence[str]) -> None:
    """Prints the tables, and writes summary and plot beside the results."""
    groups: dict[str, Sequence[Pair]] = {}
    for family in dict.fromkeys(instance.family for instance, _ in pairs):
        groups[family] = [pair for pair in pairs if pair[0].family == family]
        print_details(console, family, groups[family])
    whole: dict[str, Sequence[Pair]] = {"all": pairs} if len(groups) > 1 else {}
    console.print(main_table(groups | whole, tools))
    console.print("solved by others in the same time:")
    console.print(others_table(groups | whole))
    write_summary(path.with_suffix(".summary.csv"), groups | whole)
    cactus(path.with_suffix(".png"), whole | groups, tools)
    console.print(f"summary: {path.with_suffix('.summary.csv')}; plot: {path.with_suffix('.png')}")


if __name__ == "__main__":
    sys.exit(main())
