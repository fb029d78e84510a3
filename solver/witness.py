"""Counterexample files in VNN-COMP's format."""

from __future__ import annotations

from solver.verdict import Counterexample

__all__ = ["vnncomp_text"]


def vnncomp_text(counterexample: Counterexample) -> str:
    """``counterexample`` as VNN-COMP writes it: ``sat``, then one assignment for each input and output entry.

    Entries are numbered in C order. Each float32 value is written as the shortest decimal that denotes the same number
    in float64, so reading it as either type restores it exactly.
    """
    pairs = [(f"X_{i}", value) for i, value in enumerate(counterexample.input.reshape(-1))]
    pairs += [(f"Y_{i}", value) for i, value in enumerate(counterexample.output.reshape(-1))]
    body = "\n ".join(f"({name} {float(value)!r})" for name, value in pairs)
    return f"sat\n({body})\n"
