"""Helpers for tests, in the process of the search: they answer late, in any order, or not as they should; and a search
for them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch

from bounds.linear import enclose
from bounds.optimised import SlopeSearch, optimised_bounds
from bounds.program import program
from bounds.recomputed import Recomputed
from networks import Clause, Network, Region
from solver.attack import Attack
from solver.certify import Record
from solver.deep_split import DeepSplit
from solver.parcel import Parcel, digest
from solver.subtree import Helper
from solver.verdict import Reason

__all__ = ["Inline", "deep_split"]


class Inline:
    """Searches pieces when their answers are wanted, each for a random number of turns.

    Args:
        network: what pieces are about.
        rng: chooses how many pieces are wanted, and how long each is searched.
        spoil: what becomes of an answer on its way back; None for a lost one.

    Attributes:
        given: pieces handed out.
        nodes: cells bounded here.
        answers: all of them.
    """

    least = 1
    seconds = 1.0
    delay = 0.0

    def __init__(
        self, network: Network, rng: np.random.Generator, spoil: Callable[[bytes], bytes | None] = lambda data: data
    ) -> None:
        self._helper = Helper(network)
        self._rng = rng
        self._spoil = spoil
        self._out: dict[str, tuple[bytes, bytes]] = {}
        self.given = self.nodes = 0
        self.answers: list[bytes] = []

    def wanted(self) -> int:
        return int(self._rng.integers(0, 4)) if len(self._out) < 6 else 0

    def busy(self) -> int:
        return len(self._out)

    def cores(self) -> int:
        return 0

    def give(self, problem: bytes, piece: bytes) -> bool:
        self._out[digest(piece)] = problem, piece
        self.given += 1
        return bool(self._rng.random() < 0.9) or self._out.pop(digest(piece)) is None

    def take(self, pieces: Collection[str], seconds: float) -> dict[str, bytes | None]:
        ready = [name for name in pieces if name in self._out and (seconds or self._rng.random() < 0.3)]
        return {name: self._spoil(self._search(*self._out.pop(name))) for name in ready}

    def recall(self, pieces: Collection[str], count: int) -> None:
        assert count >= 1
        assert set(pieces) <= set(self._out)

    def drop(self, pieces: Collection[str]) -> None:
        for name in pieces:
            del self._out[name]

    def _search(self, problem: bytes, piece: bytes) -> bytes:
        turns = int(self._rng.integers(1, 5))

        def stop() -> Reason | None:
            nonlocal turns
            turns -= 1
            return Reason.TIMEOUT if turns < 0 else None

        self.answers.append(self._helper.search(problem, piece, stop=stop))
        self.nodes += Parcel.unpack(self.answers[-1]).header.get("nodes", 0)
        return self.answers[-1]


def deep_split(
    network: Network,
    region: Region,
    clauses: Sequence[Clause],
    attack: Attack | None = None,
    record: Record | None = None,
    helpers: Inline | None = None,
) -> DeepSplit:
    """A search over a box, from optimised slopes, or as it is recorded from default ones."""
    compiled = program(network)
    bounds = enclose(compiled, torch.as_tensor(region.lower)[None], torch.as_tensor(region.upper)[None])
    steps = SlopeSearch(program(network, dtype=torch.float32), 5)
    root = Recomputed(compiled, *optimised_bounds(compiled, bounds, steps)) if record is None else None
    cells = root or Recomputed(compiled, bounds)
    about = network, region
    return DeepSplit(cells, clauses, attack, steps, steps, record=record, helpers=helpers, about=about)
