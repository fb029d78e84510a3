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
from networks import Clause, Network, Region
from networks.exact import exact
from solver import policy
from solver.certify import Record
from solver.deep_split import DeepSearch
from solver.parcel import Parcel, ParcelError
from solver.travelling import root, root_arrays
from tests.random_networks import random_dense
from tests.solver.oracle import DIFFERENCE, minimum_margin, raised
from tests.solver.sharing import Inline, deep_split

PAIRS = (DIFFERENCE, ((0, exact(1)), (2, exact(-1))))


@pytest.fixture(autouse=True)
def small_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "DEEP_BATCH", 1)
    monkeypatch.setattr(policy, "DEEP_TURN", 2)
    monkeypatch.setattr(policy, "HELP_SHARE", 1e9)


def instance(seed: int) -> tuple[Network, Region]:
    return random_dense(seed, (3, 6, 6, 3)), Region.linf_ball(np.random.default_rng(seed).normal(size=3), 0.3)


def clauses_of(network: Network, region: Region) -> list[Clause]:
    """Two clauses that hold, the first clearly; bounding anew is not complete, and leaves some of them open."""
    pairs = zip(PAIRS, (0.3, 0.02), strict=True)
    return [
        raised(shift - minimum_margin(network, region, raised(0, pair, outputs=3)), pair, outputs=3)
        for pair, shift in pairs
    ]


def search(
    network: Network, region: Region, clauses: list[Clause], helpers: Inline | None, record: Record | None = None
) -> DeepSearch:
    turns = iter(range(200))
    found = deep_split(network, region, clauses, record=record, helpers=helpers)
    return found.run(lambda: None if next(turns, None) is not None else pytest.fail("it does not end"), lambda *_: None)


@pytest.mark.parametrize("recorded", [False, True])
def test_the_same_trees_are_searched_with_helpers_and_each_clause_keeps_its_verdict(recorded: bool) -> None:
    given = nodes = below = 0
    verdicts = set()
    for seed in (0, 2, 4, 5):
        network, region = instance(seed)
        clauses = clauses_of(network, region)
        alone = search(network, region, clauses, None, Record([0, 1]) if recorded else None)
        helpers = Inline(network, np.random.default_rng(seed))
        together = search(network, region, clauses, helpers, Record([0, 1]) if recorded else None)
        assert (together.nodes, together.proven, together.reason) == (alone.nodes, alone.proven, alone.reason)
        assert together.lower == alone.lower
        given, nodes = given + helpers.given, nodes + helpers.nodes
        verdicts |= set(together.proven)
        answers = [Parcel.unpack(answer).arrays for answer in helpers.answers]
        below += sum(len(arrays["trees"]) > 1 for arrays in answers)
    assert given > 8
    assert nodes > given / 4
    assert verdicts == {False, True}
    assert recorded or below  # roots that helpers grew came home


def test_a_root_is_the_same_on_the_other_side() -> None:
    network, region = instance(0)
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


def proven_where_cells_are_open(data: bytes) -> bytes:
    said = Parcel.unpack(data)
    return dataclasses.replace(said, arrays={**said.arrays, "open": np.zeros_like(said.arrays["open"])}).pack()


@pytest.mark.parametrize(
    "spoil", [with_fewer_slopes, split_where_no_column_is, with_a_negative_bound, proven_where_cells_are_open]
)
def test_answers_about_roots_that_do_not_fit_are_searched_at_home(
    spoil: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    network, region = instance(0)
    clauses = clauses_of(network, region)
    alone = search(network, region, clauses, None)
    refused = 0
    for seed in range(3):
        found = search(network, region, clauses, Inline(network, np.random.default_rng(seed), spoil))
        assert found.proven == alone.proven
        assert found.lower == alone.lower
        refused += len(caplog.records)
    assert refused


def test_a_piece_is_not_read_as_one_of_another_region() -> None:
    network, region = instance(0)

    class Kept(Inline):
        kept: tuple[bytes, bytes] = b"", b""

        def give(self, problem: bytes, piece: bytes) -> bool:
            self.kept = problem, piece
            return super().give(problem, piece)

    helpers = Kept(network, np.random.default_rng(1))
    search(network, region, clauses_of(network, region), helpers)
    problem, _ = (Parcel.unpack(data) for data in helpers.kept)
    with pytest.raises(ParcelError, match="slopes"):
        root(
            network,
            region,
            dataclasses.replace(problem, arrays={**problem.arrays, "slopes": np.zeros((2, 1, 1), np.uint8)}),
        )
