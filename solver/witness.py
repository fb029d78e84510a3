"""Counterexample files in VNN-COMP's format."""

from __future__ import annotations

from networks.exact import written
from solver.verdict import Counterexample

__all__ = ["vnncomp_text"]


def vnncomp_text(counterexample: Counterexample) -> str:
    """``counterexample`` as VNN-COMP writes it: ``sat``, then one assignment for each input and output entry.

    Entries are numbered in C order. Each float32 value is written as the shortest decimal that denotes the same number
    in float64, so reading it as either type restores it exactly. An exact witness is written with all its digits, so
    that the decimals themselves lie in the region; the output is that of the float32 input beside it.
    """
    if counterexample.exact_input is None:
        point = [repr(float(value)) for value in counterexample.input.reshape(-1)]
    else:
        point = [written(value) for value in counterexample.exact_input]
    pairs = [(f"X_{i}", value) for i, value in enumerate(point)]
    pairs += [(f"Y_{i}", repr(float(value))) for i, value in enumerate(counterexample.output.reshape(-1))]
    body = "\n ".join(f"({name} {value})" for name, value in pairs)
    return f"sat\n({body})\n"
