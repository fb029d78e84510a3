"""Boxes of a cell's inputs, contracted by all rows of a clause together.

Symbols. On a cell every row r of a clause has a linear lower bound ``g_r(x) = d·x + c``, and all rows are at most 0
where the clause is violated. With m the least value of g_r on a box, input i lies no further than ``−m / |d_i|`` from
the end of its range where g_r is least. A smaller box gives smaller ranges of the pre-activations ``P_j·x + q_j``,
these give better g_r, and so on (feasibility-based bound tightening, Belotti et al. 2010). Where a formula is encoded
in ReLUs this is unit propagation.

Soundness. None: float32, and rounding is not charged. A search takes from here what to split, and on which cells it is
worth asking an LP.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.reduced import Forms, Reduced

__all__ = ["Contracted", "contract"]

#: Ranges that are off zero by less than this share of their width at the root count as decided.
_SNAP = 1e-4
#: A round that moves no end by more than this share of an input's range is the last.
_MOVED = 1e-3
#: A row's least value counts as positive above this share of what its terms add up to.
_POSITIVE = 1e-4


@dataclass(frozen=True, eq=False)
class Contracted:
    """B cells.

    Attributes:
        empty: cells where nothing seems to violate the clause, mask ``(B,)``.
        least, most: the box that is left of the inputs, in units of the region's radii, shape ``(B, inputs)``.
        score: how much a choice of each column's phase tells about the other open columns, 0 where it is decided or
            not in the first layer, shape ``(B, K)``.
    """

    empty: Tensor
    least: Tensor
    most: Tensor
    score: Tensor


@torch.no_grad()
def contract(forms: Forms, reduced: Reduced, low: Tensor, high: Tensor, *, rounds: int) -> Contracted:
    """Contracts the inputs of cells with column bounds ``low``, ``high``, float32 ``(B, K)``."""
    count, rows = len(low), reduced.rows
    first = forms.layers[0]
    P, constant = forms.inputs[first], forms.constant[first]
    size, snap = P.abs(), _SNAP * (forms.high - forms.low)[first]
    least, most = low.new_full((count, P.shape[1]), -1.0), low.new_full((count, P.shape[1]), 1.0)
    given = low[:, first], high[:, first]
    low, high = low.clone(), high.clone()
    row = torch.arange(rows).repeat(count)
    empty = torch.zeros(count, dtype=torch.bool)
    for _ in range(rounds):
        middle, radius = (most + least) / 2, (most - least) / 2
        center, reach = middle @ P.T + constant, radius @ size.T
        low[:, first] = torch.maximum(low[:, first], center - reach)
        high[:, first] = torch.minimum(high[:, first], center + reach)
        empty |= (low[:, first] > high[:, first] + snap).any(1)
        low[:, first] = torch.where(low[:, first].abs() < snap, 0.0, low[:, first])
        high[:, first] = torch.where(high[:, first].abs() < snap, 0.0, high[:, first])
        lines = low.repeat_interleave(rows, 0), high.repeat_interleave(rows, 0)
        # Lower slopes of 0: rows that are sums of ReLUs lose nothing by them.
        found = reduced.estimate(*lines, torch.zeros_like(lines[0]), row)
        d = found.direction.reshape(count, rows, -1)
        at_middle = (found.value + found.direction.abs().sum(1)).reshape(count, rows)
        # One more row: the columns that can only just be as the cell says.
        up, down = center - reach >= given[1] - snap, center + reach <= given[0] + snap
        sign = up.float() - down.float()
        d = torch.cat([d, (sign @ P)[:, None]], 1)
        just = (sign * constant - torch.where(up, given[1], 0.0) + torch.where(down, given[0], 0.0)).sum(1)
        at_middle = torch.cat([at_middle, just[:, None]], 1)
        value = at_middle + (d @ middle[:, :, None])[..., 0] - (d.abs() @ radius[:, :, None])[..., 0]
        empty |= (value > _POSITIVE * (at_middle.abs() + d.abs().sum(2))).any(1)
        room = -value.clamp(max=0)[..., None] / d.abs()
        above = torch.where(d > 0, least[:, None] + room, torch.inf).amin(1)
        below = torch.where(d < 0, most[:, None] - room, -torch.inf).amax(1)
        moved = torch.maximum(most - above, below - least).amax() > _MOVED
        least, most = torch.maximum(least, below), torch.minimum(most, above)
        empty |= (least > most + _MOVED).any(1)
        most = torch.maximum(least, most)
        if not moved:
            break
    relevant = (found.arriving.reshape(count, rows, -1)[..., first] != 0).any(1)
    free = relevant & (low[:, first] < 0) & (high[:, first] > 0)
    # A column whose phase was chosen still ties its inputs together, until their box decides it.
    crossing = relevant & (center - reach < -snap) & (center + reach > snap)
    inverse = torch.where(crossing, 1 / reach, 0.0)
    # How many columns depend on each input, counted by its share of their ranges. A choice tells the more about an
    # input, the larger its share of the chosen column's range is.
    shared = (inverse @ size) * radius
    score = torch.zeros_like(low)
    score[:, first] = torch.where(free, ((shared * radius * radius) @ (size * size).T) * inverse * inverse, 0.0)
    return Contracted(empty, least, most, score)
