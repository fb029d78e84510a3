"""A margin, a distance or a range in words: an interval, and what evidence each of its ends has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import Any

import click

__all__ = ["digits", "finds_range", "headline", "interval_lines"]


def headline(verdict: Mapping[str, Any]) -> str:
    """The number that was asked for, as far as it is known."""
    name = _name(verdict)
    lower, upper = _shown(verdict)
    if verdict["kind"] == "distance" and verdict["verdict"] == "robust":
        found = "no violation in the region"
    elif lower and upper:
        found = f"{name} {upper}" if lower == upper else f"{name} between {lower} and {upper}"
    elif lower:
        found = f"{name} above {lower}"
    else:
        found = f"{name} at most {upper}" if upper else f"{name} unknown"
    return click.style(found, bold=True)


def interval_lines(verdict: Mapping[str, Any]) -> list[str]:
    """What each end rests on."""
    lower, upper = _shown(verdict)
    if _flipped(verdict):
        return [f"  lower    {_attained(verdict, lower)}", f"  upper    {_proven(verdict, upper)}"]
    return [f"  lower    {_proven(verdict, lower)}", f"  upper    {_attained(verdict, upper)}"]


def _proven(verdict: Mapping[str, Any], end: str) -> str:
    if not end or (verdict["kind"] == "distance" and end == "0"):
        return "nothing proven"
    certificate = verdict.get("certificate")
    word = "proven: netproof's prover says so"
    if certificate and certificate.get("proves") is not None:
        value = digits(certificate["proves"] * _factor(verdict), up=_flipped(verdict))
        word = f"proven; the independent checker accepted the proof for {value}"
    if verdict["kind"] == "distance" and _norm(verdict) == "l0":
        return f"every violation changes at least {end} entries, {word}"
    if verdict["kind"] == "distance":
        return f"no violation within {end}, {word}"
    return f"{'≤' if _flipped(verdict) else '≥'} {end} {word}"


def _attained(verdict: Mapping[str, Any], end: str) -> str:
    if not end or verdict.get("witness") is None:
        return "no violation is known" if verdict["kind"] == "distance" else "nothing replayed"
    how = "in exact arithmetic" if verdict.get("trust") == "exact" else "replayed: ONNX Runtime's float32 output"
    if verdict["kind"] == "distance":
        return f"a violation at {end}, {how}"
    return f"{'≥' if _flipped(verdict) else '≤'} {end} {how} at the input below"


def _shown(verdict: Mapping[str, Any]) -> tuple[str, str]:
    """Both ends, rounded outwards; empty where there is none."""
    lower, upper = _ends(verdict)
    return "" if lower is None else digits(lower, up=False), "" if upper is None else digits(upper, up=True)


def finds_range(verdict: Mapping[str, Any]) -> bool:
    """Whether the end of an output's range was asked for, so that no property is kept or broken."""
    return bool(_range(verdict))


def _range(verdict: Mapping[str, Any]) -> Mapping[str, Any]:
    """The output range whose end was asked for, if one was."""
    prop = verdict.get("query", {}).get("property", {})
    return prop if verdict["kind"] == "margin" and prop.get("end") else {}


def _flipped(verdict: Mapping[str, Any]) -> bool:
    """Whether the number is minus the margin, so that its upper end is the proven one."""
    return bool(_range(verdict).get("end") == "greatest")


def _factor(verdict: Mapping[str, Any]) -> float:
    """What a margin is multiplied by to be the number that was asked for."""
    multiple = float(Fraction(_range(verdict).get("multiple", "1")))
    return (-1 if _flipped(verdict) else 1) / multiple


def _ends(verdict: Mapping[str, Any]) -> tuple[float | None, float | None]:
    lower, upper = verdict["distance"] if verdict["kind"] == "distance" else verdict["margin"]
    factor = _factor(verdict)
    lower, upper = (None if end is None else end * factor for end in (lower, upper))
    return (upper, lower) if factor < 0 else (lower, upper)


def _norm(verdict: Mapping[str, Any]) -> str | None:
    """Of a distance."""
    norm = verdict.get("query", {}).get("norm")
    return None if norm is None else str(norm)


def _name(verdict: Mapping[str, Any]) -> str:
    asked = _range(verdict)
    if asked:
        form = asked["coefficients"]
        what = f"output {next(iter(form))}" if list(form.values()) in ([1], ["1"]) else "the form"
        return f"{asked['end']} value of {what}"
    if verdict["kind"] == "distance":
        norm = _norm(verdict)
        return f"distance ({norm})" if norm else "distance"
    return "margin"


def digits(value: float, *, up: bool) -> str:
    """Seven digits, rounded outwards: what is claimed is true of the number that is shown."""
    if not math.isfinite(value):
        return f"{value}"
    context = Context(prec=7, rounding=ROUND_CEILING if up else ROUND_FLOOR)
    return f"{float(context.create_decimal(Decimal(value))):.7g}"
