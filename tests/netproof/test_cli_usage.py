"""What the command line says and returns when it is used wrongly, and what its help costs."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import numpy as np
import pytest

from netproof.cli import cli
from netproof.commands.deciding import BACKENDS, ENGINES, EXIT_CODES
from netproof.commands.question import KINDS, NORMS
from netproof.commands.worker import QUEUES
from networks import norms
from networks.errors import NetproofError, UnsupportedOperatorError
from service.queue import QUEUES as SERVED
from solver import Backend, Engine, Kind, Outcome
from solver.errors import LicenceLimitError
from tests.netproof.conftest import BALL, EXAMPLES


def test_help_lists_the_commands(run):
    answer = run("--help")
    assert answer.code == 0
    for command in ("verify", "check", "info", "serve", "worker"):
        assert f"\n  {command} " in answer.out


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_has_help_and_debug(run, command):
    answer = run(command, "--help")
    assert answer.code == 0
    assert "--debug" in answer.out


def test_help_is_quick():
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-m", "netproof", "--help"], check=True, capture_output=True)
        after = os.times()  # of the processor, as the machine may be busy
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 0.25


def test_choices_are_those_of_the_solver():
    assert [str(engine) for engine in Engine] == ENGINES
    assert [str(backend) for backend in Backend] == BACKENDS
    assert [str(kind) for kind in Kind] == KINDS
    assert list(norms.NORMS) == NORMS
    assert list(SERVED) == QUEUES
    assert {str(outcome) for outcome in Outcome} == set(EXIT_CODES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "missing: --data, --index, --eps"),
        (("--eps", "0.1"), "missing: --data, --index"),
        ((str(EXAMPLES / "digits.vnnlib"), "--eps", "0.1"), "--eps cannot be given with it"),
        ((*BALL, "--eps", "tiny"), "got 'tiny'"),
        ((*BALL, "--eps", "nan"), "got 'nan'"),
        ((*BALL, "--eps", "1/0"), "got '1/0'"),
        ((*BALL, "--eps", "1e999999999"), "expected a finite number"),
        ((*BALL, "--eps", "-0.1"), "epsilon must be at least 0, got -0.1"),
        ((*BALL, "--eps", "0.1", "--label", "10"), "label 10 does not exist"),
        ((*BALL, "--eps", "0.1", "--targets", "9"), "target 9 is the label itself"),
        ((*BALL, "--eps", "0.1", "--targets", "1;2"), "separated by commas"),
        ((*BALL, "--eps", "0.1", "--index", "450"), "index 450 does not exist"),
        ((*BALL, "--eps", "0.1", "--domain", "0.5", "1"), "outside the domain"),
        ((*BALL, "--eps", "0.1", "--norm", "l7"), "'l7' is not one of"),
        (("--box", "0", "1", "--eps", "0.1"), "a box (lower, upper) and a ball (epsilon) are two regions"),
        (("--box", "0", "1"), "a box has no class of its own"),
        (
            ("--box", "0", "no.npy", "--label", "1"),
            "or an .npy file with one number for each input entry, got 'no.npy'",
        ),
        (("--box", "0", __file__, "--label", "1"), "is no .npy file"),
        (("--box", "1", "0", "--label", "1"), "input 0 has lower bound 1 above its upper bound 0"),
        (("--box", "0", "1", "--label", "1", "--index", "3"), "--data and --index name an input together"),
        ((*BALL, "--eps", "0.1", "--freeze", "1:x"), "expected input entries such as 0,3,10:20 or an .npy file"),
        ((*BALL, "--eps", "0.1", "--freeze", "3,64"), "frozen names input entry 64"),
        ((*BALL, "--radii", "no.npy"), "expected an .npy file with one number for each input entry"),
        ((*BALL, "--eps", "0.1", "--constraints", __file__), "is no JSON file"),
        ((*BALL, "--eps", "0.1", "--top-k", "10"), "top_k must be between 1 and 9"),
        ((*BALL, "--eps", "0.1", "--top-k", "2", "--confidence", "1"), "top_k and confidence are two properties"),
        ((*BALL, "--eps", "0.1", "--output-range", "x", "0", "1"), "expected the number of an output and two bounds"),
        ((*BALL, "--eps", "0.1", "--output-range", "0", "-inf", "inf"), "a range needs a lower or an upper bound"),
        ((*BALL, "--eps", "0.1", "--output-range", "0", "0", "1", "--label", "3"), "are 2 properties"),
        ((*BALL, "--eps", "0.1", "--engine", "magic"), "'magic' is not one of"),
        ((*BALL, "--eps", "0.1", "--timeout", "0"), "not in the range"),
        ((*BALL, "--eps", "0.1", "--timeout", "nan"), "'nan' is not a number of seconds"),
        ((*BALL, "--eps", "0.1", "--certificate", "no/proof.zip"), "there is no folder 'no' to write 'proof.zip' to"),
    ],
)
def test_bad_queries_exit_2_and_say_why(run, plain, arguments, message):
    answer = run("verify", plain, *arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_missing_file_exits_2(run):
    answer = run("verify", "nowhere.onnx", EXAMPLES / "digits.vnnlib")
    assert answer.code == 2
    assert "nowhere.onnx" in answer.err


@pytest.mark.parametrize(
    "content", [b"", b"garbage" * 1000, b"\x08\x07" + bytes(500)], ids=["empty", "text", "protobuf"]
)
def test_file_that_is_no_network_exits_2(run, tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    for arguments in (("info", path), ("verify", path, EXAMPLES / "digits.vnnlib")):
        answer = run(*arguments)
        assert answer.code == 2
        assert "Traceback" not in answer.err
        assert answer.err.startswith("netproof: ")


def test_truncated_network_exits_2(run, tmp_path, robust):
    path = tmp_path / "short.onnx"
    path.write_bytes(robust.read_bytes()[:20_000])
    assert run("info", path).code == 2


def test_nan_in_the_data_exits_2(run, tmp_path, plain, digits):
    images = digits[0][:2].copy()
    images[1, 3, 4] = np.nan
    np.savez(tmp_path / "bad.npz", images=images, labels=digits[1][:2])
    answer = run("verify", plain, "--data", tmp_path / "bad.npz", "--index", "1", "--eps", "0.1")
    assert answer.code == 2
    assert "not finite" in answer.err


def test_data_of_another_shape_exits_2(run, tmp_path, plain):
    np.savez(tmp_path / "other.npz", images=np.zeros((3, 5), np.float32), labels=np.zeros(3, np.int64))
    answer = run("verify", plain, "--data", tmp_path / "other.npz", "--index", "1", "--eps", "0.1")
    assert answer.code == 2
    assert "the input has 5 entries, but the network takes 64 (1×8×8)" in answer.err


def failing(error: Exception):
    def load(_path: object) -> None:
        raise error

    return load


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            UnsupportedOperatorError("node 'a' (Sin, opset 17) is not supported"),
            2,
            "netproof: node 'a' (Sin, opset 17)",
        ),
        (
            LicenceLimitError("2,304 variables exceed the free licence's 2,000; use --backend highs"),
            2,
            "--backend highs",
        ),
        (RuntimeError("surprise"), 70, "fault of netproof, not a verdict: RuntimeError: surprise"),
        (NetproofError("contradiction"), 70, "contradiction"),
        (MemoryError(), 70, "out of memory"),
    ],
)
def test_errors_become_messages(run, monkeypatch, plain, error, code, said):
    monkeypatch.setattr("networks.load", failing(error))
    answer = run("info", plain)
    assert answer.code == code
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert "Traceback" in run("info", plain, "--debug").err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interrupt_outside_a_decision_exits_130(run, monkeypatch, plain, error):
    monkeypatch.setattr("networks.load", failing(error))
    answer = run("info", plain)
    assert answer.code == 130
    assert answer.err.strip() == "aborted"
