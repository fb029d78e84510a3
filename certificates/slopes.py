"""Lower slopes that a certificate supplies for the bounds of neurons, where default ones are too loose.

Soundness. Slopes are data: with any α between 0 and 1, Λ = α A where A > 0 at an unstable neuron loses nothing there,
as α A rounded lies between 0 and A.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["NeuronSlopes"]

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class NeuronSlopes:
    """Slopes for the lower and the upper bounds of M neurons, at K columns.

    Attributes:
        neurons, columns: (ReLU node, neuron) for each, shapes ``(M, 2)`` and ``(K, 2)``.
        alpha: between 0 and 1, shape ``(2, M, K)``.
    """

    neurons: NDArray[np.int64]
    columns: NDArray[np.int64]
    alpha: NDArray[np.floating]

    @cached_property
    def _lines(self) -> dict[tuple[int, int], int]:
        return {(node, neuron): m for m, (node, neuron) in enumerate(self.neurons.tolist())}

    def at(self, relu: int, neuron: Indices, index: int, below: NDArray[np.float64]) -> NDArray[np.float64]:
        """The lower slopes at ReLU node ``index`` for bounds of R neurons of node ``relu`` on each of B boxes: those of
        the lower bounds, then those of the upper ones, shape ``(B, 2R, features)``.

        ``neuron`` of shape ``(B, R)``; ``below`` the slopes where none are supplied, shape ``(B, features)``.
        """
        out = np.repeat(below[:, None], 2 * neuron.shape[1], 1).astype(np.float64)
        place = np.flatnonzero(self.columns[:, 0] == index)
        numbers = [[self._lines.get((relu, j), -1) for j in row] for row in neuron.tolist()]
        line = np.array(numbers, np.intp).reshape(neuron.shape)
        b, r = np.nonzero(line >= 0)
        for side in range(2):
            rows = (r + side * neuron.shape[1])[:, None]
            out[b[:, None], rows, self.columns[place, 1]] = self.alpha[side][line[b, r]][:, place]
        return out
