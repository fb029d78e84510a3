"""Clips: tighter neuron bounds at the points of a cell that could violate a clause.

Symbols. A linear bound g(x) = d·x + c lies below a nonnegative combination of a clause's rows, so g(x) ≤ 0 wherever the
cell violates the clause. For a pre-activation z with P·x + p ≤ z ≤ P·x + q on the box, and for **any** λ ≥ 0,

    min_x (P + λ d)·x + p + λ c  ≤  z  ≤  max_x (P − λ d)·x + q − λ c

at those points. Clipped are the open neurons that depend on the input linearly, whose coefficient A in g is negative
and by which g loses something. Claims of the same clause on the cell and below may use what is found; where bounds
cross nothing violates.

λ = t ‖P‖ / ‖d‖, all in units of the box's radii, is the same for both sides. With σ the value of g at the middle over
‖d‖₁, t = σ / √(1 − σ²) would be best if the entries of P and d were normally distributed.

Soundness. λ is data. Distances ‖P_j − λ d‖₁, nearly all of the work, are summed in float32, the rest in float64; both
are charged as in `certificates.enclosure`. What is not a number is not taken for a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certificates.enclosure import Boxes, Cell, LinearBound, boxed, choose, gamma, neuron_forms
from networks.graph import Network, ReluNode

__all__ = ["Clipper"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_TINY = 2.0**-500
# t lies between these, and 1 − σ² above this.
_LEAST, _MOST, _FLAT = 1e-2, 1e3, 1e-6
# Four times the unit of rounding of float32, what underflow there takes at most from a sum, and how many are summed.
_SINGLE, _SINGLE_TINY, _SUMMANDS = 2.0**-22, 2.0**-100, 32
# Entries of one matrix that are held at a time: what fits in the cache.
_ENTRIES = 2**16
# Neurons are clipped that lose more than this share of what the one that loses most loses.
_WORTH = 0.003


@dataclass(frozen=True, eq=False)
class _Forms:
    """The open neurons of a ReLU node, K of them, as linear forms: P x + least ≤ z ≤ P x + most.

    Attributes:
        neurons: shape ``(K,)``.
        unit: the rows of P in units of the radii, over ``norm``, their lengths, float32, then zeros,
            ``(K, inputs or a few more)``.
        total, extent: the sums of those entries, and of their magnitudes.
        middle: values of P x at the middle.
        size: bounds what rounding is relative to.
    """

    neurons: NDArray[np.intp]
    unit: NDArray[np.float32]
    norm: Array
    total: Array
    extent: Array
    middle: Array
    least: Array
    most: Array
    size: Array


class Clipper:
    """Clips cells of one box, of which ``bounds`` are known."""

    @np.errstate(all="ignore")
    def __init__(self, network: Network, bounds: Boxes) -> None:
        """``bounds``: of one box."""
        self.bounds = bounds
        low, high = bounds.lower[0], bounds.upper[0]
        self._middle = low / 2 + high / 2
        # Rounded up, so that the box around the middle holds all of [low, high].
        self._radius = np.maximum(high - self._middle, self._middle - low) * (1 + 2.0**-50) + _TINY
        self._reach = np.abs(self._middle) + self._radius
        # For at most 6 sums of inputs + 1 products each, and charged at twice the unit of rounding.
        self._gamma = gamma(4 * network.inputs, bounds)
        known = boxed(network)
        self._forms = {
            index: self._form(network, index)
            for index, node in enumerate(network.nodes)
            if isinstance(node, ReluNode) and node.parent and known[node.parent]
        }
        #: The box's own bounds at the ReLU nodes that can be clipped.
        self.unclipped = {index: (bounds.pre_lower[index][0], bounds.pre_upper[index][0]) for index in self._forms}

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
            unit = _single(scaled / norm[:, None])
        sums = unit.sum(1, dtype=np.float64), np.abs(unit).sum(1, dtype=np.float64)
        return _Forms(neurons, unit, norm, *sums, plain @ self._middle, below, above, size)

    @np.errstate(all="ignore")
    def clip(self, bound: LinearBound, offset: Array, cells: Sequence[Cell]) -> list[dict[int, tuple[Array, Array]]]:
        """Bounds by ReLU node where each of R cells' linear bound, plus ``offset`` of shape ``(R,)``, is ≤ 0.

        Each cell must say what is known there so far, if only `unclipped`.
        """
        plain = bound.A.whole(len(self._middle)).values.reshape(-1, len(self._middle))
        constant = bound.constant.reshape(-1)
        d = plain * self._radius
        length = np.maximum(np.sqrt((d * d).sum(1)), _TINY)
        middle = plain @ self._middle + constant + offset
        share = middle / np.maximum(np.abs(d).sum(1), _TINY)
        t = np.nan_to_num(share / np.sqrt(np.maximum(1 - share * share, _FLAT)), nan=1.0)
        step = np.clip(t, _LEAST, _MOST) / length
        size = np.abs(plain) @ self._reach + np.abs(constant) + np.abs(offset)
        pull = _single(step[:, None] * d)
        out: list[dict[int, tuple[Array, Array]]] = [{} for _ in cells]
        for index, forms in self._forms.items():
            low, high = (np.stack([cell.known[index][end] for cell in cells]) for end in (0, 1))
            choose(low, high, [cell.phases for cell in cells], index)
            least, most, A = (z[:, forms.neurons] for z in (low, high, bound.arrived[index]))
            loss = np.where((least < 0) & (most > 0), np.minimum(A, 0) * least * most / (most - least), 0)
            r, k = np.nonzero(loss > _WORTH * loss.max(1, keepdims=True, initial=0))
            scale = step[r] * forms.norm[k]
            toward, away, rounded = forms.norm[k] * _distances(forms, pull, r, k)
            charge = rounded + self._gamma * (forms.size[k] + scale * size[r])
            charge += _TINY * (1 + forms.size[k] + scale)
            given, j = scale * middle[r], forms.neurons[k]
            above = toward + forms.middle[k] + forms.most[k] - given + charge
            below = -away + forms.middle[k] + forms.least[k] + given - charge
            low[r, j] = np.where(below > low[r, j], below, low[r, j])
            high[r, j] = np.where(above < high[r, j], above, high[r, j])
            for each, *ends in zip(out, low, high, strict=True):
                each[index] = ends[0], ends[1]
        return out


def _distances(forms: _Forms, pull: NDArray[np.float32], r: Indices, k: Indices) -> Array:
    """``‖unit[k] − pull[r]‖₁``, ``‖unit[k] + pull[r]‖₁`` and how far either is off at most, ``(3, len(r))``; r ascends.

    As |a − b| = 2 max{a, b} − a − b. Only sums of n = 32 maxima are in float32: off by 2 γ³²_n Σ(|a| + |b|), to which
    the conversion of a and b adds one more rounding. Charged is twice as much.
    """
    n = pull.shape[1]
    most, one = np.empty((2, len(r), n // _SUMMANDS), np.float32), np.ones(_SUMMANDS, np.float32)
    rows = max(1, _ENTRIES // n)
    larger = np.empty((rows, n), np.float32)
    ends = np.searchsorted(r, np.arange(len(pull) + 1)).tolist()
    for s, first, last in zip(pull, ends[:-1], ends[1:], strict=True):
        for start in range(first, last, rows):
            part = slice(start, min(last, start + rows))
            some = forms.unit[k[part]]
            for side, other in enumerate((s, -s)):
                sums = np.maximum(some, other, out=larger[: len(some)]).reshape(-1, _SUMMANDS) @ one
                most[side, part] = sums.reshape(len(some), -1)
    a, b = forms.total[k], pull.sum(1, dtype=np.float64)[r]
    size = forms.extent[k] + np.abs(pull).sum(1, dtype=np.float64)[r]
    toward, away = 2 * most.sum(2, dtype=np.float64)
    return np.stack([toward - a - b, away - a + b, _SINGLE * (_SUMMANDS + 16) * size + _SINGLE_TINY])


def _single(values: Array) -> NDArray[np.float32]:
    """Rows in float32, with zeros at their ends up to a multiple of `_SUMMANDS`."""
    return np.pad(values, ((0, 0), (0, -values.shape[1] % _SUMMANDS))).astype(np.float32)
