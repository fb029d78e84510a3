"""Every kind of property is decided as brute force decides it, on both sides of the exact margin."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from networks import OutputRange, Property, Query, Region
from networks.exact import exact
from solver import Budget, Engine, Options, Outcome, verify
from tests.random_networks import random_dense
from tests.solver.oracle import minimum_margin

OUTPUTS = 4
KINDS = {
    "top 2": lambda label: Property.top_k(label, OUTPUTS, 2),
    "top 3": lambda label: Property.top_k(label, OUTPUTS, 3),
    "top 2 of three": lambda label: Property.top_k(label, OUTPUTS, 2, [t for t in range(3) if t != label]),
    "confidence": lambda label: Property.confident(label, OUTPUTS, "0.25"),
    "within": lambda label: Property.within(OUTPUTS, {label: 1, (label + 1) % OUTPUTS: "-0.5"}, "-1.5", 2),
    "least": lambda label: OutputRange.output(OUTPUTS, label).least,
    "greatest": lambda label: OutputRange.of(OUTPUTS, {label: "0.1", (label + 1) % OUTPUTS: 1}).greatest,
}


@pytest.mark.parametrize("engine", [Engine.AUTO, Engine.MILP])
@pytest.mark.parametrize("kind", KINDS)
def test_properties_are_decided_as_brute_force_does(kind: str, engine: Engine) -> None:
    for seed in range(4):
        network = random_dense(seed, (2, 5, 4, OUTPUTS))
        region = Region.linf_ball(np.random.default_rng(seed).normal(size=2), 0.4)
        prop = KINDS[kind](seed % OUTPUTS)
        least = min(minimum_margin(network, region, clause) for clause in prop.clauses)
        for shift in (0.1, 2e-3, -2e-3, -0.1):
            moved = [
                [
                    {"coefficients": dict(row.coefficients), "offset": row.offset + exact(round(shift - least, 9))}
                    for row in clause.rows
                ]
                for clause in prop.clauses
            ]
            asked = Query.single(region, Property.stated(OUTPUTS, moved))
            verdict = verify(network, asked, options=Options(engine), budget=Budget(30, 1))
            expected = Outcome.ROBUST if shift > 0 else Outcome.COUNTEREXAMPLE
            assert verdict.outcome is expected, (seed, shift, least, verdict)
            assert verdict.margin[0] <= shift + 1e-6


def test_an_output_range_holds_every_sampled_value() -> None:
    network = random_dense(3, (2, 5, 4, OUTPUTS))
    region = Region.linf_ball([0.25, -0.5], 0.5)
    asked = OutputRange.of(OUTPUTS, {0: 1, 3: "-0.3"})
    (low,) = (minimum_margin(network, region, clause) for clause in asked.least.clauses)
    (high,) = (-minimum_margin(network, region, clause) for clause in asked.greatest.clauses)
    slack = Fraction(1, 1000)
    prop = Property.within(
        OUTPUTS, {0: 1, 3: "-0.3"}, exact(low) / asked.multiple - slack, exact(high) / asked.multiple + slack
    )
    assert verify(network, Query.single(region, prop), budget=Budget(30, 1)).outcome is Outcome.ROBUST
    tight = Property.within(
        OUTPUTS, {0: 1, 3: "-0.3"}, exact(low) / asked.multiple + slack, exact(high) / asked.multiple + slack
    )
    assert verify(network, Query.single(region, tight), budget=Budget(30, 1)).outcome is Outcome.COUNTEREXAMPLE
