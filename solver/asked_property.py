"""The property of a question: a class that wins, a range of an output, or violations row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from networks.errors import PropertyError
from networks.exact import written
from networks.property import OutputRange, Property
from solver.reading import Reading, index

__all__ = ["CLASS", "PROPERTY", "read_property"]

CLASS = ("label", "targets", "top_k", "confidence")
#: Every other member states a property by itself.
PROPERTY = (*CLASS, "output_range", "violations")


def read_property(reading: Reading, own_class: Callable[[], int | None]) -> Property | None:
    """The property that the members named in `PROPERTY` state; by default, that a class wins.

    Args:
        reading: the question.
        own_class: the class that the network gives the input, None where that is not known.

    Returns:
        None where the label is not known.

    Raises:
        WrongError: something is wrong with them.
    """
    others = [name for name in reading.among(PROPERTY) if name not in CLASS]
    stated = ([" and ".join(reading.among(CLASS))] if reading.among(CLASS) else []) + others
    if len(stated) > 1:
        msg = f"{', '.join(stated)} are {len(stated)} properties; ask one question for each"
        raise reading.wrong(PropertyError(msg), others[0])
    if "violations" in others:
        with reading.at("violations"):
            return _violations(reading.given["violations"], reading.signature.outputs)
    if "output_range" in others:
        return _output_range(reading)
    return _class(reading, own_class)


def _class(reading: Reading, own_class: Callable[[], int | None]) -> Property | None:
    given, outputs = reading.given, reading.signature.outputs
    if "top_k" in given and "confidence" in given:
        msg = "top_k and confidence are two properties; ask one question for each"
        raise reading.wrong(PropertyError(msg), "confidence")
    label = given.get("label")
    if label is None:
        label = _default(reading, own_class)
    if label is None:
        return None
    with reading.at("label"):
        label = index(label, "label")
        prop = Property.classification(label, outputs)
    targets = None
    if "targets" in given:
        with reading.at("targets"):
            targets = [index(target, "a target") for target in given["targets"]]
            prop = Property.classification(label, outputs, targets)
    if "top_k" in given:
        with reading.at("top_k"):
            prop = Property.top_k(label, outputs, index(given["top_k"], "top_k"), targets)
    if "confidence" in given:
        with reading.at("confidence"):
            prop = Property.confident(label, outputs, given["confidence"], targets)
    return prop


def _default(reading: Reading, own_class: Callable[[], int | None]) -> int | None:
    """The class that the network gives the input; None where that is not known."""
    if reading.signature.outputs < 2:
        msg = "label missing: the network has one output, so there is no class to keep; give output_range or violations"
        raise reading.wrong(PropertyError(msg), "label")
    if "input" not in reading.given and not reading.found:
        msg = "label missing: a box has no class of its own; give label, output_range or violations"
        raise reading.wrong(PropertyError(msg), "label")
    return None if reading.found else own_class()


def _violations(stated: Any, outputs: int) -> Property:
    if not isinstance(stated, list | tuple) or not all(isinstance(rows, list | tuple) for rows in stated):
        msg = f"violations are a list of clauses, each a list of rows, got {stated!r}"
        raise PropertyError(msg)
    return Property.stated(outputs, stated)


def _output_range(reading: Reading) -> Property:
    stated = reading.mapping("output_range", ("output", "coefficients", "lower", "upper", "end"), ())
    outputs = reading.signature.outputs
    with reading.at("output_range"):
        if ("output" in stated) == ("coefficients" in stated):
            msg = "output_range is about one output or a form of them: give either output or coefficients"
            raise PropertyError(msg)
        form = stated["coefficients"] if "coefficients" in stated else {index(stated["output"], "output"): 1}
        end = stated.get("end")
        if end is None:
            return Property.within(outputs, form, stated.get("lower"), stated.get("upper"))
        if "lower" in stated or "upper" in stated or end not in {"least", "greatest"}:
            msg = (
                "output_range either checks lower and upper, or finds its end, which is 'least' or 'greatest' "
                f"(with kind 'margin'); got {stated!r}"
            )
            raise PropertyError(msg)
        asked = OutputRange.of(outputs, form)
        prop = asked.least if end == "least" else asked.greatest
        return dataclasses.replace(prop, statement=prop.statement | {"multiple": written(asked.multiple)})
