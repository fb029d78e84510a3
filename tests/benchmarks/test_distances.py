from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.distances import Line, known_distances, main


@pytest.fixture(autouse=True)
def _folder(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETPROOF_DATA", str(data_folder))


def test_known_answers_are_read() -> None:
    known = known_distances()
    assert len(known) == 250
    assert known[8] == 0.0940059
    assert known[0] == math.inf
    assert known[247] == 0


def test_agreement_needs_both_ends_and_a_certificate() -> None:
    good = Line(8, 0.094, 0.093999, 0.094001, 0.093999, "replayed", 1.0, 1.0, "")
    assert good.agrees
    assert not replace(good, upper=0.09402).agrees
    assert not replace(good, certified=0.0935).agrees
    assert not replace(good, certified=math.nan).agrees
    robust = Line(0, math.inf, 0.1, math.inf, 0.1, "certified", 1.0, 1.0, "")
    assert robust.agrees
    assert not replace(robust, trust="solver").agrees


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_minimum_distortions_are_those_of_mipverify() -> None:
    assert main([]) == 0
