from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper

import networks
from bounds import linear
from bounds.linear import enclose
from bounds.operators import operator
from bounds.program import program
from bounds.relus import BoxBounds
from bounds.windows import Frame, Window, plan
from networks.graph import Gather, Network
from tests.bounds.graphs import LINEAR_MAPS, linear_map, windowed_network
from tests.bounds.test_linear import pre_activations
from tests.random_networks import model

KINDS = ("plain", "skip", "line", "pool")


def network_of(rng: np.random.Generator, kind: str) -> Network:
    return pool_network(rng) if kind == "pool" else windowed_network(rng, kind)


def pool_network(rng: np.random.Generator) -> Network:
    """A convolution, the maxima of overlapping windows of nine (an odd number of players), and a dense layer."""
    nodes = [
        helper.make_node("Conv", ["x", "K"], ["z"]),
        helper.make_node("Relu", ["z"], ["h"]),
        helper.make_node("MaxPool", ["h"], ["p"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "W", "b"], ["y"], transB=1),
    ]
    constants = {
        "K": rng.normal(size=(2, 1, 2, 2)).astype(np.float32),
        "W": rng.normal(size=(2, 50)).astype(np.float32),
        "b": rng.normal(size=2).astype(np.float32),
    }
    return networks.load_bytes(model(nodes, [1, 1, 12, 12], constants), "pool")


def boxes(network: Network, rng: np.random.Generator, count: int, radius: float) -> tuple[torch.Tensor, torch.Tensor]:
    center = torch.as_tensor(rng.normal(size=(count, network.inputs)))
    return center - radius, center + radius


def without_windows(monkeypatch: pytest.MonkeyPatch, network: Network, *box: torch.Tensor) -> BoxBounds:
    with monkeypatch.context() as patch:
        patch.setattr(linear, "plan", lambda *_: {})
        return enclose(program(network), *box)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 3])
def test_windows_give_the_bounds_that_whole_rows_give(kind: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        network = network_of(rng, kind)
        box = boxes(network, rng, count, 0.1)
        whole, windowed = without_windows(monkeypatch, network, *box), enclose(program(network), *box)
        assert any(plan(program(network), program(network).steps[node]) for node in network.relu_nodes)
        for node in network.relu_nodes:
            torch.testing.assert_close(windowed.pre_lower[node], whole.pre_lower[node], atol=1e-9, rtol=1e-9)
            torch.testing.assert_close(windowed.pre_upper[node], whole.pre_upper[node], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_no_sampled_point_beats_a_bound_from_windows(kind: str) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        network = network_of(rng, kind)
        low, high = boxes(network, rng, 1, 0.2)
        found = enclose(program(network), low, high)
        points = rng.uniform(low.numpy(), high.numpy(), size=(200, network.inputs))
        corners = np.where(rng.uniform(size=points.shape) < 0.5, low.numpy(), high.numpy())
        for values in (pre_activations(network, points), pre_activations(network, corners)):
            for node in network.relu_nodes:
                assert (found.pre_lower[node][0].numpy() <= values[node].min(0) + 1e-12).all()
                assert (found.pre_upper[node][0].numpy() >= values[node].max(0) - 1e-12).all()


@pytest.mark.parametrize("kind", LINEAR_MAPS)
def test_the_adjoint_on_windows_is_the_adjoint(kind: str) -> None:
    """From every single position of the output, and for each row another one."""
    rng = np.random.default_rng(0)
    linear_ = linear_map(kind, rng)
    op = operator(linear_)
    shape = getattr(linear_, "output_shape", (1, linear_.out_features))
    window = Window.entry(shape)
    reached = op.reach(window)
    if reached is None:
        assert kind not in {"conv1d", "conv2d", "conv_strided", "scale", "identity"}
        return
    position = torch.arange(int(np.prod(shape[1:])))
    frame = Frame(torch.zeros_like(position), {0: reached, 1: window}, position, shape)
    A = torch.as_tensor(rng.normal(size=(len(position), shape[0])))
    whole = torch.zeros((len(position), linear_.out_features), dtype=A.dtype)
    for row, at in enumerate(position.tolist()):
        whole[row].view(shape[0], -1)[:, at] = A[row]
    expected = op.adjoint(whole)
    values = torch.as_tensor(rng.normal(size=(1, linear_.in_features)))
    found = frame.adjoint(1, 0, op, A, clean=True)
    torch.testing.assert_close(frame.dot(0, values, found), expected @ values[0])
    assert (frame.dot_at_most(0, values.abs(), found.abs()) >= expected.abs() @ values[0].abs() - 1e-12).all()


def test_gathers_of_strided_slices_keep_windows_and_others_do_not() -> None:
    before, after = (2, 5, 7), (3, 2, 3)
    every = np.arange(70).reshape(before)
    slices = np.stack([every[1, 0:3:2, 1:7:2], every[0, 1:4:2, 0:6:2], np.full((2, 3), -1)])
    linear_ = Gather(slices.reshape(-1), 70)
    op = operator(linear_, shapes=(before, after))
    window = Window(after, (2, 1), (1, 1), (0, 0))
    reached = op.reach(window)
    assert reached == Window(before, (4, 2), (2, 2), (0, 0))
    rng = np.random.default_rng(0)
    A = torch.as_tensor(rng.normal(size=(3, 6)))
    position = torch.arange(3)
    frame = Frame(torch.zeros_like(position), {0: reached, 1: window}, position, after)
    whole = torch.zeros((3, *after), dtype=A.dtype)
    for row in range(3):
        whole[row, :, :, row] = A[row].view(3, 2)
    values = torch.as_tensor(rng.normal(size=(1, 70)))
    found = frame.dot(0, values, frame.adjoint(1, 0, op, A, clean=True))
    torch.testing.assert_close(found, op.adjoint(whole.flatten(1)) @ values[0])
    shuffled = Gather(rng.permutation(slices.reshape(-1)), 70)
    assert operator(shuffled, shapes=(before, after)).reach(window) is None
    assert operator(linear_).reach(window) is None


def test_what_laps_over_the_edge_is_read_as_nothing() -> None:
    window = Window((2, 3), (3,), (1,), (-1,))
    assert window.indices(torch.tensor([[0], [2]])).tolist() == [[6, 0, 1, 6, 3, 4], [1, 2, 6, 4, 5, 6]]


def test_a_union_holds_both_windows() -> None:
    one, other = Window((1, 9, 9), (1, 3), (2, 2), (1, -1)), Window((1, 9, 9), (2, 1), (2, 2), (0, 3))
    both = one.union(other)
    assert both == Window((1, 9, 9), (2, 5), (2, 2), (0, -1))
    A = torch.tensor([[1.0, 2.0, 3.0]])
    assert one.widen(A, both).tolist() == [[0, 0, 0, 0, 0, 1, 2, 3, 0, 0]]
    assert one.union(Window((1, 9, 9), (1, 1), (1, 1), (0, 0))) is None
