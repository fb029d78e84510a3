"""Regions: outward for proofs, inward for replay, both exact."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks import Region, RegionError
from networks.exact import exact

FLOATS = st.floats(-100, 100, width=32)
DECIMALS = st.decimals(-100, 100, allow_nan=False, places=4).map(str)


@st.composite
def boxes(draw):
    ends = [sorted(draw(st.tuples(DECIMALS, DECIMALS)), key=exact) for _ in range(draw(st.integers(1, 4)))]
    return Region.box([e[0] for e in ends], [e[1] for e in ends])


@given(boxes())
def test_both_roundings_hug_the_exact_box(region):
    for i in range(region.inputs):
        low, high = region.exact_lower[i], region.exact_upper[i]
        assert Fraction(region.lower[i]) <= low
        assert Fraction(region.upper[i]) >= high
        assert Fraction(float(region.replay_lower[i])) >= low
        assert Fraction(float(region.replay_upper[i])) <= high


@given(boxes(), st.data())
def test_membership_is_exact(region, data):
    near = [
        float(v)
        for v in np.concatenate([region.replay_lower, region.replay_upper])
        for v in (v, np.nextafter(v, np.float32(-1e9)))
    ]
    point = np.array([data.draw(st.sampled_from(near) | FLOATS) for _ in range(region.inputs)], np.float32)
    inside = all(
        low <= Fraction(float(v)) <= high
        for v, low, high in zip(point, region.exact_lower, region.exact_upper, strict=True)
    )
    assert region.contains(point) == inside


@given(boxes(), st.integers(0, 2**32 - 1))
def test_samples_projections_and_center_lie_inside(region, seed):
    if not region.replayable:
        assert region.center is None
        return
    rng = np.random.default_rng(seed)
    for point in (
        region.center,
        *region.sample(5, rng),
        *region.project(rng.standard_normal((3, region.inputs)) * 1e3),
    ):
        assert point.dtype == np.float32
        assert region.contains(point)


@given(boxes(), st.integers(0, 2**32 - 1))
def test_exact_points_lie_inside_and_differ_only_where_no_float32_number_does(region, seed):
    rng = np.random.default_rng(seed)
    held = region.replay_lower <= region.replay_upper
    for point in region.sample(5, rng):
        assert np.isfinite(point).all()
        exactly = region.exact_point(point)
        assert region.contains_exactly(exactly)
        same = [Fraction(float(v)) == e for v, e in zip(point, exactly, strict=True)]
        assert same == held.tolist()
        # The float32 numbers on either side are no nearer.
        for v, e in zip(point, exactly, strict=True):
            gaps = [abs(Fraction(float(np.nextafter(v, np.float32(way)))) - e) for way in (-1e9, 1e9)]
            assert abs(Fraction(float(v)) - e) <= min(gaps)
        assert region.contains(point) == region.replayable


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=6), st.sampled_from(["0", "0.1", 0.03, "8/255", 2]))
def test_ball_is_the_ball_cut_by_its_domain(center, epsilon):
    region = Region.linf_ball(np.array(center), epsilon, (0, 1))
    radius = exact(epsilon)
    for i, c in enumerate(center):
        assert region.exact_lower[i] == max(Fraction(c) - radius, 0)
        assert region.exact_upper[i] == min(Fraction(c) + radius, 1)
    assert region.center.tolist() == center
    assert region.contains(region.center)


def test_ball_without_domain_is_not_cut():
    region = Region.linf_ball([0.0, 1.0], 1)
    assert region.lower.tolist() == [-1, 0]
    assert region.statement == {"kind": "ball", "norm": "linf", "epsilon": "1"}


def test_nan_is_nowhere():
    assert not Region.box([-1], [1]).contains(np.array([np.nan], np.float32))


def test_region_between_two_float32_numbers_has_no_point_to_replay():
    region = Region.box(["0.1"], ["0.1"])
    assert not region.replayable
    assert region.center is None
    assert region.lower[0] < region.upper[0]
    assert region.project([7.0]).tolist() == [np.float32(0.1)]
    assert region.exact_point(region.project([7.0])) == (Fraction(1, 10),)
    assert not region.contains_exactly([Fraction(0.1)])


def test_ends_beyond_float32_are_kept():
    region = Region.box(["-1e300"], ["1e300"])
    assert region.replayable
    assert region.center.tolist() == [0]
    beyond = Region.box(["1e300", "-1e301"], ["1e301", "-1e300"])
    assert not beyond.replayable
    assert beyond.exact_point(beyond.project([0, 0])) == (10**300, -(10**300))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Region.box([1], [0]), "empty: input 0 has lower bound 1 above"),
        (lambda: Region.box(["1e400"], ["-1e400"]), "empty"),
        (lambda: Region.box([0, 0], [1]), "as many lower"),
        (lambda: Region.box([np.nan], [1]), "lower bound of input 0"),
        (lambda: Region.box([0], ["1e400"]), "represented"),
        (lambda: Region.linf_ball([0.5], -0.1), "at least 0"),
        (lambda: Region.linf_ball([0.5], "x"), "epsilon"),
        (lambda: Region.linf_ball([0.5], float("nan")), "epsilon"),
        (lambda: Region.linf_ball([0.5, np.nan], 0.1), "entry 1"),
        (lambda: Region.linf_ball([1e39], 0.1), "entry 0"),
        (lambda: Region.linf_ball([0.5, 200.0], 0.1, (0, 1)), "entry 1 is 200, outside"),
        (lambda: Region.linf_ball([-0.5, 0.5], 0.1, (0, 1)), "entry 0"),
        (lambda: Region.linf_ball([0.5], 0.1, (0, "x")), "domain"),
        (lambda: Region.linf_ball([], 0.1), "no entries"),
    ],
)
def test_bad_regions_are_refused(make, word):
    with pytest.raises(RegionError, match=word):
        make()


def test_an_image_takes_milliseconds():
    image = (np.arange(784) % 256).astype(np.float32) / np.float32(255)
    Region.linf_ball(image, "0.1", (0, 1))
    start = time.perf_counter()
    for _ in range(5):
        Region.linf_ball(image, "0.1", (0, 1))
    assert (time.perf_counter() - start) / 5 < 0.1
