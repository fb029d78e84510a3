"""What the documents of all shared searches have in common: what a problem is about, and what an answer tells.

See `solver.helpers` for how they are used, and the frontiers (`solver.cell_frontier`, `solver.box_frontier`,
`solver.deep_frontier`) for what each search adds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import certificates
from certificates import Certificate
from networks.graph import Network
from networks.property import Clause, Property, Query
from networks.region import Region
from solver.certify import Branch, Record
from solver.parcel import Parcel, ParcelError

__all__ = ["answer", "grafted", "known", "stated"]


def stated(network: Network, region: Region, clauses: Sequence[Clause]) -> bytes:
    """What a search is about, as certificates write it."""
    return certificates.write(Certificate(network.sha256, Query.single(region, Property(tuple(clauses))), ()))


def answer(
    given: int,
    nodes: int,
    arrays: Mapping[str, NDArray[Any]],
    record: Record | None,
    adopted: Sequence[Branch],
    left: Iterable[Branch],
    about: tuple[Network, Query],
) -> Parcel:
    """What became of cells, but for the names that an answer has.

    Args:
        given: how many cells were adopted.
        nodes: cells bounded.
        arrays: what the search tells.
        record: what it recorded, if it did.
        adopted, left: the cells of the record that were adopted, and those that are still open; not looked at without
            a record.
        about: what a forest is about.
    """
    header: dict[str, Any] = {"kind": "answer", "cells": given, "nodes": nodes}
    if record is None or record.full:
        return Parcel(header | {"full": record is not None}, arrays)
    forest, order = record.forest(0, adopted)
    place = {id(cell): at for at, cell in enumerate(order)}
    at = np.array([place[id(branch)] for branch in left], np.int64)
    network, query = about
    data = certificates.write(Certificate(network.sha256, query, (forest,)))
    return Parcel(header | {"full": False}, {**arrays, "at": at}, {"forest": data})


def known(said: Parcel) -> tuple[float, float, float]:
    """The weakest bounds of cells that closed and of cells that are stuck, and the smallest margin replayed.

    Raises:
        ParcelError: the answer tells none, or some that cannot be.
    """
    proven, stuck, upper = said.array("known", np.float64, (3,)).tolist()
    if math.isnan(proven + stuck + upper) or proven < 0:
        msg = f"an answer must tell a bound of closed cells that is not negative, got {proven, stuck, upper}"
        raise ParcelError(msg)
    return proven, stuck, upper


def grafted(record: Record | None, roots: Iterable[Branch], said: Parcel, left: int) -> list[Branch] | None:
    """Lets an answer's forest stand below cells of a record; the cells of what is still open, None without a record.

    A record that a helper outgrew is outgrown at home, too.

    Raises:
        ParcelError, CertificateError: there is no forest, or it does not fit.
    """
    if record is None or record.full:
        return None
    if said.header.get("full"):
        record.overflow()
        return None
    at = said.array("at", np.int64, (left,))
    if "forest" not in said.files:
        msg = "the answer has no forest, but the search is recorded for a certificate"
        raise ParcelError(msg)
    forest = certificates.read(said.files["forest"]).trees[0]
    if len(at) and not 0 <= at.min() <= at.max() < len(forest.nodes):
        msg = f"an answer's open cells are not among the {len(forest.nodes)} nodes of its forest"
        raise ParcelError(msg)
    cells = record.graft(list(roots), forest)
    return [cells[i] for i in at.tolist()]
