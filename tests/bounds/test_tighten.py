from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import networks
from bounds import Enclosure, backward_bounds
from bounds.pool import Pool
from bounds.tighten import Effort, tighten
from networks.errors import SoundnessError
from networks.evaluation import values
from networks.graph import AffineNode, Dense, InputNode, Network, ReluNode
from networks.region import Region
from tests.bounds.graphs import dense_network, residual_network
from tests.random_networks import random_conv

WITH_MIPS = Effort(mip_seconds=20.0, mip_each=2.0)


def case(kind: str, seed: int, radius: float) -> tuple[Network, Region]:
    rng = np.random.default_rng(seed)
    if kind == "dense":
        network = dense_network(rng, (3, 8, 8, 8, 3), scale=1.5)
    else:
        network = residual_network(rng) if kind == "residual" else random_conv(seed)
    return network, Region.linf_ball(rng.normal(size=network.inputs) * 0.3, radius)


def tent() -> Network:
    """relu(x) − 2 relu(x − 1/2) + 1/10 on [−1, 1]: at least 1/10, where its LP relaxation says −4/10; then a ReLU."""
    first = AffineNode(((0, Dense(np.array([[1.0], [1.0]]))),), np.array([0.0, -0.5]), (2,))
    second = AffineNode(((2, Dense(np.array([[1.0, -2.0]]))),), np.array([0.1]), (1,))
    last = AffineNode(((4, Dense(np.array([[1.0]]))),), np.array([0.0]), (1,))
    return Network((InputNode((1,)), first, ReluNode(1, (2,)), second, ReluNode(3, (1,)), last), b"", "")


def assert_encloses(network: Network, region: Region, enclosure: Enclosure, count: int = 300) -> None:
    found = values(network, region.sample(count, np.random.default_rng(1)).astype(np.float64))
    for node in network.relu_nodes:
        z = found[node - 1]
        assert (z >= enclosure.lower[node] - 1e-12 * (1 + np.abs(z))).all()
        assert (z <= enclosure.upper[node] + 1e-12 * (1 + np.abs(z))).all()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["dense", "residual", "conv"]), st.integers(0, 10**6), st.sampled_from([0.1, 0.4, 1.5]))
def test_sampled_points_never_beat_the_bounds_and_bounds_only_improve(kind: str, seed: int, radius: float) -> None:
    network, region = case(kind, seed, radius)
    before = backward_bounds(network, region)
    after, report = tighten(network, region, before)
    assert_encloses(network, region, after)
    for node in network.relu_nodes:
        assert (after.lower[node] >= before.lower[node]).all()
        assert (after.upper[node] <= before.upper[node]).all()
    assert report.solver_trusted == ()
    assert report.mip_solved == 0
    assert report.unstable_after == after.unstable_count <= report.unstable_before == before.unstable_count


@pytest.mark.parametrize("seed", range(4))
def test_mips_close_neurons_soundly_and_say_so(seed: int) -> None:
    network, region = case("dense", seed, 0.6)
    enclosure, report = tighten(network, region, backward_bounds(network, region), effort=WITH_MIPS)
    assert_encloses(network, region, enclosure, 2000)
    assert len(report.solver_trusted) == report.mip_closed
    assert not any(enclosure.unstable(node)[neuron] for node, neuron in report.solver_trusted)
    assert report.mip_refuted == 0


def test_lps_close_what_backward_bounds_leave_open() -> None:
    closed = 0
    for seed in range(5):
        network, region = case("dense", seed, 0.5)
        closed += tighten(network, region, backward_bounds(network, region))[1].lp_closed
    assert closed > 0


def test_a_mip_closes_what_its_lp_leaves_open() -> None:
    network, region = tent(), Region.box([-1.0], [1.0])
    before = backward_bounds(network, region)
    by_lp, report = tighten(network, region, before)
    assert by_lp.unstable(4)[0]
    np.testing.assert_allclose(by_lp.lower[4][0], -0.4, atol=1e-9)
    assert report.lp_solved > 0
    by_mip, report = tighten(network, region, before, effort=WITH_MIPS)
    assert by_mip.active(4)[0]
    assert by_mip.lower[4][0] <= 0.1
    assert report.solver_trusted == ((4, 0),)
    assert report.mip_closed == 1


def test_neurons_seen_on_both_sides_get_no_mip() -> None:
    network, region = tent(), Region.box([-1.0], [1.0])
    nodes = list(network.nodes)
    second = nodes[3]
    nodes[3] = AffineNode(second.terms, np.array([-0.2]), (1,))
    network = Network(tuple(nodes), b"", "")
    _, report = tighten(network, region, backward_bounds(network, region), effort=WITH_MIPS)
    assert report.mip_solved == 0


@pytest.mark.skipif(not Pool.available(), reason="worker processes need POSIX")
@pytest.mark.parametrize("effort", [Effort(pool_pays=-1.0), Effort(pool_pays=-1.0, mip_seconds=20.0)])
def test_the_pool_and_this_process_agree(effort: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bounds.tighten._MEASURED", 0)
    network, region = case("dense", 5, 0.6)
    before = backward_bounds(network, region)
    alone, report_alone = tighten(network, region, before, effort=effort)
    pooled, report_pooled = tighten(network, region, before, effort=effort, threads=2)
    assert report_alone.processes == 0
    assert report_pooled.processes == 2
    assert report_pooled.lp_solved == report_alone.lp_solved > 0
    assert report_pooled.mip_closed == report_alone.mip_closed
    if not report_alone.mip_closed:
        for node in network.relu_nodes:
            np.testing.assert_allclose(pooled.lower[node], alone.lower[node], atol=1e-6)
            np.testing.assert_allclose(pooled.upper[node], alone.upper[node], atol=1e-6)


def test_small_work_starts_no_processes() -> None:
    network, region = case("dense", 5, 0.6)
    assert tighten(network, region, backward_bounds(network, region), threads=2)[1].processes == 0


def test_a_cancelled_run_returns_what_it_was_given() -> None:
    network, region = case("dense", 0, 0.5)
    before = backward_bounds(network, region)
    after, report = tighten(network, region, before, cancel=lambda: True)
    assert after is before
    assert report.stopped == "cancelled"
    assert report.lp_solved == 0


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("why", ["deadline", "cancelled"])
def test_a_stop_in_the_middle_is_prompt_and_keeps_bounds(threads: int, why: str) -> None:
    rng = np.random.default_rng(0)
    network = dense_network(rng, (60, 150, 150, 150, 2), scale=1.5)
    region = Region.linf_ball(rng.normal(size=60) * 0.3, 0.4)
    before = backward_bounds(network, region)
    begin = time.monotonic()
    effort = Effort(pool_pays=0.0)
    if why == "deadline":
        after, report = tighten(network, region, before, effort=effort, threads=threads, deadline=begin + 1.5)
    else:
        stop = lambda: time.monotonic() > begin + 1.5  # noqa: E731
        after, report = tighten(network, region, before, effort=effort, threads=threads, cancel=stop)
    assert time.monotonic() - begin < 4.0
    assert report.stopped == why
    assert report.lp_solved > 0
    assert_encloses(network, region, after)


def test_the_lps_of_a_layer_end_when_they_do_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    network = dense_network(rng, (8, 40, 60, 2), scale=1.5)
    region = Region.box([-2.0] * 8, [2.0] * 8)
    before = backward_bounds(network, region)
    assert before.unstable(4).sum() > 50
    everything = tighten(network, region, before)[1]
    assert everything.lp_solved > 100
    monkeypatch.setattr("bounds.tighten._WORTHWHILE", 1.0)
    monkeypatch.setattr("bounds.tighten._TASK_NEURONS", 1)
    assert 24 <= tighten(network, region, before)[1].lp_solved <= 60


def test_bounds_that_contradict_a_proof_raise() -> None:
    network, region = case("dense", 2, 0.3)
    truth = backward_bounds(network, region)
    node = network.relu_nodes[-1]
    far = np.abs(truth.lower[node]) + np.abs(truth.upper[node])
    neuron = int(np.argmax(np.maximum(truth.lower[node], -truth.upper[node])))
    assert not truth.unstable(node)[neuron], "the seed should give a stable neuron away from zero"
    low, high = truth.lower[node].copy(), truth.upper[node].copy()
    # Says that a neuron that is certainly far from zero lies next to it.
    low[neuron], high[neuron] = -1e-3, 1e-3
    wrong = Enclosure({**truth.lower, node: low}, {**truth.upper, node: high})
    assert far[neuron] > 1e-2
    with pytest.raises(SoundnessError, match="contradict"):
        tighten(network, region, wrong)


def test_a_network_with_one_layer_needs_no_lp() -> None:
    network = dense_network(np.random.default_rng(0), (4, 10, 2))
    region = Region.box([-1.0] * 4, [1.0] * 4)
    before = backward_bounds(network, region)
    after, report = tighten(network, region, before, effort=WITH_MIPS)
    assert after is before
    assert report.lp_solved == report.mip_solved == 0


def test_a_layer_that_is_too_large_is_skipped_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bounds.relaxation._LARGEST_MODEL", 10)
    network, region = case("dense", 0, 0.5)
    _, report = tighten(network, region, backward_bounds(network, region))
    assert report.lp_solved == 0
    assert {node for node, _ in report.skipped} <= set(network.relu_nodes)
    assert report.skipped


@pytest.mark.data
@pytest.mark.parametrize("name", ["a_absorb_2p57", "a_drop_2m34", "a_spread_d6_s8", "a_trickle_2p16"])
def test_networks_made_to_fool_mips_do_not(name: str, data_folder: Path) -> None:
    folder = data_folder / "fooling"
    entry = next(e for e in json.loads((folder / "manifest.json").read_text()) if e["file"] == f"{name}.onnx")
    network = networks.load(folder / entry["file"])
    region = Region.box(entry["lo"], entry["hi"])
    enclosure, _ = tighten(network, region, backward_bounds(network, region), effort=WITH_MIPS)
    assert_encloses(network, region, enclosure, 20_000)


def test_spent_effort_ends_the_run() -> None:
    network, region = case("dense", 0, 0.5)
    _, report = tighten(network, region, backward_bounds(network, region), effort=Effort(lp_seconds=1e-6))
    assert report.stopped == "effort"
    assert report.lp_solved <= 2
