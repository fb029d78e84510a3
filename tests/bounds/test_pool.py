from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from bounds import backward_bounds
from bounds.pool import Pool, Solver, Task
from bounds.relaxation import Relaxation, objectives, relax
from networks.region import Region
from tests.bounds.graphs import dense_network

pytestmark = pytest.mark.skipif(not Pool.available(), reason="worker processes need POSIX")


def problem(widths=(4, 12, 12, 2)) -> tuple[Relaxation, list[Task]]:
    network = dense_network(np.random.default_rng(2), widths, scale=1.5)
    region = Region.box([-0.5] * widths[0], [0.5] * widths[0])
    enclosure = backward_bounds(network, region)
    node = network.relu_nodes[-1]
    relaxation = relax(network, region, enclosure, node)
    neurons = np.flatnonzero(enclosure.unstable(node))
    costs, constants = objectives(network, enclosure, relaxation, node - 1, neurons)
    tasks = [
        Task(neurons[i : i + 1], costs[i : i + 1], constants[i : i + 1], ((1, -1),), 10.0) for i in range(len(neurons))
    ]
    return relaxation, tasks


def gone(pid: int, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_the_pool_finds_what_this_process_finds() -> None:
    relaxation, tasks = problem()
    solver = Solver(relaxation)
    here = {(a.neuron, a.sign): a.found.value for task in tasks for a in solver.solve(task)}
    with Pool(2) as pool:
        assert pool.processes == 2
        for _ in range(2):  # workers are used again for the next relaxation
            answers = itertools.chain.from_iterable(pool.solve(relaxation, iter(tasks)))
            there = {(a.neuron, a.sign): a.found.value for a in answers}
            assert there.keys() == here.keys()
            assert all(abs(there[key] - here[key]) < 1e-9 for key in here)


def test_a_worker_loads_neither_torch_nor_the_network() -> None:
    code = "import bounds.pool, highspy, sys; sys.exit(any(m in sys.modules for m in ('torch', 'onnx', 'networks')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_an_interruption_ends_the_answers_within_a_second() -> None:
    relaxation, tasks = problem((60, 150, 150, 2))
    with Pool(1) as pool:
        begin = time.monotonic()
        endless = itertools.cycle(tasks)
        count = sum(1 for _ in pool.solve(relaxation, endless, lambda: time.monotonic() - begin > 1.0))
        assert time.monotonic() - begin < 2.0
        assert count > 0
        # What was abandoned does not come back as an answer to something else.
        first = list(itertools.chain.from_iterable(pool.solve(relaxation, iter(tasks[:1]))))
        assert {answer.neuron for answer in first} == set(tasks[0].neurons.tolist())


def test_a_worker_that_dies_costs_its_task_only() -> None:
    relaxation, tasks = problem()
    others = psutil.Process().children()
    with Pool(2) as pool:
        victim = next(child for child in psutil.Process().children() if child not in others)
        victim.kill()
        assert gone(victim.pid)
        answers = list(pool.solve(relaxation, iter(tasks)))
        assert len(answers) >= len(tasks) - 1
        assert pool.processes == 1


def test_answers_end_when_every_worker_has_died() -> None:
    relaxation, tasks = problem()
    others = psutil.Process().children()
    with Pool(1) as pool:
        for child in psutil.Process().children():
            if child not in others:
                child.kill()
                assert gone(child.pid)
        assert list(pool.solve(relaxation, iter(tasks))) == []
        assert pool.processes == 0


def test_workers_die_with_their_parent() -> None:
    code = (
        "import time, psutil; from bounds.pool import Pool\n"
        "pool = Pool(2); print(*[c.pid for c in psutil.Process().children()], flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        time.sleep(1.0)  # so that they have asked to die with their parent
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(timeout=10)
        assert len(workers) == 2
        assert all(gone(worker) for worker in workers)


def test_a_daemonic_process_may_use_a_pool() -> None:
    code = (
        "import multiprocessing, sys; from bounds.pool import Pool\n"
        "def work():\n"
        "    with Pool(1) as pool: sys.exit(pool.processes - 1)\n"
        "p = multiprocessing.get_context('fork').Process(target=work, daemon=True)\n"
        "p.start(); p.join(30); sys.exit(p.exitcode)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
