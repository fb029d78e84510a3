"""The attack's way to a violation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

import networks
from bounds.program import program
from networks import Clause, Property, Query, Region
from solver import Budget, Outcome, policy, verify
from solver.attack import Attack, AttackResult
from solver.replay import Replayer
from tests.random_networks import model, random_conv, random_dense, random_residual
from tests.solver.oracle import minimum_margin, raised


def test_gradients_leak_through_dead_relus_without_changing_the_output():
    for make in (random_conv, random_residual):
        network = make(1)
        compiled = program(network)
        x = torch.randn(5, network.inputs, dtype=torch.float64, requires_grad=True)
        plain, leaking = compiled.forward(x), compiled.forward(x, leak=0.1)
        assert torch.equal(plain, leaking)
        (gradient,) = torch.autograd.grad(leaking.sum(), x)
        assert not torch.equal(gradient, torch.autograd.grad(plain.sum(), x)[0])


def test_a_flat_start_does_not_stop_the_descent():
    # y = (0.05, relu(Σ x_i − 7.2)): flat on nearly all of [0, 1]^8, violated near its upper corner
    nodes = [
        helper.make_node("MatMul", ["x", "ones"], ["s"]),
        helper.make_node("Add", ["s", "bias"], ["a"]),
        helper.make_node("Relu", ["a"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["z"]),
        helper.make_node("Add", ["z", "least"], ["y"]),
    ]
    constants = {
        "ones": np.ones((8, 1), np.float32),
        "bias": np.full((1, 1), -7.2, np.float32),
        "w": np.array([[0, 1]], np.float32),
        "least": np.array([[0.05, 0]], np.float32),
    }
    network = networks.load_bytes(model(nodes, [1, 8], constants))
    region, prop = Region.box([0] * 8, [1] * 8), Property.classification(0, 2)
    attack = Attack(program(network), Replayer(network), region, prop, lambda: False)
    result = attack.run(prop.clauses, restarts=0, rng=np.random.default_rng(0))
    assert result.counterexample is not None
    assert region.contains(result.counterexample.input)


def test_many_clauses_are_attacked_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each clause starts from the minimisers of all that it is attacked with, so memory grows with their square."""
    network, region = random_dense(1, (5, 4, 2)), Region.linf_ball(np.zeros(5), "1")
    least = minimum_margin(network, region, raised(0))
    # Bounds do not tell them apart, but only the last can be violated.
    clauses = (*(raised(0.01 * i - least) for i in range(1, 50)), raised(-0.1 - least))
    attacked: list[Sequence[Clause]] = []
    run = Attack.run

    def noted(self: Attack, clauses: Sequence[Clause], **options: Any) -> AttackResult:
        attacked.append(clauses)
        assert len(options["starts"]) == len(clauses)
        return run(self, clauses, **options)

    monkeypatch.setattr(Attack, "run", noted)
    verdict = verify(network, Query.single(region, Property(clauses)), budget=Budget(30, 1))
    assert verdict.outcome is Outcome.COUNTEREXAMPLE
    assert verdict.decided_by == "attack"
    (first,) = attacked
    assert len(first) == policy.ATTACK_CLAUSES
    assert first[-1] is clauses[-1]

    # Where none can be violated, others have their turn while there is time.
    for share, expected in ((1.0, len(clauses) - 1), (0.0, policy.ATTACK_CLAUSES)):
        attacked.clear()
        monkeypatch.setattr(policy, "ATTACK_SHARE", share)
        verdict = verify(network, Query.single(region, Property(clauses[:-1])), budget=Budget(30, 1))
        assert verdict.outcome is Outcome.ROBUST
        assert sum(map(len, attacked)) == expected
