"""What a closing interval is about: the least margin over a query's regions, or the distance of the nearest violation.

Both are a number that is approached from below by thresholds and from above by inputs. An aim turns a threshold into
the query that is robust only if the number is larger, and says which number an input attains.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from networks.errors import PropertyError, RegionError
from networks.exact import exact, rounded, written
from networks.exact_evaluation import evaluate_exactly
from networks.graph import Network
from networks.property import Clause, Property, Query
from networks.region import Region
from solver.lengths import center, farthest, length, nearer
from solver.replay import Replayer
from solver.verdict import Counterexample

__all__ = ["Aim", "Distance", "Margin"]


class Aim(ABC):
    """A number that an interval closes around.

    Attributes:
        measure: its name.
        least: the lower end before anything is proven.
        query: what was asked about.
        tolerance: how far the ends may be apart, as a share of the upper one where that is above 1.
    """

    measure: ClassVar[str]
    least: ClassVar[float] = -math.inf

    def __init__(self, network: Network, query: Query, tolerance: float) -> None:
        self.network, self.query, self.tolerance = network, query, tolerance

    def gap(self, upper: float) -> float:
        """How far below this upper end the lower one may stay."""
        return self.tolerance * max(1.0, abs(upper))

    @abstractmethod
    def at(self, threshold: float) -> Query:
        """The query that is robust only if the number is above ``threshold``, read as the decimal that it prints as."""

    @abstractmethod
    def attained(self, found: Counterexample) -> float:
        """The number that an input of the query's region attains, rounded up."""

    @abstractmethod
    def original(self, found: Counterexample) -> Counterexample:
        """A counterexample to the query at some threshold, in terms of the query that was asked."""

    @abstractmethod
    def replay(
        self, replayer: Replayer, region: Region, prop: Property, x: NDArray[np.float32]
    ) -> Counterexample | None:
        """The float32 input ``x`` as what the upper end may rest on; None if it may not."""

    def learned(self, threshold: float, margin: float) -> float:  # noqa: ARG002  a margin at a radius says nothing
        """What an undecided verdict about `at`, with this proven margin, proves about the number; −inf if nothing."""
        return -math.inf

    def proven(self, threshold: float) -> float:
        """The lower end once `at` was proven."""
        return threshold

    def top(self, upper: float) -> float:
        """The threshold that closes the interval below this upper end."""
        return upper - self.gap(upper) if upper < math.inf else 0.0

    def threshold(self, lower: float, upper: float, retreat: int) -> float:
        """The threshold to try next: `top`, or so many powers of two below it, but not below the middle."""
        top = self.top(upper)
        return max(top - self.gap(upper) * 2.0**retreat, (lower + top) / 2) if retreat else top

    def closed(self, lower: float, upper: float) -> bool:
        """Whether the ends are as near as asked."""
        return lower >= self.top(upper)

    @abstractmethod
    def robust(self, lower: float) -> bool:
        """Whether this lower end says that the query has no violation."""

    @abstractmethod
    def refutes(self, lower: float, found: Counterexample, margin: Fraction) -> bool:
        """Whether an input with this exact margin refutes the lower end."""

    def between(self, lower: float, failed: float) -> float | None:
        """A threshold between the lower end and one that was not decided, None if they are too near."""
        return (lower + failed) / 2 if failed - lower > self.gap(failed) else None


class Distance(Aim):
    """How far the nearest violation in a region is from its center."""

    measure = "distance"
    #: Not even the center is known to keep the property over the reals.
    least = -math.ulp(0.0)

    def __init__(self, network: Network, query: Query, norm: str | None, tolerance: float) -> None:
        super().__init__(network, query, tolerance)
        if len(query.cases) != 1:
            msg = (
                f"a distance is measured from the center of one region, but the query has {len(query.cases)}; ask "
                "about one ball or box"
            )
            raise RegionError(msg)
        self.region, self.prop = query.cases[0]
        ball = self.region.ball
        self.norm = norm or (ball.norm if ball is not None else "linf")
        self.center = center(self.region)
        #: No point of the region is farther away from its center.
        self.farthest = farthest(self.region, self.norm)

    def at(self, threshold: float) -> Query:
        if threshold >= self.farthest:
            return self.query
        region = nearer(self.region, self.norm, threshold)
        return Query(((region, self.prop),), self.query.statement | {"region": region.statement})

    def attained(self, found: Counterexample) -> float:
        return length(found.point, self.center, self.norm)

    def original(self, found: Counterexample) -> Counterexample:
        return found

    def replay(
        self, replayer: Replayer, region: Region, prop: Property, x: NDArray[np.float32]
    ) -> Counterexample | None:
        return replayer.counterexample(region, prop, x)

    def robust(self, lower: float) -> bool:
        return lower >= self.proven(self.farthest)

    def refutes(self, lower: float, found: Counterexample, margin: Fraction) -> bool:
        attained = self.attained(found)
        # For l0 the lower end is a distance that may be attained; nothing was proven at 0.
        nearer = attained < lower if self.norm == "l0" else attained <= lower
        return nearer and lower > 0 and margin <= 0

    def proven(self, threshold: float) -> float:
        return threshold + 1 if self.norm == "l0" else threshold

    def top(self, upper: float) -> float:
        if upper > self.farthest:
            return self.farthest
        # Where entries are counted, one less is the next smaller distance.
        return upper - 1 if self.norm == "l0" else max(0.0, super().top(upper))

    def threshold(self, lower: float, upper: float, retreat: int) -> float:
        if self.norm == "l0" and retreat:
            return float((lower + self.top(upper)) // 2)
        return super().threshold(lower, upper, retreat)

    def closed(self, lower: float, upper: float) -> bool:
        # No distance is below 0.
        near = upper == 0 if self.norm == "l0" else upper <= self.gap(0.0)
        return near or lower >= self.proven(self.top(upper))

    def between(self, lower: float, failed: float) -> float | None:
        if self.norm == "l0":
            return float((lower + failed - 1) // 2) if lower < failed else None
        return super().between(lower, failed)


class Margin(Aim):
    """The least margin over a query's regions."""

    measure = "margin"

    def __init__(self, network: Network, query: Query, tolerance: float) -> None:
        super().__init__(network, query, tolerance)
        if network.stripped:
            msg = (
                f"the network ends with {network.stripped}, which is verified through its logits: only the sign of a "
                "margin is the same there; export the network without its last layer"
            )
            raise PropertyError(msg)

    def at(self, threshold: float) -> Query:
        if not threshold:
            return self.query
        cases = tuple((region, shifted(prop, exact(threshold))) for region, prop in self.query.cases)
        return Query(cases, self.query.statement | {"margin_above": written(exact(threshold))})

    def attained(self, found: Counterexample) -> float:
        return found.attained

    def original(self, found: Counterexample) -> Counterexample:
        clauses = [
            clause
            for region, prop in self.query.cases
            if region.contains_exactly(found.point)
            for clause in prop.clauses
        ]
        clause = min(clauses, key=lambda clause: clause.margin(found.output))
        exactly = None
        if found.exact_input is not None:
            output = evaluate_exactly(self.network, found.point)
            exactly = rounded(min(clause.margin(output) for clause in clauses))
        margin = float(clause.margin(found.output))
        return dataclasses.replace(found, clause=clause.label, margin=margin, exact_margin=exactly)

    def replay(
        self, replayer: Replayer, region: Region, prop: Property, x: NDArray[np.float32]
    ) -> Counterexample | None:
        if not region.contains(x):
            return None
        output = replayer(x)
        if not np.isfinite(output).all():
            return None
        clause = min(prop.clauses, key=lambda clause: clause.margin(output))
        shaped = x.reshape(self.network.input_shape)
        return Counterexample(shaped, output, clause.label, float(clause.margin(output)))

    def learned(self, threshold: float, margin: float) -> float:
        return math.nextafter(math.nextafter(threshold + margin, -math.inf), -math.inf)

    def robust(self, lower: float) -> bool:
        return lower >= 0

    def refutes(self, lower: float, found: Counterexample, margin: Fraction) -> bool:  # noqa: ARG002  a margin is all
        return math.isfinite(lower) and margin <= exact(lower)


def shifted(prop: Property, by: Fraction) -> Property:
    """The property whose margin is smaller by ``by``."""
    return Property(tuple(_shifted(clause, by) for clause in prop.clauses), prop.statement)


def _shifted(clause: Clause, by: Fraction) -> Clause:
    rows = tuple(dataclasses.replace(row, offset=row.offset - by) for row in clause.rows)
    return Clause(rows, clause.outputs, clause.label)
