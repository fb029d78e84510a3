"""Programs of polishing end soon, also where what they ask for does not exist."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from solver import programs
from solver.programs import Euclidean, Rows


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_the_least_margin_in_a_ball_takes_few_evaluations(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most halvings ask for a margin that the box does not have; the dual of such a program grows without end."""
    rng = np.random.default_rng(seed)
    G, m = rng.normal(size=(3, 9)), rng.normal(size=3)
    minimize, evaluations = programs.minimize, []

    def counted(*args: Any, **more: Any) -> Any:
        found = minimize(*args, **more)
        evaluations.append(found.nfev)
        return found

    monkeypatch.setattr(programs, "minimize", counted)
    # The ball holds the box, so that the least margin is an LP's.
    found = Euclidean(Rows(G, m, np.full(9, -0.1), np.full(9, 0.1)), radius=0.5).solve()
    exact = linprog(
        np.eye(10)[9], A_ub=np.hstack([G, -np.ones((3, 1))]), b_ub=-m, bounds=[(-0.1, 0.1)] * 9 + [(None, None)]
    )
    assert found is not None
    assert found.value == pytest.approx(exact.fun, abs=1e-6)
    assert sum(evaluations) < 3000, evaluations
