"""Certificates of the other questions: distances, worst margins, and two networks in one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import networks
import solver
from certificates import check, read
from networks import Network, Property, Query, Region
from networks.product import equivalence
from solver import Budget, Options, Trust
from tests.certificates.proofs import pack, unpack
from tests.random_networks import dense_model


def posed(norm: str, epsilon: object) -> tuple[Network, Query]:
    network = networks.load_bytes(dense_model(3, (6, 8, 3)))
    center = np.random.default_rng(3).uniform(-1, 1, 6).astype(np.float32)
    label = int(networks.evaluate(network, center[None])[0].argmax())
    region = Region.norm_ball(center, epsilon, norm, (-3, 3))
    return network, Query.single(region, Property.classification(label, 3))


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", "2"), ("l2", "2"), ("l1", "4"), ("l0", 6)])
def test_a_distance_is_certified_up_to_its_lower_end(norm: str, epsilon: object) -> None:
    network, query = posed(norm, epsilon)
    verdict = solver.distance(network, query, options=Options(certificate=True), budget=Budget(60, 1))
    assert verdict.certificate is not None
    low, high = verdict.distance
    assert 0 < low <= high < np.inf
    assert check(verdict.certificate, network).proven
    region, prop = read(verdict.certificate).query.cases[0]
    assert [clause.rows for clause in prop.clauses] == [clause.rows for clause in query.cases[0][1].clauses]
    if norm == "linf":
        return
    ball, center = region.ball, query.cases[0][0].center
    assert ball is not None
    assert center is not None
    assert ball.norm == norm
    assert float(ball.radius) == verdict.proves
    assert ball.center.tolist() == center.tolist()
    manifest, arrays = unpack(verdict.certificate)
    said = manifest["cases"][0]["region"]
    wider = query.cases[0][0]
    said["lower"], said["upper"] = ([str(v) for v in ends] for ends in (wider.exact_lower, wider.exact_upper))
    said["radius"] = str(Fraction(high) * Fraction(1001, 1000)) if norm != "l0" else str(int(high))
    assert not check(pack(manifest, arrays), network).proven


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_a_worst_margin_is_certified_down_to_its_lower_end(norm: str) -> None:
    network, query = posed(norm, "0.2")
    verdict = solver.margin(network, query, options=Options(certificate=True), budget=Budget(60, 1))
    assert verdict.certificate is not None
    low, high = verdict.margin
    assert high - low < 1e-4
    assert check(verdict.certificate, network).proven
    _, prop = read(verdict.certificate).query.cases[0]
    for mine, asked in zip(prop.clauses, query.cases[0][1].clauses, strict=True):
        ((row,), (first,)) = mine.rows, asked.rows
        assert row.coefficients == first.coefficients
        assert float(first.offset - row.offset) == verdict.proves
    manifest, arrays = unpack(verdict.certificate)
    for clause in manifest["cases"][0]["clauses"]:
        clause["rows"][0]["offset"] = str(-Fraction(high) - Fraction(1, 10**6))
    assert not check(pack(manifest, arrays), network).proven


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_two_networks_are_certified_to_agree_on_a_ball(norm: str) -> None:
    first = networks.load_bytes(dense_model(3, (6, 8, 3)))
    product = equivalence(first, networks.load_bytes(dense_model(3, (6, 8, 3))), tolerance="0.1")
    _, query = posed(norm, "0.3")
    asked = product.query(query.cases[0][0])
    verdict = solver.verify(product.network, asked, options=Options(certificate=True), budget=Budget(60, 1))
    assert verdict.trust is Trust.CERTIFIED, verdict
    assert verdict.certificate is not None
    for exactly in (False, True):
        assert check(verdict.certificate, product.network, exact=exactly).proven
    manifest, arrays = unpack(verdict.certificate)
    for clause in manifest["cases"][0]["clauses"]:
        for row in clause["rows"]:
            row["offset"] = "0"  # a tolerance of 0, which a tie violates
    assert not check(pack(manifest, arrays), product.network).proven
