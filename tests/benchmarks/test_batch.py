"""The benchmark of batches runs through and its claims hold: all of issue 6's first outcome in one command."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.batch import main


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(1200)
def test_wk17a_by_http_gives_the_audits_verdicts_in_at_most_1_3_times_its_seconds(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NETPROOF_DATA", str(data_folder))
    assert main(["--inputs", "250", "--workers", "2", "--most", "1.3", "--kill"]) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert "WK17a" in said
    assert "finished items untouched" in said


@pytest.mark.slow
def test_the_digits_agree_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NETPROOF_DATA", str(tmp_path))
    assert main(["--inputs", "12", "--workers", "1"]) == 0, capsys.readouterr().out
    assert "verdicts agree, export agree" in capsys.readouterr().out
