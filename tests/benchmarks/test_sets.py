"""Instances, judgements, results files and runs in child processes, on the example networks."""

from __future__ import annotations

import csv
import math
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from benchmarks import sets
from benchmarks.children import Limits, run_all
from benchmarks.instances import Instance, UnknownSetError, read_instances, select
from benchmarks.places import ROOT
from benchmarks.records import Answer, Judgement, Record, Summary, append, judge, read_records

ROW = {
    "set": "digits",
    "year": "2026",
    "onnx": "onnx/digits_robust.onnx",
    "vnnlib": "vnnlib/digits.vnnlib",
    "timeout": "60",
    "consensus": "unsat",
    "confidence": "agreed",
    "dissenters": "",
    "t_alpha_beta_crown": "6.5",
    "t_nnenum": "timeout",
    "t_verinet": "",
    "t_marabou": "0.5",
}


def instance(**changes):
    return Instance.of(ROW | changes)


def record(of, answer=Answer.ROBUST, **changes):
    judgement = judge(answer, of.truth, firm=of.firm)
    return Record(*of.key, of.truth, of.firm, of.limit, answer, judgement, **changes)


@pytest.fixture
def folder(tmp_path):
    """A data folder with the shipped networks: a query that is robust, and one that cannot be read."""
    for name in ("digits", "broken"):
        for part in ("onnx", "vnnlib"):
            (tmp_path / name / part).mkdir(parents=True)
        (tmp_path / name / "onnx/digits_robust.onnx").symlink_to(ROOT / "examples/digits_robust.onnx")
    (tmp_path / "digits/vnnlib/digits.vnnlib").symlink_to(ROOT / "examples/digits.vnnlib")
    (tmp_path / "broken/vnnlib/digits.vnnlib").write_text("(assert (<= X_0 1))")
    with (tmp_path / "ground_truth.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ROW)
        writer.writeheader()
        writer.writerows([ROW, ROW | {"set": "broken", "confidence": "single_tool"}])
    return tmp_path


def test_a_row_becomes_an_instance():
    found = instance()
    assert found.key == ("digits", "onnx/digits_robust.onnx", "vnnlib/digits.vnnlib")
    assert found.name == "digits_robust digits"
    assert (found.truth, found.firm) == ("robust", True)
    assert found.published == {"alpha_beta_crown": 6.5, "marabou": 0.5}
    for limits, seconds in ((Limits(), 60), (Limits(20), 20), (Limits(100), 60), (Limits(20, scale=0.25), 15)):
        assert limits.allowed(found) == seconds


@pytest.mark.parametrize(
    ("consensus", "confidence", "truth", "firm"),
    [
        ("sat", "cex_checked", "counterexample", True),
        ("sat", "majority", "counterexample", False),
        ("tie", "none", "", False),
        ("unknown", "agreed", "", False),
    ],
)
def test_what_is_known_and_how_firmly(consensus, confidence, truth, firm):
    found = instance(consensus=consensus, confidence=confidence)
    assert (found.truth, found.firm) == (truth, firm)


def test_seconds_of_a_tool_that_erred_do_not_count():
    assert instance(dissenters="cgdtest@2022=sat;marabou@2021=sat").published == {"alpha_beta_crown": 6.5}


def test_sets_are_selected_in_the_order_of_their_names(folder):
    known = read_instances(folder)
    assert [i.family for i in select(known, None)] == ["digits", "broken"]
    assert [i.family for i in select(known, ["broken", "digits", "broken"])] == ["broken", "digits"]
    assert [i.family for i in select(known, None, only_firm=True)] == ["digits"]
    assert select(known, None, containing="prop_7") == []
    with pytest.raises(UnknownSetError, match="there are broken, digits"):
        select(known, ["acasxu"])


@pytest.mark.parametrize(
    ("answer", "truth", "firm", "expected"),
    [
        (Answer.ROBUST, "robust", True, Judgement.SOLVED),
        (Answer.ROBUST, "", False, Judgement.SOLVED),
        (Answer.ROBUST, "counterexample", True, Judgement.WRONG),
        (Answer.COUNTEREXAMPLE, "robust", True, Judgement.WRONG),
        (Answer.COUNTEREXAMPLE, "robust", False, Judgement.DISPUTED),
        (Answer.COUNTEREXAMPLE, "counterexample", True, Judgement.SOLVED),
        (Answer.UNKNOWN, "robust", True, Judgement.UNKNOWN),
        (Answer.OVERTIME, "robust", True, Judgement.UNKNOWN),
        (Answer.REFUSED, "counterexample", True, Judgement.REFUSED),
        (Answer.CRASHED, "", False, Judgement.CRASHED),
    ],
)
def test_answers_are_judged(answer, truth, firm, expected):
    assert judge(answer, truth, firm=firm) is expected


def test_records_come_back_from_a_file(tmp_path):
    path = tmp_path / "results.csv"
    assert read_records(path) == []
    first = record(instance(), Answer.CRASHED, detail='Traceback:\n  "x", y\n')
    second = record(instance(), seconds=0.25, lower=0.5, upper=math.inf, decided_by="milp", stages="milp=0.250")
    other = record(instance(set="other"), Answer.UNKNOWN, reason="timeout")
    for each in (first, other, second):
        append(path, each)
    assert read_records(path) == [second, other], "the last record of an instance counts"


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not a file of results"):
        read_records(path)


def test_a_summary_counts_what_was_solved_and_when():
    pairs = [
        (instance(), record(instance(), seconds=1.0)),
        (instance(vnnlib="b"), record(instance(vnnlib="b"), seconds=3.0)),
        (instance(vnnlib="c"), record(instance(vnnlib="c"), Answer.UNKNOWN, seconds=60.0)),
        (instance(timeout="5"), record(instance(timeout="5"), Answer.COUNTEREXAMPLE, seconds=0.1)),
    ]
    found = Summary.of(pairs)
    assert found.instances == 4
    assert found.counts[Judgement.SOLVED] == 2
    assert found.counts[Judgement.UNKNOWN] == found.counts[Judgement.WRONG] == 1
    assert (found.own.mean, found.own.median, found.own.greatest) == (2.0, 2.0, 3.0)
    assert found.published["alpha_beta_crown"].solved == 3, "6.5 s are more than one of the runs had"
    assert found.published["marabou"].solved == 4
    assert found.published["nnenum"].solved == 0


def test_instances_run_in_children(folder):
    robust, broken = run_all(folder, read_instances(folder), Limits(seconds=30))
    assert (robust.answer, robust.judgement, robust.allowed) == (Answer.ROBUST, Judgement.SOLVED, 30)
    assert robust.seconds > 0
    assert robust.load_seconds > 0
    assert robust.megabytes > 10
    assert robust.lower > 0
    assert robust.decided_by in robust.stages
    assert (broken.answer, broken.reason) == (Answer.REFUSED, "VnnlibError")
    assert "declared" in broken.detail


def die(*_arguments):
    os.kill(os.getpid(), signal.SIGSEGV)


def stall(tell, *_arguments):
    tell({"load_seconds": 0.0})
    tell({"read_seconds": 0.0})
    time.sleep(60)


def fail(*_arguments):
    text = "an error that nobody foresaw"
    raise RuntimeError(text)


def starve(*_arguments):
    return bytearray(2**33)


@pytest.mark.parametrize(
    ("body", "answer", "detail"),
    [
        (die, Answer.CRASHED, "ended by SIGSEGV"),
        (stall, Answer.OVERTIME, "did not end in 0.2 s"),
        (fail, Answer.CRASHED, "an error that nobody foresaw"),
        (starve, Answer.UNKNOWN, "MemoryError"),
    ],
)
def test_a_run_that_ends_badly_ends_only_itself(folder, body, answer, detail):
    limits = Limits(seconds=0.1, grace=0.1, megabytes=512)
    records = list(run_all(folder, read_instances(folder), limits, jobs=2, decide=body))
    assert [r.answer for r in records] == [answer, answer]
    assert all(detail in r.detail for r in records)


def test_the_command_resumes_and_says_whether_all_is_right(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NETPROOF_DATA", str(folder))
    path = tmp_path / "results.csv"
    arguments = ["--all", "--limit-seconds", "30", "--resume", str(path)]
    assert sets.main(arguments) == 0
    assert [r.answer for r in read_records(path)] == [Answer.ROBUST, Answer.REFUSED]
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    before = path.read_bytes()
    capsys.readouterr()
    assert sets.main(["digits", "--resume", str(path)]) == 0
    assert path.read_bytes() == before
    assert "1 instances, 1 of them done" in capsys.readouterr().out
    with path.with_suffix(".summary.csv").open() as file:
        solved = {row["tool"]: row["solved"] for row in csv.DictReader(file) if row["set"] == "digits"}
    assert solved == {"netproof": "1", "alpha_beta_crown": "1", "marabou": "1"}
    append(path, record(instance(), Answer.COUNTEREXAMPLE))
    assert sets.main(["digits", "--resume", str(path)]) == 1
    assert "digits wrong: digits_robust digits: counterexample, known: robust" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "seconds", "allowed", "stands"),
    [
        (Answer.ROBUST, 3, 5, True),
        (Answer.ROBUST, 3, 2, False),
        (Answer.UNKNOWN, 60, 60, True),
        (Answer.UNKNOWN, 60, 5, True),
        (Answer.OVERTIME, 60, 61, False),
        (Answer.CRASHED, 1, 61, False),
    ],
)
def test_a_record_stands_until_more_time_could_change_it(answer, seconds, allowed, stands):
    assert record(instance(), answer, seconds=seconds).stands(allowed) is stands


@pytest.fixture
def peer(tmp_path):
    """Stands in for a Python with Marabou: says that everything is unsat."""
    path = tmp_path / "python"
    path.write_text(
        f"#!{sys.executable}\n"
        "import sys\n"
        "if '--summary-file' in sys.argv:\n"
        "    open(sys.argv[sys.argv.index('--summary-file') + 1], 'w').write('unsat 6 56 165')\n"
    )
    path.chmod(0o755)
    return str(path)


def test_a_peer_runs_on_the_same_instances(folder, tmp_path, monkeypatch, capsys, peer):
    monkeypatch.setenv("NETPROOF_DATA", str(folder))
    path = tmp_path / "results.csv"
    arguments = ["digits", "--limit-seconds", "30", "--peer", "marabou", "--peer-python", peer]
    assert sets.main([*arguments, "--resume", str(path)]) == 0
    (theirs,) = read_records(path.with_suffix(".marabou.csv"))
    assert (theirs.answer, theirs.judgement) == (Answer.ROBUST, Judgement.SOLVED)
    out = capsys.readouterr().out
    assert "marabou: 1 instances run, 0 answers contradict" in out
    assert "marabou here" in out


def test_a_peer_that_is_not_installed_is_named(folder, monkeypatch, capsys, peer):
    monkeypatch.setenv("NETPROOF_DATA", str(folder))
    Path(peer).write_text("#!/bin/sh\nexit 1\n")
    for python, words in ((peer, "needs the package maraboupy"), ("/nowhere/python", "does not start")):
        assert sets.main(["digits", "--peer", "marabou", "--peer-python", python]) == 2
        assert words in capsys.readouterr().err


def test_the_command_says_what_is_missing(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NETPROOF_DATA", str(folder))
    assert sets.main(["acasxu"]) == 2
    assert "there are broken, digits" in capsys.readouterr().err
    monkeypatch.setenv("NETPROOF_DATA", str(tmp_path / "nowhere"))
    assert sets.main(["acasxu"]) == 2
    assert "NETPROOF_DATA" in capsys.readouterr().err
