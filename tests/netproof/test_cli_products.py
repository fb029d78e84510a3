"""``netproof compare``, ``monotone`` and ``product`` on the example networks."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from networks import load
from tests.netproof.conftest import BALL
from tests.random_networks import dense_model


@pytest.fixture
def small(tmp_path):
    """A network of three inputs and two outputs, and another one."""
    paths = [tmp_path / "first.onnx", tmp_path / "second.onnx"]
    for path, seed in zip(paths, (7, 8), strict=True):
        path.write_bytes(dense_model(seed))
    return paths


def test_a_network_agrees_with_itself_and_the_proof_checks(run, small, tmp_path):
    first, _ = small
    proof, product = tmp_path / "proof.zip", tmp_path / "product.onnx"
    evidence = ("--certificate", proof, "--product", product)
    answer = run("compare", first, first, "--box", "0", "1", "--within", "1/1000", "--threads", "1", *evidence)
    assert answer.code == 0, answer
    assert answer.out.startswith("robust")
    assert run("check", proof, product).code == 0
    again = tmp_path / "again.onnx"
    written = run("product", "equivalence", first, first, "-o", again)
    digest = hashlib.sha256(product.read_bytes()).hexdigest()
    assert written.out == f"{digest}  {again}\n"
    assert again.read_bytes() == product.read_bytes()


def test_two_networks_that_differ(run, small):
    answer = run("compare", *small, "--box", "0", "1", "--within", "0.01", "--threads", "1", "--json")
    assert answer.code == 1, answer
    verdict = json.loads(answer.out)
    found = np.array(verdict["counterexample"]["input"])
    assert found.shape == (3,)
    assert verdict["query"]["property"]["kind"] == "equivalence"
    assert verdict["query"]["property"]["first"] == load(small[0]).sha256
    assert verdict["network"]["sha256"] != load(small[0]).sha256


def test_a_ball_around_an_input_of_a_data_set(run, plain, robust):
    answer = run("compare", plain, robust, *BALL, "--eps", "0", "--json")
    assert answer.code == 0, answer
    assert json.loads(answer.out)["query"]["property"]["same_decision"] is True


def test_monotone_finds_both_directions_or_a_counterexample(run, small, tmp_path):
    first, _ = small
    codes = []
    for direction in ("increasing", "decreasing"):
        product = tmp_path / f"{direction}.onnx"
        options = ("--direction", direction, "--within", "1/100", "--box", "0", "1", "--product", product)
        answer = run("monotone", first, "--input", "1", *options, "--threads", "1", "--json")
        codes.append(answer.code)
        verdict = json.loads(answer.out)
        if answer.code == 1:
            found = verdict["counterexample"]
            moved = found["output"][2] - found["output"][0]
            assert found["input"][1] <= found["input"][3]
            assert moved <= -0.0099 if direction == "increasing" else moved >= 0.0099
    assert 1 in codes, "the output moves by more than a hundredth"
    written = run("product", "monotone", first, "--input", "1", "-o", tmp_path / "again.onnx")
    assert written.code == 0
    assert (tmp_path / "again.onnx").read_bytes() == product.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --data, --index and --eps, or --box; missing: --data, --index, --eps"),
        (("--box", "0", "1", "--within", "0"), "within says how far outputs may differ"),
        (("--box", "0", "1", "--label", "1"), "No such option"),
    ],
)
def test_bad_comparisons_say_why(run, small, arguments, message):
    answer = run("compare", *small, *arguments)
    assert answer.code == 2
    assert message in answer.err


def test_networks_of_other_sizes_are_refused(run, small, plain):
    answer = run("compare", small[0], plain, "--box", "0", "1")
    assert answer.code == 2
    assert "the same number of inputs are compared; these have 3 and 64" in answer.err
