"""Kinds of values that options of several commands take."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import click

__all__ = ["NEW_FILE", "SECONDS"]


class _Seconds(click.FloatRange):
    """A time that is more than 0; infinity says that there is no limit."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):  # which is out of no range
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


class _NewFile(click.Path):
    """A file to write, in a folder that exists: hours of search should not end with a name that cannot be written."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not path.parent.is_dir():
            self.fail(f"there is no folder {str(path.parent)!r} to write {path.name!r} to.", param, ctx)
        return path


SECONDS = _Seconds(min=0, min_open=True)
NEW_FILE = _NewFile(dir_okay=False, writable=True)
