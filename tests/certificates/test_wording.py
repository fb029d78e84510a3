"""A certificate's question in words."""

from __future__ import annotations

from fractions import Fraction

import pytest

from certificates.wording import worded
from networks import Ball, Clause, Constraint, Property, Query, Region, Row


def box(width: str = "1/5", **more: object) -> Region:
    return Region((Fraction(0), Fraction(1, 2)), (Fraction(width), Fraction(1, 2)), **more)  # type: ignore[arg-type]


def says(*clauses: Clause) -> str:
    region, prop = worded(Query.single(box(), Property(clauses)))
    assert region == "region    2 inputs between 0 and 0.5, each in an interval at most 0.2 wide, 1 of them fixed"
    return prop.removeprefix("property  ")


def clause(*rows: Row) -> Clause:
    return Clause(rows, 8)


def above(winner: int, *rivals: int) -> list[Clause]:
    return [clause(Row.of({winner: 1, rival: -1})) for rival in rivals]


@pytest.mark.parametrize(
    ("rivals", "words"),
    [((0,), "output 0"), ((0, 2), "outputs 0 and 2"), ((0, 1, 2, 4, 6, 7), "outputs 0-2, 4 and 6-7")],
)
def test_a_class_that_wins(rivals: tuple[int, ...], words: str) -> None:
    assert says(*above(3, *rivals)) == f"output 3 stays above {words}"


def test_other_properties_are_spelt_out() -> None:
    limits = Row.of({0: 2, 3: -1}, Fraction(-1, 4)), Row.of({1: -1})
    assert says(clause(limits[0])) == "never 2 y0 - y3 - 0.25 ≤ 0"
    assert says(clause(*limits)) == "never (2 y0 - y3 - 0.25 ≤ 0 and - y1 ≤ 0)"
    assert says(*above(3, 0), *above(1, 0)) == "never - y0 + y3 ≤ 0, or - y0 + y1 ≤ 0"
    many = [clause(Row.of({k: 1}, 1)) for k in range(5)]
    assert says(*many) == "never y0 + 1 ≤ 0, or y1 + 1 ≤ 0, or y2 + 1 ≤ 0, or 2 more"


def test_balls_constraints_and_several_regions() -> None:
    import numpy as np

    center = np.array([0.0, 0.5], np.float32)
    ball = box("1/4", ball=Ball("l2", center, Fraction(1, 4)), constraints=(Constraint.of({0: 1, 1: 1}, 2),))
    prop = Property(tuple(above(1, 0)))
    assert worded(Query.single(ball, prop))[0].endswith(
        "within l2 distance 0.25 of a center, with 1 linear constraints"
    )
    lines = worded(Query(tuple((box(), prop) for _ in range(5))))
    assert len(lines) == 7
    assert lines[-1] == "and 2 more regions, each with its property"
