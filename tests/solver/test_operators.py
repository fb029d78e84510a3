"""Every operator through every engine: a tiny network each, decided on both sides of its exact minimum.

The operator's outputs go through a random layer of ReLUs, so that there is something to decide. The minimum comes from
`tests.solver.oracle`, which enumerates activation patterns; a few inputs vary, so that these are few.
"""

from __future__ import annotations

import zlib
from fractions import Fraction

import numpy as np
import pytest
import torch

import certificates
import networks
from bounds.linear import enclose
from bounds.program import program
from networks import Clause, Network, Property, Query, Region, Row
from networks.evaluation import evaluate, values
from networks.graph import ReluNode
from solver import Backend, Budget, Engine, Options, Outcome, Trust, policy, verify
from solver.replay import Replayer
from tests.networks.operator_cases import CASES, Case, node
from tests.random_networks import model
from tests.solver.oracle import minimum_margin

WIDTH = 3
VARYING = 2

ENGINES = {
    "auto": (Options(Engine.AUTO, certificate=True), policy.SPLIT_INPUTS),
    "input splits": (Options(Engine.BAB, certificate=True), 10**6),
    "relu splits": (Options(Engine.BAB, certificate=True), 0),
    "highs": (Options(Engine.MILP, Backend.HIGHS, certificate=True), 0),
    "gurobi": (Options(Engine.MILP, Backend.GUROBI), 0),
}


class InProcess:
    """The independent checker without a process of its own, which would cost half a second for each network."""

    def __init__(self, network: Network) -> None:
        self.network = networks.load_bytes(network.model, compare=False)

    def start(self) -> None:
        pass

    def check(self, certificate: bytes, stop: object) -> certificates.Report:
        return certificates.check(certificate, self.network)


def wrapped(case: Case) -> Network:
    """The case's network, followed by a layer of ReLUs and one output."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    features = networks.load_bytes(case.bytes(), compare=False).outputs
    weight = rng.standard_normal((features, WIDTH)) / np.sqrt(features)
    constants = {
        "tail_shape": np.array([1, features]),
        "tail_weight": weight.astype(np.float32),
        "tail_bias": (0.1 * rng.standard_normal(WIDTH)).astype(np.float32),
        "tail_sum": rng.standard_normal((WIDTH, 1)).astype(np.float32),
    }
    tail = [
        node("Reshape", "y", "tail_shape", outputs=["tail_h"]),
        node("MatMul", "tail_h", "tail_weight", outputs=["tail_m"]),
        node("Add", "tail_m", "tail_bias", outputs=["tail_z"]),
        node("Relu", "tail_z", outputs=["tail_r"]),
        node("MatMul", "tail_r", "tail_sum", outputs=["tail_y"]),
    ]
    data = model([*case.nodes, *tail], case.shape, {**case.constants, **constants}, output="tail_y", opset=case.opset)
    return networks.load_bytes(data, case.name)


def question(network: Network, seed: int) -> tuple[Region, float, float]:
    """A region where a few inputs vary; the output's exact minimum there, and its range over samples."""
    rng = np.random.default_rng(seed)
    center = rng.integers(-64, 65, network.inputs) / 64  # as written, these are float32 numbers
    radius = np.zeros(network.inputs)
    radius[rng.permutation(network.inputs)[:VARYING]] = 0.75
    region = Region.box((center - radius).tolist(), (center + radius).tolist())
    output = evaluate(network, rng.uniform(region.lower, region.upper, (200, network.inputs)))
    minimum = minimum_margin(network, region, above(0.0))
    assert minimum <= output.min() + 1e-9
    return region, minimum, float(np.ptp(output))


def above(threshold: float) -> Clause:
    """The claim that the only output exceeds the threshold."""
    return Clause((Row(((0, Fraction(1)),), -Fraction(threshold)),), 1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_engine_agrees_with_brute_force(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    network = wrapped(case)
    region, minimum, span = question(network, zlib.crc32(case.name.encode()))
    gap = 0.01 * max(span, 1.0)
    checker, replay = InProcess(network), Replayer(network)
    for name, (options, split_inputs) in ENGINES.items():
        monkeypatch.setattr(policy, "SPLIT_INPUTS", split_inputs)
        for threshold, expected in ((minimum - gap, Outcome.ROBUST), (minimum + gap, Outcome.COUNTEREXAMPLE)):
            prop = Property((above(threshold),))
            query = Query.single(region, prop)
            verdict = verify(network, query, options=options, budget=Budget(20, 1), checker=checker)
            assert verdict.outcome is expected, (name, threshold, verdict)
            lower, upper = verdict.margin
            assert lower <= minimum - threshold + 1e-6 * (1 + abs(minimum))
            assert upper >= minimum - threshold - 1e-4 * (1 + abs(minimum))
            if expected is Outcome.COUNTEREXAMPLE:
                point = verdict.counterexample.input.reshape(-1)
                assert region.contains(point)
                assert prop.violated(replay(point))
            elif options.certificate:
                assert verdict.trust is Trust.CERTIFIED, (name, verdict)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bounds_hold_on_samples(case: Case) -> None:
    network = wrapped(case)
    rng = np.random.default_rng(0)
    lower = torch.as_tensor(rng.uniform(-2, 1, (3, network.inputs)))
    upper = lower + torch.as_tensor(rng.uniform(0, 1, (3, network.inputs)))
    for backward in (False, True):
        bounds = enclose(program(network), lower, upper, backward=backward)
        for box in range(len(lower)):
            x = rng.uniform(lower[box], upper[box], (64, network.inputs))
            x[:32] = np.where(rng.random((32, network.inputs)) < 0.5, lower[box], upper[box])
            value = values(network, x)
            for i in network.relu_nodes:
                relu = network.nodes[i]
                assert isinstance(relu, ReluNode)
                z = value[relu.parent]
                slack = 1e-12 * (1 + np.abs(z))
                assert (z >= bounds.pre_lower[i][box].numpy() - slack).all(), (backward, i)
                assert (z <= bounds.pre_upper[i][box].numpy() + slack).all(), (backward, i)
