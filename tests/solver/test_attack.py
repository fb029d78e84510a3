"""The attack's way to a violation."""

from __future__ import annotations

import numpy as np
import torch
from onnx import helper

import networks
from bounds.program import program
from networks import Property, Region
from solver.attack import Attack
from solver.replay import Replayer
from tests.random_networks import model, random_conv, random_residual


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
