"""Input splits against brute force, and what boxes inherit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bounds.linear import enclose
from bounds.program import program
from networks import Clause, Network, Property, Region, Row, evaluate
from networks.exact import exact
from solver import box_bounds, conjunction
from solver.attack import Attack
from solver.conjunction import Rows, together
from solver.input_split import SplitResult, decide_by_input_split
from solver.replay import Replayer
from solver.verdict import Reason
from tests.random_networks import random_conv, random_dense, random_residual
from tests.solver.oracle import DIFFERENCE, known_margins, minimum_margin, raised

BUILDERS = {
    "dense": (lambda seed: random_dense(seed, (3, 5, 4, 2)), 0.4),
    "conv": (lambda seed: random_conv(seed, channels=1, size=3, outputs=2), 0.1),
    "residual": (lambda seed: random_residual(seed, width=3), 0.2),
}


def search(network: Network, region: Region, *clauses: Clause, threads: int = 1) -> SplitResult:
    compiled = program(network)
    attacker = Attack(compiled, Replayer(network), region, Property(clauses), lambda: False)
    return decide_by_input_split(
        compiled, region, clauses, attacker, stop=lambda: None, progress=lambda *_: None, threads=threads
    )


@pytest.mark.parametrize("kind", sorted(BUILDERS))
def test_agrees_with_brute_force_on_both_sides_of_the_minimum(kind: str) -> None:
    for network, region, least in known_margins(*BUILDERS[kind], seeds=range(5)):
        for shift in (0.3, 1e-2, -1e-2, -0.3):
            clause = raised(shift - least)
            found = search(network, region, clause)
            if shift > 0:
                assert found.reason is None
                assert found.counterexample is None
                assert 0 <= found.lower <= shift + 1e-6
            else:
                assert found.counterexample is not None
                assert region.contains(found.counterexample.input)


def test_inputs_that_cannot_be_cut_are_left_alone() -> None:
    network = random_dense(1, (3, 5, 4, 2))
    region = Region.box([0, 0.5, -1], [1, 0.5, 1])
    least = minimum_margin(network, region, raised(0))
    robust = search(network, region, raised(0.01 - least))
    assert robust.reason is None
    assert 0 <= robust.lower <= 0.01 + 1e-6


def test_two_cores_find_what_one_finds() -> None:
    network = random_dense(2, (3, 5, 4, 2))
    region = Region.linf_ball(np.random.default_rng(2).normal(size=3), 0.4)
    least = minimum_margin(network, region, raised(0))
    for shift in (1e-4, -1e-4):
        clause = raised(shift - least)
        one, two = search(network, region, clause), search(network, region, clause, threads=2)
        assert one.boxes == two.boxes
        assert one.lower == pytest.approx(two.lower)
        assert (one.counterexample is None) == (two.counterexample is None) == (shift > 0)


@pytest.mark.parametrize("kind", sorted(BUILDERS))
def test_inherited_phases_hold_on_the_halves(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every box's phases agree with the signs of the pre-activations at points of that box."""
    build, radius = BUILDERS[kind]
    network = build(3)
    compiled = program(network)
    rng = np.random.default_rng(3)
    region = Region.linf_ball(rng.normal(size=network.inputs), 2 * radius)
    seen = []
    bound = box_bounds.bound

    def watched(program, rows, batch, inside, *, nested):
        seen.extend(batch)
        return bound(program, rows, batch, inside, nested=nested)

    monkeypatch.setattr(box_bounds, "bound", watched)
    # The center ties, so the boxes around it can never be closed, and without an attack the search goes on.
    center = evaluate(network, region.center[None])[0]
    tie = Clause((Row(DIFFERENCE, exact(float(center[1] - center[0]))),), network.outputs)
    decide_by_input_split(
        compiled,
        region,
        [tie],
        None,
        stop=lambda: Reason.TIMEOUT if len(seen) > 200 else None,
        progress=lambda *_: None,
    )
    known = 0
    for box in seen:
        points = torch.as_tensor(box.lower + rng.random((20, network.inputs)) * (box.upper - box.lower))
        at_points = enclose(compiled, points, points, backward=False)
        signs = np.concatenate([at_points.pre_lower[node].numpy() for node in compiled.relus], 1)
        assert (signs[:, box.phases > 0] >= -1e-9).all()
        assert (signs[:, box.phases < 0] <= 1e-9).all()
        known += np.count_nonzero(box.phases)
    assert len(seen) > 200
    assert known


@pytest.mark.parametrize("kind", sorted(BUILDERS))
def test_rows_together_never_claim_more_than_points_show(kind: str) -> None:
    build, radius = BUILDERS[kind]
    rng = np.random.default_rng(5)
    for seed in range(6):
        network = build(seed)
        compiled = program(network)
        centers = rng.normal(size=(4, network.inputs))
        lower, upper = torch.as_tensor(centers - radius), torch.as_tensor(centers + radius)
        matrices = rng.normal(size=(2, 3, network.outputs))
        clauses = [
            Clause(
                tuple(
                    Row(tuple((j, exact(round(v, 3))) for j, v in enumerate(row)), exact(round(rng.normal(), 3)))
                    for row in rows
                ),
                network.outputs,
            )
            for rows in matrices
        ]
        rows = Rows.of(clauses)
        with torch.no_grad():
            bounds = enclose(compiled, lower, upper)
            found = together(compiled, rows, bounds, torch.ones((4, 2), dtype=torch.bool))
        assert found is not None
        assert len(found.box) == 8
        assert (found.weights.sum(1) == 1).all()
        assert (found.weights >= 0).all()
        for value, coefficients, constant, (box, clause) in zip(
            found.linear.value.numpy(),
            found.linear.coefficients.numpy(),
            found.linear.constant.numpy(),
            torch.stack([found.box, found.clause], 1).tolist(),
            strict=True,
        ):
            points = centers[box] + radius * rng.uniform(-1, 1, size=(200, network.inputs))
            margins = [clauses[clause].margin(y) for y in evaluate(network, points)]
            assert value <= min(margins) + 1e-12
            assert (points @ coefficients + constant <= np.asarray(margins) + 1e-12).all()


def test_weights_of_few_digits_stay_with_the_clause() -> None:
    """Also where each is too small for the digits that are kept."""
    weights = torch.zeros((2, 1002), dtype=torch.float64)
    weights[0, 2:] = 1e-3
    weights[1, :2] = torch.tensor([0.3, 0.7])
    found, slopes = conjunction._short(weights, torch.tensor([[0.0, 0.123, 1.0]]))
    assert (found.sum(1) == 1).all()
    assert (found >= 0).all()
    assert (found[weights == 0] == 0).all()
    assert (found[1] - weights[1]).abs().max() <= 2 / 256
    assert (slopes * 256 == (slopes * 256).round()).all()
