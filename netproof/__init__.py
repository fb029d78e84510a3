"""netproof: exact verification of trained neural networks.

    >>> import netproof
    >>> verdict = netproof.verify("examples/digits_robust.onnx", vnnlib="examples/digits.vnnlib")
    >>> str(verdict.outcome)
    'robust'

Names are imported when they are first used, because most of them bring torch or ONNX Runtime along.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netproof.api import check, universal, verify
    from netproof.async_client import AsyncClient
    from netproof.auditing import Audit, audit
    from netproof.certified_radii import CertifiedRadius, largest_epsilons
    from netproof.client import Client
    from netproof.ranging import Range, ranges
    from netproof.torch_modules import from_torch
    from networks import Network, Property, Query, Region, load, read_vnnlib
    from networks.errors import InputError, NetproofError
    from solver import Budget, Options, Progress, Verdict

__all__ = [
    "AsyncClient",
    "Audit",
    "Budget",
    "CertifiedRadius",
    "Client",
    "InputError",
    "NetproofError",
    "Network",
    "Options",
    "Progress",
    "Property",
    "Query",
    "Range",
    "Region",
    "Verdict",
    "__version__",
    "audit",
    "check",
    "from_torch",
    "largest_epsilons",
    "load",
    "ranges",
    "read_vnnlib",
    "universal",
    "verify",
]

_HOMES = {
    "AsyncClient": "netproof.async_client",
    "Audit": "netproof.auditing",
    "Budget": "solver",
    "CertifiedRadius": "netproof.certified_radii",
    "Client": "netproof.client",
    "InputError": "networks.errors",
    "NetproofError": "networks.errors",
    "Network": "networks",
    "Options": "solver",
    "Progress": "solver",
    "Property": "networks",
    "Query": "networks",
    "Range": "netproof.ranging",
    "Region": "networks",
    "Verdict": "solver",
    "audit": "netproof.auditing",
    "check": "netproof.api",
    "from_torch": "netproof.torch_modules",
    "largest_epsilons": "netproof.certified_radii",
    "load": "networks",
    "ranges": "netproof.ranging",
    "read_vnnlib": "networks",
    "universal": "netproof.api",
    "verify": "netproof.api",
}

if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("netproof")
    if name not in _HOMES:
        msg = f"module 'netproof' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
