"""One region of a query with its property, and what the ladder knows about it so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from bounds import Enclosure
from bounds.recomputed import Recomputed
from bounds.relus import BoxBounds
from certificates import NeuronSlopes
from networks.errors import PropertyError, RegionError
from networks.graph import Network
from networks.property import Clause, Property, Query
from networks.region import Region
from solver.certify import Record

__all__ = ["Case", "check_fit", "known_bounds"]


@dataclass(eq=False)
class Case:
    """One region with its property, and what is known about each clause.

    Attributes:
        lower: proven lower bound of each clause's margin, shape ``(clauses,)``.
        proven: which clauses hold on the region; set apart from ``lower`` because engines may prove a sign alone.
        corners: for each clause, where its linear bound is smallest, shape ``(clauses, inputs)``.
        default: the enclosure that default slopes give, once a better one has taken its place.
        recomputed: cells of the region, from slopes that were optimised for every neuron.
        slopes: those by which a checker finds the enclosure; None where it is that of default slopes, or tightened.
        trusted: clauses that a MIP solver alone says to hold.
        evidence: for each clause that a certificate can prove, the record of the search that did.
    """

    region: Region
    prop: Property
    lower: NDArray[np.float64]
    proven: NDArray[np.bool_]
    corners: NDArray[np.float64]
    enclosure: Enclosure | None = None
    default: Enclosure | None = None
    recomputed: Recomputed | None = None
    slopes: NeuronSlopes | None = None
    trusted: set[int] = field(default_factory=set)
    evidence: dict[int, Record] = field(default_factory=dict)

    @cached_property
    def root(self) -> Record:
        """The record of what bounds on the whole region prove."""
        return Record(range(len(self.prop.clauses)))

    @classmethod
    def of(cls, region: Region, prop: Property) -> Case:
        count = len(prop.clauses)
        middle = (region.lower + region.upper) / 2
        return cls(region, prop, np.full(count, -math.inf), np.zeros(count, dtype=bool), np.tile(middle, (count, 1)))

    @property
    def tightened(self) -> bool:
        """Whether the enclosure is better than what default slopes give."""
        return self.default is not None

    @property
    def unproven(self) -> list[Clause]:
        """The clauses that hold, but without anything that a certificate can prove them by."""
        pairs = enumerate(zip(self.prop.clauses, self.proven, strict=True))
        return [clause for c, (clause, proven) in pairs if proven and c not in self.evidence]

    @property
    def open(self) -> list[Clause]:
        return [clause for clause, proven in zip(self.prop.clauses, self.proven, strict=True) if not proven]

    def bound(self, clause: Clause) -> float:
        """The proven lower bound of one clause's margin."""
        return float(self.lower[self.prop.clauses.index(clause)])

    def keep(self, clause: Clause, record: Record | None) -> None:
        """Keeps the record of the search that proved a clause."""
        if record is not None and not record.full:
            self.evidence[self.prop.clauses.index(clause)] = record

    def prove(self, clause: Clause, lower: float, *, proven: bool) -> None:
        i = self.prop.clauses.index(clause)
        self.lower[i] = max(self.lower[i], lower)
        self.proven[i] |= proven


def known_bounds(cases: list[Case]) -> BoxBounds | None:
    """The cases' enclosures as one batch, if all have one."""
    enclosures = [case.enclosure for case in cases if case.enclosure is not None]
    if len(enclosures) < len(cases):
        return None
    nodes = list(enclosures[0].lower)
    empty = torch.empty(0)
    return BoxBounds(
        empty,
        empty,
        {k: torch.as_tensor(np.stack([e.lower[k] for e in enclosures])) for k in nodes},
        {k: torch.as_tensor(np.stack([e.upper[k] for e in enclosures])) for k in nodes},
    )


def check_fit(network: Network, query: Query) -> None:
    """Refuses a query that is not about such a network.

    Raises:
        RegionError, PropertyError: the query does not fit the network.
    """
    for region, prop in query.cases:
        if region.inputs != network.inputs:
            shape = "x".join(map(str, network.input_shape))
            msg = f"the region has {region.inputs} input entries, but the network expects {network.inputs} ({shape})"
            raise RegionError(msg)
        for clause in prop.clauses:
            if clause.outputs != network.outputs:
                msg = f"the property is about {clause.outputs} outputs, but the network has {network.outputs}"
                raise PropertyError(msg)
            if network.stripped and not all(row.compares_two_outputs for row in clause.rows):
                msg = (
                    f"the network ends with {network.stripped}, which is verified through its logits: only comparisons "
                    f"of two outputs mean the same there, but clause {clause.label!r} says more; compare two outputs, "
                    "or export the network without its last layer"
                )
                raise PropertyError(msg)
