"""Searches that bound all neurons anew, shared: what their cells travel with, and that the trees stay the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from bounds.columns import Columns
from bounds.linear import enclose
from bounds.optimised import SlopeSearch, optimised_bounds
from bounds.program import program
from bounds.recomputed import Recomputed
from networks import Clause, Network, Region, Row
from networks.evaluation import evaluate
from networks.exact import exact
from solver import policy
from solver.certify import Record
from solver.deep_split import DeepSearch
from solver.parcel import Parcel, ParcelError
from solver.travelling import root, root_arrays
from tests.random_networks import random_dense
from tests.solver.sharing import Inline, deep_split

PAIRS = (((0, exact(1)), (1, exact(-1))), ((0, exact(1)), (2, exact(-1))))


@pytest.fixture(autouse=True)
def small_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "DEEP_BATCH", 1)
    monkeypatch.setattr(policy, "DEEP_TURN", 2)
    monkeypatch.setattr(policy, "HELP_SHARE", 1e9)


def instance(seed: int, radius: float) -> tuple[Network, Region]:
    return random_dense(seed, (4, 9, 8, 6, 3)), Region.linf_ball(np.random.default_rng(seed).normal(size=4), radius)


def clauses_of(network: Network, region: Region, shifts: tuple[float, float]) -> list[Clause]:
    """Two clauses, with margins that are so far above (or below) zero at the worst of many points."""
    points = np.random.default_rng(0).uniform(region.lower, region.upper, (20000, network.inputs))
    output = evaluate(network, points)
    least = [float((output[:, 0] - output[:, other]).min()) for other in (1, 2)]
    return [
        Clause((Row(row, exact(round(shift - low, 9))),), 3)
        for row, shift, low in zip(PAIRS, shifts, least, strict=True)
    ]


def search(
    network: Network, region: Region, clauses: list[Clause], helpers: Inline | None, record: Record | None = None
) -> DeepSearch:
    turns = iter(range(3000))
    found = deep_split(network, region, clauses, record=record, helpers=helpers)
    return found.run(lambda: None if next(turns, None) is not None else pytest.fail("it does not end"), lambda *_: None)


@pytest.mark.parametrize("recorded", [False, True])
def test_the_same_trees_are_searched_with_helpers(recorded: bool) -> None:
    given = nodes = below = 0
    for seed in range(4):
        network, region = instance(seed, 0.35)
        clauses = clauses_of(network, region, (0.05, 0.02))
        record = Record([0, 1]) if recorded else None
        alone = search(network, region, clauses, None, record)
        helpers = Inline(network, np.random.default_rng(seed))
        together = search(network, region, clauses, helpers, Record([0, 1]) if recorded else None)
        assert (together.nodes, together.proven, together.reason) == (alone.nodes, alone.proven, alone.reason)
        assert together.lower == alone.lower
        given, nodes = given + helpers.given, nodes + helpers.nodes
        answers = [Parcel.unpack(answer).arrays for answer in helpers.answers]
        below += sum(len(arrays["trees"]) > 1 for arrays in answers)
    assert given > 8
    assert nodes > given / 4
    assert recorded or below  # roots that helpers grew came home


def test_clauses_keep_verdicts_of_their_own_with_helpers() -> None:
    given = 0
    for seed in range(4):
        network, region = instance(seed, 0.3)
        clauses = clauses_of(network, region, (0.05, -0.05))
        helpers = Inline(network, np.random.default_rng(seed))
        found = search(network, region, clauses, helpers)
        assert found.proven[0]
        assert not found.proven[1]
        assert found.lower[0] > 0
        assert found.lower[1] <= -0.05 + 1e-6
        given += helpers.given
    assert given


def test_a_root_is_the_same_on_the_other_side() -> None:
    network, region = instance(1, 0.5)
    compiled = program(network)
    steps = SlopeSearch(program(network, dtype=torch.float32), 5)
    bounds = enclose(compiled, torch.as_tensor(region.lower)[None], torch.as_tensor(region.upper)[None])
    here = Recomputed(compiled, *optimised_bounds(compiled, bounds, steps))
    there = root(network, region, Parcel.unpack(Parcel({}, root_arrays(here)).pack()))

    def children(cells: Recomputed) -> Columns:
        low, high, phases = (each.repeat(2, 1) for each in (cells.root.low, cells.root.high, cells.root.phases))
        phases[0, 0], phases[1, 0], low[0, 0], high[1, 0] = 1, -1, 0, 0
        found = Columns(cells.layout, low, high, phases)
        cells.bound_neurons(found)
        return found

    one, other = children(here), children(there)
    assert torch.equal(one.low, other.low)
    assert torch.equal(one.high, other.high)
    cell = Columns(here.layout, one.low[:1], one.high[:1], one.phases[:1])
    below = here.anew(cell, steps)
    assert below is not None
    again = root(network, region, Parcel({}, root_arrays(below)), around=there)
    one, other = children(below), children(again)
    assert torch.equal(one.low, other.low)
    assert torch.equal(one.high, other.high)


def with_fewer_slopes(data: bytes) -> bytes:
    said = Parcel.unpack(data)
    arrays = {k: v[:, 1:, 1:] if k.endswith("slopes") else v for k, v in said.arrays.items()}
    return dataclasses.replace(said, arrays=arrays).pack()


def split_where_no_column_is(data: bytes) -> bytes:
    said = Parcel.unpack(data)
    return dataclasses.replace(said, arrays={**said.arrays, "column": said.arrays["column"] + 1000}).pack()


def with_a_negative_bound(data: bytes) -> bytes:
    said = Parcel.unpack(data)
    known = said.arrays.get("known", np.zeros((2, 2))) - 1e9
    return dataclasses.replace(said, arrays={**said.arrays, "known": known}).pack()


def proven_everywhere(data: bytes) -> bytes:
    said = Parcel.unpack(data)
    return dataclasses.replace(said, arrays={**said.arrays, "open": np.zeros_like(said.arrays["open"])}).pack()


@pytest.mark.parametrize(
    "spoil", [with_fewer_slopes, split_where_no_column_is, with_a_negative_bound, proven_everywhere]
)
def test_answers_about_roots_that_do_not_fit_are_searched_at_home(
    spoil: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    network, region = instance(1, 0.35)
    clauses = clauses_of(network, region, (0.05, 0.02))
    alone = search(network, region, clauses, None)
    refused = 0
    for seed in range(3):
        found = search(network, region, clauses, Inline(network, np.random.default_rng(seed), spoil))
        assert found.proven == alone.proven
        assert found.lower == alone.lower
        refused += len(caplog.records)
    assert refused


def test_a_piece_is_not_read_as_one_of_another_region() -> None:
    network, region = instance(1, 0.35)

    class Kept(Inline):
        kept: tuple[bytes, bytes] = b"", b""

        def give(self, problem: bytes, piece: bytes) -> bool:
            self.kept = problem, piece
            return super().give(problem, piece)

    helpers = Kept(network, np.random.default_rng(1))
    search(network, region, clauses_of(network, region, (0.05, 0.02)), helpers)
    problem, _ = (Parcel.unpack(data) for data in helpers.kept)
    with pytest.raises(ParcelError, match="slopes"):
        root(
            network,
            region,
            dataclasses.replace(problem, arrays={**problem.arrays, "slopes": np.zeros((2, 1, 1), np.uint8)}),
        )
