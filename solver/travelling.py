"""What holds at the root of a tree of cells, as the documents of a shared search carry it.

For ReLU splits that is the bounds of all neurons; where they are bounded anew on every cell, it is also the slopes that
they are bounded with, and for a root that is a cell itself the phases that are chosen there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bounds import Enclosure
from bounds.columns import Columns
from bounds.program import program
from bounds.recomputed import Recomputed
from bounds.single import box_bounds
from networks.graph import Network
from networks.region import Region
from solver.parcel import Parcel, ParcelError

__all__ = ["enclosure", "enclosure_arrays", "root", "root_arrays"]


def enclosure_arrays(known: Enclosure, prefix: str = "") -> dict[str, NDArray[Any]]:
    """Bounds of all neurons; the names begin with ``prefix``, as for the functions below."""
    ends = (("lower", known.lower), ("upper", known.upper))
    return {f"{prefix}{end}{node}": values for end, bounds in ends for node, values in bounds.items()}


def enclosure(network: Network, parcel: Parcel, prefix: str = "") -> Enclosure:
    """The bounds that `enclosure_arrays` wrote. Raises ParcelError where there are none for such a network."""
    lower, upper = (
        {
            node: parcel.array(f"{prefix}{end}{node}", np.float64, (network.nodes[node].features,))
            for node in network.relu_nodes
        }
        for end in ("lower", "upper")
    )
    return Enclosure(lower, upper)


def root_arrays(cells: Recomputed, prefix: str = "") -> dict[str, NDArray[Any]]:
    """A region, or a cell that became one."""
    bounds = cells.bounds
    known = Enclosure(
        {node: values[0].numpy(force=True) for node, values in bounds.pre_lower.items()},
        {node: values[0].numpy(force=True) for node, values in bounds.pre_upper.items()},
    )
    own = {"slopes": cells.slopes.numpy(force=True), "phases": cells.root.phases[0].numpy(force=True)}
    return enclosure_arrays(known, prefix) | {f"{prefix}{name}": values for name, values in own.items()}


def root(
    network: Network, region: Region, parcel: Parcel, prefix: str = "", *, around: Recomputed | None = None
) -> Recomputed:
    """What `root_arrays` wrote; ``around`` is the region that a cell is of, None for the region itself.

    Raises:
        ParcelError: it does not fit.
    """
    bounds = box_bounds(network, region, enclosure(network, parcel, prefix))
    cell = None
    if around is not None:
        phases = parcel.array(f"{prefix}phases", np.int8, (around.layout.count,))
        cell = Columns.of(bounds, around.layout, torch.tensor(phases)[None])
    slopes = parcel.array(f"{prefix}slopes", np.uint8, (2, None, None))
    try:
        return Recomputed.again(program(network), bounds, torch.tensor(slopes), cell)
    except ValueError as error:
        msg = f"the document's slopes do not fit its bounds: {error}"
        raise ParcelError(msg) from error
