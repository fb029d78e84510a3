"""How pages write numbers, times and questions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["FILTERS", "ago", "bytes_", "duration", "number", "question", "shape", "short", "since", "stamp"]

_MISSING = "–"
_NORMS = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1", "l0": "ℓ0"}


def number(value: float | None, digits: int = 4) -> str:
    """A number in ``digits`` significant digits, with a true minus and thin spaces between thousands."""
    if value is None:
        return _MISSING
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        text = f"{int(value):,}".replace(",", "\u202f")
    elif not math.isfinite(value):
        text = "∞" if value > 0 else "-∞"
    else:
        text = f"{value:.{digits}g}"
    return text.replace("-", "\u2212")


def duration(seconds: float | None) -> str:
    """Seconds as people say them: ``12 ms``, ``3.4 s``, ``2 min 5 s``, ``3 h 20 min``."""
    if seconds is None:
        return _MISSING
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago ``moment`` was, in one unit."""
    if moment is None:
        return _MISSING
    seconds = max(0.0, ((now or datetime.now(UTC)) - moment).total_seconds())
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago" if seconds >= 5 else "just now"


def since(moment: datetime, now: datetime | None = None) -> str:
    """How long something has lasted that began at ``moment``."""
    seconds = max(0.0, ((now or datetime.now(UTC)) - moment).total_seconds())
    return f"{int(seconds)} s" if seconds < 60 else duration(seconds)


def stamp(moment: datetime | None) -> str:
    """A time to the second, in UTC."""
    return _MISSING if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def bytes_(size: int) -> str:
    """A size of a file."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def short(identifier: str) -> str:
    """The telling end of a job's or batch's identifier (its random part), or the beginning of a hash."""
    return identifier[:10] if len(identifier) == 64 else f"…{identifier[-8:]}"


def shape(entries: list[int] | tuple[int, ...]) -> str:
    """A shape as ``1 × 28 × 28``."""
    return " × ".join(map(str, entries)) or "scalar"


def question(query: Mapping[str, Any]) -> str:
    """One line about what a job was asked, as its request holds it."""
    if query.get("kind") == "universal":
        return f"one perturbation of {len(query.get('labels', ()))} inputs, ℓ∞ ε {_plain(query.get('epsilon'))}"
    if "vnnlib" in query or "vnnlib" in query.get("omitted", ()):
        return "VNNLIB property"
    kind = query.get("kind") or "decide"
    words = {"decide": "", "margin": "worst margin, ", "distance": "nearest violation, "}[kind]
    return f"{words}{_region(query)}{_property(query)}"


def sentence(text: str) -> str:
    """A remark as a sentence: with a capital, and a full stop at its end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") if text else ""


def title(text: str) -> str:
    """With a capital."""
    return text[:1].upper() + text[1:]


def _region(query: Mapping[str, Any]) -> str:
    epsilon = query.get("epsilon")
    if epsilon is not None:
        norm = _NORMS[query.get("norm") or "linf"]
        each = [_plain(entry) for entry in epsilon] if isinstance(epsilon, list) else [_plain(epsilon)]
        return f"{norm} ε {each[0]}" + (f" … {each[-1]} ({len(each)} radii)" if len(each) > 1 else "")
    if "radii" in query:
        return "radii of its own for each entry"
    return "box" if "lower" in query or "upper" in query else _NORMS[query.get("norm") or "linf"]


def _property(query: Mapping[str, Any]) -> str:
    if query.get("label") is not None:
        return f", class {query['label']} wins"
    names = {
        "output_range": "an output in its range",
        "equivalent_to": "two networks agree",
        "monotone": "monotone",
        "violations": "no violation",
    }
    return next((f", {words}" for name, words in names.items() if name in query), "")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, int | float) else str(value)


#: What templates call these by.
FILTERS: dict[str, Callable[..., Any]] = {
    "ago": ago,
    "bytes": bytes_,
    "duration": duration,
    "number": number,
    "pretty": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
    "question": question,
    "sentence": sentence,
    "shape": shape,
    "short": short,
    "since": since,
    "stamp": stamp,
    "titled": title,
    "template": lambda request: question(request["query"] | {"epsilon": request["epsilon"]}),
}
