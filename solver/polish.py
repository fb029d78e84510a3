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

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
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
Indices: TypeAlias = NDArray[np.int64]

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

    @cached_property
    def _center(self) -> Array:
        point = self.region.center if self.region.ball is None else self.region.ball.center
        return (self.region.lower + self.region.upper) / 2 if point is None else point.astype(np.float64)

    def _kept(self, G: Array) -> NDArray[np.int64]:
        """The entries that vary; in an ℓ0 ball as many as may change, those that can lower the rows most."""
        varying = np.flatnonzero(self.region.lower < self.region.upper)
        ball = self.region.ball
        if ball is None or ball.norm != "l0":
            return varying
        d = np.stack([self.region.lower, self.region.upper]) - self._center
        gain = (G[:, None, varying] * d[:, varying]).min(1).sum(0)
        return np.sort(varying[np.argsort(gain)[: int(ball.radius)]])

    def _program(self, cell: Cell, kept: NDArray[np.int64] | None = None) -> tuple[Linear | Euclidean, Indices]:
        """The program on a cell, without its halfspaces; and the entries that it moves, ``kept`` if given."""
        G, m = cell.outputs(self.clause.matrix)
        c, region = self._center, self.region
        kept = self._kept(G) if kept is None else kept
        m = m + self.clause.offsets + G @ c
        # The center lies in the box.
        rows = Rows(G[:, kept], m, np.minimum(region.lower - c, 0)[kept], np.maximum(region.upper - c, 0)[kept])
        ball = region.ball
        program: Linear | Euclidean
        if self.norm == "l2":
            program = Euclidean(rows)
        elif self.norm is None and ball is not None and ball.norm == "l2":
            program = Euclidean(rows, radius=float(ball.radius))
        else:
            limited = self.norm is None and ball is not None and ball.norm == "l1"
            program = Linear(rows, norm=self.norm, budget=float(ball.radius) if limited and ball else None)
        if region.halfspaces is not None:
            program.add(region.halfspaces.G[:, kept], region.halfspaces.h - region.halfspaces.G @ c)
        return program, kept

    def _point(self, d: Array, kept: Indices) -> Array:
        x = self._center.copy()
        x[kept] += d
        return np.clip(x, self.region.lower, self.region.upper)

    def _jump(self, x: Array, value: float) -> tuple[Array, float]:
        for _ in range(policy.POLISH_JUMPS):
            if self.stop():
                break
            program, kept = self._program(Cell.of(self.network, x))
            found = program.solve()
            if found is None:
                break
            # Between two points of an ℓ0 ball are others.
            sparse = self.region.ball is not None and self.region.ball.norm == "l0"
            steps = np.array(policy.POLISH_WAY[-1:] if sparse else policy.POLISH_WAY)
            way = x + steps[:, None] * (self._point(found.d, kept) - x)
            values = self._values(way)
            best = int(np.argmin(values))
            if not values[best] < value:
                break
            before, x, value = value, way[best], float(values[best])
            if before - value <= policy.POLISH_JUMP_GAIN * abs(value):
                break
        return x, value

    def _walk(self, x: Array, value: float) -> _Best | None:
        best = None
        ahead = [Cell.of(self.network, x)]
        ball = self.region.ball
        kept = np.flatnonzero(x != self._center) if ball is not None and ball.norm == "l0" else None
        for _ in range(policy.POLISH_CELLS):
            if not ahead or self.stop():
                break
            cell = ahead.pop(0)
            found = self._best(cell, kept)
            # A start that only float32 takes for a violation has no value yet.
            if found is None or (np.isfinite(value) and not found.value < value - _GAIN * abs(value)):
                continue
            best, value = found, found.value
            across = [found.tight] if len(found.tight) > 1 else []
            across += [[neuron] for neuron in found.tight[: policy.POLISH_FLIPS]]
            ahead = [cell.flipped(neurons) for neurons in across]
        return best

    def _best(self, cell: Cell, kept: Indices | None) -> _Best | None:
        """The best point of a cell; None where the program fails or needs too many halfspaces."""
        program, kept = self._program(cell, kept)
        center = self._center
        known: list[Neuron] = []

        def inside(slack: float) -> tuple[float, Array, Array] | None:
            for _ in range(policy.POLISH_ROUNDS):
                found = None if self.stop() else program.solve(slack)
                if found is None:
                    return None
                x = self._point(found.d, kept)
                broken = [neuron for neuron in cell.broken(x, policy.POLISH_ROWS) if neuron not in known]
                if not broken:
                    return found.value, x, found.multipliers[len(found.multipliers) - len(known) :]
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
        """Points that differ from the center in fewer entries than ``x``, the sparsest first."""
        center = self._center
        changed = np.flatnonzero(x != center)
        G, _ = Cell.of(self.network, x).outputs(self.clause.matrix)
        # Those that help the rows most come first.
        order = changed[np.argsort((G[:, changed] * (x - center)[changed]).sum(0))]
        found = [x]
        fewest, most = 0, len(order)
        while most - fewest > 1 and not self.stop():
            middle = (fewest + most) // 2
            point = self._violation(order[:middle], x)
            if point is None:
                fewest = middle
            else:
                most = middle
                found.append(point)
        tried = 0
        kept = list(order[:most])
        while tried < min(len(kept), policy.POLISH_DROPS) and len(kept) > 1 and not self.stop():
            rest = [entry for i, entry in enumerate(kept) if i != len(kept) - 1 - tried]
            point = self._violation(np.array(rest), found[-1])
            if point is None:
                tried += 1
            else:
                kept, tried = rest, 0
                found.append(point)
        yield from reversed(found)

    def _violation(self, kept: Indices, x: Array) -> Array | None:
        """A violation where only the entries ``kept`` differ from the center, if a descent from ``x`` finds one."""
        low, high = list(self.region.exact_lower), list(self.region.exact_upper)
        still = np.setdiff1d(np.arange(len(x)), kept)
        for i in still.tolist():
            low[i] = high[i] = Fraction(self._center[i])
        part = dataclasses.replace(
            self.region, exact_lower=tuple(low), exact_upper=tuple(high), ball=None, center=self.region.center
        )
        start = self._center.copy()
        start[kept] = x[kept]
        inside = Descent(self.network, part, self.clause, None, self.stop)
        point, value = inside._jump(start, float(inside._values(start[None])[0]))
        return point if value <= 0 else None
