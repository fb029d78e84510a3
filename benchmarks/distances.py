"""Minimum distortions: MIPVerify's exact ones on WK17a reproduced, each closed from both sides.

    python -m benchmarks.distances [--norm linf] [--indices A,B] [--all] [--limit-seconds S] [--tolerance T]

For each of the first 250 MNIST test images that MIPVerify found not to be robust at 0.1 (with ``--all`` for all of
them) the distance of the nearest violation within 0.1, with a certificate for the radius below it and an input replayed
in ONNX Runtime above it. The exit code is 1 if one is not closed, not certified or off by more than 1e-5. For other
norms no answers are known; ``--radius`` then says how far to look.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.material import NETWORKS, material
from benchmarks.places import data_folder
from networks.norms import NORMS

__all__ = ["Line", "known_distances", "main"]

#: How far MIPVerify's answers and ours may be apart.
AGREEMENT = 1e-5


@dataclass(frozen=True, slots=True)
class Line:
    """One input: what MIPVerify says (inf where it is robust, None where nothing is known), and what we found.

    Attributes:
        certified: the radius that the certificate proves, NaN without one.
        cpu: seconds of this process.
    """

    index: int
    known: float | None
    lower: float
    upper: float
    certified: float
    trust: str
    seconds: float
    cpu: float
    reason: str

    @property
    def agrees(self) -> bool:
        """Whether both ends are near the known answer, and the lower one is certified."""
        if self.known is None or self.known == 0:
            return self.known is None or self.upper == 0
        if self.known == math.inf:
            return self.upper == math.inf and self.trust == "certified"
        return max(abs(self.certified - self.known), abs(self.upper - self.known)) <= AGREEMENT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not (data_folder() / NETWORKS["WK17a"][1]).exists():
        sys.stderr.write(f"{data_folder()} has no WK17a network; set NETPROOF_DATA\n")
        return 1
    known = known_distances()
    chosen = options.indices or [i for i, distance in known.items() if options.all or distance < math.inf]
    console = Console() if sys.stdout.isatty() else Console(width=120)
    lines = []
    for index in chosen:
        lines.append(_line(index, known[index] if options.norm == "linf" else None, options))
        console.print(str(lines[-1]), markup=False, highlight=False, soft_wrap=True)
    console.print(_table(lines, options.norm))
    return int(not all(line.agrees for line in lines))


def known_distances() -> dict[int, float]:
    """MIPVerify's minimum ℓ∞ distortion of each image: 0 where it is misclassified, inf where it is robust at 0.1."""
    with (data_folder() / NETWORKS["WK17a"][1]).open() as file:
        return {int(row["index_0based"]): _known(row) for row in csv.DictReader(file)}


def _known(row: dict[str, str]) -> float:
    if row["verdict"] == "misclassified":
        return 0.0
    return float(row["min_distortion"]) if row["min_distortion"] else math.inf


def _line(index: int, known: float | None, options: argparse.Namespace) -> Line:
    from networks import Property, Query, Region
    from solver import Budget, Options, distance

    what = material()
    region = Region.norm_ball(what.dataset.input(index), options.radius, options.norm, (0, 1))
    query = Query.single(region, Property.classification(what.dataset.label(index), what.network.outputs))
    begin = time.process_time()
    verdict = distance(
        what.network,
        query,
        norm=options.norm,
        tolerance=options.tolerance,
        options=Options(certificate=True),
        budget=Budget(options.limit_seconds, 1),
    )
    assert verdict.distance is not None
    return Line(
        index,
        known,
        *verdict.distance,
        math.nan if verdict.proves is None else verdict.proves,
        str(verdict.trust or ""),
        round(verdict.seconds, 2),
        round(time.process_time() - begin, 2),
        str(verdict.reason or ""),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distances", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--norm", choices=NORMS, default="linf")
    parser.add_argument("--radius", default="0.1", metavar="R", help="how far to look (default 0.1)")
    parser.add_argument("--tolerance", type=float, default=5e-6, metavar="T", help="between the ends (default 5e-6)")
    parser.add_argument("--limit-seconds", type=float, default=300.0, metavar="S", help="for each input (default 300)")
    parser.add_argument("--all", action="store_true", help="the robust inputs, too")
    parser.add_argument("--indices", type=lambda text: [int(part) for part in text.split(",")], metavar="A,B,…")
    return parser


def _table(lines: Sequence[Line], norm: str) -> Table:
    table = Table(title=f"WK17a, nearest violation in {norm}")
    for name in ("index", "MIPVerify", "certified below", "lower", "replayed above", "seconds", "CPU s", "agrees"):
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(
            str(line.index),
            "" if line.known is None else f"{line.known:.7f}",
            f"{line.certified:.7f}",
            f"{line.lower:.7f}",
            f"{line.upper:.7f}",
            f"{line.seconds:.1f}",
            f"{line.cpu:.1f}",
            "" if line.known is None else "yes" if line.agrees else f"no {line.reason}".rstrip(),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
