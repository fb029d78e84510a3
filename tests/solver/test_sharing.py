"""Searches whose open cells travel to helpers and back: the same verdicts, and nothing proven that was not searched."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import certificates
from bounds import backward_bounds
from bounds.program import program
from networks import Clause, Network, Property, Query, Region
from solver import policy
from solver.attack import Attack
from solver.certify import Record, certificate
from solver.deep_split import DeepSplit
from solver.input_split import BoxSearch, SplitResult
from solver.parcel import Parcel, ParcelError
from solver.relu_split import ReluSplit, SplitRegion
from solver.replay import Replayer
from solver.split_region import CellSearch
from solver.subtree import Helper
from solver.verdict import Reason
from tests.random_networks import random_dense
from tests.solver.oracle import minimum_margin, raised
from tests.solver.sharing import Inline, deep_split


@dataclasses.dataclass(frozen=True)
class Instance:
    network: Network
    region: Region
    least: float

    @classmethod
    @functools.cache
    def of(cls, seed: int) -> Instance:
        network = random_dense(seed, (3, 5, 4, 2))
        region = Region.linf_ball(np.random.default_rng(seed).normal(size=3), 0.6)
        return cls(network, region, minimum_margin(network, region, raised(0)))

    def clause(self, shift: float) -> Clause:
        """A clause whose exact margin is about ``shift``."""
        return raised(shift - self.least)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny networks have small trees, so cells are split one at a time, without the LP."""
    monkeypatch.setattr(policy, "BAB_BATCH", 1)
    monkeypatch.setattr(policy, "BAB_CLIPS", 0)
    monkeypatch.setattr(policy, "BOX_BATCH", 4)
    monkeypatch.setattr(policy, "DEEP_BATCH", 1)
    monkeypatch.setattr(policy, "DEEP_TURN", 2)
    monkeypatch.setattr(policy, "HELP_SHARE", 1e9)


def relus(
    instance: Instance, clause: Clause, helpers: Inline | None, record: Record | None = None, *, attack: bool = True
) -> CellSearch:
    network, region = instance.network, instance.region
    attacker = Attack(program(network), Replayer(network), region, Property((clause,)), lambda: False)
    over = SplitRegion(network, region, backward_bounds(network, region))
    search = ReluSplit(over, clause, attacker if attack else None, steps=0, record=record, helpers=helpers)
    return search.run(lambda: None, lambda *_: None)


def boxes(
    instance: Instance, clause: Clause, helpers: Inline | None, record: Record | None = None, *, attack: bool = True
) -> SplitResult:
    network, region = instance.network, instance.region
    compiled = program(network)
    attacker = Attack(compiled, Replayer(network), region, Property((clause,)), lambda: False) if attack else None
    search = BoxSearch(compiled, region, [clause], attacker, record=record, helpers=helpers, network=network)
    return search.run(lambda: None, lambda *_: None)


def deep(
    instance: Instance, clause: Clause, helpers: Inline | None, record: Record | None = None, *, attack: bool = True
) -> CellSearch:
    network, region = instance.network, instance.region
    attacker = Attack(program(network), Replayer(network), region, Property((clause,)), lambda: False)
    search = deep_split(network, region, [clause], attacker if attack else None, record, helpers)
    found = search.run(lambda: None, lambda *_: None)
    return CellSearch(found.lower[0], found.upper, found.counterexample, found.reason, found.nodes)


SEARCHES: dict[str, Callable[..., CellSearch | SplitResult]] = {"relus": relus, "boxes": boxes, "deep": deep}

#: Bounding anew is not complete: these are networks where it decides either side of the minimum.
SEEDS = {"relus": (0, 1, 2, 3, 4), "boxes": (0, 1, 2, 3, 4), "deep": (38, 49, 51, 53, 45)}


@pytest.mark.parametrize("kind", SEARCHES)
def test_parts_that_are_solved_apart_join_to_what_brute_force_says(kind: str) -> None:
    given = nodes = 0
    for seed in SEEDS[kind]:
        instance = Instance.of(seed)
        for shift in (0.3, 1e-3, -1e-3):
            helpers = Inline(instance.network, np.random.default_rng(seed))
            found = SEARCHES[kind](instance, instance.clause(shift), helpers)
            given, nodes = given + helpers.given, nodes + helpers.nodes
            assert (found.counterexample is None) == (shift > 0), (seed, shift)
            assert found.reason is None
            if shift > 0:
                assert 0 <= found.lower <= shift + 1e-6
            else:
                assert found.counterexample is not None
                assert instance.region.contains(found.counterexample.input)
    assert given > 8
    assert nodes > given / 4


@pytest.mark.parametrize("kind", SEARCHES)
def test_forests_that_helpers_grew_join_to_a_certificate_that_the_checker_accepts(kind: str) -> None:
    given = nodes = 0
    for seed in SEEDS[kind][:4]:
        instance = Instance.of(seed)
        clause, record = instance.clause(0.02), Record([0])
        helpers = Inline(instance.network, np.random.default_rng(seed))
        found = SEARCHES[kind](instance, clause, helpers, record)
        assert found.reason is None
        tree = record.tree(0)
        assert tree is not None
        query = Query.single(instance.region, Property((clause,)))
        report = certificates.check(certificate(instance.network, query, [tree]), instance.network)
        assert report.proven, report.reason
        given, nodes = given + helpers.given, nodes + helpers.nodes
    assert given > 8
    assert nodes > given / 4


def foreign(data: bytes) -> bytes:
    answer = Parcel.unpack(data)
    return dataclasses.replace(answer, header={**answer.header, "piece": "0" * 64}).pack()


def of_another_search(data: bytes) -> bytes:
    answer = Parcel.unpack(data)
    return dataclasses.replace(answer, header={**answer.header, "problem": "0" * 64}).pack()


def about_fewer_cells(data: bytes) -> bytes:
    answer = Parcel.unpack(data)
    return dataclasses.replace(answer, header={**answer.header, "cells": answer.header["cells"] - 1}).pack()


def without_its_bounds(data: bytes) -> bytes:
    answer = Parcel.unpack(data)
    return dataclasses.replace(answer, arrays={k: v for k, v in answer.arrays.items() if k != "known"}).pack()


def without_its_count(data: bytes) -> bytes:
    answer = Parcel.unpack(data)
    return dataclasses.replace(answer, header={k: v for k, v in answer.header.items() if k != "nodes"}).pack()


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def lost(_: bytes) -> None:
    return None


def with_a_false_counterexample(data: bytes) -> bytes:
    answer = Parcel.unpack(data)
    return Parcel(answer.header, {"point": np.zeros(3, np.float32)}).pack()


SPOILT = [foreign, of_another_search, about_fewer_cells, without_its_bounds, without_its_count, cut_short, lost]


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize("spoil", [*SPOILT, with_a_false_counterexample])
def test_answers_that_do_not_fit_prove_nothing(kind: str, spoil: Callable[[bytes], bytes | None]) -> None:
    """Their cells are searched at home, so verdicts stay right."""
    given = 0
    for seed, shift in itertools.product(SEEDS[kind][1:3], (0.01, -0.01)):
        instance = Instance.of(seed)
        helpers = Inline(instance.network, np.random.default_rng(seed), spoil)
        found = SEARCHES[kind](instance, instance.clause(shift), helpers)
        assert (found.counterexample is None) == (shift > 0)
        assert found.reason is None
        given += helpers.given
    assert given > 1


@pytest.mark.parametrize("kind", SEARCHES)
def test_what_never_comes_back_is_not_proven(kind: str) -> None:
    """Without an attack only cells decide; with a piece out for good the search cannot end as proven."""

    class Silent(Inline):
        def take(self, pieces: object, seconds: float) -> dict[str, bytes | None]:
            return {}

    instance = Instance.of(SEEDS[kind][3])
    helpers = Silent(instance.network, np.random.default_rng(3))
    clause = instance.clause(0.01)
    network, region = instance.network, instance.region
    turns: Iterator[int] = iter(range(200))

    def stop() -> Reason | None:
        return Reason.TIMEOUT if next(turns, None) is None else None

    search: ReluSplit | BoxSearch | DeepSplit
    if kind == "relus":
        over = SplitRegion(network, region, backward_bounds(network, region))
        search = ReluSplit(over, clause, None, steps=0, helpers=helpers)
    elif kind == "deep":
        search = deep_split(network, region, [clause], helpers=helpers)
    else:
        search = BoxSearch(program(network), region, [clause], None, helpers=helpers, network=network)
    found = search.run(stop, lambda *_: None)
    assert helpers.given
    assert found.reason is Reason.TIMEOUT
    assert np.min(found.lower) <= 0
    assert not getattr(found, "proven", [False])[0]
    search.close()
    assert not helpers.busy()


@pytest.mark.parametrize("kind", SEARCHES)
def test_an_answer_counts_once(kind: str) -> None:
    """A second copy of an answer that was taken in is nobody's."""

    class Twice(Inline):
        def take(self, pieces: object, seconds: float) -> dict[str, bytes | None]:
            answers = super().take(pieces, seconds)  # type: ignore[arg-type]
            stale = {name: data for data in self.answers if (name := str(Parcel.unpack(data).header["piece"]))}
            return {**{name: data for name, data in stale.items() if name not in set(pieces)}, **answers}  # type: ignore[call-overload]

    for seed in SEEDS[kind][1:3]:
        instance = Instance.of(seed)
        for shift in (0.01, -0.01):
            helpers = Twice(instance.network, np.random.default_rng(seed))
            found = SEARCHES[kind](instance, instance.clause(shift), helpers)
            assert (found.counterexample is None) == (shift > 0)


def test_a_tie_is_not_proven_with_helpers_either() -> None:
    instance = Instance.of(3)
    helpers = Inline(instance.network, np.random.default_rng(0))
    found = relus(instance, instance.clause(0.0), helpers, attack=False)
    assert found.lower <= 1e-9
    assert found.reason is Reason.NUMERICS or found.lower > 0


def test_a_helper_refuses_what_is_about_another_network() -> None:
    instance, other = Instance.of(1), random_dense(9, (3, 5, 4, 2))

    class Kept(Inline):
        kept: tuple[bytes, bytes] = b"", b""

        def give(self, problem: bytes, piece: bytes) -> bool:
            self.kept = problem, piece
            return super().give(problem, piece)

    helpers = Kept(instance.network, np.random.default_rng(1))
    relus(instance, instance.clause(0.01), helpers)
    problem, piece = helpers.kept
    with pytest.raises(ParcelError, match="network"):
        Helper(other).search(problem, piece, stop=lambda: None)
    with pytest.raises(ParcelError, match="problem"):
        Helper(instance.network).search(
            problem,
            dataclasses.replace(p := Parcel.unpack(piece), header={**p.header, "problem": "x"}).pack(),
            stop=lambda: None,
        )
