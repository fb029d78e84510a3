"""Properties of a network's outputs, and queries.

A property is stated by its violations: a disjunction of clauses, each a conjunction of rows ``c·y + d ≤ 0``. An
output violates a clause when every row holds, and violates the property when it violates some clause; a tie
(``c·y + d = 0``) is a violation. To prove the property is to show that on the whole region every clause has a row,
or a nonnegative combination of rows, that is positive.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from networks.errors import PropertyError
from networks.exact import Number, enclose, exact, shown, written
from networks.region import Region

__all__ = ["MAX_CLAUSES", "Clause", "Coefficients", "OutputRange", "Property", "Query", "Row", "multiple"]

MAX_CLAUSES = 20_000
"""Limit on the clauses of a property that is stated by a formula, such as one for every set of k classes."""

Coefficients: TypeAlias = Mapping[int, Number] | Mapping[str, Number] | Sequence[Number]
"""A linear form of the outputs: a coefficient for each output, or those that are not 0 by output index, which may be
text as in JSON.
"""

Output: TypeAlias = NDArray[np.floating] | Sequence[Fraction]
"""An output as floats or as rationals; both are taken exactly."""


@dataclass(frozen=True, slots=True)
class Row:
    """One linear form ``Σ c_i y_i + d``, with exact coefficients.

    ``coefficients`` holds pairs (output index, c_i), each index once, no zero coefficients.
    """

    coefficients: tuple[tuple[int, Fraction], ...]
    offset: Fraction = Fraction(0)

    @classmethod
    def of(cls, coefficients: Coefficients, offset: Number = 0) -> Self:
        """The row whose sign is that of ``Σ c_i y_i + d``, with numbers as `networks.exact.exact` reads them.

        Where a coefficient is not a binary floating-point number, such as 0.1, the row is the smallest multiple of the
        form whose coefficients are whole numbers; `multiple` says which.

        Raises:
            PropertyError: no coefficient differs from 0, or something is not a finite number or not an index.
        """
        form = _form(coefficients)
        try:
            constant = exact(offset)
        except ValueError as error:
            msg = f"the offset of a row must be a finite number, got {offset!r}"
            raise PropertyError(msg) from error
        scale = multiple(form.values())
        return cls(tuple((i, c * scale) for i, c in sorted(form.items())), constant * scale)

    @property
    def compares_two_outputs(self) -> bool:
        """Whether the form is a multiple of ``y_i - y_j``, whose sign any increasing function of the outputs keeps."""
        return self.offset == 0 and len(self.coefficients) == 2 and sum(c for _, c in self.coefficients) == 0

    def value(self, y: Output) -> Fraction:
        """The form's exact value at the finite output ``y``, shape ``(outputs,)``."""
        return sum((c * _rational(y[i]) for i, c in self.coefficients), self.offset)


@dataclass(frozen=True, eq=False)
class Clause:
    """A conjunction of rows that together form a violation; ``label`` names it in reports ("class 3")."""

    rows: tuple[Row, ...]
    outputs: int
    label: str = ""

    def __post_init__(self) -> None:
        if not self.rows:
            msg = f"clause {self.label!r} has no rows; a violation needs at least one condition"
            raise PropertyError(msg)
        for row in self.rows:
            for i, c in row.coefficients:
                if not 0 <= i < self.outputs:
                    msg = f"output {i} does not exist: the network has {self.outputs} outputs, 0 to {self.outputs - 1}"
                    raise PropertyError(msg)
                if not _binary(c):
                    msg = (
                        f"coefficient {shown(c)} of output {i} is not a binary floating-point number; multiply the row "
                        "by a positive constant that makes every coefficient one"
                    )
                    raise PropertyError(msg)
            try:
                enclose([row.offset])
            except ValueError as error:
                msg = f"clause {self.label!r} compares with a number that is too large: {error}"
                raise PropertyError(msg) from error

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """The rows' coefficients, exact, shape ``(rows, outputs)``."""
        dense = np.zeros((len(self.rows), self.outputs))
        for r, row in enumerate(self.rows):
            for i, c in row.coefficients:
                dense[r, i] = float(c)
        return dense

    @cached_property
    def offsets(self) -> NDArray[np.float64]:
        """The rows' offsets rounded down, shape ``(rows,)``: a positive lower bound stays a proof."""
        return enclose(row.offset for row in self.rows)[0]

    def margin(self, y: Output) -> Fraction:
        """The largest row at ``y``; the clause is violated where it is at most 0."""
        return max(row.value(y) for row in self.rows)


@dataclass(frozen=True, eq=False)
class Property:
    """A property by its violations; ``statement`` is what the user asked, in JSON."""

    clauses: tuple[Clause, ...]
    statement: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.clauses:
            msg = "the property has no clauses, so nothing could violate it; state at least one violation"
            raise PropertyError(msg)

    @classmethod
    def classification(cls, label: int, outputs: int, targets: Sequence[int] | None = None) -> Self:
        """Class ``label`` scores strictly higher than every target; ``targets`` defaults to all other classes.

        Raises:
            PropertyError: the label or a target is not an output, or a target is the label.
        """
        clauses = [
            Clause((_above(label, target),), outputs, label=f"class {target}")
            for target in _targets(label, outputs, targets)
        ]
        return cls(tuple(clauses), _statement("classification", label, targets))

    @classmethod
    def top_k(cls, label: int, outputs: int, k: int, targets: Sequence[int] | None = None) -> Self:
        """Fewer than ``k`` targets score as high as class ``label``: it is among the k best of them and itself.

        A violation is a set of k targets that all score at least as high, so there is a clause for each such set;
        ``k = 1`` is `classification`.

        Raises:
            PropertyError: see `classification`; or k is not between 1 and the number of targets, or there are more than
                `MAX_CLAUSES` sets.
        """
        chosen = _targets(label, outputs, targets)
        if not 1 <= k <= len(chosen):
            msg = f"top_k must be between 1 and {len(chosen)}, the number of targets of label {label}, got {k}"
            raise PropertyError(msg)
        count = math.comb(len(chosen), k)
        if count > MAX_CLAUSES:
            msg = (
                f"top_k = {k} of {len(chosen)} targets asks about {count} sets of {k} classes, more than the limit of "
                f"{MAX_CLAUSES}; compare with fewer targets, or choose a smaller top_k"
            )
            raise PropertyError(msg)
        rows = {target: _above(label, target) for target in chosen}
        clauses = [
            Clause(tuple(rows[t] for t in ahead), outputs, label=f"class{'es' if k > 1 else ''} {_listed(ahead)}")
            for ahead in itertools.combinations(chosen, k)
        ]
        return cls(tuple(clauses), _statement("top_k", label, targets) | {"top_k": k})

    @classmethod
    def confident(cls, label: int, outputs: int, confidence: Number, targets: Sequence[int] | None = None) -> Self:
        """Class ``label`` scores more than ``confidence`` higher than every target.

        Raises:
            PropertyError: see `classification`; or the confidence is not a finite number of at least 0.
        """
        try:
            ahead = exact(confidence)
        except ValueError as error:
            msg = f"confidence must be a finite number of at least 0, got {confidence!r}"
            raise PropertyError(msg) from error
        if ahead < 0:
            msg = f"confidence must be at least 0, got {confidence}: it is how far the label must be ahead"
            raise PropertyError(msg)
        clauses = [
            Clause((_above(label, target, ahead),), outputs, label=f"class {target}")
            for target in _targets(label, outputs, targets)
        ]
        return cls(tuple(clauses), _statement("confidence", label, targets) | {"confidence": str(confidence)})

    @classmethod
    def within(
        cls, outputs: int, coefficients: Coefficients, lower: Number | None = None, upper: Number | None = None
    ) -> Self:
        """The form ``Σ c_i y_i`` stays strictly between ``lower`` and ``upper``; None leaves a side open.

        Raises:
            PropertyError: no side is given, a bound is not a finite number, or the form does not fit the outputs.
        """
        if lower is None and upper is None:
            msg = "a range needs a lower or an upper bound; to find the range of an output, ask for its margin"
            raise PropertyError(msg)
        form = _form(coefficients)
        clauses = []
        for sign, bound, word in ((1, lower, "at least"), (-1, upper, "at most")):
            if bound is None:
                continue
            try:
                end = exact(bound)
            except ValueError as error:
                msg = f"a bound of an output must be a finite number, got {bound!r}"
                raise PropertyError(msg) from error
            row = Row.of({i: sign * c for i, c in form.items()}, -sign * end)
            clauses.append(Clause((row,), outputs, label=f"{_shown_form(form)} {word} {shown(end)}"))
        statement: dict[str, Any] = {"kind": "output_range", "coefficients": _json_form(form)}
        statement |= {k: str(v) for k, v in (("lower", lower), ("upper", upper)) if v is not None}
        return cls(tuple(clauses), statement)

    @classmethod
    def stated(cls, outputs: int, clauses: Sequence[Sequence[Mapping[str, Any]]]) -> Self:
        """Any property by its violations, as JSON writes it: a list of clauses, each a list of rows
        ``{"coefficients": {"0": 1, "3": -0.5}, "offset": 0.25}``, which say ``y_0 − 0.5·y_3 + 0.25 ≤ 0``.

        Raises:
            PropertyError: there is no clause, or a row is not of this form or does not fit the outputs.
        """
        found = []
        for number, rows in enumerate(clauses, start=1):
            for row in rows:
                if not isinstance(row, Mapping) or not {"coefficients"} <= row.keys() <= {"coefficients", "offset"}:
                    msg = f'a row is {{"coefficients": {{"0": 1}}, "offset": 0}} with an optional offset, got {row!r}'
                    raise PropertyError(msg)
            read = tuple(Row.of(row["coefficients"], row.get("offset", 0)) for row in rows)
            found.append(Clause(read, outputs, label=f"clause {number}"))
        return cls(tuple(found), {"kind": "rows", "clauses": [_json_rows(clause) for clause in found]})

    def margin(self, y: Output) -> Fraction:
        """The smallest clause margin at ``y``; the property is violated where it is at most 0."""
        return min(clause.margin(y) for clause in self.clauses)

    def violated(self, y: NDArray[np.floating]) -> bool:
        """Whether the output ``y``, shape ``(outputs,)``, violates the property exactly; a non-finite output does not
        count as a violation.
        """
        return bool(np.isfinite(y).all()) and self.margin(y) <= 0


@dataclass(frozen=True, eq=False)
class OutputRange:
    """How the range of a linear form of the outputs is asked: by the margins of two properties.

    On a region, the form's least value is the margin of ``least`` over ``multiple``, and its greatest is minus the
    margin of ``greatest`` over ``multiple``.

    Attributes:
        least, greatest: properties of one row, a multiple of the form and of minus the form.
        multiple: by how much the form was multiplied to have binary coefficients, mostly 1.
    """

    least: Property
    greatest: Property
    multiple: Fraction = Fraction(1)

    @classmethod
    def of(cls, outputs: int, coefficients: Coefficients) -> Self:
        """The range of ``Σ c_i y_i``.

        Raises:
            PropertyError: the form has no coefficient, or does not fit the outputs.
        """
        form = _form(coefficients)
        statement = {"kind": "output_range", "coefficients": _json_form(form)}
        ends = [
            Property(
                (Clause((Row.of(signed),), outputs, label=f"{end} {_shown_form(form)}"),), statement | {"end": end}
            )
            for end, signed in (("least", form), ("greatest", {i: -c for i, c in form.items()}))
        ]
        return cls(ends[0], ends[1], Fraction(multiple(form.values())))

    @classmethod
    def output(cls, outputs: int, index: int) -> Self:
        """The range of output ``index``."""
        return cls.of(outputs, {index: 1})


@dataclass(frozen=True, eq=False)
class Query:
    """Is there an input of a region on which the property is violated?

    ``cases`` are (region, property) pairs; there is a counterexample if some case has one. A query about one ball or
    box has one case; VNNLIB files that put input boxes inside a disjunction have several.
    """

    cases: tuple[tuple[Region, Property], ...]
    statement: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def single(cls, region: Region, prop: Property) -> Self:
        return cls(((region, prop),), {"region": region.statement, "property": prop.statement})

    @property
    def clauses(self) -> int:
        return sum(len(prop.clauses) for _, prop in self.cases)


def multiple(coefficients: Iterable[Fraction]) -> int:
    """The least factor that makes all of them binary floating-point numbers: 1, or one that makes them whole."""
    found = list(coefficients)
    return 1 if all(map(_binary, found)) else math.lcm(*(c.denominator for c in found))


def _form(coefficients: Coefficients) -> dict[int, Fraction]:
    """The coefficients that are not 0, by output index."""
    pairs = coefficients.items() if isinstance(coefficients, Mapping) else enumerate(coefficients)
    form: dict[int, Fraction] = {}
    for key, value in pairs:
        try:
            index, coefficient = int(key), exact(value)
        except (ValueError, TypeError) as error:
            msg = f"coefficients are finite numbers by output index, got {value!r} for output {key!r}"
            raise PropertyError(msg) from error
        if index in form:
            msg = f"output {index} has two coefficients, {form[index]} and {value}; give their sum"
            raise PropertyError(msg)
        if coefficient:
            form[index] = coefficient
    if not form:
        msg = "a row needs an output with a coefficient other than 0"
        raise PropertyError(msg)
    return form


def _targets(label: int, outputs: int, targets: Sequence[int] | None) -> list[int]:
    """The classes that ``label`` is compared with: ``targets`` without repeats, or all others."""
    if not 0 <= label < outputs:
        msg = f"label {label} does not exist: the network has {outputs} outputs, labels 0 to {outputs - 1}"
        raise PropertyError(msg)
    chosen = list(dict.fromkeys(targets)) if targets is not None else [t for t in range(outputs) if t != label]
    if not chosen:
        msg = f"there is no target class to compare label {label} with ({outputs} outputs, targets {targets})"
        if outputs == 1:
            msg += "; of a network with one output, ask how far it may go: output_range"
        raise PropertyError(msg)
    for target in chosen:
        if not 0 <= target < outputs:
            msg = f"target {target} does not exist: the network has {outputs} outputs, labels 0 to {outputs - 1}"
            raise PropertyError(msg)
        if target == label:
            msg = f"target {target} is the label itself; targets must be other classes"
            raise PropertyError(msg)
    return chosen


def _above(label: int, target: int, ahead: Fraction = Fraction(0)) -> Row:
    """``y_label − y_target − ahead``, positive where the label is that far ahead."""
    return Row(((label, Fraction(1)), (target, Fraction(-1))), -ahead)


def _statement(kind: str, label: int, targets: Sequence[int] | None) -> dict[str, Any]:
    statement: dict[str, Any] = {"kind": kind, "label": label}
    return statement if targets is None else statement | {"targets": list(dict.fromkeys(targets))}


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _shown_form(form: dict[int, Fraction]) -> str:
    terms = [f"{'-' if c < 0 else '+'} {'' if abs(c) == 1 else f'{shown(abs(c))} '}Y_{i}" for i, c in form.items()]
    text = " ".join(terms[:6]) + (" + …" if len(terms) > 6 else "")
    return text.removeprefix("+ ")


def _json_form(form: Mapping[int, Fraction]) -> dict[str, str]:
    return {str(i): written(c) for i, c in form.items()}


def _json_rows(clause: Clause) -> list[dict[str, Any]]:
    return [{"coefficients": _json_form(dict(row.coefficients)), "offset": written(row.offset)} for row in clause.rows]


def _rational(value: np.floating | Fraction) -> Fraction:
    return value if isinstance(value, Fraction) else Fraction(float(value))


def _binary(c: Fraction) -> bool:
    try:
        return Fraction(float(c)) == c
    except OverflowError:
        return False
