"""``netproof epsilons`` and audits in other norms."""

from __future__ import annotations

import json

import numpy as np
import pytest

import netproof
from networks import evaluate, load_bytes
from networks.dataset import Dataset
from tests.random_networks import dense_model

NETWORK = load_bytes(dense_model(7))


@pytest.fixture
def points(tmp_path):
    inputs = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    labels = evaluate(NETWORK, inputs.astype(float)).argmax(1)
    np.savez(tmp_path / "points.npz", x=inputs, y=labels)
    (tmp_path / "net.onnx").write_bytes(NETWORK.model)
    return tmp_path


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_violation_within_what_is_certified_and_one_just_beyond(points, norm):
    dataset = Dataset.read(points / "points.npz")
    asked = {"norm": norm, "domain": (0, 1), "threads": 1}
    found = list(netproof.largest_epsilons(NETWORK, dataset, range(4), tolerance="1e-4", **asked))
    assert [each.index for each in found] == [0, 1, 2, 3]
    for each in found:
        ball = {"input": dataset.input(each.index), "label": each.label, **asked}
        if each.epsilon > 0:
            within = netproof.verify(NETWORK, **ball, epsilon=each.epsilon)
            assert str(within.outcome) == "robust"
        beyond = netproof.verify(NETWORK, **ball, epsilon=each.epsilon + 2e-4)
        whole = netproof.verify(NETWORK, **ball | {"norm": "linf"}, epsilon=1)
        assert beyond.outcome is whole.outcome, "it ends at a violation, or at the end of the domain"


def test_bounds_alone_prove_no_more(points, run):
    asked = (
        points / "net.onnx",
        "--data",
        points / "points.npz",
        "--first",
        "4",
        "--domain",
        "0",
        "1",
        "--threads",
        "1",
    )
    exact = run("epsilons", *asked, "--json")
    bounds = run("epsilons", *asked, "--engine", "bounds", "--json")
    assert (exact.code, bounds.code) == (0, 0)
    for one, other in zip(json.loads(bounds.out)["inputs"], json.loads(exact.out)["inputs"], strict=True):
        assert one["epsilon"] <= other["epsilon"] + 1e-5
    printed = run("epsilons", *asked, "--engine", "bounds")
    assert printed.out.splitlines()[-1].startswith("linf: mean ")


def test_an_audit_in_l2_is_less_strict_than_in_linf(points, run):
    counts = {}
    for norm in ("linf", "l2"):
        options = ("--eps", "0.1", "--norm", norm, "--domain", "0", "1", "--workers", "1", "--json")
        answer = run("audit", points / "net.onnx", "--data", points / "points.npz", *options)
        assert answer.code == 0, answer
        summary = json.loads(answer.out)
        counts[norm] = summary["robust"]
        assert summary["norm"] == norm
    assert counts["l2"] >= counts["linf"]
