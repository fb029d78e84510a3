"""The performance page is written from what is kept, and takes over the results of another run."""

from __future__ import annotations

import csv

import pytest

from benchmarks import performance
from benchmarks.instances import Instance
from benchmarks.records import Answer, Judgement, Record, append

ROW = {
    "set": "digits",
    "year": "2026",
    "onnx": "onnx/net.onnx",
    "vnnlib": "vnnlib/spec.vnnlib",
    "timeout": "60",
    "consensus": "unsat",
    "confidence": "agreed",
    "dissenters": "",
    "t_alpha_beta_crown": "6.5",
    "t_nnenum": "0.25",
}
TABLES = "sets", "within", "stages", "slower", "open"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A page with marks, and a run of two instances: one solved in half a second, one open."""
    monkeypatch.setenv("NETPROOF_DATA", str(tmp_path))
    monkeypatch.setattr(performance, "KEPT", tmp_path / "sets.csv")
    monkeypatch.setattr(performance, "POINTS", tmp_path / "unstable.csv")
    monkeypatch.setattr(performance, "PICTURES", tmp_path)
    monkeypatch.setattr(performance, "PAGE", tmp_path / "page.md")
    marks = [f"<!-- table: {name} -->\nold\n<!-- end -->\n" for name in TABLES]
    (tmp_path / "page.md").write_text("# Before\n" + "between\n".join(marks) + "after\n")
    rows = [ROW, ROW | {"vnnlib": "vnnlib/hard.vnnlib"}]
    with (tmp_path / "ground_truth.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ROW)
        writer.writeheader()
        writer.writerows(rows)
    ends = [
        (Answer.ROBUST, Judgement.SOLVED, 0.5, "bab", ""),
        (Answer.UNKNOWN, Judgement.UNKNOWN, 60.0, "", "timeout"),
    ]
    for row, (answer, judgement, seconds, stage, reason) in zip(rows, ends, strict=True):
        key = Instance.of(row).key
        record = Record(*key, "robust", True, 60.0, answer, judgement, seconds, decided_by=stage, reason=reason)
        append(tmp_path / "run.csv", record)
    points = 'measurement,series,x,y,note\nbatch,a,1,2,\nunstable,a,40,0.5,ε = 0.1\nunstable,a,400,5,"ε = 0.3, open"\n'
    (tmp_path / "scaling.csv").write_text(points)
    return tmp_path


def test_a_run_is_kept_drawn_and_written(run):
    assert performance.main(["--sets", str(run / "run.csv"), "--scaling", str(run / "scaling.csv")]) == 0
    page = (run / "page.md").read_text()
    assert "old" not in page
    assert page.count("between\n") == len(TABLES) - 1
    assert page.startswith("# Before\n")
    assert page.endswith("after\n")
    for line in (
        "| digits | 2 | 1 | 0.50 | 0.50 | 0.50 | 2; 6.5 | 2; 0.2 | – | – |",
        "| netproof, deciding | 0 | 1 | 1 | 1 | 1 |",
        "| input splits or ReLU splits | `bab` | 1 | 0.50 | 0.50 |",
        "| digits | 1 | 1 |  | 1 |  |  |",
        "| digits | net hard | timeout after 60 s | α,β-CROWN, nnenum |",
    ):
        assert line in page
    assert (run / "unstable.csv").read_text().count("\n") == 3
    drawn = {name: (run / name).read_bytes() for name in ("cactus.svg", "unstable.svg")}
    assert all(b"</svg>" in picture for picture in drawn.values())
    assert performance.main([]) == 0
    assert {name: (run / name).read_bytes() for name in drawn} == drawn
    assert (run / "page.md").read_text() == page
