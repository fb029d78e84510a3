"""Verdicts in words."""

from __future__ import annotations

from fractions import Fraction

import click
import numpy as np
import pytest

from netproof.report import report
from solver import Counterexample, Kind, Outcome, Reason, Stage, Trust, Verdict


def text(verdict: Verdict, **options) -> str:
    return click.unstyle(report(verdict.to_json(), **options))


def test_robust_says_what_it_rests_on():
    verdict = Verdict(
        Outcome.ROBUST,
        Trust.SOLVER,
        (0.123456789, float("inf")),
        1.5,
        stages=(Stage("interval", 0.25, {"unstable": 7, "ratio": 0.123456}),),
        decided_by="interval",
    )
    lines = text(verdict).splitlines()
    assert lines[0] == "robust  in 1.50 s, decided by interval"
    assert lines[1] == "  trust    solver: netproof's prover says so; no certificate was checked"
    assert lines[2] == "  claim    real: no input of the region breaks the property, over the reals"
    assert lines[3] == "  margin   ≥ 0.123457 proven, nothing replayed above"
    assert lines[-1].split() == ["interval", "0.250", "unstable", "7", "ratio", "0.1235"]


def test_a_proven_sign_is_not_given_as_a_length():
    said = text(Verdict(Outcome.ROBUST, Trust.SOLVER, (2.0**-40, 0.5), 0.1, decided_by="bab"))
    assert "margin   > 0 proven, ≤ 0.5 replayed" in said


def test_counterexample_says_what_changed():
    center = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    moved = center.copy()
    moved[0, 1] += np.float32(0.25)
    moved[2, 2] -= np.float32(0.125)
    found = Counterexample(moved, np.array([1, 3, 2], np.float32), "class 1", -2.0, -1.999)
    verdict = Verdict(Outcome.COUNTEREXAMPLE, Trust.REPLAYED, (-float("inf"), -2.0), 0.1, counterexample=found)
    said = text(verdict, center=center.reshape(-1).astype(float).tolist())
    assert "violates class 1, margin -2 in float32 (ONNX Runtime), -1.999 exactly" in said
    assert "highest is 1 (3): 1, 3, 2" in said
    assert "in the region; 2 of 16 entries changed, by at most 0.25" in said
    assert "nothing proven below, ≤ -2 replayed" in said


def test_small_inputs_are_shown_and_one_output_has_no_class():
    found = Counterexample(np.array([0.5, -1], np.float32), np.array([4], np.float32), "clause 1", 0.0)
    said = text(Verdict(Outcome.COUNTEREXAMPLE, Trust.REPLAYED, (-1.0, 0.0), 0.1, counterexample=found))
    assert "output   4" in said
    assert "input    in the region: 0.5, -1" in said


def test_an_exact_witness_says_what_was_shown_where():
    found = Counterexample(
        np.array([0.1, -1], np.float32),
        np.array([0, 2], np.float32),
        "class 1",
        -2.0,
        exact_margin=-2.25,
        exact_input=(Fraction(1, 10), Fraction(-1)),
    )
    said = text(Verdict(Outcome.COUNTEREXAMPLE, found.trust, (-3.0, found.attained), 0.1, counterexample=found))
    assert "trust    exact: a violation over the reals, in exact arithmetic; the region holds no float32 input" in said
    assert "≥ -3 proven, ≤ -2.25 in exact arithmetic" in said
    assert "violates class 1, margin -2 in float32 (ONNX Runtime), -2.25 exactly" in said
    assert (
        "input    in the region, no float32 number in 1 of 2 entries; replayed at the float32 input beside it" in said
    )


def test_unknown_says_why_and_what_would_help():
    verdict = Verdict(
        Outcome.UNKNOWN,
        None,
        (-0.5, 0.25),
        9.0,
        reason=Reason.TIMEOUT,
        open=tuple(f"class {i}" for i in range(12)),
        hint="give it more time",
    )
    said = text(verdict)
    assert said.startswith("unknown  in 9.00 s\n")
    assert "reason   timeout: the time limit came first" in said
    assert "margin   ≥ -0.5 proven, ≤ 0.25 replayed" in said
    assert "class 9, … (12 in all)" in said
    assert "try      give it more time" in said
    assert "trust" not in said


def closed(kind: Kind, **fields) -> Verdict:
    found = Counterexample(np.array([0.5, -1], np.float32), np.array([1, 3], np.float32), "class 1", -2.0)
    return Verdict(Outcome.COUNTEREXAMPLE, Trust.REPLAYED, (-2.5, -2.0), 0.1, kind=kind, witness=found, **fields)


def test_a_margin_says_what_each_end_rests_on():
    said = text(closed(Kind.MARGIN)).splitlines()
    assert said[0] == "margin between -2.5 and -2  in 0.10 s"
    assert said[1] == "  lower    ≥ -2.5 proven: netproof's prover says so"
    assert said[2] == "  upper    ≤ -2 replayed: ONNX Runtime's float32 output at the input below"
    assert said[3] == "  verdict  counterexample"


def test_a_distance_that_is_closed_is_one_number():
    verdict = closed(Kind.DISTANCE, distance=(0.25, 0.25)).to_json()
    verdict["certificate"] = {"proves": 0.25}
    verdict["query"] = {"norm": "l2"}
    said = click.unstyle(report(verdict)).splitlines()
    assert said[0] == "distance (l2) 0.25  in 0.10 s"
    assert said[1] == "  lower    no violation within 0.25, proven; the independent checker accepted the proof for 0.25"
    assert said[2] == "  upper    a violation at 0.25, replayed: ONNX Runtime's float32 output"


def test_a_distance_that_counts_entries():
    verdict = closed(Kind.DISTANCE, distance=(2.0, 2.0)).to_json() | {"query": {"norm": "l0"}}
    said = click.unstyle(report(verdict)).splitlines()
    assert said[1] == "  lower    every violation changes at least 2 entries, proven: netproof's prover says so"


def test_a_distance_beyond_the_region():
    verdict = Verdict(Outcome.ROBUST, Trust.SOLVER, (0.1, 0.5), 0.1, kind=Kind.DISTANCE, distance=(0.5, np.inf))
    said = text(verdict).splitlines()
    assert said[0] == "no violation in the region  in 0.10 s"
    assert said[2] == "  upper    no violation is known"


@pytest.mark.parametrize(
    ("end", "first", "second"),
    [
        ("least", "lower    ≥ -1.25 proven", "upper    ≤ -1 replayed"),
        ("greatest", "lower    ≥ 1 replayed", "upper    ≤ 1.25 proven"),
    ],
)
def test_the_end_of_a_range_is_told_as_a_value(end, first, second):
    asked = {"kind": "output_range", "coefficients": {"4": "2"}, "end": end, "multiple": "2"}
    said = click.unstyle(report(closed(Kind.MARGIN).to_json() | {"query": {"property": asked}}))
    assert said.startswith(f"{end} value of the form between ")
    assert f"  {first}" in said
    assert f"  {second}" in said
    assert "verdict" not in said
    assert "violates" not in said


def test_many_stages_are_abridged():
    stages = tuple(Stage(f"stage{i}", 0.1) for i in range(40))
    said = text(Verdict(Outcome.UNKNOWN, None, (-1.0, 1.0), 0.1, stages=stages)).splitlines()
    assert [line for line in said if "…" in line] == ["  … 28 more (--json has all)"]
    assert said[-1].split() == ["stage39", "0.100"]


def test_the_given_input_is_said_to_be_misclassified_as_it_is():
    center = np.zeros(16, np.float32)
    found = Counterexample(center, np.array([1, 3, 2], np.float32), "class 1", -2.0, -1.999)
    verdict = Verdict(Outcome.COUNTEREXAMPLE, Trust.REPLAYED, (-float("inf"), -2.0), 0.1, counterexample=found)
    said = text(verdict, center=center.astype(float).tolist())
    assert "input    the given one as it is, which the network decides otherwise" in said
    assert "entries changed" not in said
