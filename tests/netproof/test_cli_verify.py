"""``netproof verify`` and ``netproof info`` on the example networks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from networks.exact import exact
from solver import Outcome, Progress, Reason, Verdict
from tests.netproof.conftest import BALL, EXAMPLES


def test_counterexample(run, plain, digits):
    answer = run("verify", plain, *BALL, "--eps", "0.1", "--json")
    assert answer.code == 1
    verdict = json.loads(answer.out)
    assert (verdict["verdict"], verdict["trust"]) == ("counterexample", "replayed")
    assert verdict["margin"][1] <= 0
    assert verdict["network"]["name"] == "digits_plain.onnx"
    assert re.fullmatch("[0-9a-f]{64}", verdict["network"]["sha256"])
    assert verdict["query"]["region"]["epsilon"] == "0.1"
    found = np.array(verdict["counterexample"]["input"])
    assert np.abs(found - digits[0][10].reshape(-1)).max() <= 0.1
    assert found.min() >= 0
    assert found.max() <= 1


def test_robust(run, plain):
    answer = run("verify", plain, *BALL, "--eps", "1/1000", "--json")
    assert answer.code == 0
    verdict = json.loads(answer.out)
    assert (verdict["verdict"], verdict["trust"]) == ("robust", "solver")
    assert verdict["margin"][0] > 0
    assert verdict["counterexample"] is None


def test_unknown_where_the_engine_cannot_decide(run, robust):
    answer = run("verify", robust, *BALL, "--eps", "0.1", "--engine", "bounds")
    assert answer.code == 3
    assert answer.out.startswith("unknown")
    assert "reason   incomplete" in answer.out


def test_vnnlib_and_ball_ask_the_same(run, robust):
    by_file = run("verify", robust, EXAMPLES / "digits.vnnlib", "--json", "--threads", "1")
    by_ball = run("verify", robust, *BALL, "--eps", "0.1", "--json")
    assert by_file.code == by_ball.code == 0
    box, ball = (json.loads(answer.out)["statistics"] for answer in (by_file, by_ball))
    centers = box.pop("center_output"), ball.pop("center_output")  # the domain cuts the box, not the ball's center
    assert [len(output) for output in centers] == [10, 10]
    assert box == ball
    assert sum(layer["unstable"] for layer in ball["layers"]) == ball["unstable"]
    assert sum(layer["relus"] for layer in ball["layers"]) == ball["relus"]


def test_text_names_verdict_trust_margin_and_stages(run, plain):
    answer = run("verify", plain, *BALL, "--eps", "0.1")
    assert answer.code == 1
    assert answer.err == ""
    for word in (
        "counterexample  in ",
        "trust    replayed",
        "margin   ",
        "violates class ",
        "entries changed",
        "stage ",
    ):
        assert word in answer.out


def test_target_that_cannot_win_is_robust(run, plain):
    assert run("verify", plain, *BALL, "--eps", "0.1", "--targets", "3").code == 1
    assert run("verify", plain, *BALL, "--eps", "0.02", "--targets", "0,4").code == 0


def test_another_label_is_violated_at_once(run, plain):
    answer = run("verify", plain, *BALL, "--eps", "0", "--label", "1", "--json")
    assert answer.code == 1
    assert json.loads(answer.out)["decided_by"] == "replay"


def test_counterexample_file_is_vnncomps_and_restores_the_numbers(run, plain, tmp_path):
    path = tmp_path / "cex.txt"
    answer = run("verify", plain, *BALL, "--eps", "0.1", "--json", "--counterexample", path)
    assert f"counterexample written to {path}" in answer.err
    head, _, body = path.read_text().partition("\n")
    assert head == "sat"
    assert body.startswith("((X_0 ")
    assert body.endswith("))\n")
    pairs = dict(re.findall(r"\(([XY]_\d+) ([^ ()]+)\)", body))
    found = json.loads(answer.out)["counterexample"]
    assert [float(pairs[f"X_{i}"]) for i in range(64)] == found["input"]
    assert [float(np.float32(pairs[f"Y_{i}"])) for i in range(10)] == found["output"]
    assert len(pairs) == 74


def test_an_exact_witness_where_no_float32_input_lies_in_the_region(run, plain, digits, tmp_path):
    frozen = [f"{value:.3f}" if i % 3 else "0.1" for i, value in enumerate(digits[0][10].reshape(-1).tolist())]
    lines = [f"(declare-const X_{i} Real)" for i in range(64)] + [f"(declare-const Y_{i} Real)" for i in range(10)]
    lines += [f"(assert (>= X_{i} {v}))\n(assert (<= X_{i} {v}))" for i, v in enumerate(frozen)]
    above = " ".join(f"(and (>= Y_{i} Y_0))" for i in range(1, 10))
    (tmp_path / "frozen.vnnlib").write_text("\n".join([*lines, f"(assert (or {above}))"]))
    path = tmp_path / "ce.txt"
    answer = run("verify", plain, tmp_path / "frozen.vnnlib", "--counterexample", path)
    assert answer.code == 1, answer
    assert "  trust    exact: a violation over the reals, in exact arithmetic" in answer.out
    assert "replayed at the float32 input beside it" in answer.out
    values = dict(re.findall(r"X_(\d+) ([^)]+)\)", path.read_text()))
    assert [exact(values[str(i)]) for i in range(64)] == [exact(v) for v in frozen]


def test_no_counterexample_no_file(run, plain, tmp_path):
    path = tmp_path / "cex.txt"
    answer = run("verify", plain, *BALL, "--eps", "0.001", "--counterexample", path)
    assert answer.code == 0
    assert "is not written" in answer.err
    assert not path.exists()


def test_uint8_images_get_the_unit_domain(run, plain, tmp_path, digits):
    images = np.round(digits[0][:12] * 255).astype(np.uint8)
    np.savez(tmp_path / "bytes.npz", x=images, y=digits[1][:12])
    answer = run("verify", plain, "--data", tmp_path / "bytes.npz", "--index", "10", "--eps", "0.001", "--json")
    assert json.loads(answer.out)["query"]["region"]["domain"] == ["0", "1"]
    assert "domain [0, 1]" in answer.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_evidence_that_finds_no_room_is_no_success(run, plain):
    told = run("verify", plain, *BALL, "--eps", "0.1", "--counterexample", "/dev/full")
    assert told.code == 2
    assert "could not be written" in told.err
    assert told.out.startswith("counterexample")


def test_a_data_set_may_be_a_csv_file(run, plain, digits, tmp_path):
    images, labels = digits
    lines = [",".join(map(str, [label, *image.ravel()])) for image, label in zip(images[:4], labels, strict=False)]
    (tmp_path / "digits.csv").write_text("\n".join(lines))
    asked = ("--index", "3", "--eps", "0.02", "--domain", "0", "1", "--json")
    found = [
        json.loads(run("verify", plain, "--data", data, *asked).out)
        for data in (tmp_path / "digits.csv", EXAMPLES / "digits.npz")
    ]
    assert found[0]["verdict"] == found[1]["verdict"]
    assert found[0]["margin"] == found[1]["margin"]
    missing = run("verify", plain, "--data", plain, *asked)
    assert missing.code == 2
    assert "no .npz, .npy or IDX file" in missing.err


def test_float_images_have_no_domain_unless_told(run, plain):
    answer = run("verify", plain, "--data", EXAMPLES / "digits.npz", "--index", "10", "--eps", "0.001", "--json")
    assert "domain" not in json.loads(answer.out)["query"]["region"]
    assert answer.err == ""


def test_info(run, robust):
    answer = run("info", robust)
    assert answer.code == 0
    for fact in ("1×8×8", "176", "6,882", "affine (Conv)", "8×4×4"):
        assert fact in answer.out
    facts = json.loads(run("info", robust, "--json").out)
    assert facts["relus"] == 176
    assert facts["nodes"][1] == {"index": 1, "kind": "affine (Conv)", "shape": [8, 4, 4], "parents": [0]}


def endless(started: threading.Event, kept: Verdict):
    """A decision that ends only when it is cancelled, and then hands over what it has."""

    def verify(_network, _query, *, progress, cancel, **_options):
        progress(Progress("linear", 0.1, lower=-1.5, open=2))
        started.set()
        while not cancel():
            pass
        return kept

    return verify


def test_interrupt_keeps_the_bounds(run, monkeypatch, plain):
    kept = Verdict(Outcome.UNKNOWN, None, (-1.5, 0.25), 0.1, reason=Reason.CANCELLED)
    started = threading.Event()
    monkeypatch.setattr("solver.kinds.verify", endless(started, kept), raising=False)
    threading.Thread(target=lambda: started.wait() and os.kill(os.getpid(), signal.SIGINT), daemon=True).start()
    answer = run("verify", plain, *BALL, "--eps", "0.1", "--json")
    assert answer.code == 3
    assert json.loads(answer.out)["margin"] == [-1.5, 0.25]
    assert json.loads(answer.out)["reason"] == "cancelled"
    assert "press Ctrl-C again to abort" in answer.err


ABORTED_TWICE = """
import os, signal, threading, time
import netproof.foreground

def stubborn(progress, cancel):
    os.kill(os.getpid(), signal.SIGINT)
    while not cancel():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

netproof.foreground.run(stubborn, 60)
"""


def test_second_interrupt_aborts():
    command = [sys.executable, "-c", ABORTED_TWICE]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 130
    assert ended.stderr.endswith("aborted\n")


@pytest.mark.data
def test_wong_kolter_image_8_is_refuted(run, data_folder):
    answer = run(
        *("verify", data_folder / "mipverify" / "mnist_wk17a_linf0.1.onnx", "--index", "8", "--eps", "0.1", "--json"),
        *("--data", data_folder / "mnist" / "mnist_test.npz"),
    )
    assert answer.code == 1
    assert json.loads(answer.out)["trust"] == "replayed"


def test_a_question_is_saved_and_asked_again(run, plain, tmp_path):
    path = tmp_path / "query.json"
    options = ("--eps", "8/100", "--freeze", "0:32", "--save-query", path)
    assert run("verify", plain, *BALL, *options).code == 0
    assert json.loads(path.read_text())["epsilon"] == "8/100"
    again = run("verify", plain, path, "--threads", "1", "--json")
    assert json.loads(again.out)["query"]["region"]["frozen"] == list(range(32))
    other = run("verify", plain, path, "--top-k", "2", "--targets", "3,5", "--threads", "1", "--json")
    assert json.loads(other.out)["query"]["property"]["top_k"] == 2


@pytest.mark.parametrize("content", ["[]", "{", '{"epsilon": 1}', '{"input": [1], "epsilon": 1, "size": 3}'])
def test_a_query_file_that_cannot_be_used(run, plain, tmp_path, content):
    path = tmp_path / "query.json"
    path.write_text(content)
    answer = run("verify", plain, path)
    assert answer.code == 2
    assert "Traceback" not in answer.err
