"""The service under load: how fast does it answer many clients at once, and does its memory stay where it is?

    python -m benchmarks.load [--clients 200] [--seconds 60 | --minutes 10] [--rate 350] [--distinct] [--wk17a]

``netproof serve`` runs on this machine with an embedded queue and SQLite, or the database of ``--database``. Each of
the clients has one connection. In turn it asks a question whose answer is known (``POST /v1/verify``), looks at a job
that some client got lately (``GET /v1/jobs/{id}``), and at it once more with its ETag. ``--fresh`` questions a second
are decided anew by a worker, and polled until they have ended. Clients together keep to ``--rate`` cached questions a
second; with ``--rate 0`` each goes on as soon as it has its answer, which shows what the service is able to do and not
how long answers take. ``--distinct`` makes all bodies unlike each other, by their time limits.

The clients are a process of their own on the same cores; what they use is shown apart. Resident memory is sampled every
second; its slope is that of the last two thirds of the run. The exit code says whether every request was answered as it
should be and, with ``--firm``, whether the cached rate and the 95th percentile of GET are what the service promises.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.load_clients import Plan
from benchmarks.material import Material, material
from benchmarks.places import ROOT
from netproof.local import local_service
from networks import Dataset, load

__all__ = ["main", "measure"]

#: What the service promises on two cores with 200 clients.
_LEAST_RATE = 300.0
_MOST_SECONDS = 0.05

_QUESTIONS = 50
_WARM_UP = 5.0
_MODULES = {"service.web": "web", "service.worker": "worker", "service.reaper": "reaper", "serve": "supervisor"}


def main(arguments: list[str] | None = None) -> int:
    """Run and print; 1 where a request failed, or, with ``--firm``, where a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0, help="after a warm-up of 5")
    parser.add_argument("--minutes", type=float, help="instead of --seconds")
    parser.add_argument("--rate", type=float, default=350.0, help="cached questions a second; 0: as many as go")
    parser.add_argument("--fresh", type=float, default=2.0, help="questions a second that are decided anew")
    parser.add_argument("--distinct", action="store_true", help="no two bodies alike")
    parser.add_argument("--wk17a", action="store_true", help="784 inputs (data folder) and not 64")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--database", help="URL of an empty ledger; by default SQLite")
    parser.add_argument("--firm", action="store_true", help="fail where the promises are not kept")
    parser.add_argument("--url", help="of a service that runs already, of whose processes nothing is known then")
    options = parser.parse_args(arguments)
    subject = material() if options.wk17a else digits()
    seconds = 60 * options.minutes if options.minutes else options.seconds
    wanted = {name: getattr(options, name) for name in ("clients", "rate", "distinct")}
    wanted |= {"seconds": seconds, "fresh_rate": options.fresh, "warm_up": _WARM_UP}
    print(f"{subject.title}; {options.clients} clients, {options.rate:g} cached questions a second, {seconds:g} s")
    if options.url:
        found = measure(options.url, subject, wanted)
    else:
        with tempfile.TemporaryDirectory(prefix="netproof-") as folder:
            more = ("--database", options.database) if options.database else ()
            with local_service(workers=options.workers, folder=Path(folder) / "data", options=more) as url:
                found = measure(url, subject, wanted)
    show(found, seconds)
    kept = found["kinds"]["cached POST"]["rate"] >= _LEAST_RATE and found["kinds"]["GET"]["p95"] <= _MOST_SECONDS
    return 1 if found["errors"] or (options.firm and not kept) else 0


def digits() -> Material:
    """The digits example, whose questions are decided in no time."""
    path = ROOT / "examples" / "digits_robust.onnx"
    return Material("digits, 64 inputs", path, load(path), Dataset.read(ROOT / "examples" / "digits.npz"), "0.05", {})


def measure(url: str, subject: Material, wanted: dict[str, Any], *, questions: int = _QUESTIONS) -> dict[str, Any]:
    """What clients measured who did what is ``wanted`` (fields of `Plan`), with the processes' CPU and memory."""
    bodies = _questions(url, subject, questions)
    fresh = f'{bodies[0][:-1]},"reuse":false}}'
    plan = Plan(url=url, bodies=bodies, fresh=fresh, **wanted)
    watched = _Processes()
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load_clients"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as clients:
        assert clients.stdin is not None
        assert clients.stdout is not None
        clients.stdin.write(json.dumps(asdict(plan)).encode())
        clients.stdin.close()
        time.sleep(plan.warm_up)
        begin = time.monotonic()
        watched.begin()
        while clients.poll() is None and time.monotonic() - begin < plan.seconds:
            time.sleep(1.0)
            watched.sample(time.monotonic() - begin)
        cpu = watched.cpu()
        found: dict[str, Any] = json.loads(clients.stdout.read())
    share = plan.seconds / (plan.seconds + plan.warm_up)
    return found | {"processes": cpu | {"clients": found["cpu"] * share}, "memory": watched.memory()}


def _questions(url: str, subject: Material, number: int) -> list[str]:
    """Bodies of questions that the service has the answers of: each was asked and waited for."""
    with httpx.Client(base_url=url, timeout=120) as http:
        sha256 = (
            http.post("/v1/networks", content=subject.network_path.read_bytes()).raise_for_status().json()["sha256"]
        )
        bodies = []
        for index in range(number):
            image, label = subject.dataset.input(index), int(subject.dataset.label(index))
            query = {"input": image.reshape(-1).tolist(), "epsilon": subject.epsilon, "domain": [0, 1], "label": label}
            bodies.append(json.dumps({"network": sha256, "query": query}, separators=(",", ":")))
        for body in bodies:
            answer = http.post(
                "/v1/verify?wait=60", content=body.encode(), headers={"Content-Type": "application/json"}
            )
            verdict = answer.raise_for_status().json()["verdict"]
            assert verdict["verdict"] in {"robust", "counterexample"}, verdict
    return bodies


class _Processes:
    """CPU seconds and resident memory of the service's processes, by what they do."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[str, psutil.Process]] = {}
        self._before: dict[int, float] = {}
        self._sizes: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._look()

    def _look(self) -> None:
        for process in psutil.Process().children(recursive=True):
            if process.pid not in self._known and (name := _name(process)):
                self._known[process.pid] = f"{name} {process.pid}", process

    def begin(self) -> None:
        self._look()
        self._before = self._cpu()

    def sample(self, at: float) -> None:
        for name, process in self._known.values():
            try:
                self._sizes[name].append((at, process.memory_info().rss / 2**20))
            except psutil.NoSuchProcess:
                continue

    def _cpu(self) -> dict[int, float]:
        used = {}
        for number, (_, process) in self._known.items():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used[number] = times.user + times.system + times.children_user + times.children_system
        return used

    def cpu(self) -> dict[str, float]:
        """CPU seconds since `begin`."""
        now = self._cpu()
        return {self._known[number][0]: used - self._before.get(number, 0.0) for number, used in now.items()}

    def memory(self) -> dict[str, tuple[float, float, float]]:
        """MiB at the beginning and the end, and MiB a minute over the last two thirds."""
        out = {}
        for name, samples in self._sizes.items():
            late = np.array(samples[len(samples) // 3 :])
            slope = float(np.polyfit(late[:, 0], late[:, 1], 1)[0]) * 60 if len(late) > 1 else 0.0
            out[name] = samples[0][1], samples[-1][1], slope
        return out


def _name(process: psutil.Process) -> str | None:
    """What a process does, None for jobs and for what is none of the service's."""
    try:
        command, parent = process.cmdline(), process.parent()
        if any("valkey-server" in part or "redis-server" in part for part in command[:1]):
            return "queue"
        name = next((name for module, name in _MODULES.items() if module in command), None)
        inherited = parent is not None and parent.cmdline() == command  # a forked job
    except psutil.NoSuchProcess:
        return None
    return None if inherited else name


def show(found: dict[str, Any], seconds: float) -> None:
    """Print what was measured."""
    print(f"\n{'':28}{'requests':>10}{'a second':>10}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for kind, each in found["kinds"].items():
        times = "".join(f"{1e3 * each[key]:9.1f}" for key in ("p50", "p95", "p99", "max")) if each["requests"] else ""
        print(f"{kind:28}{each['requests']:10}{each['rate']:10.1f}{times}")
    print(f"errors: {sum(found['errors'].values())}")
    for what, count in found["errors"].items():
        print(f"  {count} × {what}")
    print(f"\n{'':28}{'CPU s':>10}{'cores':>10}{'MiB':>9}{'MiB after':>11}{'MiB a minute':>14}")
    for name, cpu in found["processes"].items():
        sizes = found["memory"].get(name)
        memory = f"{sizes[0]:9.1f}{sizes[1]:11.1f}{sizes[2]:14.2f}" if sizes else ""
        print(f"{name:28}{cpu:10.1f}{cpu / seconds:10.2f}{memory}")
    requests = sum(each["requests"] for kind, each in found["kinds"].items() if "until" not in kind)
    web = sum(cpu for name, cpu in found["processes"].items() if name.startswith("web"))
    if requests and web:
        print(f"web: {1e3 * web / requests:.2f} ms of CPU a request")


if __name__ == "__main__":
    sys.exit(main())
