"""Helpers of a search: processes that take some of its open cells for a while, see docs/decisions/0019.

A search deals out pieces of its frontier (`Sharing`), works on, and takes back what became of them. What is out counts
as open. So helpers that die, dawdle or answer nonsense cost time alone: their cells are searched at home.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from certificates import CertificateError
from solver import policy
from solver.attack import Attack
from solver.parcel import Parcel, ParcelError, digest
from solver.verdict import Counterexample

__all__ = ["Frontier", "Helpers", "Part", "Sharing", "replayed"]

logger = logging.getLogger(__name__)

#: Seconds that a search without cells of its own waits at a time before it looks at its limits again.
_WAIT = 0.05

Held = TypeVar("Held")


class Helpers(Protocol):
    """Whoever searches pieces; a piece is known by the sha256 of its document.

    Attributes:
        least: cells that a piece must have to be worth its way.
        seconds: how long a helper searches before it answers with what is left.
        delay: seconds that a piece and its answer take on their way.
    """

    least: int
    seconds: float
    delay: float

    def wanted(self) -> int:
        """How many pieces would be begun soon; asked after every batch of cells, so it answers at once."""

    def busy(self) -> int:
        """How many pieces are being searched."""

    def cores(self) -> int:
        """How many of the search's own cores they take now."""

    def give(self, problem: bytes, piece: bytes) -> bool:
        """Hands out a piece; False if that is not possible now."""

    def take(self, pieces: Collection[str], seconds: float) -> dict[str, bytes | None]:
        """What became of pieces since the last call: answers, or None for those that come back as they went.

        Waits up to ``seconds`` for the first.
        """

    def recall(self, pieces: Collection[str], count: int) -> None:
        """Wants the answers of so many of these pieces soon, and those back that nobody has begun."""

    def drop(self, pieces: Collection[str]) -> None:
        """Wants no answers of these any more."""


@dataclass(frozen=True, eq=False)
class Part(Generic[Held]):
    """Some open cells of a search: as arrays, and as the search keeps them until their answer comes.

    ``lower`` is the weakest of their bounds.
    """

    arrays: Mapping[str, NDArray[Any]]
    held: Held
    lower: float
    cells: int


class Frontier(Protocol[Held]):
    """A search whose open cells can be shared."""

    def open_cells(self) -> int:
        """How many cells are open at home."""

    def problem(self) -> Parcel:
        """What the search is about."""

    def deal(self, hands: int, each: int) -> Sequence[Part[Held]]:
        """Takes so many hands of about so many cells each out of the frontier."""

    def put_back(self, held: Held) -> None:
        """Cells come home as they went."""

    def merge(self, held: Held, answer: Parcel) -> Counterexample | None:
        """Takes in what became of cells; a counterexample that was replayed here, if the answer has one.

        Raises:
            ParcelError: the answer does not fit, and nothing of it was taken in.
        """


class Sharing(Generic[Held]):
    """What one search has given away.

    *Soundness.* A piece leaves `_out` only with an answer that names it and its problem, or by coming back. The search
    ends as proven only when nothing is out.
    """

    def __init__(self, helpers: Helpers, frontier: Frontier[Held]) -> None:
        self._helpers = helpers
        self._frontier = frontier
        self._problem: bytes | None = None
        self._name = ""
        self._number = 0
        self._out: dict[str, Part[Held]] = {}

    def __len__(self) -> int:
        return len(self._out)

    @property
    def lower(self) -> float:
        """The weakest bound among cells that are out."""
        return min((part.lower for part in self._out.values()), default=math.inf)

    @property
    def cells(self) -> int:
        """How many cells went out and have not come back."""
        return sum(part.cells for part in self._out.values())

    @property
    def cores(self) -> int:
        """How many of the search's own cores helpers take now."""
        return self._helpers.cores()

    @property
    def held(self) -> list[Held]:
        """What went out and has not come back."""
        return [part.held for part in self._out.values()]

    def exchange(self, rate: float) -> Counterexample | None:
        """Takes in what helpers have done and gives them more; returns a counterexample if one turned up.

        Without open cells at home it waits a moment, and calls pieces back.

        Args:
            rate: cells a second that the search bounds at home.
        """
        starving = not self._frontier.open_cells()
        if self._out:
            if starving:
                self._helpers.recall(list(self._out), max(1, self._helpers.wanted()))
            for name, data in self._helpers.take(list(self._out), _WAIT if starving else 0.0).items():
                found = self._take_in(name, data)
                if found is not None:
                    return found
        self._give(rate)
        return None

    def close(self) -> None:
        """Forgets what is out; nothing of it counts as proven."""
        if self._out:
            self._helpers.drop(list(self._out))
            self._out.clear()

    def _take_in(self, name: str, data: bytes | None) -> Counterexample | None:
        part = self._out.get(name)
        if part is None:
            return None  # an answer that nobody waits for
        found = None
        try:
            if data is None:
                self._frontier.put_back(part.held)
            else:
                answer = Parcel.unpack(data)
                answer.require(kind="answer", problem=self._name, piece=name, cells=part.cells)
                found = self._frontier.merge(part.held, answer)
        except (ParcelError, CertificateError) as error:
            logger.warning("an answer about %d cells is not used: %s", part.cells, error)
            self._frontier.put_back(part.held)
        del self._out[name]
        return found

    def _give(self, rate: float) -> None:
        wanted = self._helpers.wanted()
        if not wanted:
            return
        open_cells = self._frontier.open_cells()
        # Splitting its cells once has to take a helper longer than their way, and the search not run dry meanwhile.
        least = max(1, min(self._helpers.least, int(policy.HELP_LEAST * rate)), int(self._helpers.delay * rate / 2))
        hands = min(wanted, open_cells // least - 1)
        if hands < 1:
            return
        if self._problem is None:
            self._problem = self._frontier.problem().pack()
            self._name = digest(self._problem)
        # More cells than a helper can split in its time would only travel.
        most = int(policy.HELP_SHARE * self._helpers.seconds * rate)
        each = max(least, min(most, open_cells // (hands + 1)))
        for part in self._frontier.deal(hands, each):
            self._number += 1
            header = {"kind": "piece", "problem": self._name, "number": self._number, "cells": part.cells}
            data = Parcel(header, part.arrays).pack()
            if self._helpers.give(self._problem, data):
                self._out[digest(data)] = part
            else:
                self._frontier.put_back(part.held)


def replayed(answer: Parcel, attack: Attack | None) -> Counterexample | None:
    """The answer's counterexample, where the point is one here, too.

    An answer with a point says nothing of the cells.

    Raises:
        ParcelError: it is none here, so its cells have to be searched again.
    """
    if "point" not in answer.arrays:
        return None
    found = None
    if attack is not None:
        point = answer.array("point", np.float32, (attack.region.inputs,))
        found = attack.replayer.counterexample(attack.region, attack.prop, point)
    if found is None:
        msg = "the counterexample of a helper does not replay here"
        raise ParcelError(msg)
    return found
