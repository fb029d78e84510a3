"""Reading the members of a question one by one, and keeping what is wrong with them."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from networks.errors import InputError, PropertyError, RegionError
from networks.exact import exact

__all__ = ["Fault", "Reading", "Signature", "WrongError", "entries", "index"]


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


class WrongError(Exception):
    """Something is wrong that has been noted; what depends on it cannot be read."""


class Reading:
    """A question's members that are given, and what was found to be wrong with them.

    Attributes:
        given: the members that say something, by name.
        signature: what the question is about.
        found: what is wrong, in the order in which it was noticed.
    """

    def __init__(self, members: Mapping[str, Any], signature: Signature) -> None:
        self.given = {name: value for name, value in members.items() if value is not None}
        self.signature = signature
        self.found: list[Fault] = []

    def among(self, names: tuple[str, ...]) -> list[str]:
        """Which of ``names`` are given."""
        return [name for name in names if name in self.given]

    def wrong(self, error: InputError, member: str) -> WrongError:
        """Note an error about ``member``; the exception is for whoever cannot go on."""
        self.found.append(Fault(member, error))
        return WrongError(member)

    @contextmanager
    def at(self, member: str) -> Iterator[None]:
        """Note an `InputError` that is raised inside as one about ``member``.

        Raises:
            WrongError: there was one.
        """
        try:
            yield
        except InputError as error:
            raise self.wrong(error, member) from error

    def numbers(self, member: str) -> list[Any]:
        """One number for each input entry, from nested sequences or from one number for all.

        Raises:
            WrongError: there are too few or too many.
        """
        value, inputs = self.given[member], self.signature.inputs
        found = list(entries(value)) if isinstance(value, list | tuple | np.ndarray) else [value] * inputs
        if len(found) != inputs:
            msg = f"{member} has {len(found)} entries, but the network takes {inputs}; give one number, or one for each"
            raise self.wrong(RegionError(msg), member)
        for i, entry in enumerate(found):
            try:
                exact(entry)
            except ValueError as error:
                msg = f"{member} must be finite numbers, but entry {i} is {entry!r}"
                raise self.wrong(RegionError(msg), member) from error
        return found

    def mapping(self, member: str, known: tuple[str, ...], needed: tuple[str, ...]) -> dict[str, Any]:
        """The members that are given of a member which is a mapping itself.

        Raises:
            WrongError: it is no mapping, or has other members than those ``known``, or lacks one ``needed``.
        """
        value = self.given[member]
        inner = {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else {}
        if not isinstance(value, Mapping) or not set(needed) <= inner.keys() <= set(known):
            parts = [f"{name}{'' if name in needed else ' (optional)'}" for name in known]
            msg = f"{member} is a mapping of {', '.join(parts)}; got {value!r}"
            raise self.wrong(PropertyError(msg), member)
        return inner


def entries(values: Any) -> Iterator[Any]:
    """The entries of nested sequences, in order."""
    for value in values:
        if isinstance(value, list | tuple | np.ndarray):
            yield from entries(value)
        else:
            yield value


def index(value: Any, what: str) -> int:
    """``value`` as a whole number.

    Raises:
        PropertyError: it is none.
    """
    try:
        return operator.index(value)
    except TypeError as error:
        msg = f"{what} must be a whole number, got {value!r}"
        raise PropertyError(msg) from error
