"""VNNLIB 2: its linear part, against the standard's own parser where that is installed."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks import Query, VnnlibError, parse_vnnlib

HEAD = """(vnnlib-version <2.0>) ; a comment
(declare-network acc
    (declare-input  X real [3])
    (declare-output Y real []))
"""
BOX = "".join(f"(assert (and (>= X[{i}] 0.0) (<= X[{i}] 1.0)))\n" for i in range(3))


def holds(query: Query, x, y) -> bool:
    """Whether the query counts the point as a violation."""
    return any(
        region.contains_exactly([Fraction(v) for v in x]) and prop.violated(np.float32(y))
        for region, prop in query.cases
    )


def test_a_controller():
    """Constraints between inputs, a scalar output without index, and one with."""
    query = parse_vnnlib(
        HEAD
        + """(assert (<= (* -1.0 X[0]) 0.0)) (assert (<= X [0] 50.0))
        (assert (and (>= X[1] -50.0) (<= X[1] 50.0) (>= X[2] 0.0) (<= X[ 2 ] 150.0)))
        (assert (<= (+ (* -1.5 X[1]) X[2]) -15.0))
        (assert (or (<= Y -3.0) (>= Y 0.0)))""",
        3,
        1,
    )
    ((region, prop),) = query.cases
    assert region.exact_upper == (50, 50, 150)
    assert region.contains_exactly([Fraction(0), Fraction(20), Fraction(15)])
    assert not region.contains_exactly([Fraction(0), Fraction(20), Fraction(16)])
    assert [prop.violated(np.float32([v])) for v in (-3, -1, 0)] == [True, False, True]


def test_elements_are_counted_in_c_order():
    text = """(vnnlib-version <2.1>)(declare-network f
        (declare-input image Real [1,2,3] "input.1") (declare-output scores real [2,2]))"""
    places = list(itertools.product(range(1), range(2), range(3)))
    for k, place in enumerate(places):
        at = ",".join(map(str, place))
        text += f"(assert (and (>= image[{at}] {k}.0) (<= image[{at}] {k}.5)))"
    ((region, prop),) = parse_vnnlib(text + "(assert (>= scores[1,0] scores[0,1]))", 6, 4).cases
    assert region.exact_lower == tuple(range(6))
    ((row,),) = [clause.rows for clause in prop.clauses]
    assert dict(row.coefficients) == {1: 1, 2: -1}


def test_equality_sums_and_products():
    query = parse_vnnlib(HEAD + BOX + "(assert (== (* 2.0 (+ Y 1.0) 0.5) (- 3.0 1.0 1.0)))", 3, 1)
    assert holds(query, [0, 0, 0], [0])
    assert not holds(query, [0, 0, 0], [0.5])
    assert not holds(query, [0, 0, 2], [0])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("(vnnlib-version <1.0>)", r"line 1, column 1: expected \(vnnlib-version <2.0>\)"),
        ("(vnnlib-version <2.0>)(assert (<= X[0] 1.0))", "line 1, column 23: no network is declared"),
        (HEAD, "there is no assert"),
        (HEAD + HEAD.split("\n", 1)[1], "line 5, column 1: a second network"),
        (HEAD.replace("real", "float32", 1), r"line 3, column 5: X has the type float32.*declare it as real"),
        (HEAD.replace("[3]", "[4]"), "X has 4 entries, but the network has 3 inputs"),
        (HEAD.replace("[3]", "[3,0]"), "positive numbers"),
        (HEAD.replace("[3]", "[a]"), "positive numbers"),
        (HEAD.replace("[3]", ""), "expected .declare-input name real"),
        (HEAD.replace("Y real", "X real"), "second tensor of outputs"),
        (HEAD.replace("output Y", "input Z"), "second tensor of inputs"),
        (HEAD.replace("(declare-output Y real [])", ""), "declares no outputs"),
        (HEAD.replace("acc", "(equal-to g)"), "declare-network name"),
        (HEAD.replace("acc", "acc (equal-to g)"), "networks.monotone"),
        (HEAD.replace("acc", "acc (isomorphic-to g)"), "networks.equivalence"),
        (HEAD.replace("(declare-output", '(declare-hidden H real [3] "h") (declare-output'), "hidden nodes"),
        (HEAD + "(assert (<= X[3] 1.0))", r"line 5, column 13: 'X\[3\]' is neither"),
        (HEAD + "(assert (<= X[0,0] 1.0))", r"'X\[0,0\]' is neither"),
        (HEAD + "(assert (<= X[-1] 1.0))", r"'X\[-1\]' is neither"),
        (HEAD + "(assert (<= X[0.5] 1.0))", r"'X\[0.5\]' is neither"),
        (HEAD + "(assert (<= X 1.0))", "'X' is neither"),
        (HEAD + "(assert (<= Y[0] 1.0))", r"'Y\[0\]' is neither"),
        (HEAD + "(assert (<= X_0 1.0))", "'X_0' is neither"),
        (HEAD + "(assert (< Y 1.0))", r"column 10: strict comparison"),
        (HEAD + "(assert (!= Y 1.0))", "two specifications"),
        (HEAD + "(assert (= Y 1.0))", "equality is written =="),
        (HEAD + "(assert (<= (* X[0] X[1]) 1.0))", "multiplies variables"),
        (HEAD + "(assert (<= X[0] Y))", "relates inputs and outputs"),
        (HEAD + "(declare-const X_0 Real)", "unknown command"),
        (HEAD + "(assert (<= X[0 1.0))", "line 5"),
    ],
)
def test_refusals_name_place_and_reason(text, word):
    with pytest.raises(VnnlibError, match=f"(?s){word}") as caught:
        parse_vnnlib(text, 3, 1)
    assert "column" in str(caught.value)


TERMS = st.recursive(
    st.sampled_from(["X[0]", "X[1]", "0.5", "-1.25", "2.0"]),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-"]), inner, inner).map(lambda t: f"({' '.join(t)})"),
        inner.map(lambda t: f"(- {t})"),
        inner.map(lambda t: f"(* 1.5 {t} -2.0)"),
    ),
    max_leaves=4,
)


@st.composite
def formulas(draw):
    """Conditions on inputs alone or outputs alone, connected at will."""
    kind = st.sampled_from(["X", "Y"])
    comparison = st.builds(
        lambda k, op, a, b: f"({op} {k}[0] (+ {k}[1] (- {a} {a}) {b}))".replace("X[", f"{k}["),
        kind,
        st.sampled_from(["<=", ">=", "=="]),
        TERMS,
        TERMS.filter(lambda t: "X" not in t),
    )
    connected = st.recursive(
        comparison,
        lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)).map(
            lambda t: f"({t[0]} {' '.join(t[1])})"
        ),
        max_leaves=6,
    )
    return draw(connected)


@given(formulas())
@settings(max_examples=40)
def test_the_standards_own_parser_reads_the_same(formula):
    vnnlib = pytest.importorskip("vnnlib", reason="the second parser is installed by `make` on x86 Linux")
    text = """(vnnlib-version <2.0>)(declare-network f (declare-input X real [2]) (declare-output Y real [2]))
        (assert (and (<= X[0] 2.0) (>= X[0] -2.0) (<= X[1] 2.0) (>= X[1] -2.0) (<= Y[0] 9.0)))"""
    text += f"(assert {formula})"
    theirs = vnnlib.parse_query_string(text)

    def value(node, point):
        kind, parts = type(node).__name__, [value(child, point) for child in node.children()]
        if kind == "Var":
            return point[node.name][node.indices[0]]
        if kind in {"Float", "Int"}:
            return Fraction(node.lexeme)
        if kind in {"Plus", "Multiply"}:
            total = parts[0]
            for part in parts[1:]:
                total = total + part if kind == "Plus" else total * part
            return total
        if kind == "Negate":
            return -parts[0]
        if kind == "Minus":
            return parts[0] - sum(parts[1:])
        if kind in {"And", "Or"}:
            return all(parts) if kind == "And" else any(parts)
        return {
            "LessEqual": lambda a, b: a <= b,
            "GreaterEqual": lambda a, b: a >= b,
            "Equal": lambda a, b: a == b,
        }[kind](*parts)

    try:
        ours = parse_vnnlib(text, 2, 2)
    except VnnlibError as error:
        # Regions that are seen to be empty are refused.
        assert "no input to ask about" in str(error) or "bounded to nothing" in str(error)  # noqa: PT017
        ours = None
    grid = [Fraction(v) for v in (-2, Fraction(-5, 4), 0, Fraction(1, 2), 2)]
    for x0, x1, y0, y1 in itertools.product(grid, grid, grid[1:4], grid[1:4]):
        point = {"X": [x0, x1], "Y": [y0, y1]}
        expected = all(value(a.expr, point) for a in theirs.assertions)
        assert (ours is not None and holds(ours, [x0, x1], [float(y0), float(y1)])) == expected
