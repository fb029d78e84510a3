"""Where the service's processes log: one line per record, on stderr."""

from __future__ import annotations

import logging
import os
import sys

__all__ = ["start_logging"]


def start_logging(process: str, level: int = logging.INFO) -> None:
    """Log to stderr, each line with time, process and level."""
    handler = logging.StreamHandler(sys.stderr)
    pattern = f"%(asctime)s %(levelname)-7s {process}[{os.getpid()}] %(name)s: %(message)s"
    handler.setFormatter(logging.Formatter(pattern))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
