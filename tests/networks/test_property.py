"""Properties by their violations; ties violate."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from networks import Clause, Property, PropertyError, Query, Region, Row

OUTPUTS = arrays(np.float32, 4, elements=st.floats(-10, 10, width=32))


@given(OUTPUTS, st.integers(0, 3))
def test_classification_is_violated_unless_the_label_wins_strictly(y, label):
    prop = Property.classification(label, 4)
    others = np.delete(y, label)
    assert prop.violated(y) == (not (y[label] > others).all())
    assert prop.margin(y) == min(Fraction(float(y[label])) - Fraction(float(v)) for v in others)


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
