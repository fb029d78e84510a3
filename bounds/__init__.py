"""Everything that encloses pre-activations and outputs over an input region: interval, backward linear, LP and MIP.

NumPy float64 at the interface, torch inside. Bounds are rigorous: every rounding error is charged (`bounds.backward`),
except where a docstring says that it rests on a MIP solver (`bounds.mip`).

Names are resolved at their first use: the worker processes of `bounds.pool` import modules of this package and do
without torch, whose import takes two seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bounds.enclosure import Enclosure
    from bounds.encoding import Encoding, encode, encode_rows
    from bounds.single import backward_bounds, interval_bounds, lower_bounds

__all__ = [
    "Enclosure",
    "Encoding",
    "backward_bounds",
    "encode",
    "encode_rows",
    "interval_bounds",
    "lower_bounds",
]

_HOMES = {
    "Enclosure": "bounds.enclosure",
    "Encoding": "bounds.encoding",
    "backward_bounds": "bounds.single",
    "encode": "bounds.encoding",
    "encode_rows": "bounds.encoding",
    "interval_bounds": "bounds.single",
    "lower_bounds": "bounds.single",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_HOMES[name]), name)
