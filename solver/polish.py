"""Descent from a point through activation patterns: towards the region's center, or to a smaller margin.

On the cell of the point's activation pattern the network is affine, so the best point of the cell is the optimum of a
convex program (`solver.programs`). Its rows are the clause's and the halfspaces of those ReLUs that the optimum would
otherwise leave. Steps are

* *jumps*: the program without any halfspace, and a search on the true network between here and its optimum;
* *cells*: the program with them; then the cells across the halfspaces that hold the optimum back, while they gain.

For ``l0``, entries are given back to the center's values, those that matter least first, as long as the margin of what
is left can be pushed to 0.

Nothing here proves anything: points count only after a replay.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from networks.evaluation import evaluate
from networks.graph import Network
from networks.property import Clause
from networks.region import Region
from solver import policy
from solver.cells import Cell, Neuron
from solver.programs import Euclidean, Linear, Rows

__all__ = ["Descent"]

Array: TypeAlias = NDArray[np.float64]

# A step gains if it gains more than this share of the value.
_GAIN = 1e-9


@dataclass(frozen=True, eq=False)
class _Best:
    """The best point of a cell.

    Attributes:
        tight: the neurons whose halfspaces hold it back, those that matter most first.
        inner: a point of the cell that violates the clause by more, if it has one; the way to it stays in the cell.
    """

    value: float
    x: Array
    tight: list[Neuron]
    inner: Array | None


@dataclass(frozen=True, eq=False)
class Descent:
    """A descent on one clause in one region.

    Attributes:
        network, region, clause: what it is about; the region's center is where distances are measured from.
        norm: of the distance to be minimised; None to minimise the clause's margin.
        stop: true when time is up.
    """

    network: Network
    region: Region
    clause: Clause
    norm: str | None
    stop: Callable[[], bool]

    def run(self, x: Array, *, cells: bool) -> Iterator[Array]:
        """Points of the region, up to rounding, better than ``x``, shape ``(inputs,)``; the best ones first.

        The first to be replayed successfully is the one to take: later ones of the same descent keep more of a margin.

        Args:
            x: for a distance, a point that violates the clause.
            cells: whether programs with halfspaces follow the jumps, which costs more.
        """
        if self.norm == "l0":
            yield from self._sparser(x)
            return
        point, value = x, float(self._values(x[None])[0])
        point, value = self._jump(point, value)
        inner = x
        if cells:
            found = self._walk(point, value)
            if found is not None:
                point, inner = found.x, point if found.inner is None else found.inner
        if self.norm is None:
            yield point
            return
        # What rounding takes away is given back by as little as needed of a point that has more.
        for weight in itertools.chain([0.0], 2.0 ** np.arange(float(policy.POLISH_FINEST), 1)):
            yield point + weight * (inner - point)
        if inner is not x:
            for weight in 2.0 ** np.arange(float(policy.POLISH_FINEST), 0):
                yield point + weight * (x - point)

    def _values(self, points: Array) -> Array:
        """What is minimised, at points of shape ``(B, inputs)``; inf where a distance needs a violation."""
        margins = (evaluate(self.network, points) @ self.clause.matrix.T + self.clause.offsets).max(1)
        if self.norm is None:
            return np.asarray(margins)
        d = points - self._center
        order = {"linf": np.inf, "l2": 2, "l1": 1}[self.norm]
        return np.where(margins <= 0, np.linalg.norm(d, ord=order, axis=1), np.inf)

    @property
    def _center(self) -> Array:
        if self.region.center is None:
            return (self.region.lower + self.region.upper) / 2
        return self.region.center.astype(np.float64)

    @property
    def _kept(self) -> NDArray[np.int64]:
        """The entries that vary."""
        return np.flatnonzero(self.region.lower < self.region.upper)

    def _program(self, cell: Cell) -> Linear | Euclidean:
        G, m = cell.outputs(self.clause.matrix)
        c, kept = self._center, self._kept
        m = m + self.clause.offsets + G @ c
        rows = Rows(G[:, kept], m, (self.region.lower - c)[kept], (self.region.upper - c)[kept])
        return Euclidean(rows) if self.norm == "l2" else Linear(rows, norm=self.norm)

    def _point(self, d: Array) -> Array:
        x = self._center
        x[self._kept] += d
        return np.clip(x, self.region.lower, self.region.upper)

    def _jump(self, x: Array, value: float) -> tuple[Array, float]:
        for _ in range(policy.POLISH_JUMPS):
            if self.stop():
                break
            found = self._program(Cell.of(self.network, x)).solve()
            if found is None:
                break
            way = x + np.array(policy.POLISH_WAY)[:, None] * (self._point(found.d) - x)
            values = self._values(way)
            best = int(np.argmin(values))
            gain = value - values[best]
            if gain > 0:
                x, value = way[best], float(values[best])
            if not gain > policy.POLISH_JUMP_GAIN * abs(value):
                break
        return x, value

    def _walk(self, x: Array, value: float) -> _Best | None:
        best = None
        ahead = [Cell.of(self.network, x)]
        for _ in range(policy.POLISH_CELLS):
            if not ahead or self.stop():
                break
            cell = ahead.pop(0)
            found = self._best(cell)
            if found is None or not found.value < value - _GAIN * abs(value):
                continue
            best, value = found, found.value
            across = [found.tight] if len(found.tight) > 1 else []
            across += [[neuron] for neuron in found.tight[: policy.POLISH_FLIPS]]
            ahead = [cell.flipped(neurons) for neurons in across]
        return best

    def _best(self, cell: Cell) -> _Best | None:
        """The best point of a cell; None where the program fails or needs too many halfspaces."""
        program, center, kept = self._program(cell), self._center, self._kept
        known: list[Neuron] = []

        def inside(slack: float) -> tuple[float, Array, Array] | None:
            for _ in range(policy.POLISH_ROUNDS):
                found = None if self.stop() else program.solve(slack)
                if found is None:
                    return None
                x = self._point(found.d)
                broken = [neuron for neuron in cell.broken(x, policy.POLISH_ROWS) if neuron not in known]
                if not broken:
                    return found.value, x, found.multipliers
                G, b = cell.sides(broken)
                program.add(G[:, kept], b - G @ center)
                known.extend(broken)
            return None

        found = inside(0.0)
        if found is None:
            return None
        value, x, multipliers = found
        tight = [known[i] for i in np.argsort(-multipliers) if multipliers[i] > 0]
        inner = None
        if self.norm is not None:
            scale = float(np.abs(evaluate(self.network, x[None])).max())
            more = inside(policy.POLISH_SLACK * max(scale, 1e-6))
            inner = None if more is None else more[1]
        return _Best(value, x, tight, inner)

    def _sparser(self, x: Array) -> Iterator[Array]:
        """Points that differ from the center in fewer entries than ``x``, the sparsest last to be found first."""
        raise NotImplementedError
