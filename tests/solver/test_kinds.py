from __future__ import annotations

import functools
import json
import math
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import certificates
import networks
import solver
from networks import Network, Property, PropertyError, Query, Region, RegionError
from solver import Backend, Budget, Engine, Kind, Options, Outcome, Progress, Reason, Trust
from solver.lengths import length
from solver.replay import Replayer
from tests.random_networks import dense_model, random_conv, random_dense, random_residual
from tests.solver.oracle import minimum_margin
from tests.solver.pieces import nearest_violation

NORMS = ("linf", "l2", "l1", "l0")
BUILDERS = {
    "dense": lambda seed: random_dense(seed, (3, 4, 3, 2)),
    "conv": lambda seed: random_conv(seed, channels=1, size=3, outputs=2),
    "residual": lambda seed: random_residual(seed, width=2, blocks=1),
}
#: Float32 replay can put the upper end a little below the distance over the reals.
SLACK = 2e-6


def posed(network: Network, seed: int, radius: float | str, norm: str = "linf", **more: object) -> Query:
    """About a random point and the class that the network gives it."""
    center = np.random.default_rng(seed).random(network.inputs).astype(np.float32)
    label = int(Replayer(network)(center).argmax())
    region = Region.norm_ball(center, radius, norm, (-1, 2), **more)  # type: ignore[arg-type]
    return Query.single(region, Property.classification(label, network.outputs))


def in_box(query: Query) -> tuple[Property, np.ndarray, np.ndarray]:
    region, prop = query.cases[0]
    assert region.center is not None
    return prop, region.center.astype(float), np.stack([region.lower, region.upper])


@pytest.mark.parametrize(
    ("kind", "norm", "seed"),
    [(kind, norm, 0) for kind in ("dense", "residual") for norm in NORMS] + [("conv", "linf", 0), ("dense", "linf", 1)],
)
def test_distances_are_those_of_brute_force(kind: str, norm: str, seed: int) -> None:
    network = BUILDERS[kind](seed)
    query = posed(network, seed, 2)
    exact = nearest_violation(network, *in_box(query), norm)
    verdict = solver.distance(network, query, norm=norm, tolerance=1e-4, budget=Budget(60, 1))
    lower, upper = verdict.distance
    if norm == "l0":
        assert lower == upper == exact or (exact == math.inf and verdict.outcome is Outcome.ROBUST)
    elif exact == math.inf:
        assert verdict.outcome is Outcome.ROBUST
        assert upper == math.inf
    else:
        assert lower <= exact + 1e-9
        assert upper >= exact - SLACK
        assert upper - lower <= 1e-4 * max(1, upper) * 1.0001
        assert verdict.outcome is Outcome.COUNTEREXAMPLE
        assert verdict.reason is None
        found = verdict.witness
        assert found is verdict.counterexample
        region, prop = query.cases[0]
        assert region.contains(found.input)
        assert prop.violated(Replayer(network)(found.input.reshape(-1)))
        d = np.abs(found.input.reshape(-1).astype(float) - region.center.astype(float))
        length = {"linf": d.max(), "l1": d.sum(), "l2": np.linalg.norm(d)}[norm]
        assert upper == pytest.approx(length, rel=1e-12)


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("epsilon", ["0.05", "0.4"])
def test_margins_are_those_of_brute_force(kind: str, epsilon: str) -> None:
    network = BUILDERS[kind](5)
    query = posed(network, 5, epsilon)
    region, prop = query.cases[0]
    exact = min(minimum_margin(network, region, clause) for clause in prop.clauses)
    verdict = solver.margin(network, query, budget=Budget(60, 1))
    lower, upper = verdict.margin
    assert lower <= exact + 1e-8
    assert upper >= exact - 1e-5
    assert upper - lower <= 1.001e-5 * max(1, abs(upper))
    assert verdict.outcome is (Outcome.ROBUST if exact > 0 else Outcome.COUNTEREXAMPLE)
    assert verdict.witness is not None
    assert region.contains(verdict.witness.input)
    assert upper == verdict.witness.margin == float(prop.margin(Replayer(network)(verdict.witness.input.reshape(-1))))
    assert (verdict.counterexample is verdict.witness) == (exact <= 0)


def test_a_conjunction_has_a_margin_and_a_distance() -> None:
    network = random_dense(3, (3, 5, 3))
    center = np.full(3, 0.5, np.float32)
    y = Replayer(network)(center)
    rows = [
        {"coefficients": {0: 1, 1: -1}, "offset": float(y[1] - y[0]) + 0.5},
        {"coefficients": {2: 1}, "offset": 0.25 - float(y[2])},
    ]
    prop = Property.stated(3, [rows])
    query = Query.single(Region.linf_ball(center, 1), prop)
    exact = minimum_margin(network, query.cases[0][0], prop.clauses[0])
    found = solver.margin(network, query, budget=Budget(60, 1))
    assert found.margin[0] - 1e-6 <= exact <= found.margin[1] + 1e-5
    exact = nearest_violation(network, *in_box(query), "linf")
    nearest = solver.distance(network, query, budget=Budget(60, 1))
    assert nearest.distance[0] - 1e-9 <= exact <= nearest.distance[1] + SLACK


def test_the_margin_of_several_regions_is_the_least() -> None:
    network = random_dense(7, (3, 5, 3))
    first, second = posed(network, 1, "0.1"), posed(network, 2, "0.1")
    both = Query(first.cases + second.cases)
    margins = [solver.margin(network, query, budget=Budget(30, 1)).margin for query in (first, second, both)]
    assert margins[2] == pytest.approx((min(margins[0][0], margins[1][0]), min(margins[0][1], margins[1][1])), abs=3e-5)
    with pytest.raises(RegionError, match="one ball or box"):
        solver.distance(network, both)


def test_an_input_that_is_a_violation_has_distance_zero() -> None:
    network = random_dense(1, (3, 5, 3))
    center = np.full(3, 0.5, np.float32)
    label = int(Replayer(network)(center).argmin())
    query = Query.single(Region.linf_ball(center, 1), Property.classification(label, 3))
    for norm in NORMS:
        verdict = solver.distance(network, query, norm=norm)
        assert verdict.distance == (0, 0)
        assert verdict.outcome is Outcome.COUNTEREXAMPLE
        assert verdict.reason is None
        np.testing.assert_array_equal(verdict.witness.input.reshape(-1), center)


def test_a_tie_is_a_violation() -> None:
    # y = (x, 1): x ties with 1 exactly at distance 1/2 from the center.
    import onnx
    from onnx import helper

    from tests.random_networks import model

    W, b = np.array([[1.0], [0.0]], np.float32), np.array([0, 1], np.float32)
    nodes = [helper.make_node("Gemm", ["x", "W", "b"], ["y"], transB=1)]
    network = networks.load_bytes(model(nodes, [1, 1], {"W": W, "b": b}), "tie")
    assert isinstance(onnx.__version__, str)
    query = Query.single(Region.linf_ball([1.5], 1), Property.classification(0, 2))
    verdict = solver.distance(network, query)
    assert verdict.distance[1] == 0.5
    assert 0.5 - 1e-5 <= verdict.distance[0] < 0.5
    touching = Query.single(Region.linf_ball([1.5], "0.5"), Property.classification(0, 2))
    assert solver.margin(network, touching).margin[1] == 0
    assert solver.margin(network, touching).outcome is Outcome.COUNTEREXAMPLE


@pytest.mark.parametrize("norm", NORMS)
def test_where_there_is_no_violation_the_lower_end_is_the_region(norm: str) -> None:
    network = random_dense(1, (3, 5, 3))
    radius = 1 if norm == "l0" else "0.0001"
    query = posed(network, 1, radius, norm, **({"radii": ["0.0001"] * 3} if norm == "l0" else {}))
    verdict = solver.distance(network, query, options=Options(certificate=True), budget=Budget(60, 1))
    assert verdict.outcome is Outcome.ROBUST
    assert verdict.trust is Trust.CERTIFIED
    assert verdict.distance[0] == pytest.approx({"l0": 2, "linf": 1e-4, "l2": 1e-4, "l1": 1e-4}[norm])
    assert verdict.distance[1] == math.inf
    assert json.loads(json.dumps(verdict.to_json()))["distance"][1] is None


def test_a_region_of_one_point_is_proven_like_any_other() -> None:
    network = random_dense(1, (3, 5, 3))
    query = posed(network, 1, 0)
    verdict = solver.distance(network, query, budget=Budget(20, 1))
    assert verdict.outcome is Outcome.ROBUST
    assert verdict.distance == (0, math.inf)
    margin = solver.margin(network, query, budget=Budget(20, 1))
    assert margin.outcome is Outcome.ROBUST
    assert margin.margin[0] <= margin.margin[1] <= margin.margin[0] + 1e-4
    unproven = solver.distance(network, query, budget=Budget(0.0, 1))
    assert unproven.outcome is Outcome.UNKNOWN
    assert unproven.reason is Reason.TIMEOUT


def test_frozen_entries_stay() -> None:
    network = random_dense(2, (3, 5, 3))
    query = posed(network, 2, 2, frozen=(0, 2))
    exact = nearest_violation(network, *in_box(query), "linf", frozen=(0, 2))
    verdict = solver.distance(network, query, budget=Budget(60, 1))
    if exact == math.inf:
        assert verdict.outcome is Outcome.ROBUST
    else:
        assert verdict.distance[0] - 1e-9 <= exact <= verdict.distance[1] + SLACK
    free = solver.distance(network, posed(network, 2, 2), budget=Budget(60, 1))
    assert free.distance[0] <= exact


def test_both_ends_have_evidence() -> None:
    network = random_dense(4, (4, 8, 6, 3))
    query = posed(network, 4, 2)
    verdict = solver.distance(network, query, options=Options(certificate=True), budget=Budget(60, 1))
    assert verdict.certificate is not None
    report = certificates.check(verdict.certificate, network)
    assert report.proven
    region, _ = certificates.read(verdict.certificate).query.cases[0]
    assert verdict.proves == verdict.distance[0]
    center = query.cases[0][0].center
    reach = max(abs(high - Fraction(float(c))) for high, c in zip(region.exact_upper, center, strict=True))
    assert float(reach) == pytest.approx(verdict.distance[0], rel=1e-12)
    document = verdict.to_json()
    assert document["certificate"]["proves"] == verdict.distance[0]
    assert document["witness"]["input"] == document["counterexample"]["input"]
    assert document["semantics"] in {"real", "float32"}
    worst = solver.margin(network, posed(network, 4, "0.02"), options=Options(certificate=True), budget=Budget(60, 1))
    assert certificates.check(worst.certificate, network).proven
    assert worst.margin[0] == worst.proves


def test_time_and_cancellation_leave_a_valid_interval() -> None:
    network = random_dense(5, (6, 30, 30, 30, 4))
    query = posed(network, 3, 1)
    whole = solver.distance(network, query, tolerance=1e-2, budget=Budget(60, 1))
    for kind in (Kind.DISTANCE, Kind.MARGIN):
        none = solver.ask(network, query, kind, budget=Budget(0.0, 1))
        assert none.reason is Reason.TIMEOUT
        begin = time.monotonic()
        late = solver.ask(network, query, kind, tolerance=1e-9, budget=Budget(1.0, 1))
        assert time.monotonic() - begin < 5
        reports: list[Progress] = []
        enough = functools.partial(lambda told: len(told) > 12, reports)
        cancelled = solver.ask(network, query, kind, tolerance=1e-9, progress=reports.append, cancel=enough)
        assert cancelled.reason is Reason.CANCELLED
        assert {report.measures for report in reports} == {str(kind)}
        assert str(kind) in reports[-1].to_json()
        for verdict in (none, late, cancelled):
            lower, upper = verdict.distance if kind is Kind.DISTANCE else verdict.margin
            assert lower <= upper
            if kind is Kind.DISTANCE:
                assert lower <= whole.distance[1] + SLACK
                assert upper >= whole.distance[0] - SLACK


@pytest.mark.parametrize("norm", NORMS)
def test_the_milp_engine_closes_the_same_interval(norm: str) -> None:
    network = random_dense(0, (3, 4, 3, 2))
    query = posed(network, 0, 2)
    exact = nearest_violation(network, *in_box(query), norm)
    options = Options(Engine.MILP, Backend.HIGHS)
    verdict = solver.distance(network, query, norm=norm, tolerance=1e-4, options=options, budget=Budget(60, 1))
    assert verdict.distance[0] - 1e-6 <= exact <= verdict.distance[1] + SLACK
    assert verdict.distance[1] - verdict.distance[0] <= 1.001e-4 * max(1, exact)
    assert verdict.decided_by == "milp"
    assert verdict.certificate is None
    region, prop = query.cases[0]
    least = min(minimum_margin(network, region, clause) for clause in prop.clauses)
    worst = solver.margin(network, query, tolerance=1e-4, options=options, budget=Budget(60, 1))
    assert worst.margin[0] - 1e-5 <= least <= worst.margin[1] + 1e-5
    assert worst.reason is None


def test_a_model_that_is_too_large_leaves_an_interval_and_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_dense(0, (3, 4, 3, 2))
    query = posed(network, 0, 2)
    exact = nearest_violation(network, *in_box(query), "linf")
    monkeypatch.setattr("solver.linear_forms.LARGEST_MODEL", 1)
    options = Options(Engine.MILP, Backend.HIGHS)
    verdict = solver.distance(network, query, norm="linf", tolerance=1e-9, options=options, budget=Budget(20, 1))
    assert verdict.distance[0] <= exact <= verdict.distance[1] + SLACK
    assert verdict.reason is Reason.MEMORY
    assert any("unstable ReLUs" in str(stage.detail) for stage in verdict.stages)


def test_largest_epsilon_is_below_the_distance_and_grows_with_the_engine() -> None:
    network = random_dense(8, (4, 10, 10, 3))
    queries = [posed(network, seed, 2) for seed in (1, 2, 3)]
    bounds = list(
        solver.largest_epsilon(network, queries, tolerance=1e-3, options=Options(Engine.BOUNDS), budget=Budget(30, 1))
    )
    exact = list(solver.largest_epsilon(network, queries, tolerance=1e-3, budget=Budget(30, 1)))
    for query, weak, strong in zip(queries, bounds, exact, strict=True):
        nearest = solver.distance(network, query, tolerance=1e-3, budget=Budget(30, 1)).distance
        assert 0 < weak.distance[0] <= strong.distance[0] + 1e-3
        assert strong.distance[0] <= nearest[1] <= strong.distance[0] + 3e-3


def test_decide_is_one_of_the_kinds() -> None:
    network = random_dense(1, (3, 5, 3))
    verdict = solver.ask(network, posed(network, 1, "0.0001"))
    assert verdict.kind is Kind.DECIDE
    assert verdict.outcome is Outcome.ROBUST
    assert verdict.to_json()["distance"] == [None, None]


def test_what_cannot_be_asked_is_refused() -> None:
    network = random_dense(1, (3, 5, 3))
    with pytest.raises(RegionError, match="in norm l2"):
        solver.distance(network, posed(network, 1, 1, "l2"), norm="l1")
    center = Region.box(["0.1", 0, 0], ["0.1", 1, 1])
    with pytest.raises(RegionError, match="center"):
        solver.distance(network, Query.single(center, Property.classification(0, 3)))
    data = dense_model(1, (3, 5, 3))
    import onnx
    from onnx import helper

    proto = onnx.load_from_string(data)
    proto.graph.node[-1].output[0] = "logits"
    proto.graph.node.append(helper.make_node("Softmax", ["logits"], ["y"]))
    stripped = networks.load_bytes(proto.SerializeToString(), "softmax")
    with pytest.raises(PropertyError, match="logits"):
        solver.margin(stripped, posed(stripped, 1, "0.1"))
    assert solver.distance(stripped, posed(stripped, 1, 2), tolerance=1e-3).outcome is not Outcome.UNKNOWN


def test_norms_agree_with_each_other_on_a_real_network() -> None:
    folder = Path(__file__).resolve().parents[2] / "examples"
    network = networks.load(folder / "digits_plain.onnx")
    with np.load(folder / "digits.npz") as digits:
        image, prop = digits["images"][10], Property.classification(int(digits["labels"][10]), 10)
    found = {}
    for norm, radius in (("linf", "0.2"), ("l2", 1), ("l1", 3), ("l0", 5)):
        query = Query.single(Region.norm_ball(image, radius, norm, (0, 1)), prop)
        found[norm] = solver.distance(network, query, tolerance=1e-3, budget=Budget(60, 1))
    center = tuple(Fraction(float(v)) for v in image.reshape(-1))
    for verdict in found.values():
        assert verdict.outcome is Outcome.COUNTEREXAMPLE
        assert verdict.reason is None
        # No violation is nearer than what is proven, in whichever norm it was looked for.
        for norm, other in found.items():
            assert length(verdict.witness.point, center, norm) >= other.distance[0]
    ends = {norm: verdict.distance for norm, verdict in found.items()}
    assert ends["linf"][0] <= ends["l2"][1]
    assert ends["l2"][0] <= ends["l1"][1]
    assert ends["linf"][1] <= ends["l1"][1]
    assert ends["l0"][0] == ends["l0"][1] == 2
