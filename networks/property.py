"""Properties of a network's outputs, and queries.

A property is stated by its violations: a disjunction of clauses, each a conjunction of rows ``c·y + d ≤ 0``. An
output violates a clause when every row holds, and violates the property when it violates some clause; a tie
(``c·y + d = 0``) is a violation. To prove the property is to show that on the whole region every clause has a row,
or a nonnegative combination of rows, that is positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from networks.errors import PropertyError
from networks.exact import enclose
from networks.region import Region

__all__ = ["Clause", "Property", "Query", "Row"]

Output: TypeAlias = NDArray[np.floating] | Sequence[Fraction]
"""An output as floats or as rationals; both are taken exactly."""


@dataclass(frozen=True, slots=True)
class Row:
    """One linear form ``Σ c_i y_i + d``, with exact coefficients.

    ``coefficients`` holds pairs (output index, c_i), each index once, no zero coefficients.
    """

    coefficients: tuple[tuple[int, Fraction], ...]
    offset: Fraction = Fraction(0)

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
                        f"coefficient {c} of output {i} is not a binary floating-point number; multiply the row by a "
                        "positive constant that makes every coefficient one"
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
        if not 0 <= label < outputs:
            msg = f"label {label} does not exist: the network has {outputs} outputs, labels 0 to {outputs - 1}"
            raise PropertyError(msg)
        chosen = list(dict.fromkeys(targets)) if targets is not None else [t for t in range(outputs) if t != label]
        if not chosen:
            msg = f"there is no target class to compare label {label} with ({outputs} outputs, targets {targets})"
            raise PropertyError(msg)
        one = Fraction(1)
        clauses = []
        for target in chosen:
            if not 0 <= target < outputs:
                msg = f"target {target} does not exist: the network has {outputs} outputs, labels 0 to {outputs - 1}"
                raise PropertyError(msg)
            if target == label:
                msg = f"target {target} is the label itself; targets must be other classes"
                raise PropertyError(msg)
            clauses.append(Clause((Row(((label, one), (target, -one))),), outputs, label=f"class {target}"))
        statement: dict[str, Any] = {"kind": "classification", "label": label}
        if targets is not None:
            statement["targets"] = chosen
        return cls(tuple(clauses), statement)

    def margin(self, y: Output) -> Fraction:
        """The smallest clause margin at ``y``; the property is violated where it is at most 0."""
        return min(clause.margin(y) for clause in self.clauses)

    def violated(self, y: NDArray[np.floating]) -> bool:
        """Whether the output ``y``, shape ``(outputs,)``, violates the property exactly; a non-finite output does not
        count as a violation.
        """
        return bool(np.isfinite(y).all()) and self.margin(y) <= 0


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


def _rational(value: np.floating | Fraction) -> Fraction:
    return value if isinstance(value, Fraction) else Fraction(float(value))


def _binary(c: Fraction) -> bool:
    try:
        return Fraction(float(c)) == c
    except OverflowError:
        return False
