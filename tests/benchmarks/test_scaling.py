"""The scaling measurements, on the digits example."""

from __future__ import annotations

import csv

import pytest

from benchmarks import scaling


@pytest.mark.parametrize("which", ["batch", "memory", "unstable"])
def test_a_measurement_leaves_points_and_a_plot(which, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NETPROOF_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(scaling, "RESULTS", tmp_path)
    assert scaling.main([which, "--seconds", "0.3", "--images", "2"]) == 0
    with (tmp_path / "scaling.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["measurement"] for row in rows} <= {which}
    assert all(float(row["x"]) >= 0 for row in rows)
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert "points:" in capsys.readouterr().out
