"""Conditions of a specification, as a disjunction of conjunctions of linear comparisons.

`Conditions` reads expressions over declared variables and multiplies them out, up to a limit. What a
conjunction says is a list of atoms: a bound of one input, a constraint of several inputs, or a row of outputs.
Numbers are the rationals that their decimals denote.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from networks.constraints import Constraint
from networks.exact import exact
from networks.forms import Form, Source, shown_form
from networks.property import Row, multiple

__all__ = ["MAX_DISJUNCTS", "Atom", "Bound", "Conditions", "Variable"]

MAX_DISJUNCTS = 200_000
"""Limit on the disjuncts that nested ``and`` and ``or`` multiply out to."""

_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_PLAIN = re.compile(r"(-?[0-9]{1,30})\.([0-9]{1,60})")
_ONE, _ZERO = Fraction(1), Fraction(0)
_COMPARISONS = frozenset({"<=", ">=", "<", ">", "=", "==", "!="})


@dataclass(frozen=True, slots=True)
class Bound:
    """``X_i ≤ value`` (upper) or ``X_i ≥ value``, from the token number ``at``."""

    index: int
    upper: bool
    value: Fraction
    at: int


Atom: TypeAlias = Bound | Constraint | Row
Variable: TypeAlias = tuple[str, int]
_Linear: TypeAlias = tuple[dict[Variable, Fraction], Fraction]


class Conditions:
    """Reads conditions over variables.

    Args:
        source: where the expressions come from.
        variable: what a word names: a kind, "X" or "Y", and an index among the inputs or outputs; None if nothing.
        equality: how the version of the language writes "equals".
    """

    def __init__(self, source: Source, variable: Callable[[str], Variable | None], equality: str) -> None:
        self._source = source
        self._variable = variable
        self._equality = equality
        self._numbers: dict[str, Fraction] = {}

    def alternatives(self, form: Form, item: int) -> list[tuple[Atom, ...]]:
        """The disjunctive normal form of an item of a form: a list of conjunctions.

        Raises:
            VnnlibError: it is no condition, or not linear, or multiplies out to more than `MAX_DISJUNCTS`, or relates
                inputs and outputs.
        """
        expression = form.items[item]
        if isinstance(expression, str) or not expression.items:
            self._source.fail(form, f"expected a condition such as (<= X_0 1), got {shown_form(expression)}", item)
        head, *rest = expression.items
        if head == "or":
            out = [found for i in range(len(rest)) for found in self.alternatives(expression, i + 1)]
            if not out:
                self._source.fail(expression, "an empty disjunction can never hold")
        elif head == "and":
            parts = [self.alternatives(expression, i + 1) for i in range(len(rest))]
            if all(len(part) == 1 for part in parts):
                return [tuple(itertools.chain.from_iterable(part[0] for part in parts))]
            if math.prod(map(len, parts)) > MAX_DISJUNCTS:
                self._too_many(expression)
            out = [tuple(itertools.chain(*choice)) for choice in itertools.product(*parts)]
        elif isinstance(head, str) and head in _COMPARISONS:
            return [self._comparison(expression, head)]
        else:
            self._source.fail(
                expression,
                f"unknown connective {shown_form(head)}; and, or, <=, >= and {self._equality} are supported",
                0,
            )
        if len(out) > MAX_DISJUNCTS:
            self._too_many(expression)
        return out

    def check_product(self, choices: Iterable[Collection[object]]) -> None:
        """Refuses assertions with these alternatives if together they are too many."""
        if math.prod(len(choice) for choice in choices) > MAX_DISJUNCTS:
            self._source.fail(0, f"its assertions multiply out to more than {MAX_DISJUNCTS} disjuncts; split it")

    def _too_many(self, form: Form) -> None:
        self._source.fail(form, f"it multiplies out to more than {MAX_DISJUNCTS} disjuncts; split the specification")

    def _comparison(self, form: Form, head: str) -> tuple[Atom, ...]:
        if len(form.items) != 3:
            self._source.fail(form, f"{head} compares two terms, got {len(form.items) - 1}")
        if head == "<=":
            return (self._atom(form, 1, 2),)
        if head == ">=":
            return (self._atom(form, 2, 1),)
        if head == self._equality:
            return self._atom(form, 1, 2), self._atom(form, 2, 1)
        if head in {"<", ">"}:
            reason = f"strict comparison {head} is not supported; write {head}= (a tie counts as a violation)"
        elif head == "!=":
            reason = "!= is not supported; write two specifications, one with <= and one with >="
        else:
            reason = f"equality is written {self._equality} in this version of VNNLIB, not {head}"
        return self._source.fail(form, reason, 0)

    def _atom(self, form: Form, left: int, right: int) -> Atom:
        """``left ≤ right``, for two items of the form."""
        a, b = form.items[left], form.items[right]
        # Nearly all of a large file compares a variable with a number.
        if isinstance(a, str) and isinstance(b, str):
            first, second = self._variable(a), self._variable(b)
            if (first is None) != (second is None):
                kind, index = first or second or ("", 0)
                value = self._number(form, right if first else left)
                if kind == "X":
                    return Bound(index, first is not None, value, form.at)
                return Row(((index, _ONE if first else -_ONE),), -value if first else value)
        coefficients, constant = _combined([(_ONE, self._linear(form, left)), (-_ONE, self._linear(form, right))])
        terms = sorted((variable, c) for variable, c in coefficients.items() if c)
        kinds = {kind for (kind, _), _ in terms}
        if not kinds:
            self._source.fail(form, f"{shown_form(form)} does not restrict any variable")
        if len(kinds) > 1:
            self._source.fail(
                form,
                f"{shown_form(form)} relates inputs and outputs, which is not supported; compare inputs with inputs "
                "and outputs with outputs, or give the network its inputs as further outputs",
            )
        entries = [(index, c) for (_, index), c in terms]
        if kinds == {"Y"}:
            # A positive multiple says the same; coefficients must be binary floating-point numbers.
            scale = multiple(c for _, c in entries)
            return Row(tuple((i, c * scale) for i, c in entries), constant * scale)
        if len(entries) == 1:
            ((index, c),) = entries
            return Bound(index, c > 0, -constant / c, form.at)
        return Constraint(tuple(i for i, _ in entries), tuple(c for _, c in entries), -constant)

    def _linear(self, form: Form, item: int) -> _Linear:
        """Coefficients by variable, and the constant, of a term."""
        expression = form.items[item]
        if isinstance(expression, str):
            variable = self._variable(expression)
            return ({variable: _ONE}, _ZERO) if variable else ({}, self._number(form, item))
        head, *rest = expression.items or [""]
        terms = [self._linear(expression, i + 1) for i in range(len(rest))]
        if head == "+" and terms:
            return _combined((_ONE, term) for term in terms)
        if head == "-" and len(terms) == 1:
            return _combined([(-_ONE, terms[0])])
        if head == "-" and terms:
            return _combined((_ONE if i == 0 else -_ONE, term) for i, term in enumerate(terms))
        if head != "*" or len(terms) < 2:
            self._source.fail(
                expression, f"unknown term {shown_form(expression)}; numbers, variables, +, - and * are known"
            )
        varying = [term for term in terms if term[0]]
        if len(varying) > 1:
            self._source.fail(expression, f"{shown_form(expression)} multiplies variables; terms must be linear")
        factor = math.prod((constant for coefficients, constant in terms if not coefficients), start=_ONE)
        return _combined([(factor, varying[0] if varying else ({}, _ONE))])

    def _number(self, form: Form, item: int) -> Fraction:
        token = form.items[item]
        assert isinstance(token, str)
        value = self._numbers.get(token)
        if value is None:
            try:
                value = _decimal(token)
            except ValueError:
                self._source.fail(form, f"{token[:40]!r} is neither a declared variable nor a finite number", item)
            self._numbers[token] = value
        return value


def _decimal(token: str) -> Fraction:
    """The number that a word writes.

    Raises:
        ValueError: it writes none, or one with an exponent of more than a few thousand.
    """
    plain = _PLAIN.fullmatch(token)
    if plain:
        # Most numbers of a large file; reading them so takes half the time.
        return Fraction(int(plain[1] + plain[2]), 10 ** len(plain[2]))
    return exact(token if _NUMBER.fullmatch(token) else "")


def _combined(parts: Iterable[tuple[Fraction, _Linear]]) -> _Linear:
    """The sum of linear terms, each times a factor."""
    form: dict[Variable, Fraction] = {}
    total = _ZERO
    for factor, (coefficients, offset) in parts:
        for variable, c in coefficients.items():
            form[variable] = form.get(variable, _ZERO) + factor * c
        total += factor * offset
    return form, total
