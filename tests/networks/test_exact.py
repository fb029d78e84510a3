"""Numbers as written, and directed rounding, against Fraction arithmetic."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks.exact import enclose, exact, narrow_down, narrow_up, rounded, written

RATIONALS = st.one_of(
    st.fractions(),
    st.floats(allow_nan=False, allow_infinity=False).map(Fraction),
    st.tuples(st.floats(allow_nan=False, allow_infinity=False, width=32), st.fractions(-1, 1)).map(
        lambda p: Fraction(p[0]) + p[1] * Fraction(1, 2**60)
    ),
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.1", Fraction(1, 10)),
        (0.1, Fraction(1, 10)),
        (Decimal("0.10"), Fraction(1, 10)),
        ("8/255", Fraction(8, 255)),
        ("-2.5e-3", Fraction(-1, 400)),
        ("1E3", Fraction(1000)),
        (3, Fraction(3)),
        (np.int64(3), Fraction(3)),
        (np.float64(0.1), Fraction(0.1)),
        (np.float32(0.1), Fraction(float(np.float32(0.1)))),
        (Fraction(1, 3), Fraction(1, 3)),
    ],
)
def test_numbers_are_read_as_written(value, expected):
    assert exact(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "abc",
        "nan",
        "inf",
        float("nan"),
        float("inf"),
        np.float32("nan"),
        "1/0",
        None,
        "1e999999999",
        Decimal("1e-99999"),
    ],
)
def test_what_is_not_a_finite_number_is_refused(value):
    with pytest.raises(ValueError, match="finite number"):
        exact(value)


@given(st.lists(RATIONALS, min_size=1, max_size=5))
def test_enclosure_is_the_tightest(values):
    low, high = enclose(values)
    for value, down, up in zip(values, low, high, strict=True):
        assert Fraction(float(down)) <= value <= Fraction(float(up))
        assert down == up or np.nextafter(down, np.inf) == up
        assert (down == up) == (Fraction(float(down)) == value)


@given(st.floats(allow_nan=False))
def test_narrowing_is_the_tightest(value):
    down, up = narrow_down(np.array([value]))[0], narrow_up(np.array([value]))[0]
    assert down.dtype == up.dtype == np.float32
    assert float(down) <= value <= float(up)
    with np.errstate(over="ignore"):
        assert down == up or np.nextafter(down, np.float32(np.inf)) == up
    assert (down == up) == (float(np.float64(down)) == value)


@given(RATIONALS)
def test_rounding_in_two_steps_is_rounding_once(value):
    low, high = enclose([value])
    down, up = narrow_down(low)[0], narrow_up(high)[0]
    assert Fraction(float(down)) <= value if np.isfinite(down) else down < 0
    assert Fraction(float(up)) >= value if np.isfinite(up) else up > 0
    with np.errstate(over="ignore"):
        assert down == up or np.nextafter(down, np.float32(np.inf)) == up


@pytest.mark.parametrize("value", [Fraction(10) ** 400, -(Fraction(2) ** 1024)])
def test_beyond_float64_is_refused(value):
    with pytest.raises(ValueError, match="range of float64"):
        enclose([value])


def test_smallest_numbers():
    low, high = enclose([Fraction(1, 10**400), -Fraction(1, 10**400)])
    assert low.tolist() == [0.0, -5e-324]
    assert high.tolist() == [5e-324, 0.0]


@given(RATIONALS)
def test_what_is_written_is_read_as_the_same_number(value):
    assert exact(written(value)) == value
    assert ("/" not in written(value)) == (10**1200 % value.denominator == 0)


@pytest.mark.parametrize(
    ("value", "text"), [("-0.25", "-0.25"), ("1e3", "1000"), ("0.1", "0.1"), ("1/3", "1/3"), ("0", "0")]
)
def test_numbers_are_written_without_exponent(value, text):
    assert written(exact(value)) == text


def test_rounding_for_display_keeps_the_sign():
    assert rounded(Fraction(1, 2**2000)) == math.ulp(0.0)
    assert rounded(Fraction(-1, 2**2000)) == -math.ulp(0.0)
    assert rounded(Fraction(0)) == 0
    assert rounded(Fraction(-(2**2000))) == -math.inf
    assert rounded(Fraction(1, 3)) == 1 / 3
