"""Questions in plain terms: the names by which the command line, Python and HTTP state a query.

A question is a mapping from names to plain values. What is None counts as not given. It states a region

* ``input``, ``epsilon``: the ball around an input (``norm``: only ``linf``), within ``domain`` (lowest, highest value);
* or ``lower``, ``upper``: a box, each a number for all input entries or one for each;

and a property

* ``label``: the class that must score strictly higher than ``targets`` (all others by default); around an ``input``, by
  default the class that the network gives it;

or both at once as ``vnnlib``, the text or the `pathlib.Path` of a specification. Numbers are read exactly, see
`networks.exact`.

`pose` makes a query of it, `faults` finds what is wrong with it from the network's signature alone, which is all that a
web process knows; both read it in the same way.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from networks.errors import InputError, PropertyError, RegionError
from networks.evaluation import evaluate
from networks.exact import exact
from networks.property import Property, Query
from networks.region import Region
from networks.vnnlib import parse_vnnlib, read_vnnlib

if TYPE_CHECKING:
    from networks.graph import Network

__all__ = ["MEMBERS", "Fault", "Question", "Signature", "faults", "pose"]

_BALL = ("input", "epsilon", "norm", "domain")
_BOX = ("lower", "upper")
_PROPERTY = ("label", "targets")

#: Every name that a question may hold.
MEMBERS = (*_BALL, *_BOX, *_PROPERTY, "vnnlib")

_FORMS = "give either vnnlib, or input and epsilon (a ball), or lower and upper (a box)"


class Signature(Protocol):
    """What a question has to fit; a `networks.Network` is one."""

    @property
    def inputs(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def input_shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True)
class Fault:
    """A member of a question, and what is wrong with it."""

    member: str
    error: InputError


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of which network."""

    network: Network
    query: Query


def pose(network: Network, **members: Any) -> Question:
    """The question that ``members`` state about ``network``.

    Raises:
        InputError: the first thing that is wrong with it (`RegionError`, `PropertyError`, `VnnlibError`).
    """
    reader = _Reader(members, network, network)
    query = reader.query()
    if reader.found:
        raise reader.found[0].error
    assert query is not None
    return Question(network, query)


def faults(members: Mapping[str, Any], signature: Signature) -> list[Fault]:
    """All that is wrong with a question about a network with this signature, as far as the signature tells."""
    reader = _Reader(members, signature)
    reader.query()
    return reader.found


class _WrongError(Exception):
    """Something is wrong that has been noted; what depends on it cannot be read."""


class _Reader:
    """Reads one question, and notes in ``found`` what is wrong with it.

    Methods return a part of the query, or raise `_WrongError`.
    """

    def __init__(self, members: Mapping[str, Any], signature: Signature, network: Network | None = None) -> None:
        self.given = {name: value for name, value in members.items() if value is not None}
        if self.given.get("norm") == "linf":
            del self.given["norm"]  # the default says nothing
        self.signature = signature
        self.network = network
        self.found: list[Fault] = []

    def query(self) -> Query | None:
        """The query; None where something is wrong, or where the signature does not suffice."""
        for name in self.given.keys() - set(MEMBERS):
            self._wrong(InputError(f"{name} is not known; a question may have {', '.join(MEMBERS)}"), name)
        with suppress(_WrongError):
            if "vnnlib" in self.given:
                return self._vnnlib()
            region = prop = None
            with suppress(_WrongError):
                region = self._region()
            prop = self._property()
            if region is not None and prop is not None:
                return Query.single(region, prop)
        return None

    def _vnnlib(self) -> Query:
        beside = [name for name in self.given if name in {*_BALL, *_BOX, *_PROPERTY}]
        if beside:
            msg = f"a VNNLIB text states region and property; give either vnnlib or {', '.join(beside)}, not both"
            raise self._wrong(InputError(msg), "vnnlib")
        text = self.given["vnnlib"]
        read = read_vnnlib if isinstance(text, Path) else parse_vnnlib
        with self._at("vnnlib"):
            return read(text, self.signature.inputs, self.signature.outputs)

    def _region(self) -> Region:
        ball, box = ([name for name in names if name in self.given] for names in (_BALL, _BOX))
        if ball and box:
            msg = f"a box ({', '.join(box)}) and a ball ({', '.join(ball)}) are two regions; {_FORMS}"
            raise self._wrong(RegionError(msg), box[0])
        missing = [name for name in (_BOX if box else ("input", "epsilon")) if name not in self.given]
        if missing:
            raise self._wrong(InputError(f"{' and '.join(missing)} missing: {_FORMS}"), missing[0])
        return self._box() if box else self._ball()

    def _ball(self) -> Region:
        before = len(self.found)
        epsilon, domain = self.given["epsilon"], self.given.get("domain")
        if "norm" in self.given:
            self._wrong(RegionError(f"norm {self.given['norm']!r} is not supported; use 'linf'"), "norm")
        with suppress(_WrongError), self._at("epsilon"):
            Region.linf_ball((0.0,), epsilon)  # around the origin, epsilon alone can be at fault
        if domain is not None:
            with suppress(_WrongError), self._at("domain"):
                _check_interval(domain)
        point = self._point()
        if len(self.found) > before:
            raise _WrongError
        with self._at("input"):
            return Region.linf_ball(point, epsilon, domain)

    def _point(self) -> NDArray[np.float64]:
        try:
            point = np.asarray(self.given["input"], dtype=np.float64).reshape(-1)
        except (ValueError, TypeError, OverflowError) as error:
            msg = f"the input must be numbers in a flat list or in nested lists of equal lengths: {error}"
            raise self._wrong(RegionError(msg), "input") from error
        if point.size != self.signature.inputs:
            shape = "×".join(map(str, self.signature.input_shape))
            msg = (
                f"the input has {point.size} entries, but the network takes {self.signature.inputs} ({shape}); "
                "give one input without batch dimension, flat or nested"
            )
            raise self._wrong(RegionError(msg), "input")
        return point

    def _box(self) -> Region:
        lower, upper = (self._bound(name) for name in _BOX)
        with self._at("lower"):
            return Region.box(lower, upper)

    def _bound(self, name: str) -> list[Any]:
        """One number for each input entry."""
        value, inputs = self.given[name], self.signature.inputs
        entries = list(_flat(value)) if isinstance(value, list | tuple | np.ndarray) else [value] * inputs
        if len(entries) != inputs:
            msg = f"{name} has {len(entries)} entries, but the network takes {inputs}; give one number, or one for each"
            raise self._wrong(RegionError(msg), name)
        with self._at(name):
            Region.box(entries, entries)
            return entries

    def _property(self) -> Property | None:
        label, targets = self.given.get("label"), self.given.get("targets")
        if label is None:
            label = self._own_class()
        if label is None:
            return None
        with self._at("label"):
            prop = Property.classification(_index(label, "label"), self.signature.outputs)
        if targets is not None:
            with self._at("targets"):
                chosen = [_index(target, "target") for target in targets]
                prop = Property.classification(label, self.signature.outputs, chosen)
        return prop

    def _own_class(self) -> int | None:
        """The class that the network gives the input; None where that is not known."""
        if self.signature.outputs < 2:
            msg = (
                "label missing: the network has one output, so there is no class to keep; state the property in VNNLIB"
            )
            raise self._wrong(PropertyError(msg), "label")
        if "input" not in self.given:
            if not self.found:
                msg = "label missing: a box has no class of its own; say which to keep"
                self._wrong(PropertyError(msg), "label")
            raise _WrongError
        if self.found or self.network is None:
            return None
        point = np.asarray(self.given["input"], dtype=np.float64).astype(np.float32).reshape(1, -1)
        return int(np.argmax(evaluate(self.network, point)[0]))

    def _wrong(self, error: InputError, name: str) -> _WrongError:
        self.found.append(Fault(name, error))
        return _WrongError(name)

    @contextmanager
    def _at(self, name: str) -> Iterator[None]:
        """Note an error about ``name``."""
        try:
            yield
        except InputError as error:
            raise self._wrong(error, name) from error


def _check_interval(domain: Any) -> None:
    """Raise RegionError unless ``domain`` is two finite numbers in order."""
    try:
        least, most = (exact(value) for value in domain)
    except (ValueError, TypeError) as error:
        msg = f"the domain must be two finite numbers, got {domain!r}"
        raise RegionError(msg) from error
    if least > most:
        msg = f"the domain's lowest value {domain[0]} is above its highest, {domain[1]}; give them in order"
        raise RegionError(msg)


def _index(value: Any, what: str) -> int:
    try:
        return operator.index(value)
    except TypeError as error:
        msg = f"a {what} is the number of an output, got {value!r}"
        raise PropertyError(msg) from error


def _flat(values: Any) -> Iterator[Any]:
    """The entries of nested sequences, in order."""
    for value in values:
        if isinstance(value, list | tuple | np.ndarray):
            yield from _flat(value)
        else:
            yield value
