from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest
from scipy.sparse import csr_array

from solver.backends import BACKENDS, MilpStatus, choose
from solver.backends.gurobi import RESTRICTED
from solver.backends.highs import Highs
from solver.compiled import CompiledModel
from solver.errors import BackendUnavailableError, LicenceLimitError, NumericsError
from solver.options import Backend

both = pytest.mark.parametrize("backend", list(BACKENDS.values()), ids=lambda backend: backend.name)


def knapsack(seed=0, items=10):
    """A small knapsack, and its optimum by brute force."""
    rng = np.random.default_rng(seed)
    weight, value = rng.integers(1, 20, items), rng.integers(1, 20, items)
    room = weight.sum() // 2
    best = max(value @ pick for pick in itertools.product((0, 1), repeat=items) if weight @ pick <= room)
    return (
        CompiledModel(
            -value.astype(float),
            2.0,
            csr_array(weight[None].astype(float)),
            np.array([-np.inf]),
            np.array([float(room)]),
            np.zeros(items),
            np.ones(items),
            np.ones(items, bool),
        ),
        2.0 - best,
    )


def market_split(seed=0, rows=4, items=35):
    """Cornuéjols and Dawande's market split problem: small, and hopeless for branch and bound; slacks are minimised."""
    rng = np.random.default_rng(seed)
    A = rng.integers(0, 100, (rows, items)).astype(float)
    slack = np.eye(rows) * 100.0
    return CompiledModel(
        np.append(np.zeros(items), np.full(2 * rows, 100.0)),
        0.0,
        csr_array(np.hstack([A, slack, -slack])),
        A.sum(axis=1) // 2,
        A.sum(axis=1) // 2,
        np.zeros(items + 2 * rows),
        np.append(np.ones(items), np.full(2 * rows, A.sum())),
        np.append(np.ones(items, bool), np.zeros(2 * rows, bool)),
    )


@both
@pytest.mark.parametrize("seed", range(5))
def test_optimum_agrees_with_brute_force(backend, seed):
    model, best = knapsack(seed)
    outcome = backend.solve(model)
    assert outcome.status is MilpStatus.OPTIMAL
    assert outcome.primal == pytest.approx(best)
    assert outcome.dual == pytest.approx(best)
    assert model.objective(outcome.v) == pytest.approx(best)
    assert model.violation(outcome.v) <= 1e-9


@both
def test_a_model_without_integers_is_solved_as_an_lp(backend):
    model = CompiledModel(
        np.array([1.0, 1.0]),
        0.5,
        csr_array(np.array([[1.0, 2.0]])),
        np.array([1.0]),
        np.array([np.inf]),
        np.zeros(2),
        np.ones(2),
        np.zeros(2, bool),
    )
    outcome = backend.solve(model)
    assert outcome.status is MilpStatus.OPTIMAL
    assert (outcome.primal, outcome.dual) == (pytest.approx(1.0), pytest.approx(1.0))


@both
def test_infeasible_is_reported_as_such_and_claims_no_bound(backend):
    model, _ = knapsack()
    outcome = backend.solve(model.below(-1000.0))
    assert outcome.status is MilpStatus.INFEASIBLE
    assert outcome.v is None


@both
def test_the_search_ends_with_the_first_incumbent_that_is_confirmed(backend):
    seen = []

    def confirm(v, objective):
        seen.append((v, objective, threading.current_thread()))
        return True

    model = market_split()
    begin = time.monotonic()
    outcome = backend.solve(model, on_incumbent=confirm, deadline=begin + 20)
    assert outcome.status is MilpStatus.CONFIRMED
    assert time.monotonic() - begin < 10
    assert all(thread is threading.current_thread() for *_, thread in seen)
    v, objective, _ = seen[0]
    assert model.objective(v) == pytest.approx(objective)
    assert model.violation(v) < 1e-6


@both
def test_the_search_ends_when_the_dual_bound_says_enough(backend):
    model, best = knapsack(3, items=14)
    outcome = backend.solve(model, stop_above=best - 1000)
    assert outcome.status in {MilpStatus.BOUND, MilpStatus.OPTIMAL}
    assert best - 1000 < outcome.dual <= best + 1e-6


@both
def test_cancelling_takes_well_under_a_second(backend):
    pressed: list[float] = []
    begin = time.monotonic()

    def cancel():
        if time.monotonic() - begin > 1 and not pressed:
            pressed.append(time.monotonic())
        return bool(pressed)

    outcome = backend.solve(market_split(), cancel=cancel, deadline=begin + 30)
    assert outcome.status is MilpStatus.CANCELLED
    assert time.monotonic() - pressed[0] < 1.0
    assert np.isfinite(outcome.dual)


@both
def test_the_deadline_is_kept_and_progress_is_reported_sparingly(backend):
    reports = []
    begin = time.monotonic()
    outcome = backend.solve(
        market_split(1), deadline=begin + 2, progress=lambda primal, dual, nodes: reports.append((primal, dual, nodes))
    )
    assert outcome.status is MilpStatus.TIMEOUT
    assert time.monotonic() - begin < 3
    assert 1 <= len(reports) <= 4
    assert all(dual <= primal for primal, dual, _ in reports)
    assert reports[-1][2] <= outcome.nodes


@both
def test_an_error_of_the_caller_s_function_ends_the_search(backend):
    def broken(v, objective):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        backend.solve(market_split(), on_incumbent=broken, deadline=time.monotonic() + 20)


@both
def test_solvers_print_nothing(backend, capfd):
    backend.solve(knapsack()[0])
    assert capfd.readouterr() == ("", "")


@both
def test_availability_names_version_and_licence(backend):
    availability = backend.available()
    assert availability.ok
    assert availability.version[0].isdigit()
    assert availability.licence


def test_highs_refuses_coefficients_that_it_would_drop():
    model, _ = knapsack()
    tiny = CompiledModel(
        model.cost,
        0.0,
        csr_array(np.array([[1e-13, *np.ones(9)]])),
        model.row_lower,
        model.row_upper,
        model.lower,
        model.upper,
        model.integral,
    )
    with pytest.raises(NumericsError, match="HiGHS"):
        Highs().solve(tiny)


def test_highs_refuses_coefficients_that_it_takes_for_infinite():
    model, _ = knapsack()
    huge = CompiledModel(
        model.cost,
        0.0,
        csr_array(np.array([[1e15, *np.ones(9)]])),
        model.row_lower,
        model.row_upper,
        model.lower,
        model.upper,
        model.integral,
    )
    with pytest.raises(NumericsError, match="HiGHS does not accept the model"):
        Highs().solve(huge)


def test_an_option_that_highs_does_not_know_is_an_error():
    with pytest.raises(NumericsError, match="no_such_option"):
        Highs({"no_such_option": 1}).solve(knapsack()[0])


def wide(columns):
    return CompiledModel(
        np.ones(columns),
        0.0,
        csr_array(np.ones((1, columns))),
        np.array([1.0]),
        np.array([np.inf]),
        np.zeros(columns),
        np.ones(columns),
        np.zeros(columns, bool),
    )


@pytest.fixture
def restricted():
    availability = BACKENDS[Backend.GUROBI].available()
    if availability.limit is None:
        pytest.skip("a full Gurobi licence is at hand, so nothing is too large for it")
    return availability


@pytest.mark.gurobi
def test_a_model_beyond_the_licence_is_refused_before_it_is_handed_over(restricted):
    with pytest.raises(LicenceLimitError) as caught:
        BACKENDS[Backend.GUROBI].solve(wide(RESTRICTED.columns + 1))
    message = str(caught.value)
    assert "2001" in message
    assert "2000" in message
    assert "restricted licence" in message
    assert "--backend highs" in message
    assert BACKENDS[Backend.GUROBI].solve(wide(RESTRICTED.columns)).primal == pytest.approx(1.0)


@pytest.mark.gurobi
def test_auto_takes_gurobi_within_its_licence_and_highs_beyond(restricted):
    assert choose(Backend.AUTO, wide(10))[0].name == "gurobi"
    backend, why = choose(Backend.AUTO, wide(2001))
    assert backend.name == "highs"
    assert "2001" in why
    with pytest.raises(LicenceLimitError):
        choose(Backend.GUROBI, wide(2001))


def test_auto_falls_back_to_highs_where_gurobi_has_no_licence(monkeypatch, tmp_path):
    monkeypatch.setenv("GRB_LICENSE_FILE", str(tmp_path / "absent.lic"))
    availability = BACKENDS[Backend.GUROBI].available()
    assert not availability.ok
    assert choose(Backend.AUTO, wide(10))[0].name == "highs"
    with pytest.raises(BackendUnavailableError, match="licence"):
        choose(Backend.GUROBI, wide(10))
    with pytest.raises(BackendUnavailableError, match="licence"):
        BACKENDS[Backend.GUROBI].solve(wide(10))


def test_choosing_a_back_end_loads_no_solver():
    import subprocess
    import sys

    code = (
        "import sys, solver.backends; print([m for m in ('highspy', 'gurobipy', 'pyomo', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
