"""Certificates of conjunctions whose boxes only a combination of rows closes, with slopes of its own."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from certificates import check, read
from networks import Clause, Network, Property, Query, Region, Row, evaluate
from networks.exact import exact
from solver import Budget, Engine, Options, Trust, verify
from tests.certificates.proofs import pack, unpack
from tests.random_networks import random_dense


@pytest.fixture(scope="module")
def proof() -> tuple[Network, dict, dict[str, np.ndarray]]:
    """Output 0 or output 1 exceeds its threshold everywhere on the region, but neither does so everywhere."""
    network = random_dense(3, (2, 10, 10, 2))
    region = Region.linf_ball(np.zeros(2), "1")
    axis = np.linspace(-1, 1, 61)
    outputs = evaluate(network, np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    least = [round(float(value), 3) for value in outputs.mean(0)]
    slack = round(float((outputs - least).max(1).min()) - 0.2, 3)  # points between those of the grid are lower
    rows = tuple(Row(((j, exact(1)),), exact(round(-least[j] - slack, 3))) for j in range(2))
    query = Query.single(region, Property((Clause(rows, 2),)))
    verdict = verify(network, query, options=Options(Engine.BAB, certificate=True), budget=Budget(60, 1))
    assert verdict.trust is Trust.CERTIFIED, verdict
    assert verdict.certificate is not None
    return network, *unpack(verdict.certificate)


def combined(nodes: list) -> list:
    """Claims about more than one row."""
    return [claim for claims, *_ in nodes for claim in claims if sum(float.fromhex(w) > 0 for w in claim[1]) > 1]


def test_combinations_with_slopes_are_accepted(proof) -> None:
    network, manifest, arrays = proof
    assert check(pack(manifest, arrays), network).proven
    claims = combined(manifest["trees"][0]["nodes"])
    assert claims
    for claim in claims:
        assert claim[2][0] == "slopes"
        assert sum(map(float.fromhex, claim[1])) == 1
    # Claims that share slopes name the same line.
    slopes = np.moveaxis(arrays["tree0.slopes"], -1, 0)
    assert len(np.unique(slopes.reshape(len(slopes), -1), axis=0)) == len(slopes)
    assert {claim[2][1] for claim in claims} <= set(range(len(slopes)))


def test_another_weight_is_refused(proof) -> None:
    network, manifest, arrays = proof
    forged = copy.deepcopy(manifest)
    for claim in combined(forged["trees"][0]["nodes"]):
        claim[1] = [float(not i).hex() for i in range(len(claim[1]))]
    report = check(pack(forged, arrays), network)
    assert not report.proven
    assert "is only bounded by" in report.reason


def test_other_slopes_are_refused(proof) -> None:
    network, manifest, arrays = proof
    for other in (1 - arrays["tree0.slopes"], arrays["tree0.slopes"] + np.float32(100)):
        report = check(pack(manifest, arrays | {"tree0.slopes": other.astype(np.float32)}), network)
        assert not report.proven
        assert "is only bounded by" in report.reason


def test_conjunctions_of_different_lengths_are_proven_together(proof) -> None:
    """Their combinations have weights for as many rows as the longest has; a claim names those of its own."""
    network, *packed = proof
    region = Region.linf_ball(np.zeros(2), "1")
    ((row, other),) = [clause.rows for clause in read(pack(*packed)).query.cases[0][1].clauses]
    low = [Row(each.coefficients, exact(1000)) for each in (row, other)]
    clauses = tuple(Clause(rows, 2) for rows in ((low[0], row, other), (low[1],), (other, row), (row, low[0])))
    options = Options(Engine.BAB, certificate=True)
    verdict = verify(network, Query.single(region, Property(clauses)), options=options, budget=Budget(60, 1))
    assert verdict.trust is Trust.CERTIFIED, verdict
    assert verdict.certificate is not None
    manifest, _ = unpack(verdict.certificate)
    lengths = {len(claim[1]) for claim in combined(manifest["trees"][0]["nodes"])}
    assert lengths
    assert lengths <= {2, 3}
