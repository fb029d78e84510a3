"""The LP of a cell: the best that any multipliers can prove there, or the ReLU to split next.

On a cell every ReLU whose phase is chosen is linear, and the others are relaxed to their triangles
(`bounds.relaxation`). Where the LP's optimum is positive its duals close the cell; where it is not, either the optimal
point violates the clause in truth, or some ReLU's relaxation is loose there and splitting it excludes the point.

A region's constraints are rows of the LP. An ℓ1 ball is a few more, with a column for each input. An ℓ2 ball is cut out
by tangents, as many as the optimum needs. Of an ℓ0 ball the LP knows the convex hull: where no ReLU is loose and the
optimum lies outside the ball, the cell stays undecided, and only a MILP can decide it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import OptimizeResult, linprog

from bounds.enclosure import Enclosure
from bounds.phases import Cells
from bounds.relaxation import objectives, relax
from networks.graph import Network
from networks.property import Clause
from networks.region import Region
from solver.leaf_inputs import InputRows

__all__ = ["CellProgram", "Leaf"]

Array = NDArray[np.float64]

# Tangents of an ℓ2 ball that one optimum may take; they are kept for later cells.
_TANGENTS = 60
# What SciPy says where numbers of very different sizes defeat a method; and the methods that are tried then.
_DEFEATED = 4
_METHODS: tuple[dict[str, Any], ...] = (
    {},
    {"method": "highs-ds", "options": {"presolve": False}},
    {"method": "highs-ipm"},
)


@dataclass(frozen=True, eq=False)
class Leaf:
    """What the LP suggests; nothing here is trusted.

    Attributes:
        weights: nonnegative weights of the clause's rows, shape ``(rows,)``; all zero where the cell seems empty.
        multipliers: Λ at the K columns, shape ``(K,)``.
        constraints: multipliers of the region's constraints, one for each.
        point: where the LP's margin is smallest, shape ``(inputs,)``; None where the cell seems empty.
        loose: the unchosen columns whose relaxation is not tight at that point, loosest first; without a point, all
            unchosen columns that matter.
    """

    weights: NDArray[np.float64]
    multipliers: NDArray[np.float64]
    constraints: NDArray[np.float64]
    point: NDArray[np.float64] | None
    loose: NDArray[np.int64]


class CellProgram:
    """The LP of one clause over one region; a cell only changes bounds of its columns.

    Variables are t, p and q of `bounds.relaxation` and the margin μ: min μ subject to ``μ ≥ C_r y + d_r`` for every row
    r of the clause, the defining rows and the face rows. Phase +1 of neuron j is ``q_j ≤ 0``, phase −1 is ``p_j ≤ 0``.
    Where that is infeasible, min ε subject to ``q_j ≤ ε`` or ``p_j ≤ ε`` takes its place, whose duals prove that the
    cell is empty.
    """

    def __init__(self, network: Network, region: Region, enclosure: Enclosure, clause: Clause, cells: Cells) -> None:
        self._relaxation = r = relax(network, region, enclosure, -1)
        m, k = r.m, r.k
        order = [(node, int(j)) for node, neurons in zip(r.nodes, r.neurons, strict=True) for j in neurons]
        place = {neuron: position for position, neuron in enumerate(order)}
        #: For each of the K columns its position among the k neurons of the LP, -1 if the output ignores it.
        self._position = np.array([place.get(cells.neuron(c), -1) for c in range(cells.columns)], dtype=np.int64)
        G = sparse.csr_array((r.value, r.index, r.start), shape=(k, m + k))
        none = sparse.csr_array((k, 1))
        self._defining = sparse.hstack(
            [-G[:, :m], sparse.diags_array(r.above) - G[:, m:], -sparse.diags_array(r.below), none], format="csr"
        )
        eye = sparse.eye_array(k)
        self._faces = sparse.hstack([sparse.csr_array((k, m)), eye, eye, none], format="csr")
        costs, constants = objectives(network, enclosure, r, -1, np.arange(network.outputs))
        rows = clause.matrix @ costs
        self._rows = sparse.hstack(
            [sparse.csr_array(rows), sparse.csr_array((len(rows), k)), -np.ones((len(rows), 1))], format="csr"
        )
        self._offsets = clause.matrix @ constants + clause.offsets
        self._inputs = InputRows(region, r)

    def solve(self, phases: NDArray[np.int8]) -> Leaf:
        """Minimises the clause's margin over the cell ``phases``, shape ``(K,)``."""
        r = self._relaxation
        m, k, count = r.m, r.k, len(self._offsets)
        chosen = np.zeros(k, dtype=np.int8)
        known = self._position >= 0
        chosen[self._position[known]] = phases[known]
        lower = np.concatenate([-np.ones(m), np.zeros(2 * k), [-np.inf]])
        upper = np.concatenate([np.ones(m), np.where(chosen < 0, 0.0, 1.0), np.where(chosen > 0, 0.0, 1.0), [np.inf]])
        found = self._minimum([self._rows, self._faces], np.concatenate([-self._offsets, np.ones(k)]), lower, upper)
        if found.status == 0:
            weights = np.maximum(-found.ineqlin.marginals[:count], 0)
            p, q = found.x[m : m + k], found.x[m + k : m + 2 * k]
            slack = np.where(chosen == 0, np.minimum(p * r.above, q * r.below), 0.0)
            loose = np.argsort(-slack)[: int((slack > 1e-9).sum())]
            columns = np.flatnonzero(np.isin(self._position, loose))
            columns = columns[np.argsort(-slack[self._position[columns]])]
            own = self._inputs.multipliers(found.ineqlin.marginals)
            return Leaf(weights, self._multipliers(found), own, r.point(found.x[:m]), columns)
        lower[-1] = 0
        upper[m : m + 2 * k] = 1
        selected = np.flatnonzero(np.concatenate([chosen < 0, chosen > 0]))
        elastic = sparse.hstack(
            [
                sparse.csr_array((len(selected), m)),
                sparse.eye_array(2 * k, format="csr")[selected],
                -np.ones((len(selected), 1)),
            ],
            format="csr",
        )
        limits = np.concatenate([np.ones(k), np.zeros(len(selected))])
        found = self._minimum([self._faces, elastic], limits, lower, upper)
        # Where neither LP says anything, smaller cells may be easier.
        free = np.flatnonzero(known & (phases == 0))
        if found.status != 0:
            return Leaf(np.zeros(count), np.zeros(len(phases)), np.zeros(self._inputs.constraints), None, free)
        own = self._inputs.multipliers(found.ineqlin.marginals)
        return Leaf(np.zeros(count), self._multipliers(found), own, None, free)

    def _minimum(self, rows: list[sparse.csr_array], limits: Array, lower: Array, upper: Array) -> OptimizeResult:
        """Minimises the last of the variables (t, p, q, μ) over the region, subject to the defining rows and to
        ``rows``, whose duals come first.
        """
        r, extra = self._relaxation, self._inputs.extra
        count = len(lower)
        cost = np.zeros(count + extra)
        cost[count - 1] = 1
        wide = [sparse.hstack([block, sparse.csr_array((block.shape[0], extra))]) for block in [*rows, self._defining]]
        ends = np.stack([np.append(lower, np.zeros(extra)), np.append(upper, np.full(extra, np.inf))], axis=1)
        for turn in range(_TANGENTS):
            own, own_limits = self._inputs.matrix(count - r.m)
            program = {
                "A_ub": sparse.vstack([*wide[:-1], own], format="csr"),
                "b_ub": np.concatenate([limits, own_limits]),
                "A_eq": wide[-1].tocsr() if r.k else None,
                "b_eq": r.rhs if r.k else None,
                "bounds": ends,
            }
            for method in _METHODS:
                found = linprog(cost, **program, **method)
                if found.status != _DEFEATED:
                    break
            # The last optimum's duals are those of the rows that are there.
            if found.status != 0 or turn == _TANGENTS - 1 or not self._inputs.cut(found.x[: r.m]):
                break
        return found

    def _multipliers(self, found: object) -> NDArray[np.float64]:
        """Λ at the K columns: duals of the defining rows, undoing their scale."""
        r = self._relaxation
        known = self._position >= 0
        out = np.zeros(len(self._position))
        if r.k:
            out[known] = (found.eqlin.marginals / r.scale)[self._position[known]]  # type: ignore[attr-defined]
        return out
