"""Adam (Kingma & Ba 2015, algorithm 1) on plain tensors.

torch's own brings its compiler along when the first one is made, which takes 1.2 s of CPU time: longer than most
queries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Adam"]

_DECAY = (0.9, 0.999)
_EPSILON = 1e-8


class Adam:
    """Moves ``tensors`` in place, by steps of about ``rate`` in each entry against the gradients that it is given."""

    def __init__(self, tensors: Sequence[Tensor], rate: float) -> None:
        self._tensors = tensors
        self._rate = rate
        self._first = [torch.zeros_like(tensor, requires_grad=False) for tensor in tensors]
        self._second = [torch.zeros_like(tensor, requires_grad=False) for tensor in tensors]
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """One step; ``gradients`` are in the order of the tensors."""
        self._steps += 1
        scale = [1 - decay**self._steps for decay in _DECAY]
        for tensor, gradient, first, second in zip(self._tensors, gradients, self._first, self._second, strict=True):
            first.lerp_(gradient, 1 - _DECAY[0])
            second.mul_(_DECAY[1]).addcmul_(gradient, gradient, value=1 - _DECAY[1])
            length = second.sqrt().div_(math.sqrt(scale[1])).add_(_EPSILON)
            tensor.addcdiv_(first, length, value=-self._rate / scale[0])
