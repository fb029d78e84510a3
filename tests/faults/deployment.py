"""A whole deployment for tests: a real queue server, real worker processes, a ledger in a temporary folder."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from onnx import helper

from service.artifacts import open_artifacts
from service.embedded import EmbeddedServer
from service.events import Events
from service.ledger import Ledger
from service.models import JobRecord
from service.queue import Dispatcher, queue_name
from service.reaper import Reaper
from service.settings import Settings
from service.states import JobState, NetworkState
from tests.random_networks import model
from tests.service.records import record

#: Fast enough for tests, slow enough for a loaded machine.
QUICK = {
    "heartbeat_seconds": 0.2,
    "lease_seconds": 4.0,
    "grace_seconds": 2.0,
    "cancel_seconds": 5.0,
    "drain_seconds": 0.5,
    "reap_seconds": 0.5,
    "stray_seconds": 2.0,
    "threads": 1,
    "memory_limit_mb": 512,
    "default_time_limit": 60.0,
}


def obstinate_model(widths: tuple[int, ...] = (12, 64, 64, 64, 2)) -> bytes:
    """A network on which class 0 always wins and proving it takes far longer than any test.

    Output 1 is 0; output 0 is a deep random function, lifted well above what sampling finds as its minimum.
    """
    rng = np.random.default_rng(0)
    layers = [
        (rng.standard_normal((after, before)) * np.sqrt(2 / before), np.zeros(after))
        for before, after in itertools.pairwise(widths)
    ]
    layers[-1][0][1] = 0
    values = rng.random((20_000, widths[0]))
    for weight, _ in layers[:-1]:
        values = np.maximum(values @ weight.T, 0)
    scores = values @ layers[-1][0][0]
    layers[-1][1][0] = -scores.min() + 0.6 * np.ptp(scores)
    nodes, constants, source = [], {}, "x"
    for i, (weight, bias) in enumerate(layers):
        last = i == len(layers) - 1
        constants[f"W{i}"], constants[f"b{i}"] = weight.astype(np.float32), bias.astype(np.float32)
        nodes.append(helper.make_node("Gemm", [source, f"W{i}", f"b{i}"], ["y" if last else f"z{i}"], transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [f"z{i}"], [f"h{i}"]))
            source = f"h{i}"
    return model(nodes, [1, widths[0]], constants)


def ball(inputs: int, epsilon: float = 0.5) -> dict[str, object]:
    """The query whether class 0 wins within ``epsilon`` of the middle of the unit box."""
    return {"input": [0.5] * inputs, "epsilon": epsilon, "norm": "linf", "domain": [0, 1], "label": 0, "targets": None}


class Deployment:
    """Everything but the web process. Workers are started by the test; nothing outlives `close`."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.settings = Settings(data_dir=folder / "data", **{**QUICK, **settings})
        self.server = EmbeddedServer(self.settings)
        self.server.start()
        self.ledger = Ledger(self.settings.ledger_url)
        self.ledger.create()
        self.artifacts = open_artifacts(self.settings)
        self.dispatcher = Dispatcher(self.settings.queue_url)
        self.events = Events(self.settings.queue_url)
        self.reaper = Reaper(self.settings, self.ledger, self.events, self.dispatcher)
        self.workers: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        self.dispatcher.close()
        self.events.close()
        self.ledger.close()
        self.server.stop()

    def start_worker(self) -> subprocess.Popen[bytes]:
        log = (self.settings.data_dir / "worker.log").open("ab")
        with log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "service.worker", "--parent", str(os.getpid())],
                env={**os.environ, **self.settings.environment()},
                stdout=log,
                stderr=log,
            )
        self.workers.append(worker)
        return worker

    def ready_worker(self) -> None:
        """Start a worker, and wait until it takes jobs: before that it loads what they need."""
        worker = self.start_worker()
        while not self.dispatcher.workers():
            assert worker.poll() is None, "the worker ended while it started"
            time.sleep(0.05)

    def submit(
        self,
        network: bytes,
        query: dict[str, object],
        *,
        time_limit: float = 60.0,
        engine: str = "auto",
        backend: str = "auto",
        dispatch: bool = True,
        reuse: bool = True,
    ) -> JobRecord:
        artifact = self.artifacts.put(network)
        self.ledger.add_network(
            artifact.sha256, size=artifact.size, name="test.onnx", state=NetworkState.READY, summary={}
        )
        request = {"network": artifact.sha256, "query": query, "engine": engine, "time_limit": time_limit}
        request |= {"backend": backend, "reuse": reuse}
        job, _ = record(
            self.ledger,
            artifact.sha256,
            request,
            queue=queue_name(backend),
            time_limit=time_limit,
            max_attempts=self.settings.max_attempts,
        )
        if dispatch:
            self.dispatcher.enqueue(job)
        return job

    def wait(
        self, job: JobRecord, until: Callable[[JobRecord], bool], *, seconds: float = 40.0, reap: bool = False
    ) -> JobRecord:
        """Poll the ledger until the job satisfies ``until``, sweeping meanwhile if ``reap``."""
        end = time.monotonic() + seconds
        while True:
            now = self.ledger.job(job.id)
            if until(now):
                return now
            if time.monotonic() > end:
                log = self.settings.data_dir / "worker.log"
                msg = f"not reached within {seconds} s: {now}\n{log.read_text() if log.exists() else 'no worker ran'}"
                raise AssertionError(msg)
            if reap:
                self.reaper.sweep()
            time.sleep(0.02)

    def wait_for_bounds(self, job: JobRecord) -> JobRecord:
        """Wait until the job runs and has proven something."""
        return self.wait(job, lambda j: j.state is JobState.RUNNING and lower_bound(j.progress) is not None)

    def child_of(self, worker: subprocess.Popen[bytes]) -> psutil.Process:
        (child,) = psutil.Process(worker.pid).children()
        return child

    def kill_server(self) -> None:
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGKILL)
        while self.server.alive():
            time.sleep(0.02)


def lower_bound(document: dict[str, object] | None) -> float | None:
    """The proven lower bound in a progress report or a verdict."""
    return None if document is None else document["margin"][0]  # type: ignore[index,no-any-return]


def ended(job: JobRecord) -> bool:
    return job.terminal
