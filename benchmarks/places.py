"""Where the benchmarks find what they run on, and where they leave what they measured."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["RESULTS", "ROOT", "data_folder"]

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


def data_folder() -> Path:
    """The folder of real networks and queries: ``NETPROOF_DATA``, or ``shared/data`` beside the repository."""
    return Path(os.environ.get("NETPROOF_DATA", ROOT.parent / "shared" / "data"))
