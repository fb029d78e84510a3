"""Ideal cuts and the bounds that they give: valid at every point, the most violated one, rigorous, and ideal."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.sparse import csr_array

from bounds import backward_bounds
from networks import Clause, Region, Row, evaluate
from solver import policy
from solver.compiled import CompiledModel
from solver.cuts import solve_root, violated_cuts
from solver.formulation import formulate
from solver.milp import ClauseStatus, decide_milp
from tests.random_networks import random_dense
from tests.solver.oracle import minimum_margin
from tests.solver.test_formulation import NETWORKS, ONE, margins, query


def model_points(formulation, rng, count):
    """Points of the model's box, phases mostly fractional."""
    common = formulation.common
    return rng.uniform(common.lower, common.upper, (count, common.columns))


def root(formulation, clause):
    return solve_root(formulation, clause, seconds=10, stop=lambda: False)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_cut_never_removes_a_point_of_the_network(kind):
    found = 0
    for seed in range(8):
        network, region, clauses = query(kind, seed)
        formulation = formulate(network, region, clauses, backward_bounds(network, region))
        rng = np.random.default_rng(seed)
        points = np.array(
            [
                formulation.lift(network, x, margins(clauses, evaluate(network, x[None])[0]))
                for x in region.sample(40, rng).astype(np.float64)
            ]
        ).T
        for v in [*model_points(formulation, rng, 20), root(formulation, 0).point]:
            cuts = violated_cuts(formulation, v)
            found += len(cuts)
            assert np.all(cuts.matrix @ v > cuts.sides), "what is returned is violated"
            assert np.all(cuts.matrix @ points <= cuts.sides[:, None] + 1e-12)
    assert found > 50


def test_no_subset_gives_a_cut_that_is_violated_more():
    for seed in range(10):
        network, region, clauses = query("dense", seed)
        formulation = formulate(network, region, clauses, backward_bounds(network, region))
        forms, common, (h, _, a) = formulation.forms, formulation.common, formulation.phases
        for v in model_points(formulation, np.random.default_rng(seed), 5):
            cuts = violated_cuts(formulation, v)
            own = dict(zip(_neurons(cuts, h), (cuts.matrix @ v - cuts.sides).tolist(), strict=True))
            for j in range(len(h)):
                w = forms.matrix[[j]].toarray()[0]
                used = np.flatnonzero(w)
                ends = w * np.stack([common.lower, common.upper])
                low, high = ends.min(axis=0), ends.max(axis=0)
                most = -math.inf
                for chosen in itertools.product([False, True], repeat=len(used)):
                    inside, outside = used[np.array(chosen, bool)], used[~np.array(chosen, bool)]
                    right = (w[inside] @ v[inside]) - low[inside].sum() * (1 - v[a[j]])
                    right += (forms.constant[j] + high[outside].sum()) * v[a[j]]
                    most = max(most, v[h[j]] - right)
                if most > 2e-3 * common.upper[h[j]]:
                    assert own[h[j]] == pytest.approx(most, abs=1e-9)


def _neurons(cuts, h):
    """The column of h of each cut."""
    rows = (cuts.matrix[[i]].toarray()[0] for i in range(len(cuts)))
    return [next(column for column in reversed(h.tolist()) if row[column] == 1) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_bound_holds_and_cuts_improve_it(kind, monkeypatch):
    better = 0
    for seed in range(8):
        network, region, clauses = query(kind, seed)
        formulation = formulate(network, region, clauses, backward_bounds(network, region))
        for k, clause in enumerate(clauses):
            found = root(formulation, k)
            sampled = evaluate(network, region.sample(200, np.random.default_rng(seed)).astype(np.float64))
            assert found.lower <= min(margins([clause], y)[0] for y in sampled)
            if kind == "dense":
                assert found.lower <= minimum_margin(network, region, clause) + 1e-9
            with monkeypatch.context() as patch:
                patch.setattr(policy, "CUT_ROUNDS", 1)
                first = root(formulation, k)
            assert first.rounds == 1
            assert found.lower >= first.lower
            better += found.lower > first.lower + 1e-6
    assert better > 0


def test_one_neuron_is_described_exactly(monkeypatch):
    monkeypatch.setattr(policy, "CUT_PATIENCE", math.inf)
    compared = 0
    for seed in range(40):
        network = random_dense(seed, (4, 1, 2))
        region = Region.linf_ball(np.random.default_rng(seed).uniform(-1, 1, 4), "0.5")
        clause = Clause((Row(((0, ONE), (1, -ONE)), -ONE),), 2)
        formulation = formulate(network, region, [clause], backward_bounds(network, region))
        found = root(formulation, 0)
        if found.lower < 0 and len(formulation.relus):
            compared += 1
            assert found.lower == pytest.approx(minimum_margin(network, region, clause), abs=5e-3)
    assert compared > 5


def test_any_multipliers_give_a_bound():
    rng = np.random.default_rng(0)
    for _ in range(50):
        lower = rng.uniform(-2, 0, 5)
        upper = lower + rng.uniform(0, 2, 5)
        matrix = rng.normal(size=(4, 5))
        inside = rng.uniform(lower, upper)
        activity = matrix @ inside
        row_lower = np.where(rng.random(4) < 0.5, -np.inf, activity - rng.random(4))
        row_upper = np.where(np.isfinite(row_lower) & (rng.random(4) < 0.5), np.inf, activity + rng.random(4))
        model = CompiledModel(
            rng.normal(size=5), 1.0, csr_array(matrix), row_lower, row_upper, lower, upper, np.zeros(5, bool)
        )
        for y in (np.zeros(4), rng.normal(size=4), 1e8 * rng.normal(size=4), np.array([np.nan, np.inf, 0, 1])):
            assert model.dual_bound(y) <= model.objective(inside)


def test_the_milp_engine_proves_at_the_root_without_branching():
    proven = 0
    for seed in range(12):
        network, region, clauses = query("dense", seed)
        enclosure = backward_bounds(network, region)
        result = decide_milp(network, region, clauses, enclosure, replay=lambda _: None)
        for clause, found in zip(clauses, result.clauses, strict=True):
            if found.status is ClauseStatus.PROVEN and found.nodes == 0:
                proven += 1
                assert minimum_margin(network, region, clause) >= found.lower - 1e-9
    assert proven > 0
