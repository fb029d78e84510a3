"""What a page shows of an input and of a counterexample: pictures, outputs, and the entries that changed most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.dashboard.charts import Chart, Series, scores
from service.dashboard.pictures import Change, Picture, change_picture, changes, image, layout, ramp
from service.dashboard.wording import number

__all__ = ["Shown", "evidence", "perturbation", "picture_of"]

_CENTER, _FOUND = Series("center", "at the given input"), Series("found", "at the counterexample")
_WITNESS = Series("found", "at the witness")


@dataclass(frozen=True, slots=True)
class Shown:
    """An input, and the one that was found, side by side.

    Attributes:
        pictures: caption, explanation and picture; empty where the input is no image.
        ramp: the colours of the difference, where there is one.
        outputs: the network's outputs at both.
        changed: the entries that changed most.
        facts: how much changed, in words.
        layout: how the input was read as an image, in words.
    """

    pictures: Sequence[tuple[str, str, Picture]] = ()
    ramp: Picture | None = None
    outputs: Chart | None = None
    changed: Sequence[Change] = ()
    facts: Sequence[tuple[str, str]] = field(default=())
    layout: str = ""


def evidence(
    center: Sequence[float] | None,
    found: Mapping[str, Any] | None,
    *,
    shape: Sequence[int],
    center_output: Sequence[float] | None,
    label: int | None,
    domain: Sequence[float] | None,
    name: str = "outputs",
) -> Shown:
    """What there is to see.

    Args:
        center: the input that was asked about, in C order, where there is one.
        found: a counterexample or witness, as `solver.verdict.Counterexample.to_json` writes it.
        shape: of the input, without batch dimension.
        center_output: what the network says at ``center``.
        label: the class that is to stay.
        domain: least and greatest value of an entry, where the question has them.
        name: begins the identifiers of the drawing.
    """
    after = None if found is None else found["input"]
    broken = found is not None and found["margin"] <= 0
    before = center if center is not None and len(center) == math.prod(shape) else None
    differ = before is not None and after is not None and len(before) == len(after)
    return Shown(
        *_pictures(before, after, shape, domain, "The counterexample" if broken else "The witness"),
        outputs=_outputs(center_output, found, label, name),
        changed=changes(before, after, shape) if differ and before and after else (),
        facts=_facts(before, after) if differ and before and after else (),
        layout=_layout(shape) if before is not None or after is not None else "",
    )


def perturbation(found: Mapping[str, Any], shape: Sequence[int]) -> Shown:
    """One perturbation of many inputs.

    Args:
        found: as `solver.universal_question.as_document` writes it.
        shape: of an input, without batch dimension.
    """
    how, delta = layout(shape), found["delta"]
    still = [0.0] * len(delta)
    largest = max(map(abs, delta), default=0.0)
    words = f"full colour is a change by {number(largest)}"
    pictures = [] if how is None else [("The perturbation", words, change_picture(still, delta, how))]
    return Shown(
        pictures,
        ramp() if pictures else None,
        changed=changes(still, delta, shape),
        facts=[("Inputs that it flips", _listed(found["flipped"])), ("Proven to stay", _listed(found["robust"]))],
        layout=_layout(shape),
    )


def _listed(numbers: Sequence[int], most: int = 20) -> str:
    if not numbers:
        return "none"
    more = f" and {number(len(numbers) - most)} more" if len(numbers) > most else ""
    return ", ".join(map(str, numbers[:most])) + more


def _layout(shape: Sequence[int]) -> str:
    how = layout(shape)
    return "" if how is None else how.words


def picture_of(values: Sequence[float], shape: Sequence[int], domain: Sequence[float] | None = None) -> Picture | None:
    """An input as a picture, if it is an image."""
    how = layout(shape)
    if how is None or len(values) != math.prod(shape):
        return None
    low, high = domain or _range(values)
    return image(values, how, low, high)


def _pictures(
    before: Sequence[float] | None,
    after: Sequence[float] | None,
    shape: Sequence[int],
    domain: Sequence[float] | None,
    name: str,
) -> tuple[list[tuple[str, str, Picture]], Picture | None]:
    how = layout(shape)
    if how is None or (before is None and after is None):
        return [], None
    low, high = domain or _range([*(before or ()), *(after or ())])
    scale = f"black {number(low)}, white {number(high)}" if how.channels == 1 else f"{number(low)} to {number(high)}"
    shown = []
    if before is not None:
        shown.append(("The given input", scale, image(before, how, low, high)))
    if after is not None:
        shown.append((name, "the same scale", image(after, how, low, high)))
    if before is None or after is None:
        return shown, None
    largest = max(abs(b - a) for a, b in zip(before, after, strict=True))
    words = f"magnified; full colour is a change by {number(largest)}"
    return [*shown, ("What changed", words, change_picture(before, after, how))], ramp()


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The ends of a scale that shows all values: 0 to 1 where they lie within."""
    low, high = min(values), max(values)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def _outputs(
    at_center: Sequence[float] | None, found: Mapping[str, Any] | None, label: int | None, name: str
) -> Chart | None:
    series: dict[Series, Sequence[float]] = {}
    if at_center:
        series[_CENTER] = at_center
    if found is not None:
        series[_FOUND if found["margin"] <= 0 else _WITNESS] = found["output"]
    count = len(next(iter(series.values()), ()))
    if not count or any(len(each) != count for each in series.values()):
        return None
    marked = {} if label is None or label >= count else {label: "label"}
    if found is not None and count > 1 and label is not None:
        best = max((i for i in range(count) if i != label), key=found["output"].__getitem__)
        if found["output"][best] >= found["output"][label if label < count else best]:
            marked[best] = "wins"
    return scores([str(i) for i in range(count)], series, name=name, title="What the network says", marked=marked)


def _facts(before: Sequence[float], after: Sequence[float]) -> list[tuple[str, str]]:
    moved = [b - a for a, b in zip(before, after, strict=True)]
    changed = sum(each != 0 for each in moved)
    return [
        ("Entries that changed", f"{number(changed)} of {number(len(moved))}"),
        ("Largest change (ℓ∞)", number(max(map(abs, moved)))),
        ("Euclidean length (ℓ2)", number(math.sqrt(sum(each * each for each in moved)))),
        ("Sum of changes (ℓ1)", number(sum(map(abs, moved)))),
    ]
