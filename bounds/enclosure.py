"""Pre-activation bounds of one query, as NumPy data that every engine shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from networks.errors import SoundnessError

__all__ = ["Enclosure"]


@dataclass(frozen=True, eq=False)
class Enclosure:
    """Bounds ``l ≤ z ≤ u`` of every ReLU's pre-activation z over a region.

    ``lower`` and ``upper`` map the index of a ReLU node (in ``network.nodes``) to arrays of shape ``(features,)``,
    float64.
    """

    lower: Mapping[int, NDArray[np.float64]]
    upper: Mapping[int, NDArray[np.float64]]

    def unstable(self, node: int) -> NDArray[np.bool_]:
        """ReLUs of ``node`` whose sign is open: ``l < 0 < u``."""
        return (self.lower[node] < 0) & (self.upper[node] > 0)

    def active(self, node: int) -> NDArray[np.bool_]:
        """ReLUs that pass their input on: ``l ≥ 0``."""
        return np.asarray(self.lower[node] >= 0)

    def inactive(self, node: int) -> NDArray[np.bool_]:
        """ReLUs that are constantly zero: ``u ≤ 0`` and not active."""
        return (self.upper[node] <= 0) & ~self.active(node)

    @property
    def finite(self) -> bool:
        """Whether every bound is a number: none overflowed."""
        return all(np.isfinite(self.lower[node]).all() and np.isfinite(self.upper[node]).all() for node in self.lower)

    @property
    def unstable_count(self) -> int:
        """Number of ReLUs whose sign is open."""
        return int(sum(self.unstable(node).sum() for node in self.lower))

    def replace(self, node: int, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> Self:
        """The enclosure with the bounds of ``node`` intersected with ``lower`` and ``upper``.

        Raises:
            SoundnessError: the intersection is empty, so one of the two bounds was wrong.
        """
        low = np.maximum(self.lower[node], lower)
        high = np.minimum(self.upper[node], upper)
        if (low > high).any():
            worst = int(np.argmax(low - high))
            msg = (
                f"two proven bounds of neuron {worst} of node {node} contradict each other: "
                f"[{self.lower[node][worst]!r}, {self.upper[node][worst]!r}] and [{lower[worst]!r}, {upper[worst]!r}]"
            )
            raise SoundnessError(msg)
        return type(self)({**self.lower, node: low}, {**self.upper, node: high})
