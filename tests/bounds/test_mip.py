from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from bounds import backward_bounds
from bounds.mip import allowance, decide_sign
from bounds.relaxation import Relaxation, objectives, relax
from networks.evaluation import values
from networks.graph import AffineNode, Dense, InputNode, Network, Node, ReluNode
from networks.region import Region
from tests.bounds.graphs import dense_network

WIDTHS = (2, 4, 3, 2)


def exact_minimum(network: Network, region: Region, c: np.ndarray) -> float:
    """The minimum of ``c · z`` for the second layer's pre-activation z: one LP for each pattern of the first layer."""
    (first, second) = [node for node in network.nodes if isinstance(node, AffineNode)][:2]
    W1, W2 = (node.terms[0][1].weight for node in (first, second))
    best = np.inf
    for pattern in itertools.product([0.0, 1.0], repeat=len(W1)):
        active = np.array(pattern)
        coefficients, constant = c @ W2 @ (active[:, None] * W1), c @ (W2 @ (active * first.bias) + second.bias)
        side = np.where(active > 0, -1.0, 1.0)  # active: −z ≤ 0, inactive: z ≤ 0
        box = np.column_stack([region.lower, region.upper])
        result = linprog(coefficients, A_ub=side[:, None] * W1, b_ub=-side * first.bias, bounds=box)
        if result.status == 0:
            best = min(best, result.fun + constant)
    return best


def problem(seed: int):
    network = dense_network(np.random.default_rng(seed), WIDTHS, scale=1.5)
    region = Region.box([-1.0, -1.0], [1.0, 1.0])
    enclosure = backward_bounds(network, region)
    node = network.relu_nodes[1]
    relaxation = relax(network, region, enclosure, node)
    costs, constants = objectives(network, enclosure, relaxation, node - 1, np.arange(WIDTHS[2]))
    return network, region, relaxation, costs, constants


@pytest.mark.parametrize("seed", range(6))
def test_the_sign_is_that_of_brute_force(seed: int) -> None:
    network, region, relaxation, costs, constants = problem(seed)
    for neuron, sign in itertools.product(range(WIDTHS[2]), (1.0, -1.0)):
        truth = exact_minimum(network, region, sign * np.eye(WIDTHS[2])[neuron])
        cost, constant = sign * costs[neuron], sign * constants[neuron]
        if not np.abs(cost).max() > 0:
            continue
        # Shifted so that the exact minimum is just above zero, then just below.
        above = decide_sign(relaxation, cost, constant - truth + 1e-5, seconds=20)
        assert above.finished
        assert 0 < above.lower <= 1e-5 + 1e-12
        below = decide_sign(relaxation, cost, constant - truth - 1e-5, seconds=20)
        assert below.finished
        assert below.lower <= -1e-5 + 1e-12
        assert below.point is not None
        assert region.contains(region.project(below.point))
        value = sign * values(network, below.point[None])[2 + 1][0, neuron]
        assert value - truth - 1e-5 < 1e-7


def test_an_interruption_keeps_a_valid_bound() -> None:
    network, region, relaxation, costs, constants = problem(1)
    found = decide_sign(relaxation, costs[0], constants[0], seconds=20, interrupted=lambda: True)
    assert found.lower <= exact_minimum(network, region, np.eye(WIDTHS[2])[0]) + 1e-9


def perturbed(relaxation: Relaxation, t: np.ndarray, tolerance: float, rng: np.random.Generator) -> np.ndarray:
    """The columns (t, p) at the input t with every row and every complementarity off by up to ``tolerance``."""
    m, k = relaxation.m, relaxation.k
    point = np.concatenate([t + tolerance * rng.choice([-1, 1], m), np.zeros(k)])
    for first, last in itertools.pairwise(relaxation.offsets):
        for row in range(first, last):
            entries = slice(relaxation.start[row], relaxation.start[row + 1])
            z = relaxation.value[entries] @ point[relaxation.index[entries]] + relaxation.rhs[row]
            z += tolerance * rng.choice([-1, 1])
            # Off the ReLU's graph: q = tolerance beside a positive p, or p = tolerance beside a negative ẑ.
            leaked = z + relaxation.below[row] * tolerance
            point[m + row] = (leaked if z > 0 else relaxation.above[row] * tolerance) / relaxation.above[row]
    return point


@pytest.mark.parametrize("tolerance", [1e-9, 1e-6, 1e-3])
def test_the_allowance_covers_points_that_are_feasible_only_within_tolerance(tolerance: float) -> None:
    rng = np.random.default_rng(3)
    network = dense_network(rng, (3, 6, 6, 5, 2), scale=1.5)
    region = Region.box([-0.5] * 3, [0.5] * 3)
    enclosure = backward_bounds(network, region)
    node = network.relu_nodes[-1]
    relaxation = relax(network, region, enclosure, node)
    costs, constants = objectives(network, enclosure, relaxation, node - 1, np.flatnonzero(enclosure.unstable(node)))
    for cost, constant in zip(costs, constants, strict=True):
        for _ in range(50):
            t = rng.uniform(-1, 1, relaxation.m)
            exact, off = perturbed(relaxation, t, 0.0, rng), perturbed(relaxation, t, tolerance, rng)
            assert abs(cost @ (exact - off)) <= allowance(relaxation, cost, constant, tolerance)
        assert allowance(relaxation, cost, constant, 0.0) < 1e-9


def test_no_answer_where_tolerances_swamp_the_objective() -> None:
    # z₁ ∈ [−1e9, 1e9] cancels against itself, and what is left is 1e-9 of it: within HiGHS's tolerance, not ours.
    weights = [np.array([[1.0], [1.0]]), np.array([[1e10, -1e10]]), np.array([[1.0]])]
    nodes = list(dense_network(np.random.default_rng(0), (1, 2, 1, 1)).nodes)
    for index, weight in zip((1, 3, 5), weights, strict=True):
        nodes[index] = AffineNode(((index - 1, Dense(weight)),), np.full(len(weight), 1e-3), (len(weight),))
    network = Network(tuple(nodes), b"", "")
    region = Region.box([-1.0], [1.0])
    enclosure = backward_bounds(network, region)
    relaxation = relax(network, region, enclosure, 4)
    costs, constants = objectives(network, enclosure, relaxation, 3, np.array([0]))
    # The value is 1e-3 everywhere. Tolerances of 1e-9 times 1e10 forbid to say so.
    assert allowance(relaxation, costs[0], constants[0]) > 1
    assert decide_sign(relaxation, costs[0], constants[0], seconds=10).lower <= 0


def test_many_small_coefficients_count() -> None:
    """By default HiGHS leaves out coefficients up to 1e-9, whose sum here is more than all tolerances allow for."""
    inputs = 1000
    first = np.full((1, inputs), 8e-10)
    first[0, 0] = 1.0
    layers = [(first, np.array([-0.999])), (-np.ones((1, 1)), np.array([1e-3 + 4e-7])), (np.ones((1, 1)), np.zeros(1))]
    nodes: list[Node] = [InputNode((inputs,))]
    for weight, bias in layers:
        nodes += [AffineNode(((len(nodes) - 1, Dense(weight)),), bias, (1,)), ReluNode(len(nodes), (1,))]
    network = Network(tuple(nodes[:-1]), b"", "")
    region = Region.box([-1] * inputs, [1] * inputs)
    enclosure = backward_bounds(network, region)
    relaxation = relax(network, region, enclosure, 4)
    costs, constants = objectives(network, enclosure, relaxation, 3, np.arange(1))
    found = decide_sign(relaxation, costs[0], constants[0], seconds=20)
    assert found.lower <= 4e-7 - 8e-10 * (inputs - 1) + 1e-12
