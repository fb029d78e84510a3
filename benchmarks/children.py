"""Runs of single instances, each in a child process of its own with a limit on time and memory.

A child is forked from a server that has imported everything and computed nothing, so its start costs milliseconds, no
instance profits from an earlier one, and a crash ends nothing but itself.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.instances import Instance
from benchmarks.records import Answer, Record, judge

__all__ = ["Decide", "Limits", "Tell", "decide", "run_all"]

#: What the server imports. Importing is all: thread pools, which solving starts, would not survive a fork.
_IMPORTED = [
    "benchmarks.children",
    "bounds.tighten",
    "highspy",
    "networks",
    "onnxruntime",
    "pyomo.environ",
    "pyomo.repn.plugins.standard_form",
    "service.limits",
    "solver.input_split",
    "solver.ladder",
    "solver.milp",
    "solver.relu_split",
    "torch",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may take.

    Attributes:
        seconds: at most this many for the decision, whatever the instance's own limit is; None for that limit.
        scale: share of the instance's own limit.
        grace: seconds after which a run that ignores its limit is ended.
        load: seconds for reading network and specification.
        threads: CPU threads.
        workers: processes that search together.
        megabytes: memory on top of what the imports take.
    """

    seconds: float | None = None
    scale: float = 1.0
    grace: float = 10.0
    load: float = 120.0
    threads: int = 1
    workers: int = 1
    megabytes: int = 6144

    def allowed(self, instance: Instance) -> float:
        """Seconds that a run of ``instance`` gets for the decision."""
        return min(self.scale * instance.limit, math.inf if self.seconds is None else self.seconds)


#: Tells the parent fields of the record before the others are known.
Tell: TypeAlias = Callable[[dict[str, Any]], None]

#: Decides an instance of the data folder within limits, and returns the fields of its record that were not told.
Decide: TypeAlias = Callable[[Tell, Path, Instance, Limits], dict[str, Any]]


def decide(tell: Tell, folder: Path, instance: Instance, limits: Limits) -> dict[str, Any]:
    """Load network and specification, and have `solver.verify` decide."""
    import networks
    import solver
    from solver import Budget
    from solver.local_helpers import local_helpers

    began = time.monotonic()
    network = networks.load(folder / instance.family / instance.onnx)
    loaded = time.monotonic()
    tell({"load_seconds": loaded - began})
    query = networks.read_vnnlib(folder / instance.family / instance.vnnlib, network.inputs, network.outputs)
    tell({"read_seconds": time.monotonic() - loaded})
    with local_helpers(network, limits.workers) as helpers:
        verdict = solver.verify(network, query, budget=Budget(limits.allowed(instance), limits.threads, helpers))
    stages: dict[str, float] = {}
    for stage in verdict.stages:
        stages[stage.name] = stages.get(stage.name, 0.0) + stage.seconds
    lower, upper = verdict.margin
    return {
        "answer": Answer(str(verdict.outcome)),
        "seconds": verdict.seconds,
        "decided_by": verdict.decided_by,
        "reason": str(verdict.reason or ""),
        "lower": lower,
        "upper": upper,
        "stages": " ".join(f"{name}={seconds:.3f}" for name, seconds in stages.items()),
    }


def run_all(
    folder: Path, instances: Sequence[Instance], limits: Limits, jobs: int = 1, decide: Decide = decide
) -> Iterator[Record]:
    """Run instances of the data folder, ``jobs`` at a time, and yield their records as they come."""
    context = multiprocessing.get_context("forkserver")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # see `networks.runtime`
    context.set_forkserver_preload(_IMPORTED)
    queue = list(reversed(instances))
    running: dict[Connection, _Run] = {}
    try:
        while queue or running:
            while queue and len(running) < jobs:
                run = _Run.start(folder, queue.pop(), limits, decide)
                running[run.pipe] = run
            soonest = min(run.deadline for run in running.values())
            for pipe in wait(list(running), max(0.0, soonest - time.monotonic())):
                run = running[pipe]  # type: ignore[index]
                if run.listen():
                    yield running.pop(run.pipe).record()
            for run in [run for run in running.values() if time.monotonic() >= run.deadline]:
                run.late = True
                yield running.pop(run.pipe).record()
    finally:
        for run in running.values():
            run.end()


@dataclass(eq=False)
class _Run:
    """A child at work, and what it has told so far."""

    instance: Instance
    limits: Limits
    process: ForkServerProcess
    pipe: Connection
    deadline: float
    told: dict[str, Any] = field(default_factory=dict)
    late: bool = False

    @classmethod
    def start(cls, folder: Path, instance: Instance, limits: Limits, decide: Decide) -> _Run:
        context = multiprocessing.get_context("forkserver")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(theirs, folder, instance, limits, decide))
        process.start()
        theirs.close()
        return cls(instance, limits, process, ours, time.monotonic() + limits.load)

    @property
    def allowed(self) -> float:
        return self.limits.allowed(self.instance)

    def listen(self) -> bool:
        """Takes a message in; True when it was the last."""
        try:
            self.told |= self.pipe.recv()
        except (EOFError, OSError):
            return True
        if "read_seconds" in self.told:
            self.deadline = time.monotonic() + self.allowed + self.limits.grace
        return "answer" in self.told

    def end(self) -> None:
        """Ends the child and whatever it has started."""
        if "answer" in self.told:
            self.process.join(5.0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.join()
        self.pipe.close()

    def record(self) -> Record:
        """What became of the instance; ends the child."""
        self.end()
        told = self.told
        if self.late and "answer" not in told:
            seconds = self.allowed + self.limits.grace if "read_seconds" in told else 0.0
            told |= {"answer": Answer.OVERTIME, "seconds": seconds, "detail": f"did not end in {seconds:g} s"}
        elif "answer" not in told:
            told |= {"answer": Answer.CRASHED, "detail": _exit_text(self.process.exitcode or 0)}
        answer = Answer(told.pop("answer"))
        instance = self.instance
        return Record(
            *instance.key,
            truth=instance.truth,
            firm=instance.firm,
            allowed=self.allowed,
            answer=answer,
            judgement=judge(answer, instance.truth, firm=instance.firm),
            **told,
        )


def _exit_text(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code} without an answer"


def _child(pipe: Connection, folder: Path, instance: Instance, limits: Limits, decide: Decide) -> None:
    # A group of its own: one signal then ends it with the processes that it starts, and Ctrl-C reaches only the parent.
    os.setpgid(0, 0)
    from service.limits import die_with_parent, lift_memory_limit, limit_memory
    from solver.sizes import is_memory_error

    die_with_parent(os.getppid())
    limit_memory(limits.megabytes)
    began = time.monotonic()
    try:
        outcome = decide(pipe.send, folder, instance, limits)
    except Exception as error:  # noqa: BLE001  whatever it is, it is a result
        lift_memory_limit()
        outcome = {"seconds": time.monotonic() - began} | _failure(error, memory=is_memory_error(error))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    pipe.send(outcome | {"megabytes": peak})


def _failure(error: Exception, *, memory: bool) -> dict[str, Any]:
    from networks.errors import InputError

    if memory:
        return {"answer": Answer.UNKNOWN, "reason": "memory", "detail": _last_lines(error)}
    if isinstance(error, InputError):
        return {"answer": Answer.REFUSED, "reason": type(error).__name__, "detail": str(error)}
    return {"answer": Answer.CRASHED, "reason": type(error).__name__, "detail": _last_lines(error)}


def _last_lines(error: Exception) -> str:
    return "".join(traceback.format_exception(error))[-1500:]
