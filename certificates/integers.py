"""Integers of any size in arrays of objects: python-flint's where it is installed, else Python's, which are slower."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import flint
except ImportError:
    flint = None

__all__ = ["integers", "power", "product"]

_integer: Any = int if flint is None else flint.fmpz
_convert = np.frompyfunc(_integer, 1, 1)


def integers(values: NDArray[Any]) -> NDArray[Any]:
    """An array of integers from one of Python's."""
    return np.asarray(_convert(values), object)


def power(exponent: int) -> Any:
    """2 to the ``exponent``, which is not negative."""
    return _integer(2) ** exponent


def product(A: NDArray[Any], B: NDArray[Any]) -> NDArray[Any]:
    """The matrix product."""
    if flint is None or 0 in (*A.shape, *B.shape):
        return np.asarray(A @ B, object).reshape(len(A), B.shape[1])
    matrix = flint.fmpz_mat(A.tolist()) * flint.fmpz_mat(B.tolist())
    return np.array(matrix.tolist(), object)
