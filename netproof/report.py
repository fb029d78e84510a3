"""A verdict in words, for people; made from its JSON form, so that it reads the same from Python and from HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import click

import networks.exact
from netproof.report_intervals import finds_range, headline, interval_lines

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

# Lower bounds below this say that the margin is positive; as a length they would mislead.
_SIGN_ONLY = 1e-9
#: Of many stages, so many at each end are printed.
_SHOWN = 6


def report(verdict: Mapping[str, Any], *, center: Sequence[float] | None = None) -> str:
    """``verdict`` (the JSON object of `solver.Verdict.to_json`) as a few lines of text with ANSI colours.

    Args:
        verdict: the JSON object.
        center: what the counterexample is compared with, if the query was about a ball; flat, in C order.
    """
    outcome = str(verdict["verdict"])
    lines = [click.style(outcome, fg=COLOUR.get(outcome), bold=True) + _decided(verdict)]
    closing = verdict.get("kind", "decide") != "decide"
    if closing:
        lines = [headline(verdict) + _decided(verdict), *interval_lines(verdict)]
    ranging = closing and finds_range(verdict)
    if closing and not ranging:
        lines.append(f"  verdict  {click.style(outcome, fg=COLOUR.get(outcome))}")
    if verdict.get("trust") and not ranging:
        lines.append(f"  trust    {verdict['trust']}: {TRUST.get(verdict['trust'], '')}".rstrip(": "))
    if verdict.get("semantics") and not closing:
        lines.append(f"  claim    {verdict['semantics']}: {CLAIM.get(verdict['semantics'], '')}".rstrip(": "))
    if verdict.get("reason"):
        lines.append(f"  reason   {verdict['reason']}: {REASON.get(verdict['reason'], '')}".rstrip(": "))
    if not closing:
        lines.append(f"  margin   {_margin(verdict['margin'], verdict.get('trust'))}")
    found = verdict.get("counterexample") or verdict.get("witness")
    if found:
        lines += _counterexample(found, center)[ranging:]
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
    if lower is None:
        proven = "nothing proven below"
    else:
        # Searches that clip their cells prove the sign and no more.
        proven = "> 0 proven" if 0 < lower < _SIGN_ONLY else f"≥ {lower:.6g} proven"
    how = "in exact arithmetic" if trust == "exact" else "replayed"
    attained = "nothing replayed above" if upper is None else f"≤ {upper:.6g} {how}"
    return f"{proven}, {attained}"


def _counterexample(found: Mapping[str, Any], center: Sequence[float] | None) -> list[str]:
    output = found["output"]
    exact = found.get("exact_margin")
    arithmetic = "" if exact is None else f" in float32 (ONNX Runtime), {exact:.6g} exactly"
    about = "violates" if found["margin"] <= 0 else "nearest "
    lines = [f"  {about} {found['clause']}, margin {found['margin']:.6g}{arithmetic}"]
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
            "  input    the given one as it is, which the network decides otherwise: do label, scale and axes fit?"
            if not changed and found["margin"] <= 0
            else f"  input    in the region; {changed} of {len(changes)} entries changed, by at most {max(changes):.6g}"
        )
    elif len(found["input"]) <= 10:
        lines.append(f"  input    in the region: {', '.join(f'{v:.6g}' for v in found['input'])}")
    return lines


def _stages(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    if not stages:
        return []
    width = max(len(stage["name"]) for stage in stages)
    lines = ["", "  " + click.style(f"{'stage'.ljust(width)}  seconds", dim=True)]
    for stage in _few(stages):
        if stage is None:
            lines.append(click.style(f"  … {len(stages) - 2 * _SHOWN} more (--json has all)", dim=True))
            continue
        detail = "  ".join(f"{k} {_value(v)}" for k, v in stage.items() if k not in {"name", "seconds"})
        lines.append(f"  {stage['name'].ljust(width)}  {stage['seconds']:7.3f}  {detail}".rstrip())
    return lines


def _few(stages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any] | None]:
    """The first and the last ones, and None for those between, if they are many."""
    if len(stages) <= 2 * _SHOWN + 1:
        return list(stages)
    return [*stages[:_SHOWN], None, *stages[-_SHOWN:]]


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
