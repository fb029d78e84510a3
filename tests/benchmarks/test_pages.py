"""The benchmark of pages measures what it says."""

from __future__ import annotations

import pytest

from benchmarks.pages import main


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_page_of_nine_hundred_items_is_there_soon(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--items", "900", "--visits", "2"]) == 0
    shown = capsys.readouterr().out
    assert "900 items decided" in shown
    assert "first paint" in shown
    assert "nan" not in shown
