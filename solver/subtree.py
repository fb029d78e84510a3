"""The helper's side of a shared search: searches pieces of other processes' frontiers for a while.

*Soundness.* A piece is searched by the code that would have searched its cells at home, from the same pre-activation
bounds. The network is compared by its sha256; what bounds and cells say is as good as the process that wrote them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch

import certificates
from bounds.optimised import SlopeSearch
from bounds.program import program
from bounds.recomputed import Recomputed
from networks.graph import Network
from networks.property import Clause, Property
from solver.attack import Attack
from solver.certify import Record
from solver.deep_split import DeepSplit
from solver.input_split import BoxSearch
from solver.parcel import Parcel, ParcelError, digest
from solver.relu_split import ReluSplit, SplitRegion
from solver.replay import Replayer
from solver.travelling import enclosure, root
from solver.verdict import Counterexample, Reason

__all__ = ["Helper"]

#: Problems that are kept ready: clauses take turns, so their pieces alternate.
_KEPT = 3

Stop: TypeAlias = Callable[[], Reason | None]
Tell: TypeAlias = Callable[[float, float, int, int], None]


class Helper:
    """Searches pieces about one network; pieces of one problem share what is made ready for it."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._replayer = Replayer(network)
        self._problems: dict[str, _Problem] = {}

    def search(
        self,
        problem: bytes,
        piece: bytes,
        *,
        stop: Stop,
        progress: Tell = lambda *_: None,
        threads: int = 1,
    ) -> bytes:
        """The answer about a piece: what became of its cells when ``stop`` gave a reason, or all were closed.

        Args:
            problem, piece: documents, see `solver.helpers`.
            stop, progress: as for the search that the piece is from.
            threads: cores to bound boxes on.

        Raises:
            ParcelError, CertificateError: the documents do not belong together, or to this network.
        """
        name = digest(problem)
        about = self._problems.pop(name, None) or _Problem(self._network, self._replayer, problem)
        self._problems[name] = about
        if len(self._problems) > _KEPT:
            del self._problems[next(iter(self._problems))]
        part = Parcel.unpack(piece)
        part.require(kind="piece", problem=name)
        answer = about.search(part, stop, progress, threads)
        header = {**answer.header, "problem": name, "piece": digest(piece)}
        return replace(answer, header=header).pack()


class _Problem:
    """What is the same for all pieces of one search."""

    def __init__(self, network: Network, replayer: Replayer, data: bytes) -> None:
        self._network = network
        self._replayer = replayer
        self._parcel = Parcel.unpack(data)
        self._parcel.require(kind="problem", network=network.sha256)
        if "query" not in self._parcel.files:
            msg = "the problem does not say what it is about"
            raise ParcelError(msg)
        ((self._region, prop),) = certificates.read(self._parcel.files["query"]).query.cases
        self._clauses = prop.clauses
        self._over: SplitRegion | None = None
        self._root: Recomputed | None = None

    def search(self, piece: Parcel, stop: Stop, progress: Tell, threads: int) -> Parcel:
        clauses, given = self._clauses, len(piece.array("bound", np.float64, (None,)))
        piece.require(cells=given)
        prop = Property(clauses)
        attack = Attack(program(self._network), self._replayer, self._region, prop, lambda: stop() is not None)
        record = Record(range(len(clauses))) if self._parcel.header.get("record") else None
        search: ReluSplit | BoxSearch | DeepSplit
        match self._parcel.header.get("search"):
            case "boxes":
                number = piece.number("number")
                search = BoxSearch(
                    attack.program, self._region, clauses, attack, record=record, network=self._network, seed=number
                )
                search.adopt(piece)
                found = search.run(stop, progress, threads=threads).counterexample
            case "deep":
                search = self._deep(attack, record, stop)
                search.adopt(piece)
                found = search.run(stop, progress).counterexample
            case _:
                search = self._relus(clauses[0], attack, record)
                search.adopt(self._parcel, piece)
                found = search.run(stop, progress).counterexample
        return search.harvest(given) if found is None else _refuted(given, found)

    def _relus(self, clause: Clause, attack: Attack, record: Record | None) -> ReluSplit:
        if self._over is None:
            self._over = SplitRegion(self._network, self._region, enclosure(self._network, self._parcel))
        steps, memory = (self._parcel.number(name) for name in ("steps", "memory"))
        return ReluSplit(self._over, clause, attack, steps=steps, memory=memory, record=record)

    def _deep(self, attack: Attack, record: Record | None, stop: Stop) -> DeepSplit:
        if self._root is None:
            self._root = root(self._network, self._region, self._parcel)
        rough = program(self._network, dtype=torch.float32)
        # Roots that were begun are brought to their ends, unless the answer is waited for.
        rows, neurons = (
            SlopeSearch(rough, int(steps), stop=lambda: stop() is Reason.CANCELLED)
            for steps in self._parcel.header["steps"]
        )
        about = self._network, self._region
        return DeepSplit(self._root, self._clauses, attack, rows, neurons, record=record, about=about)


def _refuted(given: int, found: Counterexample) -> Parcel:
    """The answer that holds an input that violates the property, and nothing of the cells."""
    return Parcel({"kind": "answer", "cells": given}, {"point": found.input.reshape(-1)})
