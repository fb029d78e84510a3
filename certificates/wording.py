"""What a certificate's query says, in words, so that an auditor sees that it is the question that was meant."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from networks.exact import shown
from networks.property import Clause, Property, Query
from networks.region import Region

__all__ = ["worded"]

#: Cases and clauses that are spelt out; a query may have thousands.
_MOST = 3


def worded(query: Query) -> list[str]:
    """One line for each region and one for its property; beyond the first three cases, how many more there are."""
    lines = []
    for region, prop in query.cases[:_MOST]:
        lines += [f"region    {_region(region)}", f"property  {_property(prop)}"]
    if len(query.cases) > _MOST:
        lines.append(f"and {len(query.cases) - _MOST} more regions, each with its property")
    return lines


def _region(region: Region) -> str:
    widths = [high - low for low, high in zip(region.exact_lower, region.exact_upper, strict=True)]
    fixed = sum(width == 0 for width in widths)
    said = f"{len(widths)} inputs between {_number(min(region.exact_lower))} and {_number(max(region.exact_upper))}, "
    said += f"each in an interval at most {_number(max(widths))} wide"
    if fixed:
        said += f", {fixed} of them fixed"
    if region.ball is not None:
        said += f", within {region.ball.norm} distance {_number(region.ball.radius)} of a center"
    if region.constraints:
        said += f", with {len(region.constraints)} linear constraints"
    return said


def _property(prop: Property) -> str:
    rivals = [_rival(clause) for clause in prop.clauses]
    winners = {winner for winner, _ in filter(None, rivals)}
    if None not in rivals and len(winners) == 1:
        others = sorted({rival for _, rival in filter(None, rivals)})
        return f"output {winners.pop()} stays above {_listed(others)}"
    more = len(prop.clauses) - _MOST
    said = ", or ".join(map(_clause, prop.clauses[:_MOST]))
    return f"never {said}" + (f", or {more} more" if more > 0 else "")


def _rival(clause: Clause) -> tuple[int, int] | None:
    """The outputs that a clause compares, if that is what it does: a violation has the first at most the second."""
    if len(clause.rows) != 1 or clause.rows[0].offset != 0:
        return None
    above, below = ([i for i, c in clause.rows[0].coefficients if c == one] for one in (1, -1))
    pair = len(above) == len(below) == 1 and len(clause.rows[0].coefficients) == 2
    return (above[0], below[0]) if pair else None


def _clause(clause: Clause) -> str:
    rows = []
    for row in clause.rows[:_MOST]:
        terms = [
            f"{'-' if c < 0 else '+'} {'' if abs(c) == 1 else _number(abs(c)) + ' '}y{i}" for i, c in row.coefficients
        ]
        if row.offset:
            terms.append(f"{'-' if row.offset < 0 else '+'} {_number(abs(row.offset))}")
        rows.append(" ".join(terms).removeprefix("+ ") + " ≤ 0")
    if len(clause.rows) > _MOST:
        rows.append(f"{len(clause.rows) - _MOST} more rows")
    return " and ".join(rows) if len(rows) == 1 else f"({' and '.join(rows)})"


def _number(value: Fraction) -> str:
    """The value to six digits, marked where it has more: what is shown must not be more than what is proven."""
    said = shown(value)
    return said if Fraction(said) == value else f"≈ {said}"


def _listed(outputs: Sequence[int]) -> str:
    """``output 3``, or ``outputs 0-2 and 4-9``."""
    runs: list[list[int]] = []
    for i in outputs:
        if runs and i == runs[-1][1] + 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    said = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    joined = " and ".join(filter(None, [", ".join(said[:-1]), said[-1]]))
    return f"output{'s' if len(outputs) > 1 else ''} {joined}"
