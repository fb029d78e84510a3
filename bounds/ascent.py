"""Adam (Kingma & Ba 2015) for rows of parameters that climb side by side, with steps that grow shorter."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Ascent"]

_MOMENTUM = 0.7
_SECOND = 0.99
#: Steps shrink to this share of the first one.
_FINAL_RATE = 0.2


class Ascent:
    """The moments of an ascent of at most ``steps`` steps on R rows of parameters; the first has length ``rate``."""

    def __init__(self, theta: Tensor, steps: int, rate: float) -> None:
        self._mean, self._square = torch.zeros_like(theta), torch.zeros_like(theta)
        self._steps, self._rate = steps, rate
        self._taken = 0

    def step(self, gradient: Tensor) -> Tensor:
        """What to add to the parameters, shape of ``gradient``."""
        self._mean.lerp_(gradient, 1 - _MOMENTUM)
        self._square.lerp_(gradient * gradient, 1 - _SECOND)
        length: float = self._rate * _FINAL_RATE ** (self._taken / max(1, self._steps - 1))
        self._taken += 1
        corrected: Tensor = (self._square / (1 - _SECOND**self._taken)).sqrt_().add_(1e-12)
        return self._mean * (length / (1 - _MOMENTUM**self._taken)) / corrected

    def select(self, rows: Tensor) -> None:
        """Goes on with some of the rows, by index or mask."""
        self._mean, self._square = self._mean[rows], self._square[rows]
