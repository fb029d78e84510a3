"""MIP solvers behind one Protocol; importing this package loads none of them."""

from __future__ import annotations

from solver.backends.base import Availability, MilpBackend, MilpOutcome, MilpStatus, SizeLimit
from solver.backends.registry import BACKENDS, choose

__all__ = [
    "BACKENDS",
    "Availability",
    "MilpBackend",
    "MilpOutcome",
    "MilpStatus",
    "SizeLimit",
    "choose",
]
