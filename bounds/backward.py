"""Backward linear bounds, batched over boxes and rows, with every rounding error charged.

Symbols. Node k of the network has the value h_k; a ReLU has the pre-activation z with bounds l ≤ z ≤ u. For a row
vector C on the value of some node, and for **any** row vectors Λ on the pre-activations,

    C·h  ≥  Σ_affine A·b
            + Σ_relu Σ_j min{ A_j·relu(z) − Λ_j·z : z ∈ {l_j, u_j, 0 if l_j < 0 < u_j} }
            + min_{x ∈ region} A_0·x

where A is the row vector that has arrived at the node: an affine node passes ``A L_i`` on to its parents and a ReLU
passes Λ on to its own. This is the partial Lagrangian dual of the affine rows (docs/ladder.md; Wong & Kolter 2018 §3;
Zhang et al. 2018, CROWN; Salman et al. 2019). Default slopes: Λ = A·u/(u−l) where A < 0, and A·[u > −l] where A > 0.

The last term is a sum over the box, or what `bounds.inside` proves for its part in a ball and constraints, if that is
more. Everything before it keeps to the box.

Soundness. Λ is data: whatever it was rounded to, the inequality holds. What rounds is A L_i, the products at
vertices and the sums. Each is charged a priori: an entry of fl(A L) is off by at most γ_n |A||L|, so by at most
γ_n |A|·(|L| M) in the bound, where M bounds the magnitude of the parents' values. γ_n = (n+16)·2⁻⁵², twice what
round-to-nearest needs. An overflow or a NaN turns into −∞, which claims nothing. Trusted: torch's matrix products and
convolutions are sums of products in some order, in IEEE float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.program import Affine, Program
from bounds.relus import UNIT, Backward, BoxBounds
from bounds.windows import Frame

__all__ = [
    "CHUNK_ENTRIES",
    "UNDERFLOW",
    "LinearBound",
    "backward_pass",
    "default_relus",
    "gamma",
    "signed_units",
    "specification_bounds",
    "unit_rows",
]

#: More than what underflow can take from a sum.
UNDERFLOW = 2.0**-1000
# Entries of float64 that one chunk of rows may hold in its widest coefficient matrix: 2 MiB, which stays in the cache;
# 128 MiB took 3.7 times as long on the Wong-Kolter network.
CHUNK_ENTRIES = 2**18


@dataclass(frozen=True, eq=False)
class LinearBound:
    """Lower bounds of R linear forms, and the linear functions of the input that they come from.

    Attributes:
        value: shape ``(R,)``; rigorous, −inf where nothing is claimed.
        coefficients: A_0 of shape ``(R, inputs)``.
        constant: shape ``(R,)``: over its box the form is at least ``coefficients · x + constant``, rounding included.
    """

    value: Tensor
    coefficients: Tensor
    constant: Tensor

    @classmethod
    def join(cls, parts: Sequence[LinearBound]) -> LinearBound:
        """The forms of all parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([p.value for p in parts]),
            torch.cat([p.coefficients for p in parts]),
            torch.cat([p.constant for p in parts]),
        )


def backward_pass(
    program: Program,
    bounds: BoxBounds,
    pending: dict[int, Tensor],
    frame: Frame,
    last: int,
    relus: Callable[[int], Backward],
    total: Tensor | float = 0.0,
    charge: Tensor | float = 0.0,
) -> LinearBound:
    """The formula of the module's docstring, from the coefficients ``pending`` on nodes up to ``last``.

    Args:
        program: the compiled network.
        bounds: boxes with bounds for every ReLU up to ``last``.
        pending: for some nodes, coefficients on what ``frame`` reads of them, shape ``(R, entries)``; with `Groups`,
            as everything else that has one entry for each row, ``(G, m, entries)``.
        frame: the rows.
        last: no later node is pending.
        relus: gives what is known of each ReLU node, and the multipliers to use there.
        total, charge: what the bound has already collected and the rounding charged so far, ``(R,)``.
    """
    pending = dict(pending)
    magnitude = bounds.magnitude
    sums = len(program.steps) + 8

    def push(parent: int, A: Tensor) -> Tensor | float:
        """Adds A to what is pending at ``parent``; returns the charge for that addition."""
        if parent not in pending:
            pending[parent] = A
            return 0.0
        before = pending[parent]
        pending[parent] = before + A
        return UNIT * frame.dot_at_most(parent, magnitude[parent], before.abs() + A.abs())

    for node in range(last, 0, -1):
        A = pending.pop(node, None)
        if A is None:
            continue
        step = program.steps[node]
        if isinstance(step, Affine):
            total = total + frame.dot(node, step.bias[None], A)
            n = max(step.terms, program.features[node]) + sums
            charge = charge + gamma(n) * frame.dot_at_most(node, magnitude[node], A.abs())
            for parent, op in zip(step.parents, step.operators, strict=True):
                clean = not isinstance(program.steps[parent], int)  # a ReLU passes nothing on from outside
                charge = charge + push(parent, frame.adjoint(node, parent, op, A, clean=clean))
        else:
            assert step is not None
            L, collected, size = relus(node).back(A)
            total = total + collected
            charge = charge + gamma(A.shape[-1] + sums) * size
            charge = charge + push(step, L)
    A = pending.pop(0, None)
    if A is None:
        A = bounds.lower.new_zeros((*frame.rows, program.features[0]))
    n = program.features[0] + sums
    charge = charge + gamma(n) * frame.dot_at_most(0, magnitude[0], A.abs())
    charge = charge * (1 + 2.0**-20) + UNDERFLOW * (1 + sum(m.sum() for m in magnitude[: last + 1]))
    constant = total - charge
    low, high = frame.of(0, bounds.lower), frame.of(0, bounds.upper)
    least = torch.minimum(A * low, A * high).sum(-1)
    if bounds.inside is not None:
        proven = bounds.inside.bound(A, low, high, frame.of(0, bounds.inside.center))
        least = torch.maximum(least, torch.nan_to_num(proven, nan=-torch.inf, posinf=-torch.inf))
    value = constant + least
    return LinearBound(torch.nan_to_num(value, nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf), A, constant)


def specification_bounds(
    program: Program,
    bounds: BoxBounds,
    C: Tensor,
    box: Tensor | None = None,
    node: int = -1,
    multipliers: Mapping[int, Tensor] | None = None,
) -> LinearBound:
    """Lower bounds of ``C · h_node`` over boxes.

    Args:
        program: the compiled network.
        bounds: boxes with bounds for every ReLU before ``node``.
        C: rows of shape ``(R, features of node)``.
        box: shape ``(R,)``, the box of each row; box 0 for all when absent.
        node: index of the node; the output by default.
        multipliers: Λ for some ReLU nodes, shape ``(R, features)``, used at their unstable neurons in place of the
            default slopes; any values are valid.
    """
    last = node % len(program.steps)
    if box is None:
        box = torch.zeros(len(C), dtype=torch.int64, device=program.device)
    width = max(program.features[: last + 1])
    chunk = max(1, CHUNK_ENTRIES // width)
    parts = []
    for begin in range(0, len(C), chunk):
        rows = slice(begin, begin + chunk)
        part = {k: v[rows] for k, v in multipliers.items()} if multipliers else {}
        frame = Frame(box[rows])
        parts.append(backward_pass(program, bounds, {last: C[rows]}, frame, last, default_relus(bounds, frame, part)))
    return LinearBound.join(parts)


def default_relus(
    bounds: BoxBounds, frame: Frame, multipliers: Mapping[int, Tensor] | None = None
) -> Callable[[int], Backward]:
    """What `backward_pass` asks for: default slopes, or Λ of some ReLU nodes at their unstable neurons."""
    chosen = multipliers or {}
    return lambda node: bounds.relaxation(node).rows(node, frame, chosen.get(node))


def unit_rows(
    program: Program, node: int, neuron: Tensor, signs: Tensor, magnitude: Tensor
) -> tuple[dict[int, Tensor], Tensor, Tensor]:
    """What `backward_pass` starts with for ``signs[r] · h_node[neuron[r]]``.

    The first affine step reads rows of the weights instead of multiplying.

    Args:
        program: the compiled network.
        node: index of the node.
        neuron: shape ``(R,)``.
        signs: ±1, shape ``(R,)``.
        magnitude: `BoxBounds.magnitude` of those entries, shape ``(R,)``.

    Returns:
        Its ``pending``, ``total`` and ``charge``.
    """
    step = program.steps[node]
    if not isinstance(step, Affine):
        units = signed_units(neuron, signs, program.features[node])
        return {node: units}, torch.zeros_like(signs), torch.zeros_like(signs)
    pending: dict[int, Tensor] = {}
    for parent, op in zip(step.parents, step.operators, strict=True):
        rows = signs[:, None] * op.rows(neuron)
        pending[parent] = pending[parent] + rows if parent in pending else rows
    return pending, signs * step.bias[neuron], gamma(step.terms) * magnitude


def signed_units(column: Tensor, signs: Tensor, columns: int) -> Tensor:
    """Rows that hold one sign each, shape ``(R, columns)``."""
    return torch.zeros((len(column), columns), dtype=signs.dtype, device=signs.device).scatter_(
        1, column[:, None], signs[:, None]
    )


def gamma(terms: int) -> float:
    """γ_n of the module's docstring."""
    return (terms + 16) * UNIT
