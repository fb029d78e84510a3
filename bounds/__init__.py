"""Everything that encloses pre-activations and outputs over an input region: interval, backward linear, LP and MIP.

NumPy float64 at the interface, torch inside. Bounds are rigorous: every rounding error is charged (`bounds.linear`),
except where a docstring says that it rests on a MIP solver (`bounds.mip`).
"""

from __future__ import annotations

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
