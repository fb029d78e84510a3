"""Fast estimates of the bounds of `bounds.phases`: float32, on the network without its stable ReLUs.

With stable ReLUs substituted away (`bounds.encoding`), the pre-activations of the K unstable ReLUs and the rows of a
clause are linear forms of the input and of earlier unstable ReLUs. A backward pass then costs about ``K · inputs``
products a row instead of the whole network, and gradients are written out below.

One parameter for each column, θ, stands for α where the phase is open (l < 0 < u) and for β (in units of the root's
coefficient there, so that steps of one length suit every network) where it is not. At an open column Λ = α A for A > 0
and A u/(u−l) for A < 0; where l ≥ 0 Λ = A − β, and where u ≤ 0 Λ = β.

Soundness. None: nothing here charges rounding. A search asks `bounds.phases` about every cell that it means to close.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.enclosure import Enclosure
from bounds.encoding import encode, encode_rows
from bounds.inside import Inside
from bounds.phases import Cells
from networks.graph import Network, ReluNode
from networks.property import Clause
from networks.region import Region

__all__ = ["Estimate", "Forms", "Reduced", "Weights"]

#: Steps shrink to this share of the first one.
_FINAL_RATE = 0.2
_MOMENTUM = 0.7
_SECOND = 0.99
#: Share of the most that a column can lose in its score, beside what it does lose.
_SPARE = 1e-6
# Matrices with a smaller share of nonzero entries are kept sparse: at 15 % both kinds take about as long.
_SPARSE = 0.15


@dataclass(frozen=True, eq=False)
class Estimate:
    """Estimates for R (cell, row) pairs.

    Attributes:
        value: the bound of the row, offset included, shape ``(R,)``.
        arriving: A at the columns, shape ``(R, K)``.
        direction: A_0 in units of the box's radii, shape ``(R, inputs)``.
        reached: the pre-activations that the relaxation has where the bound is attained, shape ``(R, K)``; in other
            words the gradient of the bound by Λ.
    """

    value: Tensor
    arriving: Tensor
    direction: Tensor
    reached: Tensor

    def select(self, which: Tensor) -> Estimate:
        """Some of them, by index or mask."""
        return Estimate(self.value[which], self.arriving[which], self.direction[which], self.reached[which])


@dataclass(frozen=True, eq=False)
class _Phases:
    """R cells as the relaxation sees them, all ``(R, K)``: the open columns, the sign of the others' phase, and at open
    columns the slope and the offset of the line above the ReLU.
    """

    free: Tensor
    on: Tensor
    sign: Tensor
    slope: Tensor
    gap: Tensor

    @classmethod
    def of(cls, low: Tensor, high: Tensor) -> _Phases:
        on = low >= 0
        free = ~on & (high > 0)
        slope = torch.where(free, high / (high - low), 0.0)
        return cls(free, on.to(low.dtype), on.to(low.dtype) - (~on & ~free).to(low.dtype), slope, -low * slope)


def _number(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def _single(values: Tensor) -> Tensor:
    return values.to(torch.float32).contiguous()


def _density(matrix: Tensor) -> float:
    return int(torch.count_nonzero(matrix)) / max(1, matrix.numel())


class Weights:
    """A matrix M to multiply by from both sides, kept sparse where most entries are zero, as those of convolutions are.

    At a density of 4 % sparse products take a sixth of the time of dense ones.
    """

    def __init__(self, matrix: Tensor) -> None:
        self._dense = matrix
        self._sparse: tuple[Tensor, Tensor] | None = None
        if _density(matrix) < _SPARSE:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch calls its sparse tensors a beta
                self._sparse = matrix.to_sparse_csr(), matrix.T.contiguous().to_sparse_csr()

    def add_to(self, total: Tensor, A: Tensor) -> Tensor:
        """``total + A M``, in place, shape ``(R, columns of M)``."""
        if self._sparse is None:
            return total.addmm_(A, self._dense)
        return total.add_((self._sparse[1] @ A.T.contiguous()).T)

    def forward(self, x: Tensor) -> Tensor:
        """``x Mᵀ``, shape ``(R, rows of M)``."""
        if self._sparse is None:
            return x @ self._dense.T
        return (self._sparse[0] @ x.T.contiguous()).T


class Forms:
    """The pre-activations of K unstable ReLUs over one region as linear forms; clauses share them.

    Attributes:
        columns: K.
        layers: slices of the K columns, one for each ReLU node with unstable neurons, in topological order.
        places: the same by node.
        lower, upper, middle, radius: of the region's box, float64 ``(inputs,)``.
        inputs: coefficients of the input in units of the radii, ``(K, inputs)``.
        blocks: the same as slices of the columns and their `Weights`.
        before: by the first column of a layer, the coefficients of all columns before it, ``(layer, columns before)``.
        constant: values at the middle where all columns are 0, ``(K,)``.
        low, high: bounds at the root, ``(K,)``.
        inside: what the inputs keep beside the box, float32; None for a box.
    """

    def __init__(self, network: Network, region: Region, enclosure: Enclosure, cells: Cells) -> None:
        self.columns, self.places = cells.columns, cells.places
        self.layers = list(cells.places.values())
        self.lower, self.upper = _number(region.lower), _number(region.upper)
        self.middle, self.radius = (self.lower + self.upper) / 2, (self.upper - self.lower) / 2
        inputs = torch.zeros((self.columns, region.inputs), dtype=torch.float64)
        between = torch.zeros((self.columns, self.columns), dtype=torch.float32)
        constant = torch.zeros(self.columns, dtype=torch.float64)
        for node, place in cells.places.items():
            chosen = enclosure.unstable(node).nonzero()[0]
            relu = network.nodes[node]
            assert isinstance(relu, ReluNode)
            form = encode_rows(network, enclosure, relu.parent, chosen)
            inputs[place] = _number(form.inputs)
            constant[place] = _number(form.constant)
            for other, coefficients in form.relus.items():
                between[place, cells.places[other]] = torch.as_tensor(coefficients, dtype=torch.float32)
        self.inputs = _single(inputs * self.radius)
        self.constant = _single(constant + inputs @ self.middle)
        # The layers nearest to the input read few entries each; together they make one sparse product.
        first = next((p.start for p in self.layers if _density(self.inputs[p]) >= _SPARSE), self.columns)
        blocks = slice(0, first), slice(first, self.columns)
        self.blocks = [(place, Weights(self.inputs[place])) for place in blocks if place.start < place.stop]
        self.before = {place.start: Weights(between[place, : place.start]) for place in self.layers if place.start}
        self.low, self.high = _single(cells.low), _single(cells.high)
        inside = Inside.of(region)
        self.inside = None if inside is None else inside.like(self.low)

    def corner(self, direction: Tensor) -> Tensor:
        """Where forms with coefficients ``direction`` in units of the radii are least, in these units from the middle,
        shape ``(R, inputs)``.
        """
        if self.inside is None:
            return -direction.sign()
        unit = torch.where(self.radius > 0, self.radius, 1.0)
        low, high = _single(self.lower)[None], _single(self.upper)[None]
        x = self.inside.minimiser(direction / _single(unit), low, high)
        return _single((x - self.middle) / unit).clamp(-1, 1)


class Reduced:
    """One clause over one region; see the module's docstring.

    Attributes:
        rows: rows of the clause.
        columns: K.
        layers: slices of the K columns, one for each ReLU node with unstable neurons, in topological order.
    """

    def __init__(self, network: Network, enclosure: Enclosure, forms: Forms, clause: Clause) -> None:
        self.rows, self.columns, self.layers = len(clause.rows), forms.columns, forms.layers
        self._forms = forms
        self._inputs, self._constant = forms.inputs, forms.constant
        self._blocks, self._before = forms.blocks, forms.before
        form = encode(network, enclosure, clause.matrix)
        self._row_relus = torch.zeros((self.rows, self.columns), dtype=torch.float32)
        for node, coefficients in form.relus.items():
            self._row_relus[:, forms.places[node]] = torch.as_tensor(coefficients, dtype=torch.float32)
        own = _number(form.inputs)
        self._row_inputs = _single(own * forms.radius)
        self._row_constant = _single(_number(form.constant) + own @ forms.middle + _number(clause.offsets))
        self._default = (forms.high > -forms.low).to(torch.float32).repeat(self.rows, 1)
        self.scale = torch.ones(self.columns)
        every = torch.arange(self.rows)
        root = forms.low.expand(self.rows, -1), forms.high.expand(self.rows, -1)
        arriving = self.estimate(*root, self.start(*root, every), every).arriving.abs().amax(0)
        self.scale = torch.maximum(arriving, arriving.mean().clamp(min=1e-20))

    @property
    def settled(self) -> Tensor:
        """The default slopes, shape ``(rows, K)``."""
        return self._default

    def settle(self, slopes: Tensor) -> None:
        """Takes ``slopes``, shape ``(rows, K)``, as the default of every cell from now on."""
        self._default = slopes.clamp(0, 1)

    def start(self, low: Tensor, high: Tensor, row: Tensor) -> Tensor:
        """The default θ, ``(R, K)``: the default slopes, no multipliers."""
        return torch.where((low < 0) & (high > 0), self._default[row], 0.0)

    def multipliers(self, low: Tensor, high: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """α and β as `bounds.phases.Cells.bound` takes them, float64."""
        free = (low < 0) & (high > 0)
        return torch.where(free, theta, 0.0).double(), torch.where(free, 0.0, theta * self.scale).double()

    def estimate(self, low: Tensor, high: Tensor, theta: Tensor, row: Tensor) -> Estimate:
        """Bounds of the rows ``row`` of the clause, ``(R,)``, on cells with bounds ``low``, ``high``, ``(R, K)``."""
        return self._pass(_Phases.of(low, high), theta, row)[0]

    def _pass(self, cells: _Phases, theta: Tensor, row: Tensor, *, gradient: bool = True) -> tuple[Estimate, Tensor]:
        """Bounds and the gradient of their sum by θ; without ``gradient``, neither that nor what is reached."""
        free, sign, on = cells.free, cells.sign, cells.on
        arriving = self._row_relus[row]
        factor = torch.empty_like(arriving)
        push = sign * (-theta * self.scale)
        chosen = torch.empty_like(arriving)
        value = self._row_constant[row]
        for place in reversed(self.layers):
            a = arriving[:, place]
            f = torch.where(free[:, place], torch.where(a > 0, theta[:, place], cells.slope[:, place]), on[:, place])
            factor[:, place] = f
            chosen[:, place] = torch.addcmul(push[:, place], a, f)
            if place.start:
                self._before[place.start].add_to(arriving[:, : place.start], chosen[:, place])
        # Only a negative coefficient loses anything at an open column.
        loss = cells.gap
        value = value + (arriving.clamp(max=0) * loss).sum(-1) + chosen @ self._constant
        direction = self._row_inputs[row]
        for place, weights in self._blocks:
            weights.add_to(direction, chosen[:, place])
        corner = None if self._forms.inside is None else self._forms.corner(direction)
        value = value + self._least(direction, corner)
        if not gradient:
            return Estimate(value, arriving, direction, arriving), theta
        reached = self._reached(-direction.sign() if corner is None else corner)
        after = torch.empty_like(arriving)
        for place in self.layers:
            if place.start:
                reached[:, place] += self._before[place.start].forward(after[:, : place.start])
            after[:, place] = reached[:, place] * factor[:, place] + loss[:, place] * (arriving[:, place] < 0)
        slope = reached * torch.where(free, arriving.clamp(min=0), -sign * self.scale)
        return Estimate(value, arriving, direction, reached), slope

    def _reached(self, x: Tensor) -> Tensor:
        """What the inputs ``x``, in units of the radii, contribute to the pre-activations, ``(R, K)``."""
        parts = [weights.forward(x) for _, weights in self._blocks]
        return self._constant + torch.cat(parts, 1) if parts else self._constant.expand(len(x), -1).clone()

    def optimise(
        self, low: Tensor, high: Tensor, theta: Tensor, row: Tensor, *, steps: int, rate: float
    ) -> tuple[Tensor, Tensor]:
        """The best values and the θ that attain them, after ``steps`` Adam steps from ``theta``.

        All rows of a cell stand together, and the steps end early when every cell has a row with a positive bound.
        The first step has the length ``rate``, the last `_FINAL_RATE` of it.
        """
        cells = _Phases.of(low, high)
        best_value = torch.full((len(theta),), -torch.inf)
        best_theta = theta.clone()
        mean, square = torch.zeros_like(theta), torch.zeros_like(theta)
        theta = theta.clone()
        for step in range(steps + 1):
            found, gradient = self._pass(cells, theta, row)
            better = found.value > best_value
            best_value = torch.where(better, found.value, best_value)
            best_theta = torch.where(better[:, None], theta, best_theta)
            if step == steps or bool((best_value.view(-1, self.rows).amax(1) > 0).all()):
                break
            mean.lerp_(gradient, 1 - _MOMENTUM)
            square.lerp_(gradient * gradient, 1 - _SECOND)
            length = rate * _FINAL_RATE ** (step / max(1, steps - 1))
            corrected = (square / (1 - _SECOND ** (step + 1))).sqrt_().add_(1e-12)
            theta += length / (1 - _MOMENTUM ** (step + 1)) * mean / corrected
            theta = torch.where(cells.free, theta.clamp(0, 1), theta.clamp(min=0))
        return best_value, best_theta

    def children(
        self, parent: Estimate, low: Tensor, high: Tensor, theta: Tensor, row: Tensor, columns: Tensor
    ) -> Tensor:
        """Values with one more phase chosen, and no multiplier for it.

        Args:
            parent: the estimate of the R parents.
            low, high, theta, row: the parents', shapes ``(R, K)`` and ``(R,)``.
            columns: m open columns of each, shape ``(R, m)``.

        Returns:
            Shape ``(R, m, 2)``: with the phase +1, and with −1; never below the parent's.
        """
        count, m = columns.shape
        if len(self.layers) > 1:
            owner = torch.arange(count).repeat_interleave(2 * m)
            column = columns.flatten().repeat_interleave(2)[:, None]
            low, high, theta = low[owner], high[owner], theta[owner].scatter_(1, column, 0.0)
            low[::2].scatter_(1, column[::2], 0.0)
            high[1::2].scatter_(1, column[1::2], 0.0)
            value = self._pass(_Phases.of(low, high), theta, row[owner], gradient=False)[0].value
        else:
            # A lone layer: a phase changes one multiplier and nothing else, so A_0 by one row of the weights.
            a, slope = parent.arriving.gather(1, columns), theta.gather(1, columns)
            least, most = low.gather(1, columns), high.gather(1, columns)
            upper = most / (most - least)
            multiplier = torch.where(a > 0, slope, upper) * a
            step = torch.stack([a - multiplier, -multiplier], -1).flatten(1)
            relief = -least * upper * a.clamp(max=0)
            own = parent.value - self._least(parent.direction)
            value = own[:, None] - relief.repeat_interleave(2, 1)
            value = value + step * self._constant[columns].repeat_interleave(2, 1)
            moved = self._inputs[columns].repeat_interleave(2, 1).mul_(step[..., None]).add_(parent.direction[:, None])
            value = value + self._least(moved)
        return torch.maximum(value.reshape(count, m, 2), parent.value[:, None, None])

    def _least(self, direction: Tensor, corner: Tensor | None = None) -> Tensor:
        """The least values of forms over the region, from the middle, ``(*rows,)``; at ``corner``, if that is known."""
        if self._forms.inside is None:
            length: Tensor = torch.linalg.vector_norm(direction, 1, dim=-1)
            return -length
        return (direction * (self._forms.corner(direction) if corner is None else corner)).sum(-1)

    def score(self, found: Estimate, low: Tensor, high: Tensor, theta: Tensor) -> Tensor:
        """How loose the relaxation of each open column is where the bound is attained, 0 at chosen ones, ``(R, K)``.

        That is its exact contribution at the pre-activation there, minus what the bound has for it. To order columns
        that are all tight there, a little of the most that they can lose is added.
        """
        a, z, cells = found.arriving, found.reached, _Phases.of(low, high)
        exact = z.clamp(min=0)
        loose = torch.where(a < 0, exact - (cells.slope * z + cells.gap), exact - theta * z) * a
        return torch.where(cells.free, loose.clamp(min=0) + _SPARE * a.abs() * cells.gap, 0.0)

    def points(self, direction: Tensor) -> Tensor:
        """Where the bounds are attained, in the network's units, float64 ``(R, inputs)``."""
        if self._forms.inside is None:
            return torch.where(direction > 0, self._forms.lower, self._forms.upper)
        corner = self._forms.corner(direction.reshape(-1, direction.shape[-1])).reshape(direction.shape)
        return self._forms.middle + self._forms.radius * corner

    def margins(self, direction: Tensor) -> Tensor:
        """The clause's margin at those points, ``(R,)``."""
        x = self._forms.corner(direction)
        z = self._reached(x)
        h = torch.empty_like(z)
        for place in self.layers:
            if place.start:
                z[:, place] += self._before[place.start].forward(h[:, : place.start])
            h[:, place] = z[:, place].clamp(min=0)
        return (self._row_constant + x @ self._row_inputs.T + h @ self._row_relus.T).amax(1)
