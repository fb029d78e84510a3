"""Questions in plain terms: the names by which the command line, Python and HTTP state a query.

A question is a mapping from names to plain values. What is None counts as not given. It states a region

* ``input``, ``epsilon``: the ball around an input in ``norm`` (``linf``, ``l2``, ``l1``, ``l0``), within ``domain``
  (lowest, highest value); ``radii`` say how far each entry may move by itself, ``frozen`` which keep their values;
* or ``lower``, ``upper``: a box, each a number for all input entries or one for each;
* ``constraints`` on either: a list of ``{"coefficients": {"0": 1, "3": -2}, "bound": 0.5}``, which says x₀ − 2x₃ ≤ 0.5;

and a property

* ``label``: the class that must score strictly higher than ``targets`` (all others by default); around an ``input``, by
  default the class that the network gives it; with ``top_k``, one of the k best; with ``confidence``, higher by that;
* or ``output_range``: ``{"output": 0, "lower": -1, "upper": 1}``, or ``coefficients`` of several outputs instead;
* or ``violations``: a list of clauses, each a list of rows, as `networks.Property.stated` reads them;

or both at once as ``vnnlib``, the text or the `pathlib.Path` of a specification. Numbers are read exactly, see
`networks.exact`.

`pose` makes a query of it, `faults` finds what is wrong with it from the network's signature alone, which is all that a
web process knows; both read it in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from networks.errors import InputError
from networks.evaluation import evaluate
from networks.property import Query
from networks.vnnlib import parse_vnnlib, read_vnnlib
from solver.asked_property import PROPERTY, read_property
from solver.asked_region import REGION, read_region
from solver.reading import Fault, Reading, Signature, WrongError

if TYPE_CHECKING:
    from networks.graph import Network

__all__ = ["MEMBERS", "Question", "faults", "pose"]

#: Every name that a question may hold.
MEMBERS = (*REGION, *PROPERTY, "vnnlib")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of which network."""

    network: Network
    query: Query
    center: NDArray[np.float32] | None = None
    """The input that a ball is around, float32 of shape ``(inputs,)``."""


def pose(network: Network, **members: Any) -> Question:
    """The question that ``members`` state about ``network``.

    Raises:
        InputError: the first thing that is wrong with it (`RegionError`, `PropertyError`, `VnnlibError`).
    """
    reading = Reading(members, network)
    query = _read(reading, network)
    if reading.found:
        raise reading.found[0].error
    assert query is not None
    return Question(network, query, query.cases[0][0].center if "input" in reading.given else None)


def faults(members: Mapping[str, Any], signature: Signature) -> list[Fault]:
    """All that is wrong with a question about a network with this signature, as far as the signature tells."""
    reading = Reading(members, signature)
    _read(reading)
    return reading.found


def _read(reading: Reading, network: Network | None = None) -> Query | None:
    """The query; None where something is wrong, or where the network is not given but needed."""
    if reading.given.get("norm") == "linf":
        del reading.given["norm"]  # the default says nothing
    for name in reading.given.keys() - set(MEMBERS):
        reading.wrong(InputError(f"{name} is not known; a question may have {', '.join(MEMBERS)}"), name)
    with suppress(WrongError):
        if "vnnlib" in reading.given:
            return _vnnlib(reading)
        region = None
        with suppress(WrongError):
            region = read_region(reading)
        prop = read_property(reading, lambda: _own_class(network, reading))
        if region is not None and prop is not None:
            return Query.single(region, prop)
    return None


def _vnnlib(reading: Reading) -> Query:
    beside = reading.among((*REGION, *PROPERTY))
    if beside:
        msg = f"a VNNLIB text states region and property; give either vnnlib or {', '.join(beside)}, not both"
        raise reading.wrong(InputError(msg), "vnnlib")
    text = reading.given["vnnlib"]
    read = read_vnnlib if isinstance(text, Path) else parse_vnnlib
    with reading.at("vnnlib"):
        return read(text, reading.signature.inputs, reading.signature.outputs)


def _own_class(network: Network | None, reading: Reading) -> int | None:
    """The class that the network gives the input; None where there is no network."""
    if network is None:
        return None
    point = np.asarray(reading.given["input"], dtype=np.float64).astype(np.float32).reshape(1, -1)
    return int(np.argmax(evaluate(network, point)[0]))
