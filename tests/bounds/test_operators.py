from __future__ import annotations

import numpy as np
import pytest
import torch

from bounds.operators import operator
from tests.bounds.graphs import LINEAR_MAPS, linear_map


def matrix(linear) -> torch.Tensor:
    """The dense matrix of a linear map, column by column."""
    return operator(linear).forward(torch.eye(linear.in_features, dtype=torch.float64)).T


@pytest.mark.parametrize("kind", LINEAR_MAPS)
def test_adjoint_rows_and_magnitude_agree_with_the_matrix(kind: str) -> None:
    linear = linear_map(kind, np.random.default_rng(0))
    op, dense = operator(linear), matrix(linear)
    assert dense.shape == (linear.out_features, linear.in_features)
    A = torch.as_tensor(np.random.default_rng(1).normal(size=(3, linear.out_features)))
    h = torch.as_tensor(np.random.default_rng(2).normal(size=(2, linear.in_features)))
    chosen = torch.tensor([0, linear.out_features - 1, 1])
    torch.testing.assert_close(op.forward(h), h @ dense.T)
    torch.testing.assert_close(op.adjoint(A), A @ dense)
    torch.testing.assert_close(op.abs_forward(h.abs()), h.abs() @ dense.abs().T)
    torch.testing.assert_close(op.rows(chosen), dense[chosen])


@pytest.mark.parametrize("kind", LINEAR_MAPS)
def test_term_counts_bound_the_nonzeros(kind: str) -> None:
    linear = linear_map(kind, np.random.default_rng(0))
    op, dense = operator(linear), matrix(linear)
    assert (dense != 0).sum(1).max() <= op.forward_terms
    assert (dense != 0).sum(0).max() <= op.adjoint_terms
