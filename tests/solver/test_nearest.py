from __future__ import annotations

import math
import time
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

import networks
from bounds import backward_bounds, interval_bounds
from networks import Clause, Property, Region, Row, evaluate
from networks.errors import RegionError
from solver.errors import LicenceLimitError, NumericsError
from solver.nearest import distance, minimise_distance
from solver.options import Backend
from solver.replay import Replayer
from solver.verdict import Reason
from solver.worst import minimise_margin
from tests.random_networks import random_conv, random_dense, random_residual
from tests.solver.oracle import minimum_margin, nearest_violation

NORMS = ("linf", "l2", "l1", "l0")
BACKENDS = [Backend.HIGHS, pytest.param(Backend.GUROBI, marks=pytest.mark.gurobi)]
ONE = Fraction(1)

CASES = {
    **{("dense", seed): (lambda s=seed: random_dense(s, (3, 4, 3, 2)), "0.9") for seed in range(6)},
    **{("three classes", seed): (lambda s=seed: random_dense(s, (3, 6, 3)), "0.8") for seed in range(3)},
    **{("conv", seed): (lambda s=seed: random_conv(s, channels=1, size=3, outputs=2), "0.4") for seed in (0, 5)},
    **{("residual", seed): (lambda s=seed: random_residual(s, width=3, blocks=1), "0.9") for seed in range(1, 6)},
}


@cache
def truth_of(kind, seed, norm):
    """The distance of the nearest violation of a case by brute force."""
    make, epsilon = CASES[kind, seed]
    network = make()
    region, prop = query(network, seed, epsilon)
    return min(nearest_violation(network, region, clause, norm) for clause in prop.clauses)


def query(network, seed, epsilon, domain=None):
    """A box around a random point, and "the class there stays the same" as a property."""
    center = np.random.default_rng(seed).uniform(-1, 1, network.inputs).round(2)
    region = Region.linf_ball(center, epsilon, domain)
    label = int(evaluate(network, region.center[None].astype(float))[0].argmax())
    return region, Property.classification(label, network.outputs)


def replayer(network, region, prop):
    run = Replayer(network)
    return lambda x: run.counterexample(region, prop, region.project(x))


def nearest(network, region, prop, enclosure, norm, backend, **limits):
    """What the models say of the nearest violation, with replays."""
    replay = replayer(network, region, prop)
    return minimise_distance(network, region, prop.clauses, enclosure, norm, backend=backend, replay=replay, **limits)


def margin_replayer(network, region, prop):
    run = Replayer(network)

    def replay(x):
        point = region.project(x)
        return point, run.margin(prop, point)

    return replay


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_nearest_violation_is_brute_force_s(backend, norm):
    found = 0
    for (kind, seed), (make, epsilon) in CASES.items():
        if norm == "l0" and kind == "conv":
            continue  # 2^9 sets of entries
        network = make()
        region, prop = query(network, seed, epsilon)
        truth = truth_of(kind, seed, norm)
        enclosure = (interval_bounds if seed % 2 else backward_bounds)(network, region)
        result = nearest(network, region, prop, enclosure, norm, backend)
        where = (kind, seed, truth, result)
        assert result.reason is None, where
        if math.isinf(truth):
            assert result.lower == math.inf, where
            assert result.point is None, where
            continue
        found += 1
        assert result.lower <= truth + 1e-9, where
        assert result.lower >= truth - 1e-4, where
        assert truth - 1e-6 <= result.upper <= truth + 1e-3, where
        assert region.contains(result.point), where
        assert prop.violated(Replayer(network)(result.point)), where
        assert distance(result.point, region.center, norm) == result.upper, where
    assert found >= 9


@pytest.mark.gurobi
@pytest.mark.parametrize("seed", range(8))
def test_the_miqp_and_its_outer_approximation_agree(seed):
    network = random_dense(seed, (5, 8, 8, 3))
    region, prop = query(network, seed, "1.5")
    both = [
        nearest(network, region, prop, backward_bounds(network, region), "l2", backend)
        for backend in (Backend.HIGHS, Backend.GUROBI)
    ]
    assert both[0].lower == pytest.approx(both[1].lower, abs=1e-6)
    assert both[0].upper == pytest.approx(both[1].upper, abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("norm", NORMS)
def test_a_conjunction_is_violated_where_all_rows_are(norm, backend):
    found = 0
    clause = Clause((Row(((0, ONE), (1, -ONE))), Row(((0, ONE), (2, -ONE)), Fraction(1, 2))), 3, "smallest")
    for seed in range(6):
        network = random_dense(seed, (3, 7, 3))
        region, _ = query(network, seed, "1")
        truth = nearest_violation(network, region, clause, norm)
        result = minimise_distance(
            network,
            region,
            [clause],
            interval_bounds(network, region),
            norm,
            backend=backend,
            replay=replayer(network, region, Property((clause,))),
        )
        assert result.lower <= truth + 1e-9
        assert result.lower >= min(truth, 10.0) - 1e-4
        found += math.isfinite(truth)
    assert found >= 2


def test_distances_in_a_domain_where_the_center_is_on_its_edge():
    for seed in range(4):
        network = random_dense(seed, (3, 7, 2))
        center = np.float32([0.0, 0.5, 1.0])
        region = Region.linf_ball(center, "1", (0, 1))
        label = int(evaluate(network, center[None].astype(float))[0].argmax())
        prop = Property.classification(label, network.outputs)
        for norm in NORMS:
            truth = min(nearest_violation(network, region, clause, norm) for clause in prop.clauses)
            result = nearest(network, region, prop, backward_bounds(network, region), norm, Backend.HIGHS)
            assert result.lower <= truth + 1e-9
            assert result.lower >= min(truth, 10.0) - 1e-4


def test_the_norms_keep_their_order():
    network = networks.load("examples/digits_plain.onnx")
    region, prop = digits(network, 10, "0.6", free=8)
    enclosure = backward_bounds(network, region)
    results = {
        norm: minimise_distance(
            network,
            region,
            prop.clauses[:2],
            enclosure,
            norm,
            backend=Backend.HIGHS,
            deadline=time.monotonic() + 20,
            replay=replayer(network, region, prop),
        )
        for norm in ("linf", "l2", "l1")
    }
    assert results["linf"].lower <= results["l2"].upper
    assert results["l2"].lower <= results["l1"].upper
    assert all(result.lower <= result.upper for result in results.values())


def digits(network, index, epsilon, free=None):
    """A ball around a test image of the examples; with ``free``, only that many pixels may change."""
    with np.load("examples/digits.npz") as data:
        image, label = data["images"][index].reshape(-1), int(data["labels"][index])
    lower, upper = np.clip(image - float(epsilon), 0, 1), np.clip(image + float(epsilon), 0, 1)
    if free is not None:
        held = np.argsort(-image, kind="stable")[free:]
        lower[held] = upper[held] = image[held]
    region = Region(tuple(map(Fraction, lower.tolist())), tuple(map(Fraction, upper.tolist())), image)
    return region, Property.classification(label, network.outputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_known_cuts_the_search_off(backend):
    network = CASES["dense", 1][0]()
    region, prop = query(network, 1, CASES["dense", 1][1])
    enclosure = backward_bounds(network, region)
    for norm in NORMS:
        truth = truth_of("dense", 1, norm)
        half = nearest(network, region, prop, enclosure, norm, backend, upper=truth / 2 if norm != "l0" else truth)
        assert half.point is None
        assert half.upper == math.inf
        assert half.reason is None
        assert half.lower == pytest.approx(truth / 2 if norm != "l0" else truth, abs=1e-6)


def test_a_center_that_violates_is_at_distance_zero():
    network = random_dense(0)
    region, _ = query(network, 0, "0.8")
    label = int(evaluate(network, region.center[None].astype(float))[0].argmin())
    wrong = Property.classification(label, network.outputs)
    for norm in NORMS:
        result = nearest(network, region, wrong, interval_bounds(network, region), norm, Backend.HIGHS)
        assert (result.lower, result.upper) == (0.0, 0.0)


def test_bounds_that_cut_off_the_network_are_noticed():
    import dataclasses

    network = random_dense(0)
    region, prop = query(network, 0, "0.8")
    enclosure = interval_bounds(network, region)
    wrong = dataclasses.replace(
        enclosure, upper={node: np.where(v > 0, v / 50, v) for node, v in enclosure.upper.items()}
    )
    with pytest.raises(NumericsError, match="does not reproduce"):
        minimise_distance(network, region, prop.clauses, wrong, "linf", replay=lambda x: None)


def test_a_bound_above_a_replayed_point_raises():
    network = random_dense(0)
    region, prop = query(network, 0, "0.8")
    enclosure = interval_bounds(network, region)
    real = replayer(network, region, prop)

    def near(x):
        import dataclasses

        found = real(x)
        return found and dataclasses.replace(found, input=region.center + np.float32(1e-3))

    with pytest.raises(NumericsError, match="a replayed input attains"):
        minimise_distance(network, region, prop.clauses, enclosure, "linf", backend=Backend.HIGHS, replay=near)


def test_a_region_without_a_center_is_refused():
    third = Region.box(["1/10"] * 3, ["1/10"] * 3)
    network = random_dense(0)
    clauses = Property.classification(0, 2).clauses
    with pytest.raises(RegionError, match="no center"):
        minimise_distance(network, third, clauses, interval_bounds(network, third), "linf", replay=lambda x: None)


@pytest.mark.gurobi
def test_gurobi_names_its_licence_and_auto_takes_highs():
    network = networks.load("examples/digits_plain.onnx")
    region, prop = digits(network, 10, "0.3")
    enclosure = backward_bounds(network, region)
    arguments = (network, region, prop.clauses[:1], enclosure, "l2")
    with pytest.raises(LicenceLimitError, match="199 variables with quadratic terms"):
        minimise_distance(*arguments, backend=Backend.GUROBI, replay=lambda x: None)
    result = minimise_distance(*arguments, deadline=time.monotonic() + 2, replay=lambda x: None)
    assert result.backend == "highs"
    assert "quadratic" in result.choice


def test_the_time_is_kept_and_bounds_are_streamed():
    network = networks.load("examples/digits_plain.onnx")
    region, prop = digits(network, 10, "0.5")
    reports = []
    begin = time.monotonic()
    result = nearest(
        network,
        region,
        prop,
        interval_bounds(network, region),
        "l1",
        Backend.HIGHS,
        deadline=begin + 3,
        progress=lambda lower, upper, nodes: reports.append((lower, upper, nodes)),
    )
    assert time.monotonic() - begin < 8
    assert result.reason is Reason.TIMEOUT
    assert 0 <= result.lower <= result.upper
    assert reports
    assert all(lower <= upper for lower, upper, _ in reports)


def test_cancelling_ends_it():
    network = networks.load("examples/digits_plain.onnx")
    region, prop = digits(network, 10, "0.5")
    begin = time.monotonic()
    result = minimise_distance(
        network,
        region,
        prop.clauses,
        interval_bounds(network, region),
        "l1",
        backend=Backend.HIGHS,
        cancel=lambda: time.monotonic() - begin > 1,
        replay=lambda x: None,
    )
    assert result.reason is Reason.CANCELLED


@pytest.mark.gurobi
@pytest.mark.parametrize("index", [3, 10])
def test_both_solvers_agree_on_the_examples(index):
    network = networks.load("examples/digits_plain.onnx")
    region, prop = digits(network, index, "0.6", free=10)
    enclosure = backward_bounds(network, region)
    for norm in NORMS:
        both = [
            minimise_distance(
                network,
                region,
                prop.clauses[:3],
                enclosure,
                norm,
                backend=backend,
                deadline=time.monotonic() + 60,
                replay=replayer(network, region, prop),
            )
            for backend in (Backend.HIGHS, Backend.GUROBI)
        ]
        assert both[0].reason is both[1].reason is None
        assert both[0].lower == pytest.approx(both[1].lower, abs=1e-6)


@pytest.mark.data
@pytest.mark.gurobi
def test_both_solvers_agree_on_acas_xu(data_folder):
    network = networks.load(data_folder / "acasxu/onnx/ACASXU_run2a_1_2_batch_2000.onnx")
    # A little before a decision boundary, so that the nearest violation lies in a small box.
    center = np.float32([0.1836, 0.1104, -0.1875, 0.2891, -0.1755])
    region = Region.linf_ball(center, "0.01")
    # The least output is the advice.
    advice = int(evaluate(network, center[None].astype(float))[0].argmin())
    clauses = tuple(Clause((Row(((t, ONE), (advice, -ONE))),), 5) for t in range(5) if t != advice)
    prop = Property(clauses)
    enclosure = backward_bounds(network, region)
    assert 20 < enclosure.unstable_count < 64
    both = [
        minimise_distance(
            network,
            region,
            clauses,
            enclosure,
            "l2",
            backend=backend,
            replay=replayer(network, region, prop),
            deadline=time.monotonic() + 100,
        )
        for backend in (Backend.HIGHS, Backend.GUROBI)
    ]
    assert both[0].reason is both[1].reason is None
    assert 0 < both[0].lower == pytest.approx(both[1].lower, abs=1e-6)
    assert both[0].upper - both[0].lower < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_worst_margin_is_brute_force_s(backend):
    for (kind, seed), (make, epsilon) in CASES.items():
        network = make()
        region, prop = query(network, seed, epsilon)
        truth = min(minimum_margin(network, region, clause) for clause in prop.clauses)
        result = minimise_margin(
            network,
            region,
            prop.clauses,
            backward_bounds(network, region),
            backend=backend,
            replay=margin_replayer(network, region, prop),
        )
        where = (kind, seed, truth, result)
        assert result.reason is None, where
        assert truth - 1e-3 <= result.lower <= truth + 1e-9, where
        assert truth - 1e-5 <= result.upper <= truth + 1e-4, where
        assert region.contains(result.point), where
