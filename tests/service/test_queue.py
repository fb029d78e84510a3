"""Queues by back end and urgency, and events that a watcher may resume."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis

from service.embedded import EmbeddedServer
from service.events import AsyncEvents, Events
from service.ledger import Ledger
from service.queue import ALL_QUEUES, QUEUES, Dispatcher, Priority, queue_name, unlimited
from service.settings import Settings
from solver.options import Backend
from tests.service.records import submit


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("queue"))
    with EmbeddedServer(settings):
        yield settings.queue_url


@pytest.fixture
def dispatcher(url: str) -> Iterator[Dispatcher]:
    made = Dispatcher(url)
    made.redis.flushall()
    yield made
    made.close()


@pytest.fixture
def events(url: str) -> Iterator[Events]:
    made = Events(url)
    yield made
    made.close()


def test_every_back_end_has_a_queue_for_each_urgency_and_urgent_ones_come_first() -> None:
    assert QUEUES == ("highs-high", "gurobi-high", "highs", "gurobi", "highs-low", "gurobi-low")
    assert {queue_name(backend, priority) for backend in Backend for priority in Priority} == set(QUEUES)
    assert queue_name("auto", "high") == "highs-high"
    assert [unlimited(queue) for queue in QUEUES[:4]] == [None, "gurobi-full-high", None, "gurobi-full"]
    assert [unlimited(queue) for queue in ALL_QUEUES if "full" in queue] == [None] * 3


def test_job_waits_in_its_queue_and_nowhere_else(ledger: Ledger, dispatcher: Dispatcher) -> None:
    job, other = submit(ledger, queue="gurobi"), submit(ledger)
    dispatcher.enqueue(job)
    assert dispatcher.missing([job, other]) == [other]
    assert dispatcher.depths() == dict.fromkeys(ALL_QUEUES, 0) | {"gurobi": 1}
    assert dispatcher.workers() == []


def test_events_come_in_order_and_can_be_resumed(events: Events) -> None:
    for number in range(3):
        events.publish("ordered", "progress", {"number": number})
    first, *rest = events.read("ordered")
    assert (first.kind, first.data) == ("progress", {"number": 0})
    assert events.read("ordered", rest[0].id) == rest[1:]
    assert events.read("silent") == []


def test_stream_is_capped_and_expires(events: Events, dispatcher: Dispatcher) -> None:
    for number in range(600):
        events.publish("long", "progress", {"number": number})
    kept = events.read("long")
    assert len(kept) < 400
    assert kept[-1].data == {"number": 599}
    assert 0 < dispatcher.redis.ttl("netproof:events:long") <= 24 * 3600


def test_reader_in_an_event_loop_waits_for_what_comes(url: str, events: Events) -> None:
    async def watch() -> list[str]:
        reader = AsyncEvents(url)
        try:
            assert await reader.read("later", block_ms=10) == []
            waiting = asyncio.create_task(reader.read("later", block_ms=5000))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(events.publish, "later", "state", {"state": "running"})
            return [event.data["state"] for event in await waiting]
        finally:
            await reader.close()

    assert asyncio.run(watch()) == ["running"]


def test_events_are_dropped_and_entries_refused_without_a_server(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    absent = "unix:///nonexistent/valkey.sock"
    events, dispatcher = Events(absent), Dispatcher(absent)
    events.publish("job", "state", {"state": "running"})
    assert "event state of job job is lost" in caplog.text
    with pytest.raises(redis.ConnectionError):
        dispatcher.enqueue(submit(ledger))
    events.close()
    dispatcher.close()
