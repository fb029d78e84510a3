"""A verdict in words, for people; made from its JSON form, so that it reads the same from Python and from HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import click

import networks.exact

__all__ = ["report"]

TRUST = {
    "certified": "an independent checker accepted the proof",
    "solver": "netproof's prover says so; no certificate was checked",
    "replayed": "ONNX Runtime reproduces the violation in float32",
    "exact": "a violation over the reals, in exact arithmetic; the region holds no float32 input, but ONNX Runtime "
    "violates the property at the one beside it",
}
CLAIM = {
    "real": "no input of the region breaks the property, over the reals",
    "float32": "no input of the region breaks the property, over the reals and in float32 inference in any order of "
    "summation",
}
REASON = {
    "timeout": "the time limit came first",
    "memory": "memory ran out",
    "cancelled": "stopped on request",
    "numerics": "the numbers are beyond what the solver handles faithfully",
    "incomplete": "the chosen engine cannot decide further",
}
COLOUR = {"robust": "green", "counterexample": "red", "unknown": "yellow"}


def report(verdict: Mapping[str, Any], *, center: Sequence[float] | None = None) -> str:
    """``verdict`` (the JSON object of `solver.Verdict.to_json`) as a few lines of text with ANSI colours.

    Args:
        verdict: the JSON object.
        center: what the counterexample is compared with, if the query was about a ball; flat, in C order.
    """
    outcome = str(verdict["verdict"])
    lines = [click.style(outcome, fg=COLOUR.get(outcome), bold=True) + _decided(verdict)]
    if verdict.get("trust"):
        lines.append(f"  trust    {verdict['trust']}: {TRUST.get(verdict['trust'], '')}".rstrip(": "))
    if verdict.get("semantics"):
        lines.append(f"  claim    {verdict['semantics']}: {CLAIM.get(verdict['semantics'], '')}".rstrip(": "))
    if verdict.get("reason"):
        lines.append(f"  reason   {verdict['reason']}: {REASON.get(verdict['reason'], '')}".rstrip(": "))
    lines.append(f"  margin   {_margin(verdict['margin'], verdict.get('trust'))}")
    if verdict.get("counterexample"):
        lines += _counterexample(verdict["counterexample"], center)
    if verdict.get("open"):
        lines.append(f"  open     {_abridged(verdict['open'])}")
    if verdict.get("hint"):
        label = "try " if outcome == "unknown" else "note"
        lines.append(f"  {label}     {verdict['hint']}")
    lines += _stages(verdict.get("stages", []))
    return "\n".join(lines)


def _decided(verdict: Mapping[str, Any]) -> str:
    by = f", decided by {verdict['decided_by']}" if verdict.get("decided_by") else ""
    return f"  in {verdict['seconds']:.2f} s{by}"


def _margin(margin: Sequence[float | None], trust: str | None) -> str:
    lower, upper = margin
    proven = "nothing proven below" if lower is None else f"≥ {lower:.6g} proven"
    how = "in exact arithmetic" if trust == "exact" else "replayed"
    attained = "nothing replayed above" if upper is None else f"≤ {upper:.6g} {how}"
    return f"{proven}, {attained}"


def _counterexample(found: Mapping[str, Any], center: Sequence[float] | None) -> list[str]:
    output = found["output"]
    exact = found.get("exact_margin")
    arithmetic = "" if exact is None else f" in float32 (ONNX Runtime), {exact:.6g} exactly"
    lines = [f"  violates {found['clause']}, margin {found['margin']:.6g}{arithmetic}"]
    if len(output) > 1:
        best = max(range(len(output)), key=output.__getitem__)
        lines.append(f"  output   highest is {best} ({output[best]:.6g}): {_abridged([f'{v:.4g}' for v in output])}")
    else:
        lines.append(f"  output   {output[0]:.6g}")
    if found.get("exact_input"):
        between = sum(
            networks.exact.exact(a) != Fraction(b) for a, b in zip(found["exact_input"], found["input"], strict=True)
        )
        lines.append(
            f"  input    in the region, no float32 number in {between} of {len(found['input'])} entries; "
            "replayed at the float32 input beside it"
        )
    elif center is not None and len(center) == len(found["input"]):
        changes = [abs(a - b) for a, b in zip(found["input"], center, strict=True)]
        changed = sum(change > 0 for change in changes)
        lines.append(
            f"  input    in the region; {changed} of {len(changes)} entries changed, by at most {max(changes):.6g}"
        )
    elif len(found["input"]) <= 10:
        lines.append(f"  input    in the region: {', '.join(f'{v:.6g}' for v in found['input'])}")
    return lines


def _stages(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    if not stages:
        return []
    width = max(len(stage["name"]) for stage in stages)
    lines = ["", "  " + click.style(f"{'stage'.ljust(width)}  seconds", dim=True)]
    for stage in stages:
        detail = "  ".join(f"{k} {_value(v)}" for k, v in stage.items() if k not in {"name", "seconds"})
        lines.append(f"  {stage['name'].ljust(width)}  {stage['seconds']:7.3f}  {detail}".rstrip())
    return lines


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{k} {_value(v)}" for k, v in value.items()) + ")"
    if isinstance(value, list | tuple):
        return "[" + _abridged([_value(v) for v in value]) + "]"
    return str(value)


def _abridged(values: Sequence[object], most: int = 10) -> str:
    shown = ", ".join(str(value) for value in values[:most])
    return shown if len(values) <= most else f"{shown}, … ({len(values)} in all)"
