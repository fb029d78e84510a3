"""Certificates: what they cost to write and to check, how large they are, and how many robust verdicts have one.

    python -m benchmarks.certificates [SET …] [--limit-seconds S] [--first N] [--filter TEXT] [--resume FILE]

The sets are ``wk17a`` (inputs 0 to 249 at ε 0.1) and ``rsl18a`` (inputs 0 to 99), and every set of the data folder that
`benchmarks.sets` knows, of which the instances are taken that are not known to have a counterexample; by default
wk17a, rsl18a and acasxu. Queries are decided one after the other in this process on one thread, certificates checked in
one process for each network. Each is a line of a CSV file; with ``--resume``, what the file has already is not run
again.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.instances import read_instances, select
from benchmarks.places import RESULTS, data_folder
from networks import Dataset, Network, Query, load, read_vnnlib
from solver.checking import Checker

__all__ = ["main"]

#: Audits: network, how many inputs, ε.
_AUDITS = {
    "wk17a": ("mipverify/mnist_wk17a_linf0.1.onnx", 250, "0.1"),
    "rsl18a": ("mipverify/mnist_rsl18a_linf0.1.onnx", 100, "0.1"),
}
_DEFAULT = ("wk17a", "rsl18a", "acasxu")


@dataclass(frozen=True, slots=True)
class Line:
    """One query.

    Attributes:
        family, name: the set, and the query in it.
        verdict, trust, semantics, decided_by: what was found.
        prove: seconds until the verdict.
        certify: seconds after it: proving again what left no evidence, writing, and the checker as seen from here.
        check: seconds that the checker says it took.
        prove_cpu, check_cpu: CPU seconds of this process, for all of it, and of the checker's.
        leaves: claims that it checked.
        bytes: of the certificate.
        hint: why there is none.
    """

    family: str
    name: str
    verdict: str
    trust: str
    semantics: str
    decided_by: str
    prove: float
    certify: float
    check: float
    prove_cpu: float
    check_cpu: float
    leaves: int
    bytes: int
    hint: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit code is 1 if a robust verdict was not certified."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    path = options.resume or RESULTS / f"certificates-{time.strftime('%Y%m%d-%H%M%S')}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = _read(path)
    console = Console() if sys.stdout.isatty() else Console(width=160)
    try:
        for family in options.sets:
            known = {line.name for line in lines if line.family == family}
            for line in _run(family, known, options):
                _append(path, line)
                lines.append(line)
                console.print(_words(line), markup=False, highlight=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print(f"stopped; go on with --resume {path}")
    chosen = [line for line in lines if line.family in options.sets]
    console.print(_table({family: [line for line in chosen if line.family == family] for family in options.sets}))
    console.print(f"results: {path}")
    return int(any(line.verdict == "robust" and line.trust != "certified" for line in chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.certificates", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("sets", nargs="*", default=list(_DEFAULT), metavar="SET")
    parser.add_argument("--limit-seconds", type=float, default=120.0, metavar="S", help="for each query (default 120)")
    parser.add_argument("--first", type=int, metavar="N", help="only the first N queries of each set")
    parser.add_argument("--filter", default="", metavar="TEXT", help="only queries whose name contains this")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="results to read and to append to")
    return parser


def _run(family: str, known: set[str], options: argparse.Namespace) -> Iterator[Line]:
    from solver import Budget, Options, verify

    folder = data_folder()
    queries = _audit(folder, family) if family in _AUDITS else _instances(folder, family)
    checker: Checker | None = None
    before: Network | None = None
    try:
        for name, network, query in queries[: options.first]:
            if name in known or options.filter not in name:
                continue
            loaded = network()
            if loaded is not before or checker is None:
                if checker is not None:
                    checker.close()
                checker, before = Checker(loaded), loaded
                checker.start()
            asked = query(loaded)
            began, process, spent = time.process_time(), checker.pid, _cpu(checker)
            verdict = verify(
                loaded,
                asked,
                options=Options(certificate=True),
                budget=Budget(options.limit_seconds, 1),
                checker=checker,
            )
            certify = sum(stage.seconds for stage in verdict.stages if stage.name == "certificate")
            yield Line(
                family,
                name,
                str(verdict.outcome),
                str(verdict.trust or ""),
                str(verdict.semantics or ""),
                verdict.decided_by,
                round(verdict.seconds - certify, 6),
                round(certify, 6),
                round(verdict.checked.seconds, 6) if verdict.checked else 0.0,
                round(time.process_time() - began, 6),
                round(_cpu(checker) - (spent if checker.pid == process else 0.0), 6),
                verdict.checked.claims if verdict.checked else 0,
                len(verdict.certificate or b""),
                verdict.hint,
            )
    finally:
        if checker is not None:
            checker.close()


def _cpu(checker: Checker) -> float:
    """CPU seconds of the checker's process; what one took that was ended in the middle of a check is not known."""
    import psutil

    if checker.pid is None:
        return 0.0
    times = psutil.Process(checker.pid).cpu_times()
    return float(times.user + times.system)


#: The name of a query, its network, and the query about that.
_Question = tuple[str, Callable[[], Network], Callable[[Network], Query]]


def _audit(folder: Path, family: str) -> list[_Question]:
    from solver import pose

    file, count, epsilon = _AUDITS[family]
    network = load(folder / file)
    images = Dataset.read(folder / "mnist" / "mnist_test.npz")

    def query(i: int) -> Callable[[Network], Query]:
        ball = {"input": images.input(i), "epsilon": epsilon, "label": images.label(i), "domain": (0, 1)}
        return lambda loaded: pose(loaded, **ball).query

    return [(str(i), lambda: network, query(i)) for i in range(count)]


def _instances(folder: Path, family: str) -> list[_Question]:
    chosen = [each for each in select(read_instances(folder), [family]) if each.truth != "counterexample"]
    loaded: dict[str, Network] = {}

    def network(onnx: str) -> Callable[[], Network]:
        def get() -> Network:
            if onnx not in loaded:
                loaded.clear()  # instances of one network come together
                loaded[onnx] = load(folder / family / onnx)
            return loaded[onnx]

        return get

    def query(vnnlib: str) -> Callable[[Network], Query]:
        return lambda net: read_vnnlib(folder / family / vnnlib, net.inputs, net.outputs)

    chosen.sort(key=lambda each: each.onnx)
    return [(each.name, network(each.onnx), query(each.vnnlib)) for each in chosen]


def _words(line: Line) -> str:
    text = (
        f"{line.family} {line.name}: {line.verdict} {line.trust} {line.semantics}, {line.decided_by} {line.prove:.2f} s"
    )
    if line.bytes:
        text += (
            f"; {line.leaves} leaves, {line.bytes} bytes, certified in {line.certify:.2f} s, check {line.check:.2f} s"
        )
    return text + (f"; {line.hint}" if line.hint else "")


def _table(groups: dict[str, list[Line]]) -> Table:
    """One row for each set."""
    head = ("queries", "robust", "certified", "float32", "prove s", "check s", "prove CPU s", "check CPU s", "ratio")
    table = Table("set", *head, "median bytes", "max bytes", "median leaves", "max leaves")
    for column in table.columns[1:]:
        column.justify = "right"
    for family, lines in groups.items():
        robust = [line for line in lines if line.verdict == "robust"]
        certified = [line for line in robust if line.trust == "certified"]
        if not certified:
            table.add_row(family, str(len(lines)), str(len(robust)), "0")
            continue
        prove, check = sum(line.prove_cpu for line in certified), sum(line.check_cpu for line in certified)
        sizes, leaves = [line.bytes for line in certified], [line.leaves for line in certified]
        table.add_row(
            family,
            str(len(lines)),
            str(len(robust)),
            str(len(certified)),
            str(sum(line.semantics == "float32" for line in certified)),
            f"{sum(line.prove for line in certified):.1f}",
            f"{sum(line.check for line in certified):.1f}",
            f"{prove:.1f}",
            f"{check:.1f}",
            f"{check / prove:.2f}",
            *(f"{each:,.0f}" for values in (sizes, leaves) for each in (statistics.median(values), max(values))),
        )
    return table


def _read(path: Path) -> list[Line]:
    if not path.exists():
        return []
    kinds = {"float": float, "int": int, "str": str}
    with path.open(newline="") as file:
        return [
            Line(**{field.name: kinds[str(field.type)](row[field.name]) for field in fields(Line)})
            for row in csv.DictReader(file)
        ]


def _append(path: Path, line: Line) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, asdict(line))
        if new:
            writer.writeheader()
        writer.writerow(asdict(line))


if __name__ == "__main__":
    sys.exit(main())
