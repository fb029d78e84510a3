"""How far an input is from a center, in Pyomo: norms as terms of the input's entries.

With d = x − c and the region's end points ``l ≤ x ≤ u``, ``l ≤ c ≤ u``, each norm is a sum of terms over the entries
(for linf, one term):

* ``l1``: t_i with ``t_i ≥ d_i`` and ``t_i ≥ −d_i``; where c_i is an end point, ``d_i`` or ``−d_i`` itself;
* ``linf``: e with ``e ≥ d_i`` and ``e ≥ −d_i`` for all i;
* ``l0``: b_i ∈ {0, 1} with ``d_i ≤ (u_i − c_i) b_i`` and ``−d_i ≤ (c_i − l_i) b_i``;
* ``l2``: ``Σ d_i²``, its square, which is quadratic.

They are the usual formulations of absolute values, maxima and supports (Boyd & Vandenberghe, *Convex Optimization*,
§6.1.1; big-M for the support with the least M, as in Bertsimas, King & Mazumder, *Annals of Statistics* 2016, §2.2).

Soundness. At the true ``t_i = |d_i|``, ``e = max |d_i|`` and ``b_i = [d_i ≠ 0]`` every row holds exactly: centers are
float32 numbers, and the big-M are rounded up. Minimised or limited from above, the sum is never below the true norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Displacement", "displacement"]


@dataclass(frozen=True, eq=False)
class Displacement:
    """The norm of x − c over some entries, as `displacement` wrote it.

    Attributes:
        norm: ``linf``, ``l2``, ``l1`` or ``l0``.
        center: c, float64, shape ``(inputs,)``.
        expression: the norm (for l2, its square) as a Pyomo expression.
        variables: the variable of each entry that has one of its own; the one variable under −1 for linf.
    """

    norm: str
    center: NDArray[np.float64]
    expression: Any
    variables: dict[int, Any]

    def values(self, x: NDArray[np.float64]) -> dict[int, float]:
        """What the variables are at the input ``x``, shape ``(inputs,)``."""
        d = np.abs(x - self.center)
        if self.norm == "linf":
            return {i: float(d.max(initial=0.0)) for i in self.variables}
        return {i: float(d[i] != 0 if self.norm == "l0" else d[i]) for i in self.variables}


def displacement(
    m: Any,
    name: str,
    norm: str,
    center: NDArray[np.float64],
    entries: NDArray[np.int64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> Displacement:
    """Adds the norm of ``m.x − center`` over ``entries`` to a Pyomo model.

    Args:
        m: the model; ``m.x`` are the inputs.
        name: prefix of the components that are added.
        norm: ``linf``, ``l2``, ``l1`` or ``l0``.
        center: float32 numbers, within the bounds, shape ``(inputs,)``.
        entries: which entries count; the others are taken to stay at the center.
        lower, upper: bounds of the entries, shape ``(inputs,)``.
    """
    import pyomo.environ as pyo

    down, up = np.minimum(lower - center, 0.0), np.maximum(upper - center, 0.0)
    moving = [int(i) for i in entries if down[i] < 0 or up[i] > 0]
    differences = {i: m.x[i] - float(center[i]) for i in moving}
    if norm == "l2":
        return Displacement(norm, center, pyo.quicksum(d**2 for d in differences.values()), {})
    rows = pyo.ConstraintList()
    m.add_component(f"{name}_rows", rows)

    def variables(keys: list[int], **kind: Any) -> dict[int, Any]:
        block = pyo.Var(keys, **kind)
        m.add_component(f"{name}_sizes", block)
        return {key: block[key] for key in keys}

    def at_least(size: Any, i: int) -> None:
        if up[i] > 0:
            rows.add(size - differences[i] >= 0)
        if down[i] < 0:
            rows.add(size + differences[i] >= 0)

    # Twice the reach: no rounding can make these bounds cut anything off.
    reach = 2 * np.maximum(up, -down)
    if norm == "linf":
        size = variables([-1], bounds=(0.0, float(reach[moving].max(initial=0.0))))
        for i in moving:
            at_least(size[-1], i)
        return Displacement(norm, center, size[-1], size)
    if norm == "l0":
        changed = variables(moving, domain=pyo.Binary)
        for i in moving:
            if up[i] > 0:
                rows.add(differences[i] - float(np.nextafter(up[i], np.inf)) * changed[i] <= 0)
            if down[i] < 0:
                rows.add(-differences[i] + float(np.nextafter(down[i], -np.inf)) * changed[i] <= 0)
        return Displacement(norm, center, pyo.quicksum(changed.values()), changed)
    both = [i for i in moving if down[i] < 0 < up[i]]
    sizes = variables(both, bounds=lambda _, i: (0.0, float(reach[i])))
    for i in both:
        at_least(sizes[i], i)
    signed = (differences[i] if down[i] == 0 else -differences[i] for i in moving if i not in sizes)
    return Displacement(norm, center, pyo.quicksum([*sizes.values(), *signed]), sizes)
