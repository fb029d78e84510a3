"""The registry of workers: who is there, and who has fallen silent."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import pytest

from service.embedded import EmbeddedServer
from service.queue import Dispatcher
from service.settings import Settings
from service.solvers import recorded
from service.worker import _licensed
from service.workers import BEAT_SECONDS, BackendRecord, Licence, WorkerRecord, announce, live_workers, withdraw
from solver.backends import Availability, SizeLimit
from solver.errors import BackendUnavailableError
from tests.service.records import worker

LIMITED = BackendRecord("13.0", Licence.LIMITED, "a licence", variables=2000, constraints=2000, quadratic=199)
HIGHS = BackendRecord("1.10", Licence.FULL, "MIT licence")
NONE = BackendRecord("", Licence.NONE, "gurobipy is not installed")


@pytest.fixture(scope="module")
def dispatcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dispatcher]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("workers"))
    with EmbeddedServer(settings):
        made = Dispatcher(settings.queue_url)
        yield made
        made.close()


def test_workers_are_read_as_they_were_announced(dispatcher: Dispatcher) -> None:
    one, two = worker("a", LIMITED, job="01J", draining=True), worker("b")
    for each in (two, one):
        announce(dispatcher.redis, each)
    assert live_workers(dispatcher.redis) == [one, two]
    withdraw(dispatcher.redis, "a")
    assert live_workers(dispatcher.redis) == [two]
    withdraw(dispatcher.redis, "b")
    assert live_workers(dispatcher.redis) == []


def test_a_silent_worker_vanishes_and_comes_back_with_its_next_heartbeat(dispatcher: Dispatcher) -> None:
    record = worker("silent")
    announce(dispatcher.redis, record)
    assert 2 * BEAT_SECONDS < dispatcher.redis.ttl("netproof:worker:silent") <= 3 * BEAT_SECONDS
    dispatcher.redis.pexpire("netproof:worker:silent", 0)
    assert live_workers(dispatcher.redis) == []
    assert dispatcher.redis.scard("netproof:workers") == 0
    announce(dispatcher.redis, record)
    assert live_workers(dispatcher.redis) == [record]
    withdraw(dispatcher.redis, "silent")


def test_records_are_json() -> None:
    record = worker("w", LIMITED)
    assert WorkerRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_a_licence_counts_where_its_queues_are_served() -> None:
    both = worker("w", LIMITED)
    assert (both.licence("highs"), both.licence("gurobi")) == (Licence.FULL, Licence.LIMITED)
    apart = dataclasses.replace(both, queues=("highs-high", "highs"))
    assert (apart.licence("highs"), apart.licence("gurobi")) == (Licence.FULL, Licence.NONE)


def test_what_a_solver_says_of_itself_is_recorded() -> None:
    limit = SizeLimit(columns=2000, rows=2000, quadratic=199)
    assert recorded(Availability(ok=True, version="13.0", licence="a licence", limit=limit)) == LIMITED
    assert recorded(Availability(ok=True, version="13.0", licence="a full licence")).licence is Licence.FULL
    refused = recorded(Availability(ok=False, version="13.0", why="expired"))
    assert (refused.licence, refused.describe()) == (Licence.NONE, "none: expired")


def test_queues_without_a_licence_are_left_to_other_workers(caplog: pytest.LogCaptureFixture) -> None:
    assert _licensed(["gurobi", "highs-high", "highs"], {"highs": HIGHS, "gurobi": NONE}) == ["highs-high", "highs"]
    assert "queue gurobi is not served: gurobipy is not installed" in caplog.text
    with pytest.raises(BackendUnavailableError, match="gurobipy is not installed"):
        _licensed(["gurobi-low", "gurobi"], {"highs": HIGHS, "gurobi": NONE})
