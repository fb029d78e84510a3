"""What a verdict costs: seconds of every stage on 50 images, and what the service adds to a call in this process.

    python -m benchmarks.first_slice [--images 50] [--posts 20] [--threads 2]

Loading and imports are not counted; ``netproof verify`` adds them once. The overhead is the difference between a POST
that waits for its verdict and the same query decided in this process, alternating, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from rich.console import Console
from rich.table import Table

import solver
from benchmarks.material import Material, material
from benchmarks.places import RESULTS
from netproof.client import Client
from netproof.local import local_service
from solver import Budget, Verdict


def main() -> None:
    """Print both tables and write them as CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--posts", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--timeout", type=float, default=120.0)
    arguments = parser.parse_args()
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    RESULTS.mkdir(parents=True, exist_ok=True)
    chosen = material()
    console.print(f"[bold]{chosen.title}[/], {arguments.threads} threads")
    verdicts = decide(chosen, arguments.images, Budget(arguments.timeout, arguments.threads))
    stages(console, chosen, verdicts)
    overhead(console, chosen, verdicts, arguments.posts)


def decide(chosen: Material, images: int, budget: Budget) -> dict[int, Verdict]:
    """The verdict on each of the first ``images`` inputs."""
    solver.verify(chosen.network, chosen.query(0), budget=budget)  # first use pays for lazy imports and compilation
    count = min(images, len(chosen.dataset))
    return {index: solver.verify(chosen.network, chosen.query(index), budget=budget) for index in range(count)}


def stages(console: Console, chosen: Material, verdicts: dict[int, Verdict]) -> None:
    """One row per image: verdict, truth, seconds in all and per stage; then the sums."""
    names = list(dict.fromkeys(stage.name for verdict in verdicts.values() for stage in verdict.stages))
    table = Table("image", "label", "verdict", "truth", "decided by", "seconds", *names)
    for column in table.columns[5:]:
        column.justify = "right"
    rows: list[list[str]] = []
    times: list[list[float]] = []
    wrong = []
    for index, verdict in verdicts.items():
        spent = dict.fromkeys(names, 0.0)
        for stage in verdict.stages:
            spent[stage.name] += stage.seconds
        truth = chosen.truth.get(index, "")
        agrees = agree(str(verdict.outcome), truth)
        if not agrees:
            wrong.append(index)
        head = [str(index), str(chosen.dataset.label(index)), str(verdict.outcome), truth, verdict.decided_by]
        times.append([verdict.seconds, *spent.values()])
        cells = [f"{seconds:.3f}" if seconds else "" for seconds in times[-1]]
        table.add_row(*head, *cells, style=None if agrees else "bold red")
        rows.append(head + [f"{seconds:.6f}" for seconds in times[-1]])
    table.add_section()
    for label, summary in (("sum", sum), ("median", statistics.median), ("p95", percentile_95), ("max", max)):
        table.add_row(label, "", "", "", "", *(f"{summary(column):.3f}" for column in zip(*times, strict=True)))
    console.print(table)
    console.print(f"disagreements with the truth: {wrong or 'none'}")
    write(RESULTS / "stages.csv", ["image", "label", "verdict", "truth", "decided_by", "seconds", *names], rows)


def overhead(console: Console, chosen: Material, verdicts: dict[int, Verdict], posts: int) -> None:
    """What a POST that waits costs beyond the same query decided in this process."""
    index = min(verdicts, key=lambda i: (str(verdicts[i].outcome) != "robust", i))
    image, label = chosen.dataset.input(index), chosen.dataset.label(index)
    direct, posted, solved = [], [], []
    with local_service(workers=1) as url, Client(url) as client:
        sha256 = client.upload(chosen.network_path)["sha256"]
        for repeat in range(posts + 1):
            # A little more each time: the service reuses answers, also those of larger balls.
            epsilon = str(Fraction(chosen.epsilon) * (1 + Fraction(repeat, 10**6)))
            start = time.perf_counter()
            solver.verify(chosen.network, chosen.query(index, epsilon), budget=Budget(120.0))
            middle = time.perf_counter()
            job = client.verify(sha256, input=image, label=label, epsilon=epsilon, domain=(0, 1))
            posted.append(time.perf_counter() - middle)
            direct.append(middle - start)
            solved.append(job.seconds or 0.0)
    # The first pair warms up caches on both sides.
    columns = {
        "in this process": direct[1:],
        "POST to verdict": posted[1:],
        "of which solving": solved[1:],
        "overhead": [p - d for p, d in zip(posted[1:], direct[1:], strict=True)],
    }
    table = Table(f"image {index}, {posts} pairs", "median s", "p95 s", "max s")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, values in columns.items():
        table.add_row(name, *(f"{f(values):.3f}" for f in (statistics.median, percentile_95, max)))
    console.print(table)
    write(RESULTS / "overhead.csv", list(columns), list(zip(*columns.values(), strict=True)))


def agree(verdict: str, truth: str) -> bool:
    """Whether ``verdict`` does not contradict the truth column, whose words for a counterexample differ."""
    return not truth or (verdict == "robust") == (truth == "robust")


def percentile_95(values: Sequence[float]) -> float:
    """The 95th percentile by nearest rank."""
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main()
