"""A batch through HTTP against the same audit on the command line: the same verdicts, and at what cost?

    python -m benchmarks.batch [--inputs 250] [--workers 2] [--rounds 1] [--kill]

Both decide the first inputs of the Wong–Kolter network's test set at ε = 0.1 (the digits example where there is no data
folder), on as many processes. Seconds are those of the wall, with the start of ``netproof audit`` and without that of
the service, which is up; CPU seconds are of all processes together. ``--kill`` does it once more, with a worker that is
killed by SIGKILL, and a cancel and a resume in the middle, and checks that nothing finished is decided again. The exit
code says whether verdicts agree, the interval closed and the export is whole.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.material import Material, material
from netproof import Client
from netproof.batches import Batch
from netproof.local import local_service

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run and print; 1 where something does not agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=250)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="repetitions, one after the other in turn")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for each input")
    parser.add_argument(
        "--most", type=float, help="fail if a batch takes more than this many times the audit's seconds"
    )
    parser.add_argument("--kill", action="store_true", help="kill a worker, cancel and resume in the middle as well")
    options = parser.parse_args(arguments)
    subject = material()
    inputs = min(options.inputs, len(subject.dataset))
    print(f"{subject.title}, inputs 0 to {inputs - 1}, {options.workers} workers")
    with tempfile.TemporaryDirectory() as folder, local_service(workers=options.workers) as url, Client(url) as client:
        data = Path(folder) / "data.npz"
        np.savez(data, images=subject.dataset.stored, labels=subject.dataset.labels)
        client.batches.upload_dataset(data)
        client.upload(subject.network_path)
        agreed = True
        for number in range(options.rounds):
            audit = _audit(subject, data, inputs, options.workers, options.timeout, Path(folder) / f"{number}.jsonl")
            batch = _batch(client, subject, data, inputs, options.timeout)
            agreed &= _compared(audit, batch, Path(folder), client)
            agreed &= options.most is None or batch[1] <= options.most * audit[1]
        if options.kill:
            agreed &= _disturbed(client, subject, data, inputs, options.timeout, audit[0])
    return 0 if agreed else 1


def _audit(
    subject: Material, data: Path, inputs: int, workers: int, timeout: float, out: Path
) -> tuple[dict[int, str], float, float]:
    """Verdicts, wall and CPU seconds of ``netproof audit``."""
    what = [str(subject.network_path), "--data", str(data), "--eps", subject.epsilon, "--domain", "0", "1"]
    how = ["--first", str(inputs), "--workers", str(workers), "--timeout", str(timeout), "--out", str(out)]
    before, begin = os.times(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "netproof", "audit", *what, *how], stdout=subprocess.DEVNULL, check=False
    )
    wall, after = time.monotonic() - begin, os.times()
    assert done.returncode in {0, 3}, f"netproof audit ended with {done.returncode}"
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    records = (json.loads(line) for line in out.read_text().splitlines()[1:])
    return {record["index"]: record["verdict"] for record in records}, wall, cpu


def _batch(client: Client, subject: Material, data: Path, inputs: int, timeout: float) -> tuple[Batch, float, float]:
    """The batch, wall and CPU seconds from the request to the last verdict."""
    before, begin = _cpu(), time.monotonic()
    batch = _submit(client, subject, data, inputs, timeout)
    batch = client.batches.wait(batch.id)
    return batch, time.monotonic() - begin, _cpu() - before


def _submit(client: Client, subject: Material, data: Path, inputs: int, timeout: float) -> Batch:
    epsilon = subject.epsilon
    return client.batches.submit(
        subject.network_path, data, epsilon=epsilon, domain=(0, 1), end=inputs, time_limit=timeout, reuse=False
    )


def _cpu() -> float:
    """CPU seconds of the service's processes so far, those of ended jobs included."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _compared(
    audit: tuple[dict[int, str], float, float], batch: tuple[Batch, float, float], folder: Path, client: Client
) -> bool:
    verdicts, *audited = audit
    found, *took = batch
    same = _verdicts(client, found) == verdicts
    rows = list(csv.DictReader(client.batches.export(found.id, folder / "export.csv").read_text().splitlines()))
    whole = {int(row["index"]): row["verdict"] for row in rows} == verdicts
    low, high = found.robust_accuracy or (0.0, 1.0)
    print(f"  netproof audit {audited[0]:6.2f} s wall, {audited[1]:6.2f} s CPU")
    print(f"  POST /v1/batches {took[0]:4.2f} s wall, {took[1]:6.2f} s CPU; ratio {took[0] / audited[0]:.2f}")
    print(f"  robust accuracy {low:.4f} to {high:.4f}; verdicts {_agree(same)}, export {_agree(whole)}")
    return same and whole and high - low < 1e-9


def _disturbed(
    client: Client, subject: Material, data: Path, inputs: int, timeout: float, verdicts: dict[int, str]
) -> bool:
    """A worker killed, then a cancel and a resume, each with items that are finished already."""
    batch = _submit(client, subject, data, inputs, timeout)
    first = _finished_of(client, batch, inputs // 5)
    victim = next(each for each in psutil.Process().children(recursive=True) if "service.worker" in each.cmdline())
    victim.kill()
    second = _finished_of(client, batch, inputs // 2)
    client.batches.cancel(batch.id)
    client.batches.wait(batch.id)
    third = _finished(client, batch)
    client.batches.resume(batch.id)
    batch = client.batches.wait(batch.id)
    last = _finished(client, batch)
    kept = all(last[number] == seen for before in (first, second, third) for number, seen in before.items())
    same = _verdicts(client, batch) == verdicts
    print(f"  killed at {len(first)}, cancelled at {len(third)}, ended at {len(last)} finished items")
    print(f"  finished items {'untouched' if kept else 'DECIDED AGAIN'}; verdicts {_agree(same)}")
    return kept and same and len(last) == inputs


def _finished_of(client: Client, batch: Batch, number: int) -> dict[int, Any]:
    """What is finished as soon as that many items are."""
    while len(found := _finished(client, batch)) < number:
        time.sleep(0.05)
    return found


def _finished(client: Client, batch: Batch) -> dict[int, Any]:
    items = client.batches.items(batch.id, state="done", limit=1000)
    return {item["number"]: (item["verdict"], item["seconds"], item["job"], item["finished_at"]) for item in items}


def _verdicts(client: Client, batch: Batch) -> dict[int, str]:
    return {item["index"]: item["verdict"] for item in client.batches.items(batch.id, limit=1000)}


def _agree(same: bool) -> str:
    return "agree" if same else "DIFFER"


if __name__ == "__main__":
    sys.exit(main())
