"""What does not fit is refused with its figures, before it is allocated."""

from __future__ import annotations

import math

import numpy as np
import pytest

import networks
from networks import Property, Query, Region
from solver import Budget, Engine, Kind, Options, Outcome, Reason, ask, policy, sizes, verify
from solver.verdict import Verdict
from tests.networks.operator_cases import node
from tests.random_networks import model, random_conv, random_dense


def asked() -> tuple[networks.Network, Query]:
    """A query that bounds alone leave open, although it is robust, on a network with two hidden layers."""
    network = random_dense(1, (20, 12, 12, 3))
    center = np.random.default_rng(1).uniform(-1, 1, 20).astype(np.float32)
    label = int(networks.evaluate(network, center[None])[0].argmax())
    return network, Query.single(Region.linf_ball(center, "0.2"), Property.classification(label, 3))


def answer(engine: Engine) -> Verdict:
    network, query = asked()
    return verify(network, query, options=Options(engine), budget=Budget(20, 1))


def test_a_query_without_memory_for_its_bounds_is_refused_with_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "available", lambda: 2**20)
    found = answer(Engine.AUTO)
    assert (found.outcome, found.reason) == (Outcome.UNKNOWN, Reason.MEMORY)
    assert "1 MiB are available" in found.hint
    assert "one region of a network with 71 values" in found.hint
    assert len(found.open) == 2
    assert found.stages == ()


def test_intervals_are_refused_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "available", lambda: 2**20)
    network, query = asked()
    for kind, distance in ((Kind.MARGIN, None), (Kind.DISTANCE, (0.0, math.inf))):
        found = ask(network, query, kind)
        assert (found.outcome, found.reason, found.kind) == (Outcome.UNKNOWN, Reason.MEMORY, kind)
        assert found.distance == distance
        assert "are available" in found.hint


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")]
)
def test_memory_that_runs_out_all_the_same_costs_no_bound(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def starve(*_: object) -> None:
        raise error

    monkeypatch.setattr("solver.rungs.search", starve)
    found = answer(Engine.AUTO)
    assert (found.outcome, found.reason) == (Outcome.UNKNOWN, Reason.MEMORY)
    assert "memory ran out" in found.hint
    assert -math.inf < found.margin[0] <= 0 < found.margin[1] < math.inf


def test_other_errors_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("solver.rungs.search", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        answer(Engine.AUTO)


def test_memory_that_nobody_knows_of_is_taken_to_be_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "available", lambda: None)
    assert answer(Engine.AUTO).outcome is Outcome.ROBUST


def test_available_memory_respects_the_limit_of_the_process() -> None:
    import resource
    import subprocess
    import sys

    free = sizes.available()
    assert free is None or free > 2**24
    code = (
        "import resource; from service.limits import limit_memory; from solver import sizes;"
        "limit_memory(300); print(sizes.available())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if free is not None:
        assert 2**26 < int(done.stdout) <= 300 * 2**20
    assert resource.getrlimit(resource.RLIMIT_AS)


def test_engines_that_do_not_fit_are_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "BAB_COEFFICIENTS", 10)
    found = answer(Engine.BAB)
    assert (found.outcome, found.reason) == (Outcome.UNKNOWN, Reason.MEMORY)
    assert "ReLU splits would take" in found.hint
    monkeypatch.setattr("solver.linear_forms.LARGEST_MODEL", 10)
    found = answer(Engine.MILP)
    assert (found.outcome, found.reason) == (Outcome.UNKNOWN, Reason.MEMORY)
    assert "10 coefficients" in found.hint
    monkeypatch.setattr(policy, "DEEP_COLUMNS", 1)
    found = answer(Engine.AUTO)
    assert (found.outcome, found.reason) == (Outcome.UNKNOWN, Reason.MEMORY)
    for words in ("ReLU splits would take", "all neurons anew", "MILP model"):
        assert words in found.hint
    assert found.margin[0] > -np.inf


def test_question_that_no_search_fits_is_answered_before_slopes_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLOPE_COLUMNS", "DEEP_COLUMNS", "BAB_COEFFICIENTS"):
        monkeypatch.setattr(policy, name, 1)
    found = answer(Engine.AUTO)
    assert (found.outcome, found.reason) == (Outcome.UNKNOWN, Reason.MEMORY)
    assert [stage.name for stage in found.stages].count("alpha") == 1  # that of the rows
    assert "unstable ReLUs" in found.hint


def test_what_fits_takes_the_place_of_what_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "DEEP_COLUMNS", 1)
    monkeypatch.setattr(policy, "BAB_COEFFICIENTS", 10)
    found = answer(Engine.AUTO)
    assert (found.outcome, found.decided_by) == (Outcome.ROBUST, "milp")


def test_slopes_of_too_many_neurons_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "SLOPE_COLUMNS", 1)
    assert answer(Engine.AUTO).outcome is Outcome.ROBUST


def test_large_networks_have_their_regions_bounded_in_small_batches() -> None:
    assert sizes.batch(10) == policy.CASES_PER_BATCH
    assert sizes.batch(policy.BATCH_ENTRIES // 3) == 3
    assert sizes.batch(10 * policy.BATCH_ENTRIES) == 1


def test_batches_change_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_conv(0, size=4)
    prop = Property.classification(0, network.outputs)
    centers = np.random.default_rng(0).uniform(-1, 1, (5, network.inputs))
    query = Query(tuple((Region.linf_ball(center, "0.05"), prop) for center in centers))
    together = verify(network, query, options=Options(Engine.BOUNDS), budget=Budget(20, 1))
    monkeypatch.setattr(policy, "BATCH_ENTRIES", 1)
    apart = verify(network, query, options=Options(Engine.BOUNDS), budget=Budget(20, 1))
    assert apart.outcome is together.outcome
    assert apart.margin[0] == pytest.approx(together.margin[0], rel=1e-9)


def test_needs_grow_with_regions_and_with_the_network() -> None:
    small = networks.load_bytes(model([node("Relu", "x")], [1, 4]))
    large = networks.load_bytes(model([node("Relu", "x")], [1, 2**12]))
    one = sizes.footprint(small, Query.single(Region.linf_ball(np.zeros(4), 1), Property.classification(0, 4)))
    more = sizes.needed(12, 4, 0, 10**6, 0)
    assert one < more
    assert one < sizes.footprint(
        large, Query.single(Region.linf_ball(np.zeros(2**12), 1), Property.classification(0, 2**12, [1]))
    )
