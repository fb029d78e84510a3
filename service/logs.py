"""Where the service's processes log: one line per record on stderr, as text for people or as JSON for machines.

Every line says which request, trace, job and attempt it is about, where it is about one (`service.context`). Nothing
that a user sends is logged but paths, and no setting that may hold a password.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from service.context import current

__all__ = ["start_logging"]


def start_logging(process: str, form: Literal["text", "json"] = "text", level: int = logging.INFO) -> None:
    """Log to stderr.

    Args:
        process: what this one is: ``web``, ``worker``, ….
        form: of the lines.
        level: of what is logged.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_situate)
    handler.setFormatter(_Json(process) if form == "json" else _Text(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def _situate(record: logging.LogRecord) -> bool:
    record.situation = current()
    return True


class _Text(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {process}[%(process)d] %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        # whatever a message quotes, it is one line
        record.message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        names = "".join(f" {name}={value}" for name, value in _situation(record).items())
        return super().formatMessage(record) + names


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": os.getpid(),
            "logger": record.name,
            "message": record.getMessage(),
            **_situation(record),
            **getattr(record, "members", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _situation(record: logging.LogRecord) -> dict[str, str]:
    found: dict[str, str] = getattr(record, "situation", {})
    return found
