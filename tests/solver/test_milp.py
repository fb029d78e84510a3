from __future__ import annotations

import dataclasses
import math
import time
from fractions import Fraction

import numpy as np
import pytest

import solver.milp
from bounds import backward_bounds, interval_bounds
from networks import Clause, Property, Region, Row, evaluate
from solver import backends
from solver.backends import MilpOutcome, MilpStatus
from solver.cuts import Root
from solver.milp import ClauseStatus, decide_milp
from solver.options import Backend
from solver.replay import Replayer
from solver.verdict import Reason
from tests.random_networks import random_conv, random_dense, random_residual
from tests.solver.oracle import minimum_margin

ONE = Fraction(1)
BACKENDS = [Backend.HIGHS, Backend.GUROBI]


def query(network, seed, epsilon):
    """A ball around a random point, and "the class there stays the same" as clauses."""
    center = np.random.default_rng(seed).uniform(-1, 1, network.inputs).round(2)
    region = Region.linf_ball(center, epsilon)
    label = int(evaluate(network, center[None])[0].argmax())
    return region, Property.classification(label, network.outputs)


def replayer(network, region, prop):
    run = Replayer(network)
    return lambda x: run.counterexample(region, prop, region.project(x))


CASES = [
    *(("dense", lambda s=s: random_dense(s), s, "0.25") for s in range(90)),
    *(("conv", lambda s=s: random_conv(s, size=4), s, "0.03") for s in range(40)),
    *(("residual", lambda s=s: random_residual(s, width=3), s, "0.2") for s in range(90)),
]


@pytest.mark.parametrize("chunk", range(10))
def test_agrees_with_brute_force(chunk):
    for kind, make, seed, epsilon in CASES[chunk::10]:
        network = make()
        region, prop = query(network, seed, epsilon)
        truth = [minimum_margin(network, region, clause) for clause in prop.clauses]
        enclosure = (interval_bounds if seed % 2 else backward_bounds)(network, region)
        for backend in BACKENDS:
            result = decide_milp(
                network, region, prop.clauses, enclosure, backend=backend, replay=replayer(network, region, prop)
            )
            where = (kind, seed, backend, truth)
            assert result.backend == backend, where
            for clause, least in zip(result.clauses, truth, strict=True):
                assert clause.lower <= least + 1e-9, where
                if clause.status is ClauseStatus.PROVEN:
                    assert least > 0, where
                elif clause.status is ClauseStatus.VIOLATED:
                    assert least <= 1e-6, where
            if min(truth) > 1e-3:
                assert all(clause.status is ClauseStatus.PROVEN for clause in result.clauses), where
                assert result.reason is None
            elif min(truth) < -1e-3:
                assert result.counterexample is not None, where
                assert prop.violated(result.counterexample.output)
                assert region.contains(result.counterexample.input)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_conjunction_is_violated_only_where_all_rows_are(backend):
    decided = {ClauseStatus.PROVEN: 0, ClauseStatus.VIOLATED: 0}
    for seed in range(6):
        network = random_dense(seed, (3, 5, 5, 3))
        region, _ = query(network, seed, "0.25")
        clause = Clause((Row(((0, ONE), (1, -ONE))), Row(((0, ONE), (2, -ONE)), Fraction(-1, 2))), 3, "smallest")
        prop = Property((clause,))
        truth = minimum_margin(network, region, clause)
        enclosure = interval_bounds(network, region)
        result = decide_milp(
            network, region, [clause], enclosure, backend=backend, replay=replayer(network, region, prop)
        )
        if abs(truth) > 1e-3:
            assert result.clauses[0].status is (ClauseStatus.PROVEN if truth > 0 else ClauseStatus.VIOLATED)
            decided[result.clauses[0].status] += 1
    assert min(decided.values()) >= 1


def vulnerable():
    """A query with a counterexample."""
    for seed in range(100):
        network = random_dense(seed)
        region, prop = query(network, seed, "0.5")
        if minimum_margin(network, region, prop.clauses[0]) < -0.1:
            return network, region, prop
    raise AssertionError


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_candidate_that_never_replays_leaves_the_clause_open(backend):
    network, region, prop = vulnerable()
    tried = []
    result = decide_milp(
        network, region, prop.clauses, interval_bounds(network, region), backend=backend, replay=tried.append
    )
    assert tried
    assert all(((region.lower <= x) & (x <= region.upper)).all() for x in tried)
    assert result.counterexample is None
    assert result.clauses[0].status is ClauseStatus.OPEN
    assert result.reason is Reason.NUMERICS
    truth = minimum_margin(network, region, prop.clauses[0])
    assert truth - 1e-3 <= result.clauses[0].lower <= truth


def test_bounds_that_cut_off_the_network_are_noticed():
    network, region, prop = vulnerable()
    enclosure = interval_bounds(network, region)
    wrong = dataclasses.replace(
        enclosure, upper={node: np.where(values > 0, values / 50, values) for node, values in enclosure.upper.items()}
    )
    result = decide_milp(network, region, prop.clauses, wrong, backend=Backend.HIGHS, replay=lambda x: None)
    assert result.reason is Reason.NUMERICS
    assert "does not reproduce" in result.clauses[0].message


def test_a_tie_is_never_proven():
    network = random_dense(0)
    region, _ = query(network, 0, "0.25")
    tie = Clause((Row(()),), network.outputs)
    result = decide_milp(network, region, [tie], interval_bounds(network, region), replay=lambda x: None)
    assert result.clauses[0].status is ClauseStatus.OPEN


def hard():
    """A query that takes minutes: a wide network on a large box."""
    network = random_dense(0, (12, 60, 60, 60, 2))
    region = Region.linf_ball(np.zeros(12), "1")
    row = Row(((0, ONE),), Fraction(40_000))
    return network, region, Property((Clause((row,), 2, "far below"),))


def test_cancelling_keeps_the_bounds_so_far():
    network, region, prop = hard()
    enclosure = backward_bounds(network, region)
    begin = time.monotonic()
    reports = []
    result = decide_milp(
        network,
        region,
        prop.clauses,
        enclosure,
        backend=Backend.HIGHS,
        cancel=lambda: time.monotonic() - begin > 2,
        progress=lambda lower, pending, nodes: reports.append((lower, pending, nodes)),
        replay=lambda x: None,
    )
    assert time.monotonic() - begin < 3.5
    assert result.reason is Reason.CANCELLED
    assert math.isfinite(result.lower)
    assert all(pending == 1 for _, pending, _ in reports)


def test_the_deadline_is_shared_and_kept():
    network, region, prop = hard()
    clauses = [prop.clauses[0], Clause((Row(((1, ONE),), Fraction(40_000)),), 2)]
    enclosure = backward_bounds(network, region)
    begin = time.monotonic()
    result = decide_milp(
        network, region, clauses, enclosure, backend=Backend.HIGHS, deadline=begin + 3, replay=lambda x: None
    )
    assert time.monotonic() - begin < 5
    assert result.reason is Reason.TIMEOUT
    assert all(clause.seconds > 0.5 for clause in result.clauses)


@pytest.mark.gurobi
def test_auto_says_which_solver_was_used_and_why():
    network = random_dense(1)
    region, prop = query(network, 1, "0.1")
    result = decide_milp(network, region, prop.clauses, interval_bounds(network, region), replay=lambda x: None)
    assert result.backend in {"gurobi", "highs"}
    assert result.choice
    assert result.statistics["binaries"] <= network.relus


@pytest.mark.data
@pytest.mark.parametrize(("net", "prop"), [pytest.param("1_5", 3, marks=pytest.mark.slow), ("3_2", 4)])
def test_acas_xu_is_proven_by_highs_alone(data_folder, net, prop):
    import networks

    network = networks.load(data_folder / f"acasxu/onnx/ACASXU_run2a_{net}_batch_2000.onnx")
    region, violation = networks.read_vnnlib(data_folder / f"acasxu/vnnlib/prop_{prop}.vnnlib.gz", 5, 5).cases[0]
    enclosure = backward_bounds(network, region)
    result = decide_milp(
        network,
        region,
        violation.clauses,
        enclosure,
        backend=Backend.HIGHS,
        deadline=time.monotonic() + 116,
        replay=replayer(network, region, violation),
    )
    assert [clause.status for clause in result.clauses] == [ClauseStatus.PROVEN]


@pytest.mark.gurobi
def test_what_one_solver_leaves_open_goes_to_the_other(monkeypatch):
    network = random_dense(1, (3, 6, 6, 2))
    region, prop = query(network, 1, "0.5")
    timeout = MilpOutcome(MilpStatus.TIMEOUT)
    monkeypatch.setattr(solver.milp, "solve_root", lambda *_args, **_kwargs: Root(-math.inf, None, 0))
    monkeypatch.setattr(backends.BACKENDS[Backend.GUROBI], "solve", lambda *_args, **_kwargs: timeout)
    result = decide_milp(
        network, region, prop.clauses, interval_bounds(network, region), replay=replayer(network, region, prop)
    )
    truth = min(minimum_margin(network, region, clause) for clause in prop.clauses)
    assert result.backend == "highs"
    assert "gurobi left 1 clauses open" in result.choice
    assert result.clauses[0].status is (ClauseStatus.PROVEN if truth > 0 else ClauseStatus.VIOLATED)
