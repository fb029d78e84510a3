"""The benchmark of certificates, on an example network."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks import certificates
from benchmarks.places import ROOT
from tests.benchmarks.test_sets import ROW


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with one query that is robust, and one that is known to have a counterexample."""
    for part, file in (("onnx", "digits_robust.onnx"), ("vnnlib", "digits.vnnlib")):
        (tmp_path / "digits" / part).mkdir(parents=True)
        (tmp_path / "digits" / part / file).symlink_to(ROOT / "examples" / file)
    with (tmp_path / "ground_truth.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ROW)
        writer.writeheader()
        writer.writerows([ROW, ROW | {"vnnlib": "vnnlib/other.vnnlib", "consensus": "sat"}])
    monkeypatch.setenv("NETPROOF_DATA", str(tmp_path))
    return tmp_path


def test_it_says_what_certificates_cost(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "results.csv"
    assert certificates.main(["digits", "--limit-seconds", "60", "--resume", str(path)]) == 0
    said = capsys.readouterr().out
    assert "digits digits_robust digits: robust certified" in said
    with path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert int(row["leaves"]) >= 9
    assert int(row["bytes"]) > 500
    assert float(row["check_cpu"]) >= 0
    assert float(row["prove"]) > 0
    before = path.read_text()
    assert certificates.main(["digits", "--resume", str(path)]) == 0
    assert path.read_text() == before, "what the file has is not run again"


def test_a_robust_verdict_without_certificate_is_a_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("solver.checking.Checker.check", lambda *_, **__: "no answer")
    assert certificates.main(["digits", "--limit-seconds", "60", "--resume", str(folder / "results.csv")]) == 1
    assert "no certificate: no answer" in capsys.readouterr().out
