"""Random canonical networks, built without ONNX, that use every kind of node and linear map."""

from __future__ import annotations

import itertools

import numpy as np

from networks.graph import (
    AffineNode,
    Conv,
    ConvTranspose,
    Dense,
    Gather,
    Identity,
    InputNode,
    LinearMap,
    Network,
    Node,
    ReluNode,
    Scale,
)

LINEAR_MAPS = ("identity", "dense", "scale", "gather", "conv1d", "conv2d", "conv_strided", "conv_transpose")


def linear_map(kind: str, rng: np.random.Generator) -> LinearMap:
    if kind == "identity":
        return Identity(5)
    if kind == "dense":
        return Dense(rng.normal(size=(4, 6)))
    if kind == "scale":
        return Scale(rng.normal(size=5))
    if kind == "gather":
        return Gather(np.array([2, 0, -1, 2, 4, -1]), 5)
    if kind == "conv1d":
        return Conv(rng.normal(size=(4, 1, 3)), (2, 9), (4, 4), (2,), ((1, 0),), (1,), groups=2)
    if kind == "conv2d":
        return Conv(rng.normal(size=(3, 2, 3, 2)), (2, 5, 4), (3, 5, 4), (1, 1), ((1, 1), (0, 1)), (1, 1))
    if kind == "conv_strided":
        # Stride 3 leaves the last row unread, and the kernel is dilated along one axis.
        return Conv(rng.normal(size=(2, 2, 2, 2)), (2, 6, 7), (2, 2, 3), (3, 2), ((0, 0), (0, 1)), (1, 2))
    if kind == "conv_transpose":
        return ConvTranspose(
            rng.normal(size=(2, 2, 3, 2)), (2, 3, 3), (4, 6, 5), (2, 2), ((1, 0), (1, 0)), (0, 0), (1, 1), groups=2
        )
    raise ValueError(kind)


def dense_network(rng: np.random.Generator, widths: tuple[int, ...] = (3, 6, 5, 3), scale: float = 1.0) -> Network:
    nodes: list[Node] = [InputNode((widths[0],))]
    for k, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        weight = scale * rng.normal(size=(fan_out, fan_in)) / np.sqrt(fan_in)
        nodes.append(AffineNode(((len(nodes) - 1, Dense(weight)),), rng.normal(size=fan_out) * 0.3, (fan_out,)))
        if k < len(widths) - 2:
            nodes.append(ReluNode(len(nodes) - 1, (fan_out,)))
    return Network(tuple(nodes), b"", "")


def residual_network(rng: np.random.Generator) -> Network:
    """Convolution, a skip connection that subtracts, a gather, then a dense output."""
    conv = Conv(rng.normal(size=(2, 1, 3, 3)) * 0.5, (1, 4, 4), (2, 4, 4), (1, 1), ((1, 1), (1, 1)), (1, 1))
    again = Conv(rng.normal(size=(2, 2, 3, 3)) * 0.4, (2, 4, 4), (2, 4, 4), (1, 1), ((1, 1), (1, 1)), (1, 1))
    nodes: list[Node] = [
        InputNode((1, 4, 4)),
        AffineNode(((0, Scale(rng.uniform(0.5, 2, size=16))),), rng.normal(size=16) * 0.1, (1, 4, 4)),
        AffineNode(((1, conv),), rng.normal(size=32) * 0.1, (2, 4, 4)),
        ReluNode(2, (2, 4, 4)),
        AffineNode(((3, again),), rng.normal(size=32) * 0.1, (2, 4, 4)),
        ReluNode(4, (2, 4, 4)),
        AffineNode(
            ((5, Identity(32)), (3, Scale(-np.ones(32))), (1, Gather(np.arange(32) % 16, 16))), np.zeros(32), (32,)
        ),
        ReluNode(6, (32,)),
        AffineNode(((7, Dense(rng.normal(size=(3, 32)) * 0.3)),), rng.normal(size=3), (3,)),
    ]
    return Network(tuple(nodes), b"", "")


def patch_network(rng: np.random.Generator) -> Network:
    """A convolution whose 32 neurons read 9 of 144 inputs each, then two dense layers; three outputs."""
    conv = Conv(rng.normal(size=(2, 1, 3, 3)) * 0.4, (1, 12, 12), (2, 4, 4), (3, 3), ((0, 0), (0, 0)), (1, 1))
    nodes: list[Node] = [
        InputNode((1, 12, 12)),
        AffineNode(((0, conv),), rng.normal(size=32) * 0.1, (2, 4, 4)),
        ReluNode(1, (2, 4, 4)),
        AffineNode(((2, Dense(rng.normal(size=(6, 32)) * 0.2)),), rng.normal(size=6) * 0.1, (6,)),
        ReluNode(3, (6,)),
        AffineNode(((4, Dense(rng.normal(size=(3, 6)))),), rng.normal(size=3), (3,)),
    ]
    return Network(tuple(nodes), b"", "")


def windowed_network(rng: np.random.Generator, kind: str) -> Network:
    """Convolutions on images large enough that a neuron reads a small part of them; two outputs.

    ``plain`` has strides, uneven padding, a dilation and groups; ``skip`` adds a strided skip connection, a scale
    between convolutions and a convolution right after another; ``line`` has one spatial axis.
    """

    def conv(
        before: tuple[int, ...], channels: int, kernel: int, stride: int, pads: tuple[int, int], **more: int
    ) -> Conv:
        groups, dilation = more.get("groups", 1), more.get("dilation", 1)
        axes = len(before) - 1
        reach = dilation * (kernel - 1) + 1
        space = tuple((n + sum(pads) - reach) // stride + 1 for n in before[1:])
        weight = rng.normal(size=(channels, before[0] // groups, *(kernel,) * axes)) * 0.5
        return Conv(weight, before, (channels, *space), (stride,) * axes, (pads,) * axes, (dilation,) * axes, groups)

    nodes: list[Node] = []

    def affine(*terms: tuple[int, LinearMap], shape: tuple[int, ...]) -> int:
        features = int(np.prod(shape))
        nodes.append(AffineNode(terms, rng.normal(size=features) * 0.1, shape))
        return len(nodes) - 1

    def relu() -> int:
        nodes.append(ReluNode(len(nodes) - 1, nodes[-1].shape))
        return len(nodes) - 1

    if kind == "line":
        nodes.append(InputNode((1, 24)))
        first = conv((1, 24), 2, 3, 1, (1, 1))
        affine((0, first), shape=first.output_shape)
        second = conv(first.output_shape, 3, 4, 2, (1, 1))
        affine((relu(), second), shape=second.output_shape)
    elif kind == "plain":
        nodes.append(InputNode((2, 11, 11)))
        first = conv((2, 11, 11), 4, 3, 1, (1, 0), groups=2)
        affine((0, first), shape=first.output_shape)
        middle = conv(first.output_shape, 4, 2, 2, (0, 1), dilation=2)
        affine((relu(), middle), shape=middle.output_shape)
        second = conv(middle.output_shape, 2, 3, 1, (1, 1), groups=2)
        affine((relu(), second), shape=second.output_shape)
    else:
        nodes.append(InputNode((1, 12, 12)))
        first = conv((1, 12, 12), 2, 3, 1, (1, 1))
        scaled = affine((affine((0, first), shape=first.output_shape), Scale(rng.normal(size=288))), shape=(2, 12, 12))
        top = relu()
        assert top == scaled + 1
        down = conv(first.output_shape, 3, 3, 2, (1, 1))
        affine((top, down), shape=down.output_shape)
        second = conv(down.output_shape, 3, 3, 1, (1, 1))
        along = affine((relu(), second), shape=second.output_shape)
        skip = conv(first.output_shape, 3, 1, 2, (0, 0))
        past = affine((top, skip), shape=skip.output_shape)
        affine((along, Identity(108)), (past, Identity(108)), shape=second.output_shape)
        second = conv(second.output_shape, 2, 3, 1, (1, 1))
        relu()
        # Nothing lies between these two, so what laps over the edge must be left out.
        affine(
            (
                affine((len(nodes) - 1, second), shape=second.output_shape),
                again := conv(second.output_shape, 2, 2, 1, (1, 0)),
            ),
            shape=again.output_shape,
        )
    last = relu()
    features = nodes[last].features
    affine((last, Dense(rng.normal(size=(2, features)) / np.sqrt(features))), shape=(2,))
    return Network(tuple(nodes), b"", "")
