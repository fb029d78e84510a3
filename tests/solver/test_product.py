"""Questions about product networks are decided as brute force over the given networks decides them."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import certificates
from networks import (
    Clause,
    Network,
    Property,
    Query,
    Region,
    equivalence,
    equivalence_model,
    evaluate,
    load,
    load_bytes,
    monotone,
    read_vnnlib,
)
from solver import Budget, Engine, Options, Outcome, policy, verify
from tests.constructed import gemms
from tests.random_networks import dense_model, random_dense

ENGINES = [Options(Engine.AUTO, certificate=True), Options(Engine.BAB), Options(Engine.MILP)]


def largest_fall(network: Network, low: float, high: float) -> float:
    """The largest fall ``f(x) − f(t)`` with ``x ≤ t`` of a network of one input, on a fine grid."""
    y = evaluate(network, np.linspace(low, high, 20_001)[:, None])[:, 0]
    return float((np.maximum.accumulate(y) - y).max())


@pytest.mark.parametrize("options", ENGINES, ids=lambda o: str(o.engine))
@pytest.mark.parametrize("seed", range(2))
def test_monotonicity(seed: int, options: Options) -> None:
    network = random_dense(seed, (1, 5, 4, 1))
    region = Region.box([-1], ["0.5"])
    fall = largest_fall(network, -1, 0.5)
    for shift, expected in ((0.05, Outcome.ROBUST), (-0.05, Outcome.COUNTEREXAMPLE)):
        if fall + shift <= 0:
            continue
        asked = monotone(network, 0, tolerance=str(round(fall + shift, 6)))
        verdict = verify(asked.network, asked.query(region), options=options, budget=Budget(30, 1))
        assert verdict.outcome is expected, (fall, shift, verdict)
        if verdict.counterexample is not None:
            x, t = (float(v) for v in verdict.counterexample.input)
            y = evaluate(network, np.array([[x], [max(x, t)]]))[:, 0]
            assert -1 <= min(x, t) <= max(x, t) <= 0.5
            assert y[0] - y[1] >= fall + shift - 1e-4


@pytest.mark.parametrize("seed", [0, 3, 11])
def test_monotonicity_is_decided_by_relu_splits_alone(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some ReLUs of such a product are open by a rounding error alone, which gives LPs coefficients of 1e13."""
    monkeypatch.setattr(policy, "BOX_SHARE", 0.0)
    network = random_dense(seed, (1, 5, 4, 1))
    asked = monotone(network, 0, tolerance=str(round(largest_fall(network, -1, 0.5) + 0.05, 6)))
    query = asked.query(Region.box([-1], ["0.5"]))
    verdict = verify(asked.network, query, options=Options(Engine.BAB), budget=Budget(60, 1))
    assert verdict.outcome is Outcome.ROBUST, verdict


def test_a_monotone_network_is_certified_and_its_mirror_is_refuted() -> None:
    # f(x) = relu(x0 + x1) − relu(−x0) + x1, and a negative weight on x1.
    rising = load_bytes(gemms([([[1, 1], [-1, 0], [0, 1], [0, -1]], [0] * 4), ([[1, -1, 1, -1]], [0])]))
    region = Region.box([-1, -1], [1, 1])
    for index, direction in itertools.product(range(2), ("increasing", "decreasing")):
        asked = monotone(rising, index, direction=direction, tolerance="0.01")
        verdict = verify(asked.network, asked.query(region), options=Options(certificate=True), budget=Budget(60, 1))
        if direction == "decreasing":
            assert verdict.outcome is Outcome.COUNTEREXAMPLE
        else:
            assert verdict.outcome is Outcome.ROBUST, verdict
            assert str(verdict.trust) == "certified"
            assert certificates.check(verdict.certificate, asked.network).proven


@pytest.mark.parametrize("options", ENGINES, ids=lambda o: str(o.engine))
@pytest.mark.parametrize("seed", range(2))
def test_equivalence(seed: int, options: Options) -> None:
    first, second = random_dense(seed, (1, 4, 3, 2)), random_dense(seed + 50, (1, 4, 3, 2))
    region = Region.box([-1], [1])
    grid = np.linspace(-1, 1, 20_001)[:, None]
    y, z = evaluate(first, grid), evaluate(second, grid)
    apart = float(np.abs(y - z).max())
    for shift, expected in ((0.02, Outcome.ROBUST), (-0.02, Outcome.COUNTEREXAMPLE)):
        asked = equivalence(first, second, tolerance=Fraction(round((apart + shift) * 1e6), 10**6))
        verdict = verify(asked.network, asked.query(region), options=options, budget=Budget(30, 1))
        assert verdict.outcome is expected, (apart, shift, verdict)
    asked = equivalence(first, second, same_decision=True)
    verdict = verify(asked.network, asked.query(region), options=options, budget=Budget(30, 1))
    # A grid that crosses zero has a tie, or opposite signs, nearby.
    differ = bool(((y[:, 0] - y[:, 1]) * (z[:, 0] - z[:, 1]) <= 0).any())
    assert verdict.outcome is (Outcome.COUNTEREXAMPLE if differ else Outcome.ROBUST)


def nearly(model: bytes, factor: float) -> bytes:
    """The network with every weight multiplied by ``factor``."""
    proto = onnx.load_from_string(model)
    for tensor in proto.graph.initializer:
        scaled = (numpy_helper.to_array(tensor) * np.float32(factor)).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    return proto.SerializeToString()


def test_pairs_bound_a_small_difference_where_two_copies_do_not() -> None:
    model = dense_model(5, (4, 12, 12, 2))
    first, second = load_bytes(model), load_bytes(nearly(model, 1 + 2**-12))
    region = Region.box([-1] * 4, [1] * 4)
    asked = equivalence(first, second, tolerance="0.5")
    verdict = verify(asked.network, asked.query(region), options=Options(Engine.BOUNDS, certificate=True))
    assert verdict.outcome is Outcome.ROBUST
    assert str(verdict.trust) == "certified"
    copies = load_bytes(equivalence_model(first.model, second.model, paired=False))
    rows = [Clause(clause.rows[:1], copies.outputs, clause.label) for clause in asked.prop.clauses]
    query = Query.single(region, Property(tuple(rows)))
    assert verify(copies, query, options=Options(Engine.BOUNDS)).outcome is Outcome.UNKNOWN


def test_a_quantised_copy_of_a_trained_network_is_equivalent() -> None:
    """Weights in float16: outputs stay within 0.006 and decisions are kept on a whole ball; both are certified."""
    folder = Path(__file__).resolve().parents[2] / "examples"
    first = load(folder / "digits_plain.onnx")
    proto = onnx.load_from_string(first.model)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            half = array.astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    second = load_bytes(proto.SerializeToString())
    with np.load(folder / "digits.npz") as digits:
        region = Region.linf_ball(digits["images"][1], "0.05", (0, 1))
    for asked in (equivalence(first, second, tolerance="0.006"), equivalence(first, second, same_decision=True)):
        verdict = verify(asked.network, asked.query(region), options=Options(certificate=True), budget=Budget(60, 1))
        assert verdict.outcome is Outcome.ROBUST, verdict
        assert str(verdict.trust) == "certified"
        assert certificates.check(verdict.certificate, asked.network).proven


@pytest.mark.data
def test_the_remaining_life_of_an_engine_is_monotone_and_in_range(data_folder: Path) -> None:
    """collins_rul_cnn on one of its own regions: two sensor readings vary."""
    folder = data_folder / "collins_rul_cnn"
    network = load(folder / "onnx" / "NN_rul_full_window_20.onnx")
    specification = folder / "vnnlib_2022" / "robustness_2perturbations_delta5_epsilon10_w20.vnnlib.gz"
    ((region, _),) = read_vnnlib(specification, network.inputs, network.outputs).cases
    asked = monotone(network, 185, direction="decreasing", tolerance="0.01")
    ranged = Query.single(region, Property.within(1, {0: 1}, 476, 486))
    for loaded, query in ((asked.network, asked.query(region)), (network, ranged)):
        verdict = verify(loaded, query, options=Options(certificate=True), budget=Budget(60, 1))
        assert verdict.outcome is Outcome.ROBUST
        assert str(verdict.trust) == "certified"
    rising = monotone(network, 185, tolerance="0.01")
    verdict = verify(rising.network, rising.query(region), budget=Budget(60, 1))
    assert verdict.outcome is Outcome.COUNTEREXAMPLE
