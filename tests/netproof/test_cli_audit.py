"""``netproof audit`` and `netproof.audit` on the example networks."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import netproof
from netproof.audit_bar import outlook
from solver.audit import Outlook
from tests.netproof.conftest import EXAMPLES

ROOT = EXAMPLES.parent
DIGITS = ("--data", str(EXAMPLES / "digits.npz"), "--domain", "0", "1")


def records(path):
    """The head and the records of a file."""
    head, *lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return head, lines


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Sixteen inputs of the plain network, audited once for several tests."""
    path = tmp_path_factory.mktemp("audit") / "records.jsonl"
    command = [sys.executable, "-m", "netproof", "audit", str(EXAMPLES / "digits_plain.onnx"), *DIGITS]
    options = ["--eps", "0.03", "--first", "16", "--out", str(path), "--workers", "2", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    return done, path


def test_piped_run_writes_records_and_one_object(finished):
    done, path = finished
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    head, found = records(path)
    assert head["audit"]["network"]["sha256"] == summary["network"]["sha256"]
    assert sorted(r["index"] for r in found) == list(range(16))
    assert summary["done"] == summary["robust"] + summary["counterexample"] == 16
    assert summary["adversarial_error"] == [summary["counterexample"] / 16] * 2
    assert summary["seconds"]["sum"] == pytest.approx(sum(r["seconds"] for r in found), abs=1e-4)


def test_agrees_with_verify_one_by_one(finished, digits):
    images, labels = digits
    _, found = records(finished[1])
    network = netproof.load(EXAMPLES / "digits_plain.onnx")
    for record in found:
        i = record["index"]
        alone = netproof.verify(
            network, input=images[i], label=int(labels[i]), epsilon="0.03", domain=(0, 1), threads=1
        )
        assert (record["verdict"], record["trust"]) == (str(alone.outcome), str(alone.trust))
        assert record["label"] == labels[i]
        assert record["verdict"] != "robust" or record["margin"][0] > 0
        if record["counterexample"] is not None:
            point = np.array(record["counterexample"]["input"])
            assert np.abs(point - images[i].reshape(-1)).max() <= 0.03
            assert np.argmax(record["counterexample"]["output"]) != labels[i]
    assert {r["verdict"] for r in found} == {"robust", "counterexample"}


def test_finished_file_is_not_decided_again(finished, run, plain):
    _, path = finished
    before = path.read_text()
    answer = run("audit", plain, *DIGITS, "--eps", "0.03", "--indices", "0:16", "--out", path, "--resume")
    assert answer.code == 0
    assert answer.err == ""
    assert answer.out.startswith("16 inputs: ")
    for word in ("adversarial error", "robust accuracy", "seconds per input", "slowest", str(path)):
        assert word in answer.out
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--eps", "0.04", "--resume"), "epsilon 0.03 there, 0.04 here"),
        (("--eps", "0.03"), "has records already"),
    ],
)
def test_file_of_another_query_is_refused(finished, run, plain, options, says):
    _, path = finished
    before = path.read_text()
    answer = run("audit", plain, *DIGITS, "--first", "16", "--out", path, *options)
    assert (answer.code, answer.out) == (2, "")
    assert says in answer.err
    assert path.read_text() == before


def test_killed_run_is_resumed_without_repeating(tmp_path, plain, run):
    path = tmp_path / "records.jsonl"
    arguments = ["audit", str(plain), *DIGITS, "--eps", "0.001", "--first", "150", "--out", str(path), "--resume"]
    process = subprocess.Popen([sys.executable, "-m", "netproof", *arguments, "--workers", "1"], cwd=ROOT)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and (not path.exists() or path.read_text().count("\n") < 6):
            time.sleep(0.002)
        children = psutil.Process(process.pid).children()
    finally:
        process.kill()
        process.wait()
    psutil.wait_procs(children, timeout=10)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    before = path.read_text()
    whole = before[: before.rfind("\n") + 1]
    assert 6 <= whole.count("\n") < 151, "the run should have been killed in its midst"
    answer = run(*arguments, "--json")
    assert answer.code == 0
    assert path.read_text().startswith(whole)
    _, found = records(path)
    assert sorted(r["index"] for r in found) == list(range(150))
    assert json.loads(answer.out)["done"] == 150


def test_unknown_inputs_end_with_3_and_are_tried_again_with_a_stronger_engine(tmp_path, robust, run):
    path = tmp_path / "records.jsonl"
    common = ("audit", robust, *DIGITS, "--eps", "0.1", "--indices", "10:11", "--out", path, "--resume")
    answer = run(*common, "--engine", "bounds")
    assert answer.code == 3
    assert "between " in answer.out
    _, found = records(path)
    assert {r["reason"] for r in found if r["verdict"] == "unknown"} == {"incomplete"}
    answer = run(*common, "--json")
    assert answer.code == 0
    _, found = records(path)
    assert sorted(r["index"] for r in found) == [10]
    assert json.loads(answer.out)["unknown"] == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--first", "3", "--indices", "0:3"), "give one of them"),
        (("--resume",), "--out, which is missing"),
        (("--indices", "3-5"), "expected A:B"),
        (("--indices", "5:5"), "no input to audit"),
        (("--first", "5000"), "which has "),
        (("--domain", "0", "0.5"), "outside the domain"),
        (("--eps", "-1"), "epsilon must be"),
        (("--eps", "much"), "expected a finite number"),
    ],
)
def test_bad_input_ends_with_2_and_writes_nothing(run, plain, tmp_path, options, says):
    out = () if "--resume" in options else ("--out", tmp_path / "records.jsonl")
    answer = run("audit", plain, *DIGITS, "--eps", "0.1", *out, *options)
    assert answer.code == 2
    assert says in answer.err
    assert not list(tmp_path.iterdir())


def test_data_that_do_not_fit_are_refused(run, plain, tmp_path):
    np.savez(tmp_path / "wide.npz", images=np.zeros((2, 9, 9), np.float32), labels=np.zeros(2, int))
    answer = run("audit", plain, "--data", tmp_path / "wide.npz", "--eps", "0.1")
    assert answer.code == 2
    assert "81 entries" in answer.err


def test_interrupt_keeps_the_records(tmp_path, plain):
    path = tmp_path / "records.jsonl"
    arguments = ["audit", str(plain), *DIGITS, "--eps", "0.001", "--first", "150", "--out", str(path), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "netproof", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    end = time.monotonic() + 60
    while time.monotonic() < end and (not path.exists() or path.read_text().count("\n") < 4):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert b"cancelling, with the records so far" in err
    assert b" left" in out
    _, found = records(path)
    assert 3 <= len(found) < 150


def test_terminal_shows_counts(plain):
    parent, child = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"}
    command = [sys.executable, "-m", "netproof", "audit", str(plain), *DIGITS, "--eps", "0.001", "--first", "150"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=child, env=environment, cwd=ROOT)
    os.close(child)
    seen = b""
    try:
        while chunk := os.read(parent, 65536):
            seen += chunk
    except OSError:  # how a pseudo-terminal's end reads on Linux
        pass
    os.close(parent)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"/150" in seen
    assert b"robust " in seen
    assert b" left" in seen
    assert out.startswith(b"150 inputs: ")


def test_what_is_left_reads_well():
    look = Outlook(processes=1, limit=60.0, sweeping=100)
    assert outlook(look) == "sweep 0, 0 open"
    look.swept, look.sweep_seconds = 100, 10.0
    assert outlook(look) == "sweep 100, 0 open  about 10 s left"
    look.sweeping, look.searching = 0, 200
    assert outlook(look) == "200 open  at most 3 h 20 min left"


def test_from_python(tmp_path):
    looks = []
    result = netproof.audit(
        EXAMPLES / "digits_plain.onnx",
        EXAMPLES / "digits.npz",
        "0.001",
        domain=(0, 1),
        indices=[5, 3],
        workers=1,
        progress=looks.append,
    )
    assert [r["index"] for r in result.records] == [3, 5]
    assert result.complete
    assert not result.cancelled
    assert result.summary["seconds"]["wall"] == round(result.wall, 3)
    assert looks[-1].tally.done == 2
    with pytest.raises(netproof.InputError, match="twice"):
        netproof.audit(EXAMPLES / "digits_plain.onnx", EXAMPLES / "digits.npz", "0.1", indices=[1, 1])
    with pytest.raises(netproof.InputError, match="resume"):
        netproof.audit(EXAMPLES / "digits_plain.onnx", EXAMPLES / "digits.npz", "0.1", resume=True)


@pytest.mark.data
def test_wong_kolter_images_agree_with_the_published_truth(data_folder, tmp_path, run):
    path = tmp_path / "records.jsonl"
    answer = run(
        *("audit", data_folder / "mipverify" / "mnist_wk17a_linf0.1.onnx", "--eps", "0.1", "--indices", "0:10"),
        *("--data", data_folder / "mnist" / "mnist_test.npz", "--out", path),
    )
    assert answer.code == 0
    assert "domain [0, 1]" in answer.err
    _, found = records(path)
    assert {r["index"] for r in found if r["verdict"] != "robust"} == {8}


def test_certificates_are_written_and_reported(run, tmp_path):
    folder = tmp_path / "proofs"
    network = EXAMPLES / "digits_robust.onnx"
    answer = run("audit", network, *DIGITS, "--eps", "0.02", "--first", "4", "--workers", "1", "--certificates", folder)
    assert answer.code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["0.zip", "1.zip", "2.zip", "3.zip"]
    assert "certified          4 of 4 robust, 4 of them for float32 too; median " in answer.out
    assert f"certificates       {folder}" in answer.out
    for path in folder.iterdir():
        assert run("check", path, network, "--float32").code == 0
    again = run("audit", network, *DIGITS, "--eps", "0.03", "--first", "4", "--certificates", folder)
    assert again.code == 2
    assert "holds certificates already, such as 0.zip" in again.err
    assert "name another folder" in again.err


def test_what_looks_like_a_mistake_is_noted(run, digits, tmp_path):
    network = EXAMPLES / "digits_plain.onnx"
    images, labels = digits
    np.savez(tmp_path / "shifted.npz", images=images, labels=(labels + 1) % 10)
    how = ("--domain", "0", "1", "--first", "3", "--workers", "1")
    shifted = run("audit", network, "--data", tmp_path / "shifted.npz", "--epsilon", "0.01", *how)
    assert "most inputs are misclassified as they are" in shifted.out
    assert "epsilon" not in shifted.out
    wide = run("audit", network, "--data", EXAMPLES / "digits.npz", "--eps", "8", *how)
    assert "epsilon 8 is as wide as the domain [0, 1]" in wide.out
    assert "misclassified" not in wide.out
