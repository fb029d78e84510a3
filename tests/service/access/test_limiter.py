"""Rate limits: buckets that all processes share, and what holds while Redis is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from service.access import Quota, Scope
from service.access.limiter import Limiter
from service.connections import connect
from service.embedded import EmbeddedServer
from service.settings import Settings
from tests.service.access.world import World
from tests.service.serving import problem

T = TypeVar("T")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a queue server."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("limits"))
    with EmbeddedServer(settings):
        yield settings.queue_url


def _with(url: str, use: Callable[[Limiter], Awaitable[T]], clock: Callable[[], float] | None = None) -> T:
    async def run() -> T:
        limiter = Limiter(url) if clock is None else Limiter(url, clock=clock)
        try:
            return await use(limiter)
        finally:
            await limiter.close()

    return asyncio.run(run())


async def _burst(limiter: Limiter, bucket: str) -> list[float]:
    return [await limiter.take(bucket, rate=0.5, burst=3) for _ in range(5)]


def test_a_bucket_gives_a_burst_and_then_says_how_long_to_wait(server: str) -> None:
    waits = _with(server, lambda limiter: _burst(limiter, "a"))
    assert waits[:3] == [0, 0, 0]
    assert all(1.5 < wait <= 2 for wait in waits[3:]), "what is refused takes nothing"
    again = _with(server, lambda limiter: limiter.take("a", rate=0.5, burst=3))
    assert 1 < again <= 2, "another process sees the same bucket"
    assert _with(server, lambda limiter: limiter.take("b", rate=0.5, burst=3)) == 0


def test_a_bucket_fills_up_again(server: str) -> None:
    async def use(limiter: Limiter) -> list[float]:
        waits = [await limiter.take("c", rate=50, burst=1) for _ in range(2)]
        await asyncio.sleep(waits[-1] + 0.005)
        return [*waits, await limiter.take("c", rate=50, burst=1)]

    first, second, third = _with(server, use)
    assert (first, third) == (0, 0)
    assert 0 < second <= 0.02


def test_buckets_are_forgotten_once_they_are_full_again(server: str) -> None:
    _with(server, lambda limiter: limiter.take("d", rate=10, burst=20))
    with connect(server) as redis:
        assert 0 < redis.pttl("netproof:rate:d") <= 3000


def test_without_redis_each_process_keeps_the_same_rates(tmp_path: Path) -> None:
    clock = Clock()
    nowhere = f"unix://{tmp_path / 'nowhere.sock'}"

    async def use(limiter: Limiter) -> list[float]:
        waits = await _burst(limiter, "a")
        clock.now += 2
        return [*waits, *(await _burst(limiter, "a"))[:2]]

    assert _with(nowhere, use, clock) == [0, 0, 0, 2, 2, 0, 2]


def test_a_key_that_asks_too_often_is_told_when_to_ask_again(world: World) -> None:
    key = world.service.ledger.keys.create("ann", Scope.READ, quota=Quota(rate=0.1, burst=3)).text
    answers = [world.ask("GET", "/v1/version", key=key) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert problem(answers[-1], 429)["type"].endswith("rate-limited")
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 10
    assert world.ask("GET", "/v1/version", key=world.key("ann", "read")).status_code == 200, "each key has its own"
    assert world.ask("GET", "/healthz", key=key).status_code == 200, "what is public is not limited"


def test_whoever_shows_wrong_keys_is_slowed_down_and_others_are_not(world: World) -> None:
    world.forgive()
    wrong = f"np_{'0' * 12}_{'A' * 43}"
    answers = [world.ask("GET", "/v1/version", key=wrong).status_code for _ in range(25)]
    assert answers == [401] * 20 + [429] * 5
    login = world.ask("POST", "/v1/session", json={"key": wrong})
    assert problem(login, 429)["type"].endswith("rate-limited")
    assert login.headers["Retry-After"]
    assert world.ask("GET", "/v1/version").status_code == 401, "who shows nothing has guessed nothing"
    fresh = world.service.ledger.keys.create("ann", Scope.READ).text
    assert world.ask("GET", "/v1/version", key=fresh).status_code == 200, "a valid key opens, whoever else is there"
    world.forgive()
