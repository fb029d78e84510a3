"""One hard query on several processes: how the work divides, and what coordinating a hundred workers would cost.

    python -m benchmarks.subtrees [--workers N] [--limit-seconds S] [--only TEXT] [--parts N]

Each instance is decided alone and with helpers that wait already, so that their start is not counted. Figures are CPU
seconds, which a busy machine leaves as they are: with a core for each process, the largest of them is about how long it
takes. Then so many parts go through a ledger as a hundred workers would send them there.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.places import data_folder

__all__ = ["Cost", "Division", "coordinate", "divide", "main"]


@dataclass(frozen=True, slots=True)
class Division:
    """One instance: verdicts, cells and CPU seconds alone and together; those of helpers are the largest of any."""

    name: str
    alone: str
    together: str
    cells: tuple[int, int]
    cpu_alone: float
    cpu_home: float
    cpu_helpers: float
    seconds: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one part costs in CPU seconds: its parent to give and to look after, its worker beside searching."""

    parts: int
    give: float
    look: float
    work: float
    transactions: float


def instances() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Names, networks and questions of queries that take branch and bound some seconds."""
    data = data_folder()
    with np.load(data / "mnist" / "mnist_test.npz") as images:
        for i in (7, 53, 78):
            x = images["images"][i].reshape(-1).astype(np.float32) / np.float32(255)
            query: dict[str, object] = {"input": x, "label": int(images["labels"][i]), "epsilon": "0.1"}
            yield f"RSL18a image {i}", "mipverify/mnist_rsl18a_linf0.1.onnx", query | {"domain": (0, 1)}
    for name, network, spec in (
        ("ACAS Xu 3_3 prop_2", "acasxu/onnx/ACASXU_run2a_3_3_batch_2000.onnx", "acasxu/vnnlib/prop_2.vnnlib.gz"),
        (
            "mnist_fc 256x2 prop_0 0.05",
            "mnist_fc/onnx/mnist-net_256x2.onnx",
            "mnist_fc/vnnlib_2021/prop_0_0.05.vnnlib.gz",
        ),
        (
            "mnist_fc 256x6 prop_5 0.03",
            "mnist_fc/onnx/mnist-net_256x6.onnx",
            "mnist_fc/vnnlib_2021/prop_5_0.03.vnnlib.gz",
        ),
        (
            "mnist_fc 256x4 prop_10 0.05",
            "mnist_fc/onnx/mnist-net_256x4.onnx",
            "mnist_fc/vnnlib_2021/prop_10_0.05.vnnlib.gz",
        ),
    ):
        yield name, network, {"vnnlib": data / spec}


def divide(name: str, network: str, query: dict[str, object], workers: int, limit: float) -> Division:
    """Decides one instance alone and together."""
    import networks
    import solver
    from solver import Budget
    from solver.local_helpers import LocalHelpers

    question = solver.pose(networks.load(data_folder() / network), **query)

    def cells(verdict: solver.Verdict) -> int:
        return sum(stage.detail.get("nodes", 0) for stage in verdict.stages)

    begin, wall = time.process_time(), time.monotonic()
    alone = solver.answer(question, budget=Budget(limit, 1))
    cpu_alone, wall_alone = time.process_time() - begin, time.monotonic() - wall
    with LocalHelpers(question.network, workers - 1, after=0.0) as helpers:
        while helpers.wanted() < workers - 1:
            time.sleep(0.05)
        started = {pid: _cpu(pid) for pid in helpers.pids}
        begin, wall = time.process_time(), time.monotonic()
        together = solver.answer(question, budget=Budget(limit, 1, helpers))
        cpu_home, wall_together = time.process_time() - begin, time.monotonic() - wall
        cpu_helpers = max(_cpu(pid) - before for pid, before in started.items())
    return Division(
        name,
        str(alone.outcome),
        str(together.outcome),
        (cells(alone), cells(together)),
        cpu_alone,
        cpu_home,
        cpu_helpers,
        (wall_alone, wall_together),
    )


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def coordinate(parts: int, folder: Path) -> Cost:
    """So many parts of one job through a ledger in ``folder``, one after the other, with documents of 100 kB."""
    from service.artifacts import FolderArtifacts
    from service.ledger import Ledger
    from service.states import JobState, NetworkState
    from service.submissions import Submission

    ledger, artifacts = Ledger(f"sqlite:///{folder / 'ledger.db'}"), FolderArtifacts(folder / "artifacts")
    ledger.create()
    ledger.add_network("a" * 64, size=1, name="n", state=NetworkState.READY, summary={})
    ledger.submissions.record([Submission({"network": "a" * 64, "query": {}}, "highs", 60.0, 1)])
    (job,) = ledger.jobs()
    parent = ledger.start(job.id, worker="home", lease_seconds=600)
    assert parent is not None
    rng = np.random.default_rng(0)
    given, began = [], time.process_time()
    for _ in range(parts):
        piece = artifacts.put(rng.bytes(100_000)).sha256
        part = ledger.subtrees.give(parent, {"query": {}, "part": {"piece": piece}}, queue="highs-low", time_limit=45.0)
        assert part is not None
        given.append(part.id)
    give = (time.process_time() - began) / parts
    began = time.process_time()
    for _ in range(20):
        ledger.subtrees.look(given)
    look = (time.process_time() - began) / 20
    began, wall, writes = time.process_time(), time.monotonic(), 0
    for number, part_id in enumerate(given):
        assert ledger.start(part_id, worker=f"worker-{number}", lease_seconds=15)
        ledger.renew(part_id, 1, lease_seconds=15)
        answer = artifacts.put(rng.bytes(100_000)).sha256
        ledger.finish(part_id, 1, JobState.SUCCEEDED, verdict={"verdict": "unknown", "part": {"answer": answer}})
        writes += 3
    work = (time.process_time() - began) / parts
    transactions = writes / (time.monotonic() - wall)
    ledger.close()
    return Cost(parts, give, look, work, transactions)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints both tables; the exit code is 1 if helpers changed a verdict that was reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.subtrees", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit-seconds", type=float, default=300.0)
    parser.add_argument("--only", default="", help="instances whose name has this in it")
    parser.add_argument("--parts", type=int, default=100, help="0 leaves this out")
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    console, wrong = Console(), 0
    table = Table("query", "alone", "together", "cells", "CPU s alone", "at home", "most helped", "wall s")
    for name, network, query in instances():
        if chosen.only not in name:
            continue
        found = divide(name, network, query, chosen.workers, chosen.limit_seconds)
        decided = {found.alone, found.together} - {"unknown"}
        wrong += len(decided) > 1
        cpu = (f"{each:.1f}" for each in (found.cpu_alone, found.cpu_home, found.cpu_helpers))
        cells, wall = (f"{a:,.0f} / {b:,.0f}" for a, b in (found.cells, found.seconds))
        table.add_row(found.name, found.alone, found.together, cells, *cpu, wall)
        print(found, file=sys.stderr, flush=True)  # the table comes last, and the limit of a set may come before
    console.print(table)
    if chosen.parts:
        with tempfile.TemporaryDirectory() as folder:
            cost = coordinate(chosen.parts, Path(folder))
        console.print(
            f"{cost.parts} parts: {1e3 * cost.give:.1f} ms CPU to give one, {1e3 * cost.look:.1f} ms to look at all, "
            f"{1e3 * cost.work:.1f} ms for its worker; {cost.transactions:.0f} transactions a second"
        )
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
