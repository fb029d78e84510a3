"""Calls that come together are answered together, each with its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from service.gathering import Gathering
from service.recent import Recent


class Answering:
    """Doubles numbers; odd ones are refused, and nothing is answered while the gate is shut."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gate = threading.Event()

    def __call__(self, questions: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(questions))
        assert self.gate.wait(10)
        if 13 in questions:
            msg = "the ledger is away"
            raise OSError(msg)
        return [ValueError(str(q)) if q % 2 else 2 * q for q in questions]


@pytest.fixture
def answering() -> Answering:
    return Answering()


async def gathered(answering: Answering, first: int, *others: int, most: int = 100) -> list[int | BaseException]:
    """What ``first`` gets, which goes at once, and ``others``, which come meanwhile."""
    gathering: Gathering[int, int] = Gathering(answering, most=most)
    tasks = [asyncio.create_task(gathering.ask(first))]
    while not answering.groups:
        await asyncio.sleep(0.001)
    tasks += [asyncio.create_task(gathering.ask(other)) for other in others]
    await asyncio.sleep(0)
    answering.gate.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_a_lone_call_goes_at_once_and_the_rest_share_the_next(answering: Answering) -> None:
    assert asyncio.run(gathered(answering, 2, 4, 6, 4)) == [4, 8, 12, 8]
    assert answering.groups == [[2], [4, 6, 4]]


def test_groups_have_a_greatest_size(answering: Answering) -> None:
    assert asyncio.run(gathered(answering, 2, 4, 6, 8, most=2)) == [4, 8, 12, 16]
    assert answering.groups == [[2], [4, 6], [8]]


def test_one_refusal_is_nobody_elses(answering: Answering) -> None:
    first, second, third = asyncio.run(gathered(answering, 2, 3, 4))
    assert (first, third) == (4, 8)
    assert isinstance(second, ValueError)


def test_what_fails_for_all_is_raised_for_all_and_the_next_group_goes_on(answering: Answering) -> None:
    found = asyncio.run(gathered(answering, 2, 4, 13, 6, most=2))
    assert isinstance(found[1], OSError)
    assert isinstance(found[2], OSError)
    assert (found[0], found[3]) == (4, 12)


def test_a_caller_who_goes_away_disturbs_nobody(answering: Answering) -> None:
    async def run() -> int:
        gathering: Gathering[int, int] = Gathering(answering)
        gone = asyncio.create_task(gathering.ask(2))
        while not answering.groups:
            await asyncio.sleep(0.001)
        stays = asyncio.create_task(gathering.ask(4))
        gone.cancel()
        await asyncio.sleep(0)
        answering.gate.set()
        return await stays

    assert asyncio.run(run()) == 8


def test_what_is_old_or_too_much_is_forgotten() -> None:
    now = 0.0
    recent: Recent[str, int] = Recent(10.0, 5, clock=lambda: now)
    recent.put("a", 1, 2)
    recent.put("b", 2, 2)
    assert recent.get("a") == 1
    recent.put("c", 3, 2)  # b was used least recently
    assert [recent.get(key) for key in "abc"] == [1, None, 3]
    recent.put("c", 4, 3)
    recent.put("huge", 5, 6)
    assert (recent.get("huge"), recent.get("c"), len(recent)) == (None, 4, 2)
    recent.put("d", 6)
    now = 10.5
    assert (recent.get("d"), recent.get("c")) == (None, None)
    assert len(recent) == 0
    recent.put("d", 6)
    now = 30.0
    recent.put("f", 8)  # nobody asked for d again, and it is gone all the same
    assert len(recent) == 1
    recent.put("e", 7, 5)
    assert recent.get("e") == 7
