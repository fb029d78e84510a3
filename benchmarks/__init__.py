"""Measured runs; each module prints a table and writes CSV to ``benchmarks/results``."""

from __future__ import annotations

__all__: list[str] = []
