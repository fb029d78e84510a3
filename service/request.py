"""From the JSON of a request to the solver's terms.

A request is what the ledger keeps of a ``POST /v1/verify``::

    {"network": sha256, "query": QUERY, "engine": "auto", "backend": "auto", "time_limit": 60.0, "seed": 0,
     "certificate": false}

with QUERY either a ball, ``{"input": numbers, "epsilon": number, "norm": "linf", "domain": [0, 1] | null,
"label": int, "targets": [int] | null}``, or ``{"vnnlib": text}``. The HTTP edge has checked its form; whether it fits
the network is checked here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from networks.errors import RegionError
from networks.property import Property, Query
from networks.region import Region
from solver.options import Backend, Budget, Engine, Options

if TYPE_CHECKING:
    from networks.graph import Network

__all__ = ["build_query"]


def build_query(request: dict[str, Any], network: Network, *, threads: int) -> tuple[Query, Options, Budget]:
    """What to ask of ``network``, how, and at what cost.

    Raises:
        InputError: the query does not fit the network.
    """
    query = request["query"]
    asked = _vnnlib(query["vnnlib"], network) if "vnnlib" in query else _ball(query, network)
    options = Options(
        engine=Engine(request.get("engine", Engine.AUTO)),
        backend=Backend(request.get("backend", Backend.AUTO)),
        seed=int(request.get("seed", 0)),
        certificate=bool(request.get("certificate", False)),
    )
    return asked, options, Budget(seconds=float(request["time_limit"]), threads=threads)


def _vnnlib(text: str, network: Network) -> Query:
    from networks.vnnlib import parse_vnnlib

    return parse_vnnlib(text, network.inputs, network.outputs)


def _ball(query: dict[str, Any], network: Network) -> Query:
    norm = query.get("norm", "linf")
    if norm != "linf":
        msg = f"norm {norm!r} is not supported; use 'linf'"
        raise RegionError(msg)
    point = _point(query["input"])
    if point.size != network.inputs:
        msg = (
            f"the input has {point.size} entries, but the network expects {network.inputs} "
            f"(shape {list(network.input_shape)}); send one input without batch dimension, flat or nested"
        )
        raise RegionError(msg)
    domain = query.get("domain")
    region = Region.linf_ball(point, query["epsilon"], None if domain is None else (domain[0], domain[1]))
    return Query.single(region, Property.classification(query["label"], network.outputs, query.get("targets")))


def _point(values: Any) -> NDArray[np.float64]:
    """The numbers of a flat or nested list, in order."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        msg = f"the input must be numbers in a flat list or in nested lists of equal lengths: {error}"
        raise RegionError(msg) from error
    return array.reshape(-1)
