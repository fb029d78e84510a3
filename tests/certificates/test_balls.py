"""Certificates over balls and half-spaces: never above the truth, and about exactly the region that they state."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import networks
from bounds.inside import Inside
from certificates import Certificate, CertificateError, Claim, Node, Tree, check, enclosure, exact, read, write
from certificates.balls import Limits
from certificates.dyadic import Ends, Numbers
from certificates.enclosure import Cell
from certificates.exact_balls import ExactLimits, denominators
from certificates.maps import Rows
from networks import Clause, Network, Property, Query, Region, Row
from networks.constraints import Constraint
from networks.minimum import minimise
from tests.certificates.proofs import pack, root_certificate, unpack
from tests.certificates.test_checker import MAKERS, exact_outputs
from tests.constructed import gemms
from tests.random_networks import random_conv

NORMS = ["l2", "l1", "l0"]


def random_region(norm: str, inputs: int, rng: np.random.Generator, constraints: int = 0, size: float = 0.7) -> Region:
    center = rng.uniform(0, 1, inputs).astype(np.float32)
    center[rng.random(inputs) < 0.3] = 0  # where the domain cuts the ball
    epsilon = int(rng.integers(0, inputs + 1)) if norm == "l0" else str(round(float(rng.uniform(0.1, 1) * size), 3))
    region = Region.norm_ball(center, epsilon, norm, (0, 1))
    rows = rng.normal(size=(constraints, inputs)).round(2)
    offsets = rng.uniform(0, 0.2, constraints)
    some = [
        Constraint.of([str(v) for v in row], str(round(float(row @ center + d), 3)))
        for row, d in zip(rows.tolist(), offsets, strict=True)
    ]
    return region.constrained(some) if some else region


def exactly(region: Region, A: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> list[Fraction]:
    """The exact bounds of rows of A on a part of the region."""
    low = [max(end, Fraction(v)) for end, v in zip(region.exact_lower, lower.tolist(), strict=True)]
    high = [min(end, Fraction(v)) for end, v in zip(region.exact_upper, upper.tolist(), strict=True)]
    every = [v.denominator for v in (*low, *high)] + denominators(region)
    scale = math.lcm(*(d // (d & -d) for d in every))
    limits, rows = ExactLimits.of(region, scale), Numbers.of(A[None])
    assert limits is not None
    found = limits.least(Rows(rows.integers), rows.shift, Ends.of_fractions(low, high, scale))
    return [Fraction(int(v), scale) / Fraction(2) ** found.shift for v in found.integers[0]]


@pytest.mark.parametrize(("norm", "constraints", "seed"), list(itertools.product(NORMS, [0, 1, 2], range(4))))
def test_float_bound_below_exact_bound_below_every_point(norm: str, constraints: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = int(rng.integers(1, 8))
    region = random_region(norm, inputs, rng, constraints)
    lower, upper = region.lower.copy(), region.upper.copy()
    if seed % 2:  # a part that the center is not in
        lower[0] = (lower[0] + upper[0]) / 2
    limits = Limits.of(region)
    assert limits is not None
    scales = [1, 1, 1, 2, 3, 0] if constraints else [1, 1, 1, 1e-40, 1e40, 0]
    A = rng.normal(size=(6, inputs)) * np.array(scales)[:, None]
    (found,) = limits.least(Rows(A[None]), lower[None], upper[None], 2.0**-52)
    truth = exactly(region, A, lower, upper)
    points = [x for x in region.sample(500, rng) if region.contains(x) and (lower <= x).all() and (x <= upper).all()]
    theirs, _ = minimise(A, lower, upper, region.ball, region.halfspaces)
    for row, value, best, other in zip(A, found.tolist(), truth, theirs.tolist(), strict=True):
        for x in points:
            assert best <= sum(Fraction(a) * Fraction(v) for a, v in zip(row.tolist(), x.tolist(), strict=True))
        if points:  # else they say by how much there is none
            assert value <= best <= value + 1e-12 * np.abs(row).sum() + 1e-250
            assert abs(value - other) <= 1e-9 * np.abs(row).sum() + 1e-250


def test_bounds_of_balls_are_tight() -> None:
    A = np.array([[3.0, 4.0]])
    for norm, radius, best in (("l2", "0.5", -2.5), ("l1", "0.5", -2), ("l0", 1, -4)):
        region = Region.norm_ball([0, 0], radius, norm, (-1, 1))
        (value,) = exactly(region, A, region.lower, region.upper)
        assert best - Fraction(1, 2**50) < value <= best
    half = Region.box([-1, -1], [1, 1]).constrained([Constraint.of([-1, -1], "1/2")])
    (value,) = exactly(half, A, half.lower, half.upper)
    assert -2.5 - 1e-12 < value <= -2.5  # at (1/2, −1)


@pytest.mark.parametrize("seed", range(12))
def test_prover_and_checker_find_the_best_bounds_on_small_parts_beside_the_center(seed: int) -> None:
    """As boxes of an input split are: far from the center, and where the ball leaves little of them."""
    rng = np.random.default_rng(seed)
    inputs = int(rng.integers(2, 6))
    center = rng.normal(size=inputs).astype(np.float32)
    region = Region.norm_ball(center, "0.5", "l2")
    way = rng.normal(size=inputs)
    at = center + way * (0.5 - 10.0 ** -int(rng.integers(1, 6))) / np.linalg.norm(way)
    width = rng.choice([0.2, 0.05, 0.003], inputs)
    lower, upper = at - width * rng.random(inputs), at + width * rng.random(inputs)
    A = rng.normal(size=(20, inputs))
    limits, inside = Limits.of(region), Inside.of(region)
    assert limits is not None
    assert inside is not None
    (checker,) = limits.least(Rows(A[None]), lower[None], upper[None], 2.0**-52)
    box = np.minimum(A * lower, A * upper).sum(1)
    prover = np.maximum(inside.bound(*map(torch.as_tensor, (A, lower, upper))).numpy(), box)
    best, _ = minimise(A, lower, upper, region.ball, None)
    np.testing.assert_allclose(checker, best, atol=1e-9)
    np.testing.assert_allclose(prover, best, atol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_a_part_beyond_the_ball_is_proven_empty(norm: str) -> None:
    region = Region.norm_ball(np.zeros(3, np.float32), 1, norm, (-1, 1))
    limits = Limits.of(region)
    assert limits is not None
    lower, upper = np.array([0.9, 0.9, -1.0]), np.array([1.0, 1.0, 1.0])
    A = np.array([[0.0, 0, 0], [5.0, 5, 5], [-5.0, -5, 5]])
    assert (limits.least(Rows(A[None]), lower[None], upper[None], 2.0**-52) > 0).all()
    assert min(exactly(region, A, lower, upper)) > 0


@pytest.mark.parametrize(("make", "norm", "seed"), list(itertools.product(MAKERS, NORMS, range(2))))
def test_networks_are_bounded_over_balls(make, norm: str, seed: int) -> None:
    network = make(seed)
    rng = np.random.default_rng(seed)
    region = random_region(norm, network.inputs, rng, constraints=seed, size=2.0)
    box = enclosure.enclose(network, region.lower[None], region.upper[None])
    bounds = enclosure.enclose(network, region.lower[None], region.upper[None], limits=Limits.of(region))
    C = rng.integers(-2, 3, (1, network.outputs)).astype(float)
    cell = Cell(region.lower, region.upper)
    (value,) = enclosure.lower_bounds(network, bounds, C, np.array([0]), [cell])
    (wider,) = enclosure.lower_bounds(network, box, C, np.array([0]), [cell])
    assert value > wider or norm == "l0"
    ends = region.exact_lower, region.exact_upper
    exact_box = exact.enclose(network, *ends, region=region)
    truth = exact.lower_bound(exact_box, [Fraction(c) for c in C[0].tolist()], cell, ends)
    assert truth is not None
    assert value <= truth <= value + 1e-9 * (1 + abs(value))
    for x in [x for x in region.sample(12, rng) if region.contains(x)][:4]:
        y = exact_outputs(network, x.astype(np.float64))
        assert truth <= sum(Fraction(c) * v for c, v in zip(C[0].tolist(), y, strict=True))


def test_windows_are_bounded_as_whole_rows_are() -> None:
    network = random_conv(0)
    rng = np.random.default_rng(0)
    for norm in NORMS:
        limits = Limits.of(random_region(norm, network.inputs, rng, size=2.0))
        assert limits is not None
        low, high = np.zeros((1, network.inputs)), np.ones((1, network.inputs))
        bounds = enclosure.enclose(network, low, high)
        first = next(node.parent for node in map(network.nodes.__getitem__, network.relu_nodes))
        neuron = np.arange(network.nodes[first].features)[None]
        for form in enclosure.neuron_forms(network, bounds, first, neuron):
            assert form.A.window is not None
            whole = form.A.whole(network.inputs)
            some = limits.least(form.A, low, high, 2.0**-52)
            np.testing.assert_allclose(some, limits.least(whole, low, high, 2.0**-52), atol=1e-12)


# 1 − relu(x0 + x1), around 0.
SLOPE = [([[1.0, 1.0]], [0.0]), ([[-1.0], [0.0]], [1.0, 0.0])]
CLAUSE = Clause((Row(((0, Fraction(1)),)),), 2, "y0")


def slope(region: Region) -> tuple[Network, bytes]:
    """Claims that 1 − relu(x0 + x1) > 0 on the region."""
    network = networks.load_bytes(gemms(SLOPE))
    claim = Node((Claim(0, (1.0,)),))
    query = Query.single(region, Property((CLAUSE,)))
    return network, write(Certificate(network.sha256, query, (Tree(0, (claim,)),)))


def around_zero(norm: str, epsilon: object, domain: tuple[object, object] = (-1, 1)) -> Region:
    return Region.norm_ball(np.zeros(2, np.float32), epsilon, norm, domain)


#: Regions on which the claim holds, and larger ones on which it does not, though it does on a smaller norm's ball.
TRUE = {
    "l2": around_zero("l2", "0.7"),
    "l1": around_zero("l1", "0.99"),
    "l0": around_zero("l0", 1, ("-0.9", "0.9")),
    "half-space": Region.box([-1, -1], [1, 1]).constrained([Constraint.of([1, 1], "0.99")]),
    "ball and half-space": around_zero("l2", 1).constrained(
        [Constraint.of([1, 0], "0.2"), Constraint.of([0, 1], "0.7")]
    ),
}
FALSE = {
    "l2": around_zero("l2", "0.71"),
    "l1": around_zero("l1", "1"),
    "l0": around_zero("l0", 2, ("-0.9", "0.9")),
    "half-space": Region.box([-1, -1], [1, 1]).constrained([Constraint.of([1, 1], "1")]),
    "ball and half-space": around_zero("l2", 1).constrained(
        [Constraint.of([1, 0], "0.3"), Constraint.of([0, 1], "0.7")]
    ),
}


@pytest.mark.parametrize("name", TRUE)
@pytest.mark.parametrize("exactly", [False, True])
def test_what_holds_on_the_ball_alone_is_proven(name: str, exactly: bool) -> None:
    region = TRUE[name]
    network, data = slope(region)
    assert check(data, network, exact=exactly).proven
    box = Region(region.exact_lower, region.exact_upper)
    assert not check(slope(box)[1], network, exact=exactly).proven


@pytest.mark.parametrize("name", FALSE)
@pytest.mark.parametrize("exactly", [False, True])
def test_what_the_ball_disproves_is_not_proven(name: str, exactly: bool) -> None:
    network, data = slope(FALSE[name])
    assert not check(data, network, exact=exactly).proven


def test_float32_inference_is_proven_on_balls() -> None:
    network, data = slope(TRUE["l2"])
    report = check(data, network, semantics="float32")
    assert report.proven
    assert report.semantics == "float32"


@pytest.mark.parametrize("name", TRUE)
def test_certificates_are_read_as_written(name: str) -> None:
    region = TRUE[name]
    _, data = slope(region)
    assert write(read(data)) == data
    back = read(data).query.cases[0][0]
    assert (back.exact_lower, back.exact_upper) == (region.exact_lower, region.exact_upper)
    assert back.constraints == region.constraints
    if region.ball is None:
        assert back.ball is None
        return
    assert back.ball is not None
    assert (back.ball.norm, back.ball.radius) == (region.ball.norm, region.ball.radius)
    assert back.ball.center.tolist() == region.ball.center.tolist()


def changed(name: str, **change: object) -> bytes:
    manifest, arrays = unpack(slope(TRUE[name])[1])
    manifest["cases"][0]["region"] |= change
    return pack(manifest, arrays)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("l2", {"radius": "71/100"}),
        ("l1", {"norm": "l2"}),
        ("l1", {"radius": "1"}),
        ("l1", {"center": ["0x1.0p-6", "0"]}),
        ("l2", {"center": ["0x1.0p-3", "0x1.0p-3"]}),
        ("l0", {"radius": "2"}),
        ("l0", {"norm": "l1", "radius": "2"}),
        ("half-space", {"constraints": []}),
        ("half-space", {"constraints": [{"coefficients": [[0, "1"], [1, "1"]], "bound": "1"}]}),
        ("half-space", {"constraints": [{"coefficients": [[0, "1"], [1, "-1"]], "bound": "99/100"}]}),
        ("ball and half-space", {"norm": "l2", "radius": "5", "constraints": []}),
    ],
)
def test_another_region_is_another_claim(name: str, change: dict) -> None:
    network, _ = slope(TRUE[name])
    for exactly in (False, True):
        assert not check(changed(name, **change), network, exact=exactly).proven


def test_radii_are_told_apart_to_the_last_digit() -> None:
    """1 − (x0 + x1) over the ℓ₁ ball is 1 − ε, which is 0 for ε = 1: only exact arithmetic sees less."""
    network, _ = slope(TRUE["l1"])
    for below in (Fraction(1) - Fraction(1, 2**53), Fraction(1) - Fraction(1, 10**40)):
        assert check(changed("l1", radius=str(below)), network).proven
    for above in ("1", str(Fraction(1) + Fraction(1, 10**40))):
        assert not check(changed("l1", radius=above), network).proven


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("l2", {"norm": "l3"}, "norm is one of"),
        ("l2", {"norm": "linf"}, "norm is one of"),
        ("l2", {"radius": "-1"}, "at least 0"),
        ("l2", {"radius": "nan"}, "hexadecimal"),
        ("l0", {"radius": "3/2"}, "whole number"),
        ("l2", {"center": ["1/3", "0"]}, "float32 numbers"),
        ("l2", {"center": [str(10**60), "0"]}, "float32 numbers"),
        ("l2", {"center": ["0"]}, "center has 1 entries"),
        ("l2", {"center": ["2", "0"]}, "center must lie"),
        ("l2", {"kind": "box"}, "keys"),
        ("l2", {"kind": "cone"}, "kind"),
        ("l2", {"weights": []}, "keys"),
        ("half-space", {"kind": "ball"}, "keys"),
        ("half-space", {"constraints": [{"coefficients": [[0, "1"], [0, "1"]], "bound": "1"}]}, "each input once"),
        ("half-space", {"constraints": [{"coefficients": [[7, "1"]], "bound": "1"}]}, "input entry 7"),
        ("half-space", {"constraints": [{"coefficients": [[-1, "1"]], "bound": "1"}]}, "an input's index"),
        ("half-space", {"constraints": [{"coefficients": [], "bound": "1"}]}, "not zero"),
        ("half-space", {"constraints": [{"coefficients": [[0, "1"]]}]}, "malformed"),
        ("half-space", {"constraints": [{"coefficients": [[0, "1"]], "bound": "-9"}]}, "no query"),
    ],
)
def test_regions_that_are_not_understood_are_refused(name: str, change: dict, words: str) -> None:
    network, _ = slope(TRUE[name])
    with pytest.raises(CertificateError, match=words):
        check(changed(name, **change), network)


def test_version_3_is_read_and_knows_boxes_only() -> None:
    network, _ = slope(TRUE["l2"])
    manifest, _ = unpack(slope(Region.box([-1, -1], ["0.4", "0.5"]))[1])
    assert check(pack(manifest | {"version": 3}), network).proven
    for name in ("l2", "half-space"):
        manifest, _ = unpack(slope(TRUE[name])[1])
        with pytest.raises(CertificateError):
            check(pack(manifest | {"version": 3}), network)


def test_regions_with_one_box_are_kept_apart() -> None:
    """Two cases whose boxes are alike: what is known of neurons on the one says nothing of the other."""
    network, _ = slope(TRUE["l2"])
    small = TRUE["l2"]
    assert small.ball is not None
    large = dataclasses.replace(small, ball=dataclasses.replace(small.ball, radius=Fraction(2)))
    claim = Node((Claim(0, (1.0,)),))
    for regions, holds in (((small, small), True), ((small, large), False), ((large, small), False)):
        query = Query(tuple((region, Property((CLAUSE,))) for region in regions))
        trees = tuple(Tree(number, (claim,)) for number in range(2))
        data = write(Certificate(network.sha256, query, trees))
        for exactly in (False, True):
            assert check(data, network, exact=exactly).proven is holds


@pytest.mark.parametrize("exponent", [-100, -40, 40, 100])
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_scales_change_nothing_in_exact_arithmetic(norm: str, exponent: int) -> None:
    scale = Fraction(2) ** exponent
    network = networks.load_bytes(gemms([([[1.0, 1.0]], [0.0]), ([[-1.0], [0.0]], [2.0**exponent, 0.0])]))
    for share, holds in ((Fraction(70, 100), True), (Fraction(101, 100), False)):
        region = Region.norm_ball(np.zeros(2, np.float32), share * scale, norm)
        data = root_certificate(network, Query.single(region, Property((CLAUSE,))))
        assert check(data, network, exact=True).proven is holds


def test_certificates_over_tiny_and_huge_denominators_are_decided() -> None:
    network, _ = slope(TRUE["l2"])
    ball = TRUE["l2"].ball
    assert ball is not None
    ball = dataclasses.replace(ball, radius=Fraction(7, 10) - Fraction(1, 3**6000))
    end = 1 - Fraction(1, 5**4000)
    region = Region((-end, -end), (end, end), ball=ball)
    assert check(slope(region)[1], network, exact=True).proven
