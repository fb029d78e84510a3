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
* or ``equivalent_to``: another network, and ``within`` what the outputs of both may differ, as
  ``{"network": other, "within": 0.1}``; without ``within``, both must decide for the same class;
* or ``monotone``: ``{"input": 3, "output": 0, "direction": "increasing", "within": 0.01}``: as entry 3 alone is raised,
  output 0 never falls by as much as that (or never rises, ``"decreasing"``);
* or ``violations``: a list of clauses, each a list of rows, as `networks.Property.stated` reads them;

or both at once as ``vnnlib``, the text or the `pathlib.Path` of a specification. ``kind`` says what is asked:

* ``decide``: does the property hold on the region (the default)?
* ``margin``: how small does its margin become? ``tolerance`` says how far the ends of the answer may be apart. With
  ``output_range``, its ``end`` (``least`` or ``greatest``) may take the place of bounds: then that is found;
* ``distance``: how far from ``input``, in ``norm``, is the nearest violation in the region? ``epsilon`` may be left out
  where there is a ``domain``.

Numbers are read exactly, see `networks.exact`.

`pose` makes a query of it, `faults` finds what is wrong with it from the network's signature alone, which is all that a
web process knows; both read it in the same way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from networks.errors import InputError, PropertyError
from networks.evaluation import evaluate
from networks.exact import exact
from networks.property import Query
from networks.vnnlib import parse_vnnlib, read_vnnlib
from solver.asked_product import PRODUCT, read_product
from solver.asked_property import PROPERTY, read_property
from solver.asked_region import REGION, read_region
from solver.reading import Fault, Reading, Signature, WrongError
from solver.verdict import Kind

if TYPE_CHECKING:
    from networks.graph import Network
    from networks.region import Region
    from solver.options import Budget, Options
    from solver.verdict import Progress, Verdict

__all__ = ["MEMBERS", "Question", "answer", "faults", "pose"]

#: Every name that a question may hold.
MEMBERS = (*REGION, *PROPERTY, *PRODUCT, "vnnlib", "kind", "tolerance")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of which network.

    Attributes:
        network, query: what it is about; the network is a product of the given ones where the question is about two of
            them, or about two inputs of one.
        kind, norm, tolerance: see `solver.kinds.ask`.
        center: the input that a ball is around, float32 of shape ``(inputs,)``.
    """

    network: Network
    query: Query
    kind: Kind = Kind.DECIDE
    norm: str | None = None
    tolerance: float | None = None
    center: NDArray[np.float32] | None = None


def pose(network: Network, **members: Any) -> Question:
    """The question that ``members`` state about ``network``.

    Raises:
        InputError: the first thing that is wrong with it (`RegionError`, `PropertyError`, `VnnlibError`).
    """
    reading = Reading(members, network)
    read = _read(reading, network)
    if reading.found:
        raise reading.found[0].error
    assert read is not None
    about, query = read
    given = reading.given
    kind = Kind(given.get("kind", Kind.DECIDE))
    norm = given.get("norm", "linf") if kind is Kind.DISTANCE else None
    statement = query.statement | {"kind": str(kind)} | ({} if norm is None else {"norm": norm})
    center = query.cases[0][0].center if "input" in given and about.inputs == network.inputs else None
    tolerance = float(exact(given["tolerance"])) if "tolerance" in given else None
    return Question(about, dataclasses.replace(query, statement=statement), kind, norm, tolerance, center)


def answer(
    question: Question,
    *,
    options: Options | None = None,
    budget: Budget | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Verdict:
    """The answer to a question; arguments and errors are those of `solver.kinds.ask`."""
    from solver.kinds import ask  # brings torch

    return ask(
        question.network,
        question.query,
        question.kind,
        norm=question.norm,
        tolerance=question.tolerance,
        options=options,
        budget=budget,
        progress=progress,
        cancel=cancel,
    )


def faults(members: Mapping[str, Any], signature: Signature) -> list[Fault]:
    """All that is wrong with a question about a network with this signature, as far as the signature tells."""
    reading = Reading(members, signature)
    _read(reading)
    return reading.found


def _read(reading: Reading, network: Network | None = None) -> tuple[Network, Query] | None:
    """The query and the network that it is about; None where something is wrong, or the network is not given."""
    for name in reading.given.keys() - set(MEMBERS):
        reading.wrong(InputError(f"{name} is not known; a question may have {', '.join(MEMBERS)}"), name)
    with suppress(WrongError):
        _check_kind(reading)
        if "vnnlib" in reading.given:
            query = _vnnlib(reading)
            return None if network is None else (network, query)
        region = None
        with suppress(WrongError):
            region = read_region(reading)
        if reading.among(PRODUCT):
            return _product(reading, region, network)
        prop = read_property(reading, lambda: _own_class(network, reading))
        if region is not None and prop is not None and network is not None:
            return network, Query.single(region, prop)
    return None


def _product(reading: Reading, region: Region | None, network: Network | None) -> tuple[Network, Query] | None:
    stated = reading.among((*PRODUCT, *PROPERTY))
    if len(stated) > 1:
        msg = f"{', '.join(stated)} are {len(stated)} properties; ask one question for each"
        raise reading.wrong(PropertyError(msg), stated[0])
    product = read_product(reading, network)
    if product is None or region is None:
        return None
    with reading.at("input" if "input" in reading.given else "lower"):
        return product.network, product.query(region)


def _check_kind(reading: Reading) -> None:
    """Note what is wrong with the kind and its tolerance, and forget a norm that says nothing."""
    given = reading.given
    kind = given.get("kind", Kind.DECIDE)
    if kind not in list(Kind):
        msg = f"kind {kind!r} is not known; use {', '.join(Kind)}"
        raise reading.wrong(InputError(msg), "kind")
    if kind != Kind.DISTANCE and given.get("norm") == "linf":
        del given["norm"]
    if "tolerance" in given:
        with suppress(WrongError), reading.at("tolerance"):
            _check_tolerance(given["tolerance"], Kind(kind))
    if kind != Kind.MARGIN and isinstance(given.get("output_range"), Mapping) and given["output_range"].get("end"):
        msg = "output_range with an end asks how far an output goes; ask it with kind 'margin', or give lower and upper"
        reading.wrong(PropertyError(msg), "kind")


def _check_tolerance(tolerance: Any, kind: Kind) -> None:
    if kind is Kind.DECIDE:
        msg = "tolerance is how far the ends of a margin or distance may be apart; ask with kind 'margin' or 'distance'"
        raise InputError(msg)
    try:
        positive = exact(tolerance) > 0
    except ValueError:
        positive = False
    if not positive:
        msg = f"tolerance must be a finite number above 0, got {tolerance!r}"
        raise InputError(msg)


def _vnnlib(reading: Reading) -> Query:
    beside = reading.among((*REGION, *PROPERTY, *PRODUCT))
    if "norm" in beside and reading.given.get("kind") == Kind.DISTANCE:
        beside.remove("norm")  # it is the distance's
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
