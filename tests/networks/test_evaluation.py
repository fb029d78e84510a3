"""NumPy evaluation against its definition, entry by entry."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import networks
from networks.evaluation import apply, values
from networks.graph import Conv, ConvTranspose, Dense, Gather, Identity, Scale
from tests.random_networks import random_conv, random_dense, random_residual


@st.composite
def convolutions(draw):
    """A convolution of any supported kind, and its transpose."""
    rank, groups = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    inner, outer = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    pick = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(rank))  # noqa: E731
    kernel, stride, dilation = pick(1, 3), pick(1, 3), pick(1, 2)
    padding = tuple(zip(pick(0, 2), pick(0, 2), strict=True))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    spatial = tuple(r + e for r, e in zip(reach, pick(0, 3), strict=True))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = rng.integers(-4, 5, (outer * groups, inner, *kernel)).astype(float)
    out = tuple((n + sum(p) - r) // s + 1 for n, p, r, s in zip(spatial, padding, reach, stride, strict=True))
    conv = Conv(weight, (inner * groups, *spatial), (outer * groups, *out), stride, padding, dilation, groups)
    # The far end of the image that the stride never reached comes back as output padding.
    extra = tuple(
        n + sum(p) - r - (o - 1) * s for n, p, r, o, s in zip(spatial, padding, reach, out, stride, strict=True)
    )
    transpose = ConvTranspose(weight, conv.output_shape, conv.input_shape, stride, padding, extra, dilation, groups)
    return conv, transpose, rng


def matrix(linear):
    return apply(linear, np.eye(linear.in_features)).T


def direct(conv):
    """The convolution's matrix from its definition."""
    groups, inner = conv.groups, conv.weight.shape[1]
    dense = np.zeros(conv.output_shape + conv.input_shape)
    for o in np.ndindex(conv.output_shape):
        for k in np.ndindex(conv.weight.shape[1:]):
            channel = o[0] // (conv.output_shape[0] // groups) * inner + k[0]
            place = [
                a * s + b * d - p[0]
                for a, b, s, d, p in zip(o[1:], k[1:], conv.stride, conv.dilation, conv.padding, strict=True)
            ]
            if all(0 <= i < n for i, n in zip(place, conv.input_shape[1:], strict=True)):
                dense[(*o, channel, *place)] += conv.weight[(o[0], *k)]
    return dense.reshape(math.prod(conv.output_shape), -1)


@given(convolutions())
def test_convolution_is_its_definition_and_transposed_its_transpose(case):
    conv, transpose, rng = case
    dense = direct(conv)
    np.testing.assert_array_equal(matrix(conv), dense)
    np.testing.assert_array_equal(matrix(transpose), dense.T)
    h = rng.integers(-3, 4, (2, conv.in_features)).astype(float)
    np.testing.assert_array_equal(apply(conv, h), h @ dense.T)


@given(convolutions())
def test_absolute_map_is_the_map_of_absolute_weights(case):
    conv, transpose, rng = case
    for linear in (conv, transpose):
        h = rng.integers(0, 4, (2, linear.in_features)).astype(float)
        bound = apply(linear, h, absolute=True)
        assert (bound >= np.abs(apply(linear, h))).all()


def test_simple_maps():
    h = np.array([[1.0, -2.0, 3.0]])
    assert apply(Identity(3), h).tolist() == [[1, -2, 3]]
    assert apply(Gather(np.array([2, -1, 0, 2]), 3), h).tolist() == [[3, 0, 1, 3]]
    assert apply(Scale(np.array([2.0, 3.0, -1.0])), h).tolist() == [[2, -6, -3]]
    assert apply(Scale(np.array([2.0, 3.0, -1.0])), np.abs(h), absolute=True).tolist() == [[2, 6, 3]]
    assert apply(Dense(np.array([[1.0, 1.0, 1.0]])), h).tolist() == [[2]]
    assert apply(Dense(np.array([[1.0, -1.0, 1.0]])), np.abs(h), absolute=True).tolist() == [[6]]


@pytest.mark.parametrize("make", [random_dense, random_conv, random_residual])
def test_batches_are_rows(make):
    network = make(0)
    x = np.random.default_rng(0).standard_normal((4, network.inputs))
    together = networks.evaluate(network, x)
    assert together.shape == (4, network.outputs)
    np.testing.assert_allclose(together, np.concatenate([networks.evaluate(network, row[None]) for row in x]))
    np.testing.assert_array_equal(networks.evaluate(network, x.reshape(4, *network.input_shape)), together)
    assert [v.shape for v in values(network, x)] == [(4, node.features) for node in network.nodes]
    assert networks.evaluate(network, x[:0]).shape == (0, network.outputs)


def test_wrong_number_of_inputs_is_refused():
    with pytest.raises(networks.NetworkShapeError, match=r"\(B, 3\) are needed, got \(2, 4\)"):
        networks.evaluate(random_dense(0), np.zeros((2, 4)))
    with pytest.raises(networks.NetworkShapeError):
        networks.evaluate(random_dense(0), np.zeros(3))


def test_large_batches_are_convolved_in_parts(monkeypatch):
    network = random_conv(0)
    x = np.random.default_rng(0).integers(-3, 4, (7, network.inputs)).astype(float)
    whole = networks.evaluate(network, x)
    for limit in (1, 500):
        monkeypatch.setattr("networks.evaluation._ROW_ENTRIES", limit)
        np.testing.assert_array_equal(networks.evaluate(network, x), whole)
