"""From the JSON of a request to the solver's terms.

A request is what the ledger keeps of a ``POST /v1/verify``::

    {"network": sha256, "query": QUERY, "engine": "auto", "backend": "auto", "time_limit": 60.0, "seed": 0,
     "certificate": false}

with QUERY the mapping of `solver.question`. The HTTP edge has checked its form, and whether it fits the network's
signature; what takes the network itself is checked here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from solver.options import Backend, Budget, Engine, Options
from solver.question import Question, pose

if TYPE_CHECKING:
    from networks.graph import Network

__all__ = ["build_query"]


def build_query(request: dict[str, Any], network: Network, *, threads: int) -> tuple[Question, Options, Budget]:
    """What to ask of ``network``, how, and at what cost.

    Raises:
        InputError: the query does not fit the network.
    """
    options = Options(
        engine=Engine(request.get("engine", Engine.AUTO)),
        backend=Backend(request.get("backend", Backend.AUTO)),
        seed=int(request.get("seed", 0)),
        certificate=bool(request.get("certificate", False)),
    )
    budget = Budget(seconds=float(request["time_limit"]), threads=threads)
    return pose(network, **request["query"]), options, budget
