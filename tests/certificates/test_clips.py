"""Clips: bounds that hold wherever a clause could be violated, and nowhere are believed beyond that."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from certificates import Certificate, Claim, Node, PhaseSplit, Tree, check, enclosure, read, write
from certificates.clips import Clipper
from certificates.enclosure import Cell
from networks import Clause, Network, Property, Query, Region, Row
from networks.evaluation import values
from tests.random_networks import random_conv, random_dense, random_residual

MAKERS = [random_dense, random_conv, random_residual]


def score(output: int, outputs: int, offset: Fraction) -> Clause:
    return Clause((Row(((output, Fraction(1)),), offset),), outputs, f"y{output} + {offset} <= 0")


def first_relus(network: Network) -> list[int]:
    known = enclosure.boxed(network)
    return [k for k in network.relu_nodes if known[network.nodes[k].parent]]


@pytest.mark.parametrize(("make", "seed"), list(itertools.product(MAKERS, range(4))))
def test_clipped_bounds_hold_at_every_violation(make, seed: int) -> None:
    network = make(seed)
    rng = np.random.default_rng(seed)
    region = Region.box([-0.2] * network.inputs, [0.2] * network.inputs)
    bounds = enclosure.enclose(network, region.lower[None], region.upper[None])
    clipper = Clipper(network, bounds)
    C = np.eye(network.outputs)[:1]
    points = region.sample(2000, rng).astype(np.float64)
    reached = values(network, points)
    # An offset that leaves three of the sampled points violating.
    offset = -float(np.sort(reached[-1][:, 0])[2])
    violating = reached[-1][:, 0] + offset <= 0
    known, tighter = clipper.unclipped, 0.0
    for _ in range(3):
        cell = Cell(region.lower, region.upper, known=known)
        ((bound, _),) = enclosure.linear_bounds(network, bounds, C, np.array([0]), [cell])
        (known,) = clipper.clip(bound, np.array([offset]), [cell])
        for k in first_relus(network):
            z = reached[network.nodes[k].parent][violating]
            assert (z >= known[k][0] - 1e-12).all()
            assert (z <= known[k][1] + 1e-12).all()
            tighter += float(
                (bounds.pre_upper[k][0] - known[k][1]).sum() + (known[k][0] - bounds.pre_lower[k][0]).sum()
            )
    assert tighter > 0 or make is not random_dense


def tree_of(network: Network, region: Region, clauses: tuple[Clause, ...], nodes: tuple[Node, ...]) -> bytes:
    query = Query.single(region, Property(clauses))
    return write(Certificate(network.sha256, query, (Tree(0, nodes),)))


def tight(network: Network, region: Region, clips: int) -> float:
    """The largest offset, to 1/64, that a root certificate with so many clips does not prove; found by halving."""
    claim = Claim(0, (1.0,))
    low, high = -1000.0, 1000.0
    while high - low > 1 / 64:
        middle = (low + high) / 2
        clause = score(0, network.outputs, Fraction(middle))
        data = tree_of(network, region, (clause,), (Node((claim,), None, (claim,) * clips),))
        low, high = (low, middle) if check(data, network).proven else (middle, high)
    return low


def test_clips_prove_more_but_nothing_false() -> None:
    gains = []
    for seed in range(4):
        network = random_dense(seed, (4, 10, 10, 2))
        region = Region.box([-1] * 4, [1] * 4)
        plain, clipped = tight(network, region, 0), tight(network, region, 3)
        gains.append(plain - clipped)
        y = values(network, region.sample(3000, np.random.default_rng(seed)))[-1][:, 0]
        assert y.min() + clipped + 1 / 64 > 0
    assert min(gains) >= -1 / 32
    assert max(gains) > 0.1


def test_clips_serve_their_own_clause_alone() -> None:
    network = random_dense(1, (4, 10, 10, 2))
    region = Region.box([-1] * 4, [1] * 4)
    offset = tight(network, region, 0)
    clip, other = Claim(0, (1.0,)), Claim(1, (1.0,))
    # Clause 1 is twice the same; what is known where clause 0 is violated must not help it.
    clauses = (score(0, 2, Fraction(offset)), score(0, 2, Fraction(offset)))
    assert check(tree_of(network, region, clauses, (Node((other,), None, (other,) * 3),)), network).weakest > 0
    assert check(tree_of(network, region, clauses, (Node((other,), None, (clip,) * 3),)), network).weakest <= 0


@pytest.mark.parametrize("keep", [True, False])
def test_clips_reach_the_cells_below(keep: bool) -> None:
    network = random_dense(1, (4, 10, 10, 2))
    region = Region.box([-1] * 4, [1] * 4)
    offset = tight(network, region, 3) + 1 / 32
    clauses, claim = (score(0, 2, Fraction(offset)),), Claim(0, (1.0,))
    bounds = enclosure.enclose(network, region.lower[None], region.upper[None])
    split = PhaseSplit(2, int(bounds.slopes[2].width[0].argmax()), keep)
    weakest = []
    for clips in ((), (claim,) * 3):
        data = tree_of(network, region, clauses, (Node((), split, clips), Node((claim,)), Node((claim,))))
        assert write(read(data)) == data
        weakest.append(check(data, network).weakest)
        assert check(data, network, exact=True).weakest >= min(weakest[-1], check(data, network).weakest)
    # Neurons that are bounded anew forget what was clipped.
    assert (weakest[1] > weakest[0]) == keep


def test_bounds_that_cross_leave_no_violation() -> None:
    network = random_dense(2, (4, 10, 10, 2))
    region = Region.box([-1] * 4, [1] * 4)
    clause, claim = score(0, 2, Fraction(900)), Claim(0, (1.0,))
    zero = Claim(0, (0.0,))
    data = tree_of(network, region, (clause,), (Node((zero,), None, (claim,) * 3),))
    assert check(data, network).proven
    assert check(data, network, exact=True).proven
    assert not check(tree_of(network, region, (clause,), (Node((zero,)),)), network).proven
    false = score(0, 2, Fraction(-900))
    assert not check(tree_of(network, region, (false,), (Node((zero,), None, (claim,) * 3),)), network).proven
    assert not check(
        tree_of(network, region, (false,), (Node((claim,), None, (claim,) * 3),)), network, exact=True
    ).proven
