"""A margin, a distance or a range in words: an interval, and what evidence each of its ends has."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import click

__all__ = ["finds_range", "headline", "interval_lines"]


def headline(verdict: Mapping[str, Any]) -> str:
    """The number that was asked for, as far as it is known."""
    name = _name(verdict)
    lower, upper = _ends(verdict)
    if lower is not None and upper is not None and _digits(lower) == _digits(upper):
        found = f"{name} {_digits(upper)}"
    elif lower is not None and upper is not None:
        found = f"{name} between {_digits(lower)} and {_digits(upper)}"
    elif lower is not None:
        found = f"{name} above {_digits(lower)}"
    elif upper is not None:
        found = f"{name} at most {_digits(upper)}"
    else:
        found = f"{name} unknown"
    if verdict["kind"] == "distance" and verdict["verdict"] == "robust":
        found = "no violation in the region"
    return click.style(found, bold=True)


def interval_lines(verdict: Mapping[str, Any]) -> list[str]:
    """What each end rests on."""
    lower, upper = _ends(verdict)
    sides = [("lower", lower, _proven(verdict, lower)), ("upper", upper, _attained(verdict, upper))]
    if _flipped(verdict):
        sides = [("lower", lower, _attained(verdict, lower)), ("upper", upper, _proven(verdict, upper))]
    return [f"  {label}    {text}" for label, _, text in sides]


def _proven(verdict: Mapping[str, Any], end: float | None) -> str:
    if end is None or (verdict["kind"] == "distance" and end == 0):
        return "nothing proven"
    certificate = verdict.get("certificate")
    word = "proven: netproof's prover says so"
    if certificate and certificate.get("proves") is not None:
        word = f"proven; the independent checker accepted the proof for {_value(verdict, certificate['proves'])}"
    if verdict["kind"] == "distance":
        return f"no violation within {_digits(end)}, {word}"
    return f"{'≤' if _flipped(verdict) else '≥'} {_digits(end)} {word}"


def _attained(verdict: Mapping[str, Any], end: float | None) -> str:
    witness = verdict.get("witness")
    if end is None or witness is None:
        return "no violation is known" if verdict["kind"] == "distance" else "nothing replayed"
    how = "in exact arithmetic" if verdict.get("trust") == "exact" else "replayed: ONNX Runtime's float32 output"
    if verdict["kind"] == "distance":
        return f"a violation at {_digits(end)}, {how}"
    return f"{'≥' if _flipped(verdict) else '≤'} {_digits(end)} {how} at the input below"


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


def _value(verdict: Mapping[str, Any], margin: float) -> str:
    return _digits(margin * _factor(verdict))


def _factor(verdict: Mapping[str, Any]) -> float:
    """What a margin is multiplied by to be the number that was asked for."""
    multiple = float(Fraction(_range(verdict).get("multiple", "1")))
    return (-1 if _flipped(verdict) else 1) / multiple


def _ends(verdict: Mapping[str, Any]) -> tuple[float | None, float | None]:
    lower, upper = verdict["distance"] if verdict["kind"] == "distance" else verdict["margin"]
    factor = _factor(verdict)
    lower, upper = (None if end is None else end * factor for end in (lower, upper))
    return (upper, lower) if factor < 0 else (lower, upper)


def _name(verdict: Mapping[str, Any]) -> str:
    asked = _range(verdict)
    if asked:
        form = asked["coefficients"]
        what = f"output {next(iter(form))}" if list(form.values()) in ([1], ["1"]) else "the form"
        return f"{asked['end']} value of {what}"
    if verdict["kind"] == "distance":
        norm = verdict.get("query", {}).get("region", {}).get("norm")
        return f"distance ({norm})" if norm else "distance"
    return "margin"


def _digits(value: float) -> str:
    return f"{value:.7g}"
