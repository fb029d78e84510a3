"""Which signs certainly occur: the range of every pre-activation over evaluated points."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from networks.evaluation import values
from networks.graph import Network, ReluNode

__all__ = ["Seen"]

Array: TypeAlias = NDArray[np.float64]


class Seen:
    """The range of every pre-activation over the points evaluated so far: which signs certainly occur.

    A hint only: values are computed in float64 without charging rounding.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._range: dict[int, tuple[Array, Array]] = {}

    def range(self, node: int) -> tuple[Array, Array]:
        """Lowest and highest value seen, shape ``(features,)`` each."""
        return self._range[node]

    def add(self, x: Array) -> None:
        """Evaluates the inputs ``x``, shape ``(B, inputs)``."""
        found = values(self._network, x)
        for node in self._network.relu_nodes:
            relu = self._network.nodes[node]
            assert isinstance(relu, ReluNode)
            low, high = found[relu.parent].min(0), found[relu.parent].max(0)
            if node in self._range:
                low, high = np.minimum(low, self._range[node][0]), np.maximum(high, self._range[node][1])
            self._range[node] = (low, high)
