"""From request JSON to a query: what fits the network, and what is refused in words."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from networks.errors import PropertyError, RegionError
from service.request import build_query
from solver.options import Backend, Engine
from tests.random_networks import random_dense

NETWORK = random_dense(0, (3, 4, 2))


def request(**changes: Any) -> dict[str, Any]:
    query = {"input": [0.5, 0.25, 1], "epsilon": 0.1, "norm": "linf", "domain": [0, 1], "label": 1, "targets": None}
    return {"network": "a" * 64, "query": {**query, **changes}, "time_limit": 7, "seed": 3}


def test_ball_becomes_a_region_and_a_property() -> None:
    question, options, budget = build_query(request(), NETWORK, threads=2)
    ((region, prop),) = question.query.cases
    assert region.exact_lower == (Fraction(2, 5), Fraction(3, 20), Fraction(9, 10))
    assert region.exact_upper == (Fraction(3, 5), Fraction(7, 20), Fraction(1))
    assert [clause.label for clause in prop.clauses] == ["class 0"]
    assert (options.engine, options.backend, options.seed) == (Engine.AUTO, Backend.AUTO, 3)
    assert (budget.seconds, budget.threads) == (7.0, 2)


def test_nested_input_is_read_in_order() -> None:
    flat, _, _ = build_query(request(domain=None), NETWORK, threads=1)
    nested, _, _ = build_query(request(input=[[[0.5], [0.25], [1]]], domain=None), NETWORK, threads=1)
    assert np.array_equal(flat.query.cases[0][0].lower, nested.query.cases[0][0].lower)
    assert nested.query.cases[0][0].exact_upper[2] == Fraction(11, 10)


def test_vnnlib_becomes_a_query() -> None:
    names = [f"(declare-const {name} Real)" for name in ("X_0", "X_1", "X_2", "Y_0", "Y_1")]
    bounds = [f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(3)]
    text = "\n".join([*names, *bounds, "(assert (<= Y_0 Y_1))"])
    document = {"network": "a" * 64, "query": {"vnnlib": text}, "time_limit": 1, "engine": "milp", "backend": "highs"}
    question, options, _ = build_query(document, NETWORK, threads=1)
    assert question.query.clauses == 1
    assert (options.engine, options.backend) == (Engine.MILP, Backend.HIGHS)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input": [0.5, 0.25]}, RegionError, "has 2 entries, but the network takes 3"),
        ({"input": [[0.5, 0.25], [1]]}, RegionError, "nested lists of equal lengths"),
        ({"input": ["a", 0, 0]}, RegionError, "must be numbers"),
        ({"input": [float("nan"), 0, 0]}, RegionError, "finite"),
        ({"epsilon": -0.1}, RegionError, "at least 0"),
        ({"norm": "l7"}, RegionError, "norm 'l7' is not supported; use linf, l2, l1, l0"),
        ({"input": [2, 0, 0]}, RegionError, "outside the domain"),
        ({"label": 2}, PropertyError, "label 2 does not exist"),
        ({"targets": [1]}, PropertyError, "target 1 is the label itself"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_query(request(**changes), NETWORK, threads=1)
