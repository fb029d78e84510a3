"""A specification's assertions as a query, whatever the way in which it declares its variables."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias

from networks.conditions import Atom, Bound, Conditions, Variable
from networks.constraints import Constraint
from networks.errors import PropertyError, RegionError
from networks.exact import shown
from networks.forms import Form, Source
from networks.property import Clause, Property, Query, Row
from networks.region import Region

__all__ = ["WORDS", "Specification"]

WORDS = {"X": "inputs", "Y": "outputs"}
"""What the kinds of variables are called."""

_Interval: TypeAlias = tuple[Fraction | None, Fraction | None]
_Box: TypeAlias = dict[int, _Interval]


class Specification:
    """What both versions have in common: assertions, and the cases that they make.

    Attributes:
        variables: what words name, as far as they are known.
    """

    equality = "="

    def __init__(self, source: Source, inputs: int, outputs: int) -> None:
        self.source = source
        self.sizes = {"X": inputs, "Y": outputs}
        self.variables: dict[str, Variable] = {}
        self.conditions = Conditions(source, self.variable, self.equality)

    def variable(self, word: str) -> Variable | None:
        """The input or output that a word names."""
        return self.variables.get(word)

    def command(self, head: str, form: Form) -> None:
        """Takes a form that is no assertion."""
        raise NotImplementedError

    def finish_declarations(self, form: Form) -> None:
        """Called with the first assertion."""
        raise NotImplementedError

    def input_place(self, index: int) -> tuple[Form | int, str]:
        """Where an input is declared, and what it is called."""
        raise NotImplementedError

    def query(self, forms: Iterable[Form]) -> Query:
        """The query that these forms state."""
        # One list of alternatives for each assertion; those with a single alternative hold everywhere.
        common: list[Atom] = []
        choices: list[list[tuple[Atom, ...]]] = []
        declared = False
        for form in forms:
            head = form.items[0] if form.items and isinstance(form.items[0], str) else ""
            if head != "assert":
                self.command(head, form)
                continue
            if not declared:
                self.finish_declarations(form)
                declared = True
            if len(form.items) != 2:
                self.source.fail(form, f"assert takes one condition, got {len(form.items) - 1}")
            alternatives = self.conditions.alternatives(form, 1)
            if len(alternatives) == 1:
                common.extend(alternatives[0])
            else:
                choices.append(alternatives)
        if not declared:
            self.source.fail(0, "there is no assert; state the input bounds and the violation")
        self.conditions.check_product(choices)
        return self.cases(common, choices)

    def cases(self, common: Sequence[Atom], choices: Sequence[Sequence[tuple[Atom, ...]]]) -> Query:
        """Every choice of one alternative per assertion, grouped by the region of inputs that it is about."""
        base, shared, rows = _conjunction({}, common)
        for atom in common:
            if isinstance(atom, Bound) and _empty(base[atom.index]):
                low, high = (shown(end) for end in base[atom.index] if end is not None)
                name = self.input_place(atom.index)[1]
                self.source.fail(atom.at, f"{name} is bounded to nothing: at least {low} and at most {high}")
        found: dict[object, tuple[_Box, list[Constraint], list[Clause]]] = {}
        for number, choice in enumerate(itertools.product(*choices), start=1):
            own, constraints, more = _conjunction(base, itertools.chain.from_iterable(choice))
            if any(map(_empty, own.values())):
                continue
            # Integers hash faster than fractions.
            ends = [(i, *(end if end is None else end.as_integer_ratio() for end in own[i])) for i in sorted(own)]
            key = (tuple(ends), tuple(constraints))
            if key not in found:
                found[key] = (base | own, [*shared, *constraints], [])
            found[key][2].append(self.clause([*rows, *more], number))
        cases, reason = [], "every disjunct bounds some input to nothing"
        for box, constraints, clauses in found.values():
            region = self.region(_completed(box, constraints))
            try:
                region = region.constrained(constraints) if constraints else region
            except RegionError as error:
                reason = str(error)
                continue
            cases.append((region, Property(tuple(clauses), {"kind": "vnnlib"})))
        if not cases:
            self.source.fail(0, f"{reason}, so there is no input to ask about")
        return Query(tuple(cases), {"kind": "vnnlib", "name": self.source.name, "cases": len(cases)})

    def clause(self, rows: list[Row], number: int) -> Clause:
        if not rows:
            self.source.fail(0, f"disjunct {number} says nothing about the outputs; assert what a violation looks like")
        label = _row_text(rows[0]) if len(rows) == 1 else f"disjunct {number}"
        try:
            return Clause(tuple(rows), self.sizes["Y"], label=label)
        except PropertyError as error:
            self.source.fail(0, f"disjunct {number}: {error}")

    def region(self, box: _Box) -> Region:
        lower, upper = [], []
        for i in range(self.sizes["X"]):
            low, high = box.get(i, (None, None))
            if low is None or high is None:
                side = "lower" if low is None else "upper"
                place, name = self.input_place(i)
                self.source.fail(place, f"{name} has no {side} bound; assert one, every input needs both")
            lower.append(low)
            upper.append(high)
        try:
            return Region(tuple(lower), tuple(upper), statement={"kind": "box"})
        except RegionError as error:
            self.source.fail(0, str(error))


def _conjunction(base: _Box, atoms: Iterable[Atom]) -> tuple[_Box, list[Constraint], list[Row]]:
    """The bounds of the inputs that the atoms mention, intersected with ``base``; constraints and rows of the atoms."""
    box: _Box = {}
    constraints: list[Constraint] = []
    rows: list[Row] = []
    for atom in atoms:
        if isinstance(atom, Row):
            rows.append(atom)
        elif isinstance(atom, Constraint):
            constraints.append(atom)
        else:
            low, high = box.get(atom.index) or base.get(atom.index) or (None, None)
            if atom.upper:
                high = atom.value if high is None else min(high, atom.value)
            else:
                low = atom.value if low is None else max(low, atom.value)
            box[atom.index] = (low, high)
    return box, constraints, rows


def _completed(box: _Box, constraints: Sequence[Constraint]) -> _Box:
    """The box with the ends that it lacks, as far as constraints imply them: ``x_1 ≤ x_0`` where ``x_0 ≤ 1``."""
    found = dict(box)
    # Each round finds at least one end, or is the last.
    for _ in range(2 * len(found) + 2 * len(constraints) + 1):
        missing = dict(found)
        for constraint in constraints:
            terms = dict(zip(constraint.indices, constraint.values, strict=True))
            least = {i: found.get(i, (None, None))[0 if a > 0 else 1] for i, a in terms.items()}
            for j, a in terms.items():
                low, high = found.get(j, (None, None))
                others = [terms[i] * end for i, end in least.items() if i != j and end is not None]
                if (high if a > 0 else low) is not None or len(others) < len(terms) - 1:
                    continue
                end = (constraint.bound - sum(others)) / a
                found[j] = (low, end) if a > 0 else (end, high)
        if found == missing:
            break
    return found


def _empty(interval: _Interval) -> bool:
    low, high = interval
    return low is not None and high is not None and low > high


def _row_text(row: Row) -> str:
    terms = [f"{'-' if c < 0 else '+'} {'' if abs(c) == 1 else f'{shown(abs(c))} '}Y_{i}" for i, c in row.coefficients]
    if row.offset:
        terms.append(f"{'-' if row.offset < 0 else '+'} {shown(abs(row.offset))}")
    return f"{' '.join(terms).removeprefix('+ ')} <= 0"
