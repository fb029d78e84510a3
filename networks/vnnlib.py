"""VNNLIB 1.0: specification files as queries.

A file declares inputs ``X_i`` and outputs ``Y_i`` and asserts what a **violation** looks like: bounds on the inputs,
and linear conditions on the outputs, combined with ``and`` and ``or``. It is brought into a disjunction of
conjunctions; a conjunction's input bounds make its region, its output conditions its clause, and clauses of the same
region are one case of the query. Numbers are the rationals that their decimals denote.
"""

from __future__ import annotations

import gzip
import io
import itertools
import math
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NoReturn, TypeAlias

from networks.errors import PropertyError, RegionError, VnnlibError
from networks.exact import exact, shown
from networks.property import Clause, Property, Query, Row
from networks.region import Region

__all__ = ["parse_vnnlib", "read_vnnlib"]

MAX_BYTES = 256 * 2**20
"""Limit on a specification's size after decompression."""

MAX_DISJUNCTS = 200_000
"""Limit on the disjuncts that nested ``and`` and ``or`` multiply out to."""

_MAX_DEPTH = 100
_ONE = Fraction(1)
_TOKEN = re.compile(r"[()]|[^\s()]+")
_VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]*)")
_IGNORED = frozenset({"set-logic", "set-info", "set-option", "check-sat", "get-model", "exit"})


@dataclass(slots=True)
class _Form:
    """A parenthesised form and the line that it starts on."""

    line: int
    items: list[str | _Form] = field(default_factory=list)


_Expression: TypeAlias = "str | _Form"


@dataclass(frozen=True, slots=True)
class _Bound:
    """``X_i ≤ value`` (upper) or ``X_i ≥ value``."""

    index: int
    upper: bool
    value: Fraction
    line: int


_Atom: TypeAlias = _Bound | Row
_Interval: TypeAlias = tuple[Fraction | None, Fraction | None]
_Box: TypeAlias = dict[int, _Interval]


def read_vnnlib(path: str | Path, inputs: int, outputs: int) -> Query:
    """Read a ``.vnnlib`` or ``.vnnlib.gz`` file for a network of that many inputs and outputs.

    Raises:
        VnnlibError: the file cannot be read, or see `parse_vnnlib`.
    """
    name = Path(path).name
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        msg = f"there is no specification {path}; give the path of a .vnnlib or .vnnlib.gz file"
        raise VnnlibError(msg) from error
    except (OSError, EOFError, zlib.error) as error:
        msg = f"the specification {name} cannot be read: {error}"
        raise VnnlibError(msg) from error
    if len(data) > MAX_BYTES:
        msg = f"the specification {name} is larger than the limit of {MAX_BYTES} bytes; split it"
        raise VnnlibError(msg)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        msg = f"the specification {name} is not a text file: {error}"
        raise VnnlibError(msg) from error
    return parse_vnnlib(text, inputs, outputs, name)


def parse_vnnlib(text: str, inputs: int, outputs: int, name: str = "") -> Query:
    """The query that a specification's text states.

    Args:
        text: VNNLIB 1.0.
        inputs, outputs: the network's numbers of inputs and outputs.
        name: how messages and reports call the specification.

    Raises:
        VnnlibError: it is not VNNLIB 1.0; it names variables that the network does not have, leaves inputs unbounded or
            bounds them to nothing, or relates inputs to each other or to outputs. The message names the line.
    """
    return _Reader(name or "the specification", inputs, outputs).query(text)


class _Reader:
    def __init__(self, name: str, inputs: int, outputs: int) -> None:
        self.name = name
        self.sizes = {"X": inputs, "Y": outputs}
        self.variables: dict[str, tuple[str, int]] = {}
        self.lines: dict[str, int] = {}
        self.constants: dict[str, Fraction] = {}

    def fail(self, line: int, reason: str) -> NoReturn:
        msg = f"{self.name}, line {line}: {reason}"
        raise VnnlibError(msg)

    def query(self, text: str) -> Query:
        """The query in ``text``."""
        # One list of alternatives for each assertion; those with a single alternative hold everywhere.
        common: list[_Atom] = []
        choices: list[list[tuple[_Atom, ...]]] = []
        declared = False
        for form in self.forms(text):
            head = form.items[0] if form.items else ""
            if head in ("declare-const", "declare-fun"):
                self.declare(form)
            elif head == "assert":
                if not declared:
                    self.check_declarations(form.line)
                    declared = True
                if len(form.items) != 2:
                    self.fail(form.line, f"assert takes one condition, got {len(form.items) - 1}")
                alternatives = self.alternatives(form.items[1], form.line)
                if len(alternatives) == 1:
                    common.extend(alternatives[0])
                else:
                    choices.append(alternatives)
            elif head == "vnnlib-version":
                self.fail(form.line, "VNNLIB 2 is not supported; write the specification in VNNLIB 1.0")
            elif head not in _IGNORED:
                self.fail(form.line, f"unknown command {_text(form)}; declare-const, declare-fun and assert are known")
        if not declared:
            self.fail(1, "there is no assert; state the input bounds and the violation")
        if math.prod(len(c) for c in choices) > MAX_DISJUNCTS:
            self.fail(1, f"its assertions multiply out to more than {MAX_DISJUNCTS} disjuncts; split it")
        return self.cases(common, choices)

    def forms(self, text: str) -> Iterable[_Form]:
        """Top-level forms, one by one."""
        stack: list[_Form] = []
        for line, content in enumerate(text.split("\n"), start=1):
            for word in _TOKEN.findall(content.partition(";")[0]):
                if word == "(":
                    if len(stack) >= _MAX_DEPTH:
                        self.fail(line, f"parentheses nested deeper than {_MAX_DEPTH}")
                    stack.append(_Form(line))
                elif word == ")":
                    if not stack:
                        self.fail(line, "a closing parenthesis without an opening one")
                    form = stack.pop()
                    if stack:
                        stack[-1].items.append(form)
                    else:
                        yield form
                elif stack:
                    stack[-1].items.append(word)
                else:
                    self.fail(line, f"{word[:40]!r} outside of parentheses; this is not VNNLIB")
        if stack:
            self.fail(stack[0].line, "the parenthesis that opens here is never closed; is the file truncated?")

    def declare(self, form: _Form) -> None:
        items = form.items
        expected = 3 if items[0] == "declare-const" else 4
        match = _VARIABLE.fullmatch(items[1]) if len(items) > 1 and isinstance(items[1], str) else None
        if len(items) != expected or match is None or items[-1] != "Real":
            self.fail(form.line, f"expected (declare-const X_0 Real) with a name X_i or Y_i, got {_text(form)}")
        name = match[0]
        if name in self.variables:
            self.fail(form.line, f"{name} is declared twice")
        kind, index = match[1], int(match[2])
        if index >= self.sizes[kind]:
            what = "inputs" if kind == "X" else "outputs"
            self.fail(
                form.line,
                f"{name} is declared, but the network has {self.sizes[kind]} {what}, {kind}_0 to "
                f"{kind}_{self.sizes[kind] - 1}; is this the specification of another network?",
            )
        self.variables[name] = (kind, index)
        self.lines[name] = form.line

    def check_declarations(self, line: int) -> None:
        for kind, size in self.sizes.items():
            count = sum(k == kind for k, _ in self.variables.values())
            if count != size:
                what = "inputs" if kind == "X" else "outputs"
                self.fail(
                    line,
                    f"{count} {what} {kind}_i are declared before the first assert, but the network has {size}; "
                    "declare all of them, or is this the specification of another network?",
                )

    def alternatives(self, expression: _Expression, line: int) -> list[tuple[_Atom, ...]]:
        """The disjunctive normal form of a condition: a list of conjunctions."""
        if isinstance(expression, str) or not expression.items:
            self.fail(line, f"expected a condition such as (<= X_0 1), got {_text(expression)}")
        head, *rest = expression.items
        line = expression.line
        if head == "or":
            out = [alternative for item in rest for alternative in self.alternatives(item, line)]
            if not out:
                self.fail(line, "an empty disjunction can never hold")
        elif head == "and":
            parts = [self.alternatives(item, line) for item in rest]
            if math.prod(len(p) for p in parts) > MAX_DISJUNCTS:
                self.fail(line, f"it multiplies out to more than {MAX_DISJUNCTS} disjuncts; split the specification")
            out = [tuple(itertools.chain(*choice)) for choice in itertools.product(*parts)]
        elif head in ("<=", ">=", "="):
            if len(rest) != 2:
                self.fail(line, f"{head} compares two terms, got {len(rest)}")
            left, right = rest if head != ">=" else reversed(rest)
            atoms = [self.atom(left, right, line)]
            if head == "=":
                atoms.append(self.atom(right, left, line))
            out = [tuple(atoms)]
        elif head in ("<", ">"):
            self.fail(line, f"strict comparison {head} is not supported; write {head}= (a tie counts as a violation)")
        else:
            self.fail(line, f"unknown connective {_text(head)}; and, or, <=, >= and = are supported")
        if len(out) > MAX_DISJUNCTS:
            self.fail(line, f"it has more than {MAX_DISJUNCTS} disjuncts; split the specification")
        return out

    def atom(self, left: _Expression, right: _Expression, line: int) -> _Atom:
        """``left ≤ right``."""
        # Nearly all of a large file compares an input with a number.
        if isinstance(left, str) and isinstance(right, str) and (left in self.variables) != (right in self.variables):
            kind, index = self.variables.get(left) or self.variables[right]
            if kind == "X":
                upper = left in self.variables
                return _Bound(index, upper, self.number(right if upper else left, line), line)
        difference = [(_ONE, self.linear(left, line)), (-_ONE, self.linear(right, line))]
        form, constant = _combined(difference)
        form = {name: c for name, c in form.items() if c}
        kinds = {self.variables[name][0] for name in form}
        if not kinds:
            self.fail(line, f"({_text(left)} against {_text(right)}) does not restrict any variable")
        if kinds == {"Y"}:
            # A positive multiple says the same; coefficients must be binary floating-point numbers.
            scale = math.lcm(*(c.denominator for c in form.values())) if not _binary(form.values()) else 1
            return Row(tuple((self.variables[n][1], c * scale) for n, c in form.items()), constant * scale)
        if len(form) > 1:
            self.fail(
                line,
                f"a condition that relates {' and '.join(sorted(form)[:3])} is not supported for now; each input may "
                "only be bounded by constants",
            )
        ((name, c),) = form.items()
        return _Bound(self.variables[name][1], c > 0, -constant / c, line)

    def linear(self, expression: _Expression, line: int) -> tuple[dict[str, Fraction], Fraction]:
        """Coefficients by variable, and the constant, of a linear term."""
        if isinstance(expression, str):
            if expression in self.variables:
                return {expression: _ONE}, Fraction(0)
            return {}, self.number(expression, line)
        head, *rest = expression.items or [""]
        terms = [self.linear(item, expression.line) for item in rest]
        if head == "+" and terms:
            return _combined((_ONE, t) for t in terms)
        if head == "-" and len(terms) == 1:
            return _combined([(-_ONE, terms[0])])
        if head == "-" and terms:
            return _combined((_ONE if i == 0 else -_ONE, t) for i, t in enumerate(terms))
        if head != "*" or len(terms) != 2:
            self.fail(expression.line, f"unknown term {_text(expression)}; numbers, variables, +, - and * are known")
        (first, a), (second, b) = terms
        if first and second:
            self.fail(expression.line, f"{_text(expression)} multiplies variables; terms must be linear")
        return _combined([(b, terms[0])] if first else [(a, terms[1])])

    def number(self, token: str, line: int) -> Fraction:
        value = self.constants.get(token)
        if value is None:
            if _VARIABLE.fullmatch(token):
                self.fail(line, f"{token} is not declared; declare it with (declare-const {token} Real)")
            try:
                value = exact(token)
            except ValueError:
                self.fail(line, f"{token[:40]!r} is neither a declared variable nor a finite number")
            self.constants[token] = value
        return value

    def cases(self, common: Sequence[_Atom], choices: Sequence[Sequence[tuple[_Atom, ...]]]) -> Query:
        """Every choice of one alternative per assertion, grouped by the box of inputs that it is about."""
        base, rows = self.conjunction({}, common)
        for atom in common:
            if isinstance(atom, _Bound) and _empty(base[atom.index]):
                low, high = (shown(end) for end in base[atom.index] if end is not None)
                self.fail(atom.line, f"X_{atom.index} is bounded to nothing: at least {low} and at most {high}")
        clauses: dict[tuple[tuple[int, _Interval], ...], list[Clause]] = {}
        for number, choice in enumerate(itertools.product(*choices), start=1):
            own, more = self.conjunction(base, itertools.chain(*choice))
            if not any(map(_empty, own.values())):
                clauses.setdefault(tuple(sorted(own.items())), []).append(self.clause([*rows, *more], number))
        if not clauses:
            self.fail(1, "every disjunct bounds some input to nothing, so there is no input to ask about")
        cases = [
            (self.region(base | dict(own)), Property(tuple(found), {"kind": "vnnlib"}))
            for own, found in clauses.items()
        ]
        return Query(tuple(cases), {"kind": "vnnlib", "name": self.name, "cases": len(cases)})

    def conjunction(self, base: _Box, atoms: Iterable[_Atom]) -> tuple[_Box, list[Row]]:
        """The bounds of the inputs that the atoms mention, intersected with ``base``; and the atoms' rows."""
        box: _Box = {}
        rows: list[Row] = []
        for atom in atoms:
            if isinstance(atom, Row):
                rows.append(atom)
                continue
            low, high = box.get(atom.index) or base.get(atom.index) or (None, None)
            if atom.upper:
                high = atom.value if high is None else min(high, atom.value)
            else:
                low = atom.value if low is None else max(low, atom.value)
            box[atom.index] = (low, high)
        return box, rows

    def clause(self, rows: list[Row], number: int) -> Clause:
        if not rows:
            self.fail(1, f"disjunct {number} says nothing about the outputs; assert what a violation looks like")
        label = _row_text(rows[0]) if len(rows) == 1 else f"disjunct {number}"
        try:
            found = Clause(tuple(rows), self.sizes["Y"], label=label)
        except PropertyError as error:
            self.fail(1, f"disjunct {number}: {error}")
        return found

    def region(self, box: _Box) -> Region:
        lower, upper = [], []
        for i in range(self.sizes["X"]):
            low, high = box.get(i, (None, None))
            if low is None or high is None:
                side = "lower" if low is None else "upper"
                name = f"X_{i}"
                self.fail(self.lines[name], f"{name} has no {side} bound; assert one, every input needs both")
            lower.append(low)
            upper.append(high)
        try:
            found = Region(tuple(lower), tuple(upper), statement={"kind": "box"})
        except RegionError as error:
            self.fail(1, str(error))
        return found


def _empty(interval: _Interval) -> bool:
    low, high = interval
    return low is not None and high is not None and low > high


def _combined(
    parts: Iterable[tuple[Fraction, tuple[dict[str, Fraction], Fraction]]],
) -> tuple[dict[str, Fraction], Fraction]:
    """The sum of linear terms, each times a factor."""
    form: dict[str, Fraction] = {}
    constant = Fraction(0)
    for factor, (coefficients, offset) in parts:
        for name, c in coefficients.items():
            form[name] = form.get(name, Fraction(0)) + factor * c
        constant += factor * offset
    return form, constant


def _binary(coefficients: Iterable[Fraction]) -> bool:
    """Whether all are fractions over a power of two."""
    return all(c.denominator & (c.denominator - 1) == 0 for c in coefficients)


def _row_text(row: Row) -> str:
    terms = [f"{'-' if c < 0 else '+'} {'' if abs(c) == 1 else f'{shown(abs(c))} '}Y_{i}" for i, c in row.coefficients]
    if row.offset:
        terms.append(f"{'-' if row.offset < 0 else '+'} {shown(abs(row.offset))}")
    return f"{' '.join(terms).removeprefix('+ ')} <= 0"


def _text(expression: _Expression) -> str:
    """The expression as text, cut short for messages."""
    text = expression if isinstance(expression, str) else f"({' '.join(_text(i) for i in expression.items[:6])})"
    return text if len(text) <= 60 else f"{text[:57]}..."
