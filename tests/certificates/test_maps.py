"""The checker's linear maps against the prover's, which are torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bounds.operators import operator
from certificates.maps import adjoint, rows, terms
from networks.evaluation import apply
from networks.graph import Conv, ConvTranspose, Dense, Gather, Identity, Scale

RNG = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return RNG.integers(-8, 9, shape) / 4.0


MAPS = {
    "identity": Identity(5),
    "dense": Dense(weights(4, 6)),
    "scale": Scale(weights(7)),
    "gather": Gather(np.array([2, -1, 0, 2, 2, 4, -1]), 5),
    "gather nothing": Gather(np.array([-1, -1]), 3),
    "conv": Conv(weights(4, 3, 3, 3), (3, 6, 7), (4, 6, 7), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    "strided conv": Conv(weights(2, 3, 2, 3), (3, 7, 8), (2, 4, 3), (2, 3), ((1, 0), (0, 2)), (1, 1)),
    "dilated conv": Conv(weights(2, 1, 3), (1, 9), (2, 3), (2,), ((0, 0),), (2,)),
    "grouped conv": Conv(weights(4, 2, 2, 2), (4, 4, 4), (4, 3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 2),
    "transposed": ConvTranspose(weights(3, 2, 3, 3), (3, 3, 4), (2, 6, 8), (2, 2), ((1, 1), (1, 1)), (1, 1), (1, 1)),
    "grouped transposed": ConvTranspose(weights(4, 1, 2), (4, 3), (2, 5), (2,), ((1, 0),), (0,), (1,), 2),
}


@pytest.mark.parametrize("name", MAPS)
def test_agrees_with_torch(name: str) -> None:
    linear = MAPS[name]
    reference = operator(linear)
    A = weights(3, linear.out_features)
    h = weights(3, linear.in_features)
    np.testing.assert_array_equal(adjoint(linear, A), reference.adjoint(torch.as_tensor(A)).numpy())
    np.testing.assert_array_equal(apply(linear, h), reference.forward(torch.as_tensor(h)).numpy())
    every = np.arange(linear.out_features)
    np.testing.assert_array_equal(rows(linear, every), reference.rows(torch.as_tensor(every)).numpy())
    np.testing.assert_array_equal(
        apply(linear, np.abs(h), absolute=True), reference.abs_forward(torch.as_tensor(np.abs(h))).numpy()
    )


@pytest.mark.parametrize("name", MAPS)
def test_adjoint_is_the_adjoint(name: str) -> None:
    linear = MAPS[name]
    A, h = weights(2, linear.out_features), weights(2, linear.in_features)
    np.testing.assert_array_equal((A * apply(linear, h)).sum(-1), (adjoint(linear, A) * h).sum(-1))


@pytest.mark.parametrize("name", MAPS)
def test_terms_count_every_product(name: str) -> None:
    linear = MAPS[name]
    matrix = rows(linear, np.arange(linear.out_features)) != 0
    assert terms(linear) >= max(1, matrix.sum(0).max(initial=0), matrix.sum(1).max(initial=0))
