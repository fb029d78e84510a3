"""Properties by their violations; ties violate."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from networks import Clause, OutputRange, Property, PropertyError, Query, Region, Row

OUTPUTS = arrays(np.float32, 4, elements=st.floats(-10, 10, width=32))


@given(OUTPUTS, st.integers(0, 3))
def test_classification_is_violated_unless_the_label_wins_strictly(y, label):
    prop = Property.classification(label, 4)
    others = np.delete(y, label)
    assert prop.violated(y) == (not (y[label] > others).all())
    assert prop.margin(y) == min(Fraction(float(y[label])) - Fraction(float(v)) for v in others)


@given(OUTPUTS, st.integers(0, 3), st.integers(1, 3))
def test_top_k_is_violated_unless_fewer_than_k_others_are_as_good(y, label, k):
    prop = Property.top_k(label, 4, k)
    others = np.delete(y, label)
    assert prop.violated(y) == (np.count_nonzero(others >= y[label]) >= k)
    assert len(prop.clauses) == math.comb(3, k)
    # The margin is how far the label is ahead of the k-th best of the others.
    assert prop.margin(y) == Fraction(float(y[label])) - Fraction(float(np.sort(others)[-k]))


def test_top_1_is_classification():
    ranked, plain = Property.top_k(2, 4, 1, [3, 0, 3]), Property.classification(2, 4, [3, 0])
    assert [c.rows for c in ranked.clauses] == [c.rows for c in plain.clauses]
    assert [c.label for c in ranked.clauses] == ["class 3", "class 0"]
    assert ranked.statement == {"kind": "top_k", "label": 2, "top_k": 1, "targets": [3, 0]}
    assert Property.top_k(2, 4, 2).clauses[0].label == "classes 0, 1"


@given(OUTPUTS, st.integers(0, 3), st.sampled_from(["0", "0.1", "2.5"]))
def test_confidence_asks_for_more_than_that_difference(y, label, confidence):
    prop = Property.confident(label, 4, confidence)
    ahead = [Fraction(float(y[label])) - Fraction(float(v)) for v in np.delete(y, label)]
    assert prop.violated(y) == any(a <= Fraction(confidence) for a in ahead)
    assert prop.margin(y) == min(ahead) - Fraction(confidence)


@given(OUTPUTS, st.sampled_from([{0: 1}, {1: "-0.5", 3: 2}, {0: "0.1", 2: "0.3"}]))
def test_within_is_violated_outside_and_at_the_ends(y, coefficients):
    value = sum(Fraction(c) * Fraction(float(y[i])) for i, c in coefficients.items())
    prop = Property.within(4, coefficients, "-0.7", 3)
    assert prop.violated(y) == (not Fraction("-0.7") < value < 3)
    assert Property.within(4, coefficients, upper=3).violated(y) == (value >= 3)
    assert Property.within(4, coefficients, lower="-0.7").violated(y) == (value <= Fraction("-0.7"))


@given(OUTPUTS, st.sampled_from([{0: 1}, {1: "-0.5", 3: 2}, {0: "0.1", 2: "0.3"}]))
def test_a_range_is_asked_by_two_margins(y, coefficients):
    value = sum(Fraction(c) * Fraction(float(y[i])) for i, c in coefficients.items())
    asked = OutputRange.of(4, coefficients)
    assert asked.least.margin(y) / asked.multiple == value
    assert -asked.greatest.margin(y) / asked.multiple == value
    assert OutputRange.output(4, 2).multiple == 1


@given(OUTPUTS)
def test_rows_are_stated_as_json(y):
    prop = Property.stated(
        4,
        [
            [{"coefficients": {"0": 1, "3": -0.5}, "offset": "0.25"}, {"coefficients": [0, 0, 1, 0]}],
            [{"coefficients": {"1": "0.1"}, "offset": 1}],
        ],
    )
    a, b, c, d = (Fraction(float(v)) for v in y)
    both = a - d / 2 + Fraction(1, 4) <= 0 and c <= 0
    assert prop.violated(y) == (both or b <= -10)
    again = Property.stated(4, prop.statement["clauses"])
    assert [c.rows for c in again.clauses] == [c.rows for c in prop.clauses]


@given(OUTPUTS)
def test_matrix_and_offsets_are_the_rows(y):
    rows = (Row(((0, Fraction(1)), (2, Fraction(-1, 2))), Fraction(1, 10)), Row(((3, Fraction(2)),)))
    clause = Clause(rows, 4)
    for r, row in enumerate(rows):
        value = sum((Fraction(c) * Fraction(float(v)) for c, v in zip(clause.matrix[r], y, strict=True)), Fraction(0))
        assert value + row.offset == row.value(y)
        assert Fraction(clause.offsets[r]) <= row.offset
    assert clause.margin(y) == max(row.value(y) for row in rows)


def test_conjunction_needs_every_row():
    clause = Clause((Row(((0, Fraction(1)),)), Row(((1, Fraction(1)),))), 2)
    prop = Property((clause,))
    assert prop.violated(np.float32([-1, 0]))
    assert not prop.violated(np.float32([-1, 0.5]))


def test_a_tie_violates_and_nan_does_not():
    prop = Property.classification(0, 2)
    assert prop.violated(np.float32([1, 1]))
    assert not prop.violated(np.float32([np.nan, 1]))
    assert not prop.violated(np.float32([-np.inf, 1]))


def test_targets_are_kept_in_order_without_repeats():
    prop = Property.classification(1, 4, [3, 0, 3])
    assert [c.label for c in prop.clauses] == ["class 3", "class 0"]
    assert prop.statement == {"kind": "classification", "label": 1, "targets": [3, 0]}


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Property.classification(4, 4), "label 4 does not exist"),
        (lambda: Property.classification(-1, 4), "label -1"),
        (lambda: Property.classification(0, 1), "no target"),
        (lambda: Property.classification(0, 4, []), "no target"),
        (lambda: Property.classification(0, 4, [4]), "target 4"),
        (lambda: Property.classification(0, 4, [0]), "label itself"),
        (lambda: Property.top_k(0, 4, 0), "between 1 and 3"),
        (lambda: Property.top_k(0, 4, 4), "between 1 and 3"),
        (lambda: Property.top_k(0, 4, 3, [1, 2]), "between 1 and 2"),
        (lambda: Property.top_k(0, 1000, 5), r"\d{12,} sets of 5 classes"),
        (lambda: Property.top_k(0, 4, 1, [0]), "label itself"),
        (lambda: Property.confident(0, 4, -1), "at least 0"),
        (lambda: Property.confident(0, 4, "nan"), "finite"),
        (lambda: Property.within(2, {0: 1}), "lower or an upper"),
        (lambda: Property.within(2, {0: 1}, lower="x"), "finite number"),
        (lambda: Property.within(2, {2: 1}, lower=0), "output 2 does not exist"),
        (lambda: Property.within(2, {}, lower=0), "other than 0"),
        (lambda: Property.within(2, {"a": 1}, lower=0), "by output index"),
        (lambda: Property.within(2, {"1": 1, 1: 2}, lower=0), "two coefficients"),
        (lambda: OutputRange.output(2, -1), "output -1"),
        (lambda: Property.stated(2, []), "no clauses"),
        (lambda: Property.stated(2, [[]]), "no rows"),
        (lambda: Property.stated(2, [[{"offset": 1}]]), "a row is"),
        (lambda: Property.stated(2, [[{"coefficients": [1], "bound": 1}]]), "a row is"),
        (lambda: Property.stated(2, [[{"coefficients": [1], "offset": "inf"}]]), "finite number"),
        (lambda: Property(()), "no clauses"),
        (lambda: Clause((), 2), "no rows"),
        (lambda: Clause((Row(((2, Fraction(1)),)),), 2), "output 2"),
        (lambda: Clause((Row(((0, Fraction(1, 3)),)),), 2), "binary"),
        (lambda: Clause((Row(((0, Fraction(10) ** 400),)),), 2), "binary"),
        (lambda: Clause((Row(((0, Fraction(1)),), Fraction(10) ** 400),), 2), "too large"),
    ],
)
def test_bad_properties_are_refused(make, word):
    with pytest.raises(PropertyError, match=word):
        make()


def test_query_states_what_it_asks():
    query = Query.single(Region.linf_ball([0.5], "0.1", (0, 1)), Property.classification(0, 3))
    assert query.clauses == 2
    assert query.statement["region"]["epsilon"] == "0.1"
    assert query.statement["property"]["label"] == 0
