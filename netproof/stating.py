"""What Python programs may give as members of a question, made plain for `solver.pose` and for the service."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from networks import Constraint
from networks.errors import VnnlibError
from networks.exact import written

__all__ = ["as_json", "specification"]


def specification(vnnlib: str | Path | None) -> str | Path | None:
    """A VNNLIB file's path, or its text: what has a parenthesis is a text, as every specification has some."""
    return Path(vnnlib) if isinstance(vnnlib, str) and "(" not in vnnlib else vnnlib


def as_json(members: Mapping[str, Any]) -> dict[str, Any]:
    """The members that are given, as JSON has them; numbers keep their exact value.

    Raises:
        VnnlibError: a specification's file cannot be read.
    """
    given = {name: value for name, value in members.items() if value is not None}
    if (vnnlib := specification(given.get("vnnlib"))) is not None:
        given["vnnlib"] = _text(vnnlib) if isinstance(vnnlib, Path) else vnnlib
    return {name: _plain(value) for name, value in given.items()}


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except (OSError, EOFError, ValueError) as error:
        msg = f"{path} cannot be read as a VNNLIB file: {error}"
        raise VnnlibError(msg) from error


def _plain(value: Any) -> Any:
    match value:
        case np.ndarray() | np.generic():
            return _plain(value.tolist())
        case Fraction():
            return written(value)
        case Decimal():
            return str(value)
        case Constraint():
            return value.statement
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple() | range():
            return [_plain(each) for each in value]
        case _:
            return value
