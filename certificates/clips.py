"""Clips: tighter neuron bounds at the points of a cell that could violate a clause.

Symbols. A linear bound g(x) = d·x + c lies below a nonnegative combination of a clause's rows, so g(x) ≤ 0 wherever the
cell violates the clause. For a pre-activation z with P·x + p ≤ z ≤ P·x + q on the box, and for **any** λ ≥ 0,

    min_x (P + λ d)·x + p + λ c  ≤  z  ≤  max_x (P − λ d)·x + q − λ c

at those points. Clipped are the open neurons that depend on the input linearly and whose coefficient A in g is
negative. Claims of the same clause on the cell and below may use what is found; where bounds cross nothing violates.

λ = t ‖P‖ / ‖d‖, all in units of the box's radii, is the same for both sides. With σ the value of g at the middle over
‖d‖₁, t = σ / √(1 − σ²) would be best if the entries of P and d were normally distributed.

Soundness. λ is data. Rounding is charged as in `certificates.enclosure`; what is not a number is not taken for a bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certificates.enclosure import Boxes, LinearBound, boxed, gamma, neuron_forms
from networks.graph import Network, ReluNode

__all__ = ["Clipper"]

Array = NDArray[np.float64]

_TINY = 2.0**-500
# t lies between these, and 1 − σ² above this.
_LEAST, _MOST, _FLAT = 1e-2, 1e3, 1e-6


@dataclass(frozen=True, eq=False)
class _Forms:
    """The open neurons of a ReLU node, K of them, as linear forms: P x + least ≤ z ≤ P x + most.

    Attributes:
        neurons: shape ``(K,)``.
        P: in units of the radii, ``(K, inputs)``; ``norm``: its rows' lengths, ``middle``: their values at the middle.
        size: bounds what rounding is relative to.
    """

    neurons: NDArray[np.intp]
    P: Array
    norm: Array
    middle: Array
    least: Array
    most: Array
    size: Array


class Clipper:
    """Clips cells of one box, of which ``bounds`` are known."""

    def __init__(self, network: Network, bounds: Boxes) -> None:
        """``bounds``: of one box."""
        self.bounds = bounds
        low, high = bounds.lower[0], bounds.upper[0]
        self._middle = low / 2 + high / 2
        # Rounded up, so that the box around the middle holds all of [low, high].
        self._radius = np.maximum(high - self._middle, self._middle - low) * (1 + 2.0**-50) + _TINY
        self._reach = np.abs(self._middle) + self._radius
        self._gamma = gamma(4 * network.inputs, bounds)
        known = boxed(network)
        self._forms = {
            index: self._form(network, index)
            for index, node in enumerate(network.nodes)
            if isinstance(node, ReluNode) and node.parent and known[node.parent]
        }

    @property
    def unclipped(self) -> dict[int, tuple[Array, Array]]:
        """The box's own bounds at the ReLU nodes that can be clipped."""
        return {index: (self.bounds.pre_lower[index][0], self.bounds.pre_upper[index][0]) for index in self._forms}

    def _form(self, network: Network, index: int) -> _Forms:
        neurons = np.flatnonzero(self.bounds.slopes[index].width[0])
        relu = network.nodes[index]
        assert isinstance(relu, ReluNode)
        P, least, most = [np.zeros((0, network.inputs))], [np.zeros(0)], [np.zeros(0)]
        with np.errstate(all="ignore"):
            for form in neuron_forms(network, self.bounds, relu.parent, neurons[None]):
                half = form.constant.shape[1] // 2
                P.append(form.A.whole(network.inputs).values[0, :half])
                least.append(form.constant[0, :half])
                most.append(-form.constant[0, half:])
            plain, below, above = np.concatenate(P), np.concatenate(least), np.concatenate(most)
            scaled = plain * self._radius
            norm = np.maximum(np.sqrt((scaled * scaled).sum(1)), _TINY)
            size = np.abs(plain) @ self._reach + np.maximum(np.abs(below), np.abs(above))
        return _Forms(neurons, scaled, norm, plain @ self._middle, below, above, size)

    @np.errstate(all="ignore")
    def clip(self, known: dict[int, tuple[Array, Array]], bound: LinearBound, row: int, offset: float) -> None:
        """Tightens ``known``, bounds by ReLU node, where cell ``row`` of a linear bound, plus ``offset``, is ≤ 0."""
        plain = bound.A.whole(len(self._middle)).values.reshape(-1, len(self._middle))[row]
        constant = bound.constant.reshape(-1)[row] + offset
        d = plain * self._radius
        total, length = np.abs(d).sum(), max(np.sqrt((d * d).sum()), _TINY)
        middle = plain @ self._middle + constant
        share = middle / max(total, _TINY)
        t = np.nan_to_num(share / np.sqrt(max(1 - share * share, _FLAT)), nan=1.0)
        step = np.clip(t, _LEAST, _MOST) / length
        size = np.abs(plain) @ self._reach + np.abs(bound.constant.reshape(-1)[row]) + abs(offset)
        for index, forms in self._forms.items():
            low, high = (end.copy() for end in known[index])
            part = (low < 0)[forms.neurons] & (high > 0)[forms.neurons] & bound.falling[index][row][forms.neurons]
            j, scale = forms.neurons[part], step * forms.norm[part]
            P, pull = forms.P[part], scale[:, None] * d
            charge = self._gamma * (forms.size[part] + scale * size) + _TINY * (1 + forms.size[part] + scale)
            given = scale * middle
            above = np.abs(P - pull).sum(1) + forms.middle[part] + forms.most[part] - given + charge
            below = -np.abs(P + pull).sum(1) + forms.middle[part] + forms.least[part] + given - charge
            low[j] = np.where(below > low[j], below, low[j])
            high[j] = np.where(above < high[j], above, high[j])
            known[index] = low, high
