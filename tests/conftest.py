"""Fixtures for all packages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Tests import ONNX Runtime directly, too; see `networks.runtime`.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# The machines that run this are shared, so a slow example is no failure.
settings.register_profile("shared", deadline=None)
# The same commit gets the same judgement wherever `make check` runs; `make test` looks at new examples each time.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("shared")


NO_BROWSER = "no Chromium is installed: run `make browser`, or set NETPROOF_BROWSER to a browser's path"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say whether the dashboard was tried in a browser, as far as its tests were asked for."""
    passed = [each for each in terminalreporter.stats.get("passed", ()) if each.nodeid.startswith("tests/dashboard/")]
    skipped = [each for each in terminalreporter.stats.get("skipped", ()) if NO_BROWSER in str(each.longrepr)]
    if skipped:
        terminalreporter.line(f"dashboard: {len(skipped)} tests did not run in a browser; {NO_BROWSER}", red=True)
    elif passed:
        terminalreporter.line("dashboard: its tests ran in a browser")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with real networks and queries: ``NETPROOF_DATA``, or ``shared/data`` beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NETPROOF_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"the private data folder {folder} is absent; set NETPROOF_DATA to use another")
    return folder
