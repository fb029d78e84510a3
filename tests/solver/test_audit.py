"""Audits: agreement with verify, workers that die or hang, and estimates."""

from __future__ import annotations

import math
import os
import signal
import time

import numpy as np
import psutil
import pytest

import solver
from networks import Dataset
from networks.errors import DatasetError, InputError, NetproofError, PropertyError, RegionError
from solver import Budget, Engine, Options, Outcome, Reason
from solver.audit import Outlook, audit, check
from solver.crew import Ball, Crew, Item, Setup, Task, _portable
from solver.tally import Tally
from tests.random_networks import random_dense

pytestmark = pytest.mark.skipif(os.name != "posix", reason="worker processes need POSIX")

BALL = Ball("0.3", domain=(-2, 2))


@pytest.fixture(scope="module")
def network():
    return random_dense(5, (6, 12, 12, 3))


@pytest.fixture(scope="module")
def dataset(network):
    from networks import evaluate

    x = np.random.default_rng(6).uniform(-1, 1, (14, 6)).astype(np.float32)
    labels = evaluate(network, x.astype(float)).argmax(1)
    labels[3] = (labels[3] + 1) % 3  # one that the network gets wrong
    return Dataset.of(x, labels, "random.npz")


def alone(network, dataset, i, engine=Engine.AUTO):
    query = BALL.query(dataset.input(i), dataset.label(i), network.outputs)
    return solver.verify(network, query, options=Options(engine), budget=Budget(60, 1))


@pytest.mark.slow
@pytest.mark.parametrize("engine", [Engine.AUTO, Engine.BOUNDS, Engine.BAB])
def test_agrees_with_verify_on_every_input(network, dataset, engine):
    looks = []
    records = list(
        audit(
            network,
            dataset,
            range(len(dataset)),
            BALL,
            options=Options(engine),
            processes=2,
            progress=lambda o: looks.append((o.sweeping, o.searching)),
        )
    )
    assert sorted(r["index"] for r in records) == list(range(len(dataset)))
    for record in records:
        expected = alone(network, dataset, record["index"], engine)
        assert record["verdict"] == str(expected.outcome)
        assert record["trust"] == (str(expected.trust) if expected.trust else None)
        assert record["label"] == dataset.label(record["index"])
        assert record["engine"] == str(engine)
    assert {r["verdict"] for r in records} >= {"robust", "counterexample"}, "the example should have both"
    by_replay = [r["index"] for r in records if r["decided_by"] == "replay"]
    assert by_replay == [3]
    assert looks[-1] == (0, 0)


def test_only_the_inputs_that_were_asked_for(network, dataset):
    assert [r["index"] for r in audit(network, dataset, [9], BALL, processes=4)] == [9]
    assert list(audit(network, dataset, [], BALL)) == []


def test_cancelling_ends_the_iteration(network, dataset):
    assert list(audit(network, dataset, range(14), BALL, cancel=lambda: True)) == []


def test_what_does_not_fit_is_refused_before_anything_starts(network, dataset):
    with pytest.raises(RegionError, match="outside the domain"):
        audit(network, dataset, range(14), Ball("0.1", domain=(-0.5, 0.5)))
    with pytest.raises(RegionError, match="epsilon"):
        audit(network, dataset, [0], Ball("-1"))
    with pytest.raises(RegionError, match="norm"):
        check(network, dataset, [0], Ball("0.1", norm="l7"))
    wide = Dataset.of(np.zeros((2, 7), np.float32), np.zeros(2, int), "wide.npz")
    with pytest.raises(DatasetError, match="7 entries"):
        check(network, wide, [0], BALL)
    strange = Dataset.of(dataset.stored, np.full(14, 3), "labels.npz")
    with pytest.raises((DatasetError, PropertyError), match="label"):
        check(network, strange, [0], BALL)
    holes = dataset.stored.copy()
    holes[5, 2] = np.nan
    with pytest.raises(DatasetError, match=r"input 5 .* entry 2"):
        check(network, Dataset.of(holes, dataset.labels, "holes.npz"), range(14), BALL)


@pytest.fixture
def crew(network, dataset):
    with Crew(Setup(network, BALL, Options(), 1.0), 1) as crew:
        while not crew.free:
            assert crew.wait(5) == []
        yield crew


def given(crew, dataset, index=0):
    """Hands an input to the crew's only worker, which is stopped first; returns its process id."""
    pid = crew._workers[0].child.pid
    os.kill(pid, signal.SIGSTOP)
    crew.give(Task(Item(index, dataset.label(index), dataset.input(index)), Engine.AUTO))
    return pid


def answers(crew):
    done = []
    while not done:
        done = crew.wait(5)
    return done


def test_a_worker_that_dies_costs_its_input_alone(crew, dataset):
    os.kill(given(crew, dataset), signal.SIGKILL)
    ((task, verdict),) = answers(crew)
    assert (task.item.index, verdict.outcome, verdict.reason) == (0, Outcome.UNKNOWN, Reason.MEMORY)
    assert "code -9" in verdict.hint
    while not crew.free:
        crew.wait(5)
    crew.give(Task(Item(1, dataset.label(1), dataset.input(1)), Engine.AUTO))
    ((task, verdict),) = answers(crew)
    assert (task.item.index, verdict.outcome is Outcome.UNKNOWN) == (1, False)


def test_a_worker_that_hangs_is_replaced(crew, dataset, monkeypatch):
    monkeypatch.setattr("solver.crew._OVERRUN_SECONDS", 0.1)
    given(crew, dataset)
    ((_, verdict),) = [answer for _ in range(20) for answer in crew.wait(0.1)]
    assert (verdict.outcome, verdict.reason) == (Outcome.UNKNOWN, Reason.TIMEOUT)


def test_a_worker_that_ends_without_work_is_a_fault(crew):
    os.kill(crew._workers[0].child.pid, signal.SIGKILL)
    with pytest.raises(NetproofError, match="before it was given an input"):
        crew.wait(5)


def test_an_input_that_the_worker_refuses_is_named(crew, network):
    crew.give(Task(Item(7, 0, np.full(network.inputs, 9, np.float32)), Engine.AUTO))
    with pytest.raises(InputError, match=r"input 7: .*outside the domain"):
        answers(crew)


class LocalError(Exception):
    def __init__(self, *, needed):
        super().__init__("what it says")


def test_errors_that_cannot_travel_keep_their_text():
    assert str(_portable(LocalError(needed=1))) == "LocalError: what it says"
    assert isinstance(_portable(RegionError("empty")), RegionError)


def test_estimate_grows_from_upper_bound_to_average():
    look = Outlook(processes=2, limit=60.0, sweeping=10)
    assert look.seconds_left() is None
    look.sweeping, look.swept, look.sweep_seconds = 8, 2, 1.0
    assert look.seconds_left() == (2.0, False)
    look.opened = look.searching = 1
    assert look.seconds_left() == ((4.0 + 60.0 * (1 + 8 / 2)) / 2, True)
    look.sweeping, look.searched, look.search_seconds, look.at_work = 0, 1, 3.0, 2.0
    assert look.seconds_left() == (5.0, False), "one search is not shared between processes"


def test_tally_closes_its_interval():
    tally = Tally(4)
    assert tally.adversarial_error == (0, 1)
    tally.add({"index": 0, "verdict": "robust", "seconds": 1.0, "decided_by": "linear"})
    tally.add({"index": 1, "verdict": "counterexample", "seconds": 2.0, "decided_by": "replay"})
    tally.add({"index": 2, "verdict": "unknown", "seconds": 9.0, "decided_by": ""})
    assert tally.adversarial_error == (0.25, 0.75)
    assert (tally.done, tally.undecided, tally.misclassified) == (3, 2, 1)
    tally.add({"index": 3, "verdict": "counterexample", "seconds": 0.5, "decided_by": "bab"})
    document = tally.to_json()
    assert document["robust_accuracy"] == [0.25, 0.5]
    assert document["seconds"] == {"sum": 12.5, "mean": 3.125, "median": 1.5, "max": 9.0}
    assert document["slowest"][0] == {"index": 2, "seconds": 9.0, "verdict": "unknown"}
    assert math.isclose(sum(document[v] for v in ("robust", "counterexample", "unknown")), 4)


def test_certificates_come_with_the_robust_records_and_prove_them(network, dataset, tmp_path):
    from certificates import check as check_certificate
    from certificates import read

    folder = tmp_path / "new" / "proofs"
    tally = Tally(len(dataset))
    for record in audit(network, dataset, range(len(dataset)), BALL, processes=2, certificates=folder):
        tally.add(record)
        if record["verdict"] != "robust":
            assert record["certificate"] is None
            continue
        assert record["trust"] == "certified"
        data = (folder / record["certificate"]["file"]).read_bytes()
        assert len(data) == record["certificate"]["bytes"]
        assert check_certificate(data, network).proven
        ((region, _),) = read(data).query.cases
        asked = BALL.query(dataset.input(record["index"]), record["label"], network.outputs).cases[0][0]
        assert region.exact_lower == asked.exact_lower
    summary = tally.to_json()
    assert summary["certified"] == summary["robust"] == len(list(folder.iterdir())) > 0
    assert summary["certificates"]["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert summary["certificates"]["check_seconds"] > 0


def test_checkers_end_with_the_audit(network, dataset, tmp_path):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    records = audit(network, dataset, range(len(dataset)), BALL, processes=2, certificates=tmp_path)
    next(records)
    # Two workers, and a checker beside each that has had something to check.
    assert len({child.pid for child in psutil.Process().children(recursive=True)} - before) > 2
    records.close()
    deadline = time.monotonic() + 20
    while {child.pid for child in psutil.Process().children(recursive=True)} - before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
