from __future__ import annotations

import itertools
import time
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

import networks
from networks import Property, Region, evaluate
from solver import policy
from solver.errors import LicenceLimitError, ModelSizeError
from solver.options import Backend
from solver.replay import Replayer
from solver.universal import shifted, universal_perturbation
from solver.verdict import Reason
from tests.random_networks import random_dense
from tests.solver.oracle import cells

BACKENDS = [Backend.HIGHS, pytest.param(Backend.GUROBI, marks=pytest.mark.gurobi)]


def inputs_of(network, seed, count):
    points = np.random.default_rng(seed).uniform(0, 1, (count, network.inputs)).round(2).astype(np.float32)
    return points, evaluate(network, points.astype(float)).argmax(axis=1).tolist()


def most_flips(network, points, labels, epsilon, domain):
    """How many inputs one δ can flip, by enumeration: each input's flips are polyhedra in δ, and LPs intersect them."""
    region = Region.linf_ball(np.zeros(network.inputs), epsilon)
    box = list(zip(region.lower, region.upper, strict=True))
    flips = []
    for x, label in zip(points, labels, strict=True):
        copy = shifted(network, x, domain)
        prop = Property.classification(label, network.outputs)
        parts = [
            (np.concatenate([A, rows]), np.concatenate([b, -offsets]))
            for clause in prop.clauses
            for rows, offsets, A, b in cells(copy, region, clause)
        ]
        flips.append([part for part in parts if feasible([part], box)])
    for size in range(len(points), 0, -1):
        for chosen in itertools.combinations(flips, size):
            if any(feasible(parts, box) for parts in itertools.product(*chosen)):
                return size
    return 0


def feasible(parts, box):
    A, b = np.concatenate([A for A, _ in parts]), np.concatenate([b for _, b in parts])
    return linprog(np.zeros(len(box)), A_ub=A, b_ub=b, bounds=box).status == 0


@pytest.mark.parametrize("domain", [None, (0, 1)])
def test_a_shifted_network_is_the_network_at_the_clipped_sum(domain):
    rng = np.random.default_rng(0)
    for seed in range(5):
        network = random_dense(seed)
        x = rng.uniform(0, 1, network.inputs).astype(np.float32)
        deltas = rng.uniform(-0.7, 0.7, (50, network.inputs))
        moved = x + deltas if domain is None else np.clip(x + deltas, 0, 1)
        assert evaluate(shifted(network, x, domain), deltas) == pytest.approx(evaluate(network, moved), abs=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("domain", [None, (0, 1)])
def test_flips_as_many_as_brute_force(backend, domain):
    seen = set()
    for seed in range(8):
        network = random_dense(seed, (2, 4, 3) if seed % 2 else (2, 3, 3, 2))
        points, labels = inputs_of(network, seed, 3)
        truth = most_flips(network, points, labels, "0.3", domain)
        result = universal_perturbation(network, points, labels, "0.3", domain, backend=backend)
        where = (seed, truth, result)
        assert result.reason is None, where
        assert result.bound == len(result.flipped) == truth, where
        assert not set(result.flipped) & set(result.robust), where
        assert max(abs(Fraction(float(entry))) for entry in result.delta) <= Fraction("0.3"), where
        moved = points + result.delta if domain is None else np.clip(points + result.delta, 0, 1)
        outputs = Replayer(network)(moved)
        for i, (y, label) in enumerate(zip(outputs, labels, strict=True)):
            violated = Property.classification(label, network.outputs).violated(y)
            assert violated == (i in result.flipped), where
        seen.add(truth)
    assert len(seen) >= 3


def test_no_random_perturbation_beats_the_bound():
    rng = np.random.default_rng(0)
    for seed in range(4):
        network = random_dense(seed, (4, 6, 3))
        points, labels = inputs_of(network, seed, 5)
        result = universal_perturbation(network, points, labels, "0.2", (0, 1), backend=Backend.HIGHS)
        deltas = rng.uniform(-0.2, 0.2, (500, 1, 4))
        deltas[:100] = np.sign(deltas[:100]) * 0.2
        moved = np.clip(points + deltas, 0, 1)
        classes = evaluate(network, moved.reshape(-1, 4)).argmax(axis=1).reshape(500, 5)
        flips = classes != labels
        assert flips.sum(axis=1).max() <= result.bound
        assert not flips[:, list(result.robust)].any()


def test_inputs_with_another_label_are_flipped_already():
    network = random_dense(3)
    points, labels = inputs_of(network, 3, 2)
    wrong = [1 - label for label in labels]
    result = universal_perturbation(network, points, wrong, "0.001", backend=Backend.HIGHS)
    assert result.flipped == (0, 1)
    assert result.bound == 2
    assert not result.delta.any()


def digits(count):
    with np.load("examples/digits.npz") as data:
        images, labels = data["images"][:count], data["labels"][:count].tolist()
    return networks.load("examples/digits_plain.onnx"), images, labels


def test_images_of_the_examples():
    network, images, labels = digits(4)
    reports = []
    result = universal_perturbation(
        network,
        images,
        labels,
        "0.06",
        (0, 1),
        backend=Backend.HIGHS,
        deadline=time.monotonic() + 10,
        progress=lambda flipped, bound, nodes: reports.append((flipped, bound, nodes)),
    )
    assert len(result.flipped) <= result.bound <= 4 - len(result.robust)
    assert all(flipped <= bound for flipped, bound, _ in reports)


def test_too_many_relus_are_refused_early(monkeypatch):
    network, images, labels = digits(40)
    begin = time.process_time()
    monkeypatch.setattr(policy, "UNIVERSAL_RELUS", 50)
    with pytest.raises(ModelSizeError, match=r"40 inputs would have about \d+ ReLUs"):
        universal_perturbation(network, images, labels, "0.3", (0, 1))
    assert time.process_time() - begin < 5


@pytest.mark.gurobi
def test_gurobi_s_licence_is_named():
    network, images, labels = digits(9)
    with pytest.raises(LicenceLimitError, match="2000 variables"):
        universal_perturbation(network, images, labels, "0.1", (0, 1), backend=Backend.GUROBI)


def test_the_time_is_kept():
    network, images, labels = digits(5)
    begin = time.monotonic()
    result = universal_perturbation(network, images, labels, "0.1", (0, 1), backend=Backend.HIGHS, deadline=begin + 2)
    assert result.reason in {Reason.TIMEOUT, None}
    assert time.monotonic() - begin < 8
