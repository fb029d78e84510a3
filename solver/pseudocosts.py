"""Which input of a box to cut: pseudocosts, learnt from boxes on which several cuts were tried.

A cut is worth what it raises the bounds of the two halves. The coefficients of a box's linear bounds predict that
badly: they say how steep a relaxation is, not how much a cut would tighten it. What helps on one box of a query however
helps on most. So on one box in some every promising input is cut and both halves are bounded; from these trials each
input learns by how much its prediction is too low. (Bénichou et al. 1971; Achterberg, Koch & Martin 2005.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solver import policy
from solver.parcel import Parcel

__all__ = ["Pseudocosts"]


class Pseudocosts:
    """Chooses cuts, and learns from those that were tried."""

    def __init__(self, inputs: int) -> None:
        self._gain = np.zeros(inputs)
        self._predicted = np.zeros(inputs)
        self._since = 0  # boxes since the last one that several cuts were tried on

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """What was learnt, for another search."""
        return {"gain": self._gain, "predicted": self._predicted}

    def learn(self, parcel: Parcel) -> None:
        """Takes over what another search has learnt. Raises ParcelError if that has other inputs."""
        self._gain, self._predicted = (
            parcel.array(name, np.float64, self._gain.shape).copy() for name in ("gain", "predicted")
        )

    def choose(
        self, lower: NDArray[np.float64], upper: NDArray[np.float64], score: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The cuts to try on B boxes.

        Args:
            lower, upper: end points, shape ``(B, inputs)``.
            score: how much the linear bounds vary along each input, same shape.

        Returns:
            Box and input of each cut, ordered by box. A box that cannot be cut has none.
        """
        middle = lower + (upper - lower) / 2
        possible = (lower < middle) & (middle < upper)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(self._predicted > 0, self._gain / self._predicted, 1.0)
        # Where nothing is predicted, the widest input is cut.
        worth = np.where(possible, score * factor, -np.inf)
        order = np.lexsort((upper - lower, worth))[:, ::-1]
        tried, self._since = divmod(self._since + len(lower), policy.BOX_TRY_ONE_IN)
        count = np.where(np.arange(len(lower)) < tried, policy.BOX_CANDIDATES, 1)
        count = np.minimum(count, possible.sum(1))
        box = np.repeat(np.arange(len(lower)), count)
        place = np.arange(len(box)) - np.repeat(np.cumsum(count) - count, count)
        return box, order[box, place]

    def best(
        self, box: NDArray[np.intp], entry: NDArray[np.intp], gain: NDArray[np.float64], score: NDArray[np.float64]
    ) -> NDArray[np.intp]:
        """Learns from cuts, and says which of them gained most on each box.

        Args:
            box, entry: as `choose` returned them.
            gain: what each cut gained, as a part of what the box lacks.
            score: as `choose` had it.

        Returns:
            The number of the best cut of each box.
        """
        share = score / np.maximum(score.sum(1, keepdims=True), 1e-300)
        several = np.bincount(box)[box] > 1
        np.add.at(self._gain, entry[several], gain[several])
        np.add.at(self._predicted, entry[several], share[box, entry][several])
        order = np.lexsort((-np.arange(len(box)), gain, box))
        last = np.append(np.diff(box[order]) != 0, True)
        return np.asarray(order[last])
