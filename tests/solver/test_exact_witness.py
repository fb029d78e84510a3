"""Exact witnesses: what a region without float32 points has in place of replayed counterexamples."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import networks
from networks import Network, Property, Query, Region, read_vnnlib
from networks.exact import exact, rounded
from networks.exact_evaluation import evaluate_exactly
from service.verdict_schemas import VerdictDocument
from solver import Budget, Counterexample, Engine, Options, Outcome, Reason, Trust, Verdict, verify
from solver.case import Case
from solver.hints import unknown_hint
from solver.replay import Replayer
from solver.witness import vnncomp_text
from tests.random_networks import model, random_conv, random_dense, random_residual

MAKERS = (random_dense, random_conv, random_residual)


def frozen(network: Network, seed: int, share: float) -> Region:
    """A box around the origin, a share of its entries frozen at decimals, or nearly."""
    rng = np.random.default_rng(seed)
    middle = rng.integers(-9999, 9999, network.inputs)
    width = np.where(rng.random(network.inputs) < share, 0, rng.integers(0, 5000, network.inputs))
    nearly = rng.integers(0, 2, network.inputs)  # in units of 1e-13
    low = [f"{m - w}e-4" for m, w in zip(middle.tolist(), width.tolist(), strict=True)]
    high = [
        Fraction(m + w, 10**4) + Fraction(n, 10**13)
        for m, w, n in zip(middle.tolist(), width.tolist(), nearly.tolist(), strict=True)
    ]
    return Region.box(low, high)


def is_exact_witness(verdict: Verdict, network: Network, region: Region, prop: Property) -> None:
    found = verdict.counterexample
    assert found is not None
    assert found.exact_input is not None
    assert not region.replayable
    assert region.contains_exactly(found.exact_input)
    margin = prop.margin(evaluate_exactly(network, found.exact_input))
    assert margin <= 0
    assert found.exact_margin == verdict.margin[1] == rounded(margin)
    replayed = Replayer(network)(found.input.reshape(-1))
    assert np.array_equal(replayed, found.output)
    assert prop.violated(replayed)
    assert found.margin <= 0
    assert found.exact_input == region.exact_point(found.input)


@given(st.integers(0, 2**32 - 1), st.sampled_from(MAKERS), st.sampled_from([0.0, 0.5, 1.0]))
def test_points_count_by_what_the_region_holds(seed, make, share):
    network = make(seed % 50)
    region = frozen(network, seed, share)
    rng = np.random.default_rng(seed)
    replayer = Replayer(network)
    prop = Property.classification(seed % network.outputs, network.outputs)
    for x in (*region.sample(3, rng), rng.normal(size=network.inputs).astype(np.float32)):
        found = replayer.counterexample(region, prop, x)
        if region.replayable:
            assert found is None or (found.trust is Trust.REPLAYED and region.contains(found.input))
            continue
        over_reals = prop.margin(evaluate_exactly(network, region.exact_point(region.project(x))))
        replayed = prop.violated(replayer(region.project(x)))
        assert (found is not None) == (over_reals <= 0 and replayed)
        if found is not None:
            verdict = Verdict(Outcome.COUNTEREXAMPLE, found.trust, (-np.inf, found.attained), 0.0, counterexample=found)
            assert found.trust is Trust.EXACT
            is_exact_witness(verdict, network, region, prop)


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("make", MAKERS)
def test_every_engine_finds_exact_witnesses(make, engine):
    decided = set()
    for seed in range(4):
        network = make(seed)
        region = frozen(network, seed, 0.5)
        assert not region.replayable
        for label in range(network.outputs):
            prop = Property.classification(label, network.outputs)
            verdict = verify(network, Query.single(region, prop), options=Options(engine), budget=Budget(20, threads=1))
            decided.add(verdict.outcome)
            if verdict.outcome is Outcome.COUNTEREXAMPLE:
                assert verdict.trust is Trust.EXACT
                is_exact_witness(verdict, network, region, prop)
            elif verdict.outcome is Outcome.UNKNOWN:
                assert engine is Engine.BOUNDS
            else:
                points = region.sample(50, np.random.default_rng(seed))
                assert not any(prop.margin(evaluate_exactly(network, region.exact_point(x))) <= 0 for x in points)
    assert Outcome.COUNTEREXAMPLE in decided


def test_a_region_with_float32_points_keeps_the_strict_rule():
    network = random_dense(1, (2, 4, 2))
    for ends in (["0.1", "0.1"], ["0.09999", "0.10001"]):
        region = Region.box([ends[0], 1], [ends[1], 1])
        verdicts = [verify(network, Query.single(region, Property.classification(c, 2))) for c in (0, 1)]
        (found,) = (verdict for verdict in verdicts if verdict.outcome is Outcome.COUNTEREXAMPLE)
        assert found.trust is (Trust.REPLAYED if region.replayable else Trust.EXACT)


def rounding_network(bias: float, sign: float) -> Network:
    """``y = (bias + sign · x, 0)`` over the reals, and (bias, 0) in float32 for small x."""
    nodes = [
        helper.make_node("MatMul", ["x", "sign"], ["s"]),
        helper.make_node("Add", ["s", "big"], ["a"]),
        helper.make_node("Sub", ["a", "big"], ["b"]),
        helper.make_node("Add", ["b", "bias"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    weights = {
        "sign": np.full((1, 1), sign, np.float32),
        "big": np.full((1, 1), 2.0**25, np.float32),
        "bias": np.full((1, 1), bias, np.float32),
        "w": np.array([[1, 0]], np.float32),
    }
    return networks.load_bytes(model(nodes, [1, 1], weights))


@pytest.mark.parametrize(("bias", "sign"), [(-0.0625, 1.0), (0.0625, -1.0)])
def test_a_violation_in_one_arithmetic_only_is_no_answer(bias, sign):
    network = rounding_network(bias, sign)
    region = Region.box(["0.1"], ["0.1"])
    prop = Property.classification(0, 2)
    point = region.project([0.1])
    over_reals = prop.margin(evaluate_exactly(network, region.exact_point(point)))
    replayer = Replayer(network)
    assert prop.violated(replayer(point)) == (over_reals > 0)
    assert replayer.counterexample(region, prop, point) is None
    assert replayer.disagreed
    verdict = verify(network, Query.single(region, prop))
    assert verdict.outcome is (Outcome.ROBUST if over_reals > 0 else Outcome.UNKNOWN)
    assert verdict.counterexample is None
    if over_reals <= 0:
        assert "no float32 number lies between the bounds of input 0" in verdict.hint
        assert "not in both" in verdict.hint


def test_the_hint_is_for_disagreement_only():
    cases = [Case.of(Region.box(["0.1"], ["0.1"]), Property.classification(0, 2))]
    assert "input 0" in unknown_hint(Reason.TIMEOUT, cases, disagreed=True)
    assert "more time" in unknown_hint(Reason.TIMEOUT, cases)


def test_a_tie_over_the_reals_is_an_exact_witness():
    nodes = [helper.make_node("Concat", ["x", "x"], ["y"], axis=1)]
    network = networks.load_bytes(model(nodes, [1, 1]))
    verdict = verify(network, Query.single(Region.box(["0.1"], ["0.1"]), Property.classification(0, 2)))
    assert (verdict.trust, verdict.margin[1]) == (Trust.EXACT, 0)


def test_the_witness_survives_json_and_files():
    network = random_dense(1, (2, 4, 2))
    region = Region.box(["0.1", "-0.25"], ["0.1", 1])
    verdicts = [verify(network, Query.single(region, Property.classification(c, 2))) for c in (0, 1)]
    verdict = next(verdict for verdict in verdicts if verdict.trust is Trust.EXACT)
    document = verdict.to_json()
    found = document["counterexample"]
    assert (document["trust"], found["in_region"], found["exact_input"][0]) == ("exact", False, "0.1")
    assert found["input"][0] == float(np.float32(0.1))
    again = Counterexample.from_json(found)
    assert again.exact_input == verdict.counterexample.exact_input
    assert again.to_json() == found
    checked = VerdictDocument.model_validate(document)
    assert checked.counterexample.exact_input == found["exact_input"]
    text = vnncomp_text(again)
    assert text.startswith("sat\n((X_0 0.1)\n (X_1 ")
    assert region.contains_exactly([exact(v) for v in re.findall(r"X_\d+ (\S+)\)", text)])
    outputs = [float(v) for v in re.findall(r"Y_\d+ ([^)]+)", text)]
    assert outputs == again.output.tolist()


def test_a_published_network_frozen_at_decimals(data_folder: Path) -> None:
    folder = data_folder / "collins_rul_cnn"
    network = networks.load(folder / "onnx" / "NN_rul_full_window_20.onnx")
    query = read_vnnlib(
        folder / "vnnlib_2022" / "monotonicity_CI_shift5_w20.vnnlib.gz", network.inputs, network.outputs
    )
    verdict = verify(network, query, budget=Budget(30, threads=1))
    ((region, prop),) = query.cases
    assert verdict.trust is Trust.EXACT
    is_exact_witness(verdict, network, region, prop)
