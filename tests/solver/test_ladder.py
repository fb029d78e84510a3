from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import pytest

import networks
from networks import Dataset, Property, PropertyError, Query, Region, RegionError
from networks.vnnlib import parse_vnnlib, read_vnnlib
from solver import Budget, Engine, Options, Outcome, Progress, Reason, Trust, verify
from solver.replay import Replayer
from tests.random_networks import random_conv, random_dense


def query(network: networks.Network, epsilon: float, seed: int = 0) -> Query:
    """About a random point and the class that the network gives it."""
    center = np.random.default_rng(seed).random(network.inputs).astype(np.float32)
    label = int(Replayer(network)(center).argmax())
    return Query.single(Region.linf_ball(center, epsilon), Property.classification(label, network.outputs))


def test_a_robust_query_says_what_proved_it() -> None:
    network = random_dense(1, (4, 8, 3))
    verdict = verify(network, query(network, 1e-3))
    assert verdict.outcome is Outcome.ROBUST
    assert verdict.trust is Trust.SOLVER
    assert verdict.decided_by in {"interval", "linear"}
    assert 0 < verdict.margin[0] <= verdict.margin[1]
    assert [stage.name for stage in verdict.stages][:2] == ["replay", "interval"]
    assert verdict.counterexample is None
    assert verdict.to_json()["verdict"] == "robust"


def test_a_counterexample_replays() -> None:
    network = random_conv(2)
    asked = query(network, 5.0)
    verdict = verify(network, asked)
    assert verdict.outcome is Outcome.COUNTEREXAMPLE
    assert verdict.trust is Trust.REPLAYED
    found = verdict.counterexample
    assert found is not None
    assert found.input.shape == network.input_shape
    region, prop = asked.cases[0]
    assert region.contains(found.input)
    output = Replayer(network)(found.input.reshape(-1))
    np.testing.assert_array_equal(output, found.output)
    assert prop.violated(output)
    assert verdict.margin[1] == found.margin <= 0


def test_bounds_alone_leave_open_what_they_cannot_settle() -> None:
    network = random_dense(5, (4, 20, 20, 20, 2))
    for epsilon in np.geomspace(0.001, 1, 60):
        verdict = verify(network, query(network, float(epsilon)), options=Options(Engine.BOUNDS))
        if verdict.outcome is Outcome.UNKNOWN:
            break
    assert verdict.reason is Reason.INCOMPLETE
    assert verdict.margin[0] <= 0 < verdict.margin[1]
    assert verdict.open
    assert verdict.hint


def test_time_and_cancellation_end_the_climb_with_bounds() -> None:
    network = random_dense(5, (6, 60, 60, 60, 4))
    asked = query(network, 0.4, seed=3)
    unbounded = verify(network, asked, budget=Budget(0.0, 1))
    assert unbounded.reason is Reason.TIMEOUT
    begin = time.monotonic()
    late = verify(network, asked, options=Options(Engine.BAB), budget=Budget(1.0, 1))
    assert late.outcome is Outcome.COUNTEREXAMPLE or late.reason is Reason.TIMEOUT
    assert time.monotonic() - begin < 4
    reports: list[Progress] = []
    cancelled = verify(
        network, asked, options=Options(Engine.BAB), progress=reports.append, cancel=lambda: len(reports) > 6
    )
    assert cancelled.outcome is Outcome.COUNTEREXAMPLE or cancelled.reason is Reason.CANCELLED
    assert cancelled.margin[0] > -np.inf
    assert cancelled.margin[0] >= max(report.lower for report in reports) - 1e-12


def test_queries_that_do_not_fit_are_refused() -> None:
    network = random_dense(0, (3, 4, 2))
    with pytest.raises(RegionError, match="has 4 input entries, but the network expects 3"):
        verify(network, Query.single(Region.box([0] * 4, [1] * 4), Property.classification(0, 2)))
    with pytest.raises(PropertyError, match="about 5 outputs, but the network has 2"):
        verify(network, Query.single(Region.box([0] * 3, [1] * 3), Property.classification(0, 5)))


def test_every_region_of_a_disjunction_counts() -> None:
    """One property on two boxes; it holds on both, or fails on one."""
    network = random_dense(0, (1, 2, 1))
    text = (
        "(declare-const X_0 Real)(declare-const Y_0 Real)"
        "(assert (or (and (<= X_0 {a}) (>= X_0 0) (>= Y_0 {t})) (and (<= X_0 2) (>= X_0 1) (>= Y_0 {t}))))"
    )
    points = np.linspace(0, 2, 2001, dtype=np.float32)[:, None]
    outputs = Replayer(network)(points)[:, 0]
    top = float(outputs.max())
    safe = verify(network, parse_vnnlib(text.format(a=1, t=top + 0.1), 1, 1))
    assert safe.outcome is Outcome.ROBUST
    broken = verify(network, parse_vnnlib(text.format(a=1, t=top - 0.01), 1, 1))
    assert broken.outcome is Outcome.COUNTEREXAMPLE


@pytest.mark.data
def test_wong_kolter_images_agree_with_the_published_truth(data_folder: Path) -> None:
    network = networks.load(data_folder / "mipverify" / "mnist_wk17a_linf0.1.onnx")
    images = Dataset.read(data_folder / "mnist" / "mnist_test.npz")
    with (data_folder / "mipverify" / "wk17a_truth_dev_001_250.csv").open() as file:
        truth = {int(row["index_0based"]): row["verdict"] for row in csv.DictReader(file)}
    for index in (0, 1, 8, 18, 45):
        region = Region.linf_ball(images.input(index), "0.1", (0, 1))
        asked = Query.single(region, Property.classification(images.label(index), 10))
        verdict = verify(network, asked, budget=Budget(30, 2))
        expected = Outcome.ROBUST if truth[index] == "robust" else Outcome.COUNTEREXAMPLE
        assert verdict.outcome is expected


@pytest.mark.data
@pytest.mark.parametrize(
    ("net", "prop", "expected"),
    [
        ("1_1", 4, Outcome.ROBUST),
        ("1_5", 3, Outcome.ROBUST),
        ("2_1", 3, Outcome.ROBUST),
        ("1_2", 2, Outcome.COUNTEREXAMPLE),
        ("1_7", 3, Outcome.COUNTEREXAMPLE),
    ],
)
def test_acas_xu_is_decided_by_input_splits(data_folder: Path, net: str, prop: int, expected: Outcome) -> None:
    folder = data_folder / "acasxu"
    network = networks.load(next((folder / "onnx").glob(f"ACASXU_run2a_{net}_batch_2000.onnx*")))
    asked = read_vnnlib(folder / "vnnlib" / f"prop_{prop}.vnnlib.gz", network.inputs, network.outputs)
    verdict = verify(network, asked, budget=Budget(116, 2))
    assert verdict.outcome is expected
