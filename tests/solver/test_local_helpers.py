"""Helpers in processes of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

from bounds import backward_bounds
from bounds.program import program
from networks import Network, Property, Region
from solver import policy
from solver.attack import Attack
from solver.local_helpers import LocalHelpers, shares
from solver.relu_split import ReluSplit, SplitRegion
from solver.replay import Replayer
from solver.split_region import CellSearch
from tests.random_networks import random_dense
from tests.solver.oracle import minimum_margin, raised
from tests.solver.sharing import deep_split

NETWORK = random_dense(1, (3, 5, 4, 2))
REGION = Region.linf_ball(np.random.default_rng(1).normal(size=3), 0.6)


@pytest.fixture(scope="module")
def helpers() -> Iterator[LocalHelpers]:
    with LocalHelpers(NETWORK, 1, after=0.0) as started:
        yield started


def ready(helpers: LocalHelpers) -> int:
    """The process that waits for a piece."""
    end = time.monotonic() + 60
    while not helpers.wanted():
        assert time.monotonic() < end
        time.sleep(0.02)
    return helpers.pids[0]


class Watched:
    """Helpers that note what comes back, and tell of it before it does."""

    def __init__(self, helpers: LocalHelpers, given: object = None) -> None:
        self._helpers = helpers
        self.least, self.seconds, self.delay = 1, 60.0, 0.0
        self.answers = self.lost = 0
        self._given = given

    def __getattr__(self, name: str) -> object:
        return getattr(self._helpers, name)

    def give(self, problem: bytes, piece: bytes) -> bool:
        done = self._helpers.give(problem, piece)
        if callable(self._given):
            self._given()
        return done

    def take(self, pieces: object, seconds: float) -> dict[str, bytes | None]:
        answers = self._helpers.take(pieces, seconds)  # type: ignore[arg-type]
        self.answers += sum(answer is not None for answer in answers.values())
        self.lost += sum(answer is None for answer in answers.values())
        return answers


def search(network: Network, region: Region, shift: float, helpers: Watched) -> CellSearch:
    least = minimum_margin(network, region, raised(0))
    clause = raised(shift - least)
    attack = Attack(program(network), Replayer(network), region, Property((clause,)), lambda: False)
    over = SplitRegion(network, region, backward_bounds(network, region))
    return ReluSplit(over, clause, attack, steps=0, helpers=helpers).run(lambda: None, lambda *_: None)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "BAB_BATCH", 1)
    monkeypatch.setattr(policy, "BAB_CLIPS", 0)
    monkeypatch.setattr(policy, "HELP_SHARE", 1e9)


@pytest.mark.parametrize("shift", [1e-3, -1e-3])
def test_a_process_answers(helpers: LocalHelpers, shift: float) -> None:
    ready(helpers)
    watched = Watched(helpers)
    found = search(NETWORK, REGION, shift, watched)
    assert (found.counterexample is None) == (shift > 0)
    assert found.reason is None
    assert watched.answers or shift < 0
    assert not watched.lost


def test_a_process_answers_where_all_neurons_are_bounded_anew(
    helpers: LocalHelpers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "DEEP_BATCH", 1)
    monkeypatch.setattr(policy, "DEEP_TURN", 2)
    ready(helpers)
    watched = Watched(helpers)
    clause = raised(0.02 - minimum_margin(NETWORK, REGION, raised(0)))
    found = deep_split(NETWORK, REGION, [clause], helpers=watched).run(lambda: None, lambda *_: None)  # type: ignore[arg-type]
    assert found.proven == [True]
    assert watched.answers
    assert not watched.lost


def test_cells_of_a_process_that_is_killed_come_home(helpers: LocalHelpers) -> None:
    victim = ready(helpers)
    watched = Watched(helpers, given=lambda: helpers.pids[0] == victim and os.kill(victim, signal.SIGSTOP))
    os_kill = watched.take

    def take(pieces: object, seconds: float) -> dict[str, bytes | None]:
        if helpers.pids[0] == victim:
            os.kill(victim, signal.SIGKILL)
        return os_kill(pieces, seconds)

    watched.take = take  # type: ignore[method-assign]
    found = search(NETWORK, REGION, 1e-3, watched)
    assert found.counterexample is None
    assert found.reason is None
    assert watched.lost == 1
    assert helpers.pids[0] != victim


@pytest.mark.parametrize(
    ("threads", "workers", "expected"),
    [
        (None, None, (12, policy.HELP_PROCESSES)),
        (1, None, (1, 1)),
        (3, None, (3, 3)),
        (None, 4, (3, 4)),
        (None, 30, (1, 30)),
        (2, 5, (2, 5)),
    ],
)
def test_what_is_not_said_is_made_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, threads: int | None, workers: int | None, expected: tuple[int, int]
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert shares(threads, workers) == expected
