"""The reaper under clocks that are set: leases, cancellations and strays are judged by its own steady clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.ledger import Ledger
from service.models import JobRecord
from service.reaper import Reaper
from service.states import JobState
from service.watching import Watch
from tests.faults.deployment import Deployment
from tests.service.records import add_network, submit

JUMPS = [timedelta(hours=hours) for hours in (-24, -1, 1, 24)]


class Clocks:
    """The wall clock, which is set, and a steady one; both go on by `pass_seconds` alone."""

    def __init__(self) -> None:
        self.wall = datetime(2026, 3, 1, tzinfo=UTC)
        self.steady = 0.0

    def pass_seconds(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.steady += seconds


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    whole = Deployment(tmp_path_factory.mktemp("reaper"))
    yield whole
    whole.close()


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def ledger(deployment: Deployment, clocks: Clocks, tmp_path: Path) -> Iterator[Ledger]:
    timed = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", now=lambda: clocks.wall)
    timed.create()
    deployment.dispatcher.redis.flushall()
    yield timed
    timed.close()


@pytest.fixture
def reaper(deployment: Deployment, ledger: Ledger, clocks: Clocks) -> Reaper:
    return Reaper(deployment.settings, ledger, deployment.events, deployment.dispatcher, clock=lambda: clocks.steady)


def begun(ledger: Ledger) -> JobRecord:
    job = ledger.start(submit(ledger).id, worker="w", lease_seconds=4)
    assert job is not None
    return job


@pytest.mark.parametrize("jump", JUMPS)
def test_a_job_whose_lease_is_renewed_is_left_alone(
    ledger: Ledger, reaper: Reaper, clocks: Clocks, jump: timedelta
) -> None:
    job = begun(ledger)
    for second in range(20):
        if second == 10:
            clocks.wall += jump
        clocks.pass_seconds(1)
        assert ledger.renew(job.id, 1, lease_seconds=4) is JobState.RUNNING
        assert reaper.sweep() == 0
    assert len(ledger.job(job.id).attempts) == 1


@pytest.mark.parametrize("jump", JUMPS)
def test_a_lost_worker_is_noticed_in_time(ledger: Ledger, reaper: Reaper, clocks: Clocks, jump: timedelta) -> None:
    job = begun(ledger)
    reaper.sweep()
    clocks.wall += jump
    clocks.pass_seconds(3.5)
    assert reaper.sweep() == 0
    clocks.pass_seconds(1)
    assert reaper.sweep() == 1
    assert ledger.job(job.id).state is JobState.QUEUED


@pytest.mark.parametrize("jump", JUMPS)
def test_a_job_that_the_queue_lost_is_put_back(
    deployment: Deployment, ledger: Ledger, reaper: Reaper, clocks: Clocks, jump: timedelta
) -> None:
    job = submit(ledger)
    clocks.wall += jump
    assert reaper.sweep() == 1
    assert deployment.dispatcher.missing([job]) == []
    assert reaper.sweep() == 0


@pytest.mark.parametrize("jump", JUMPS)
def test_a_cancellation_that_nobody_hears_is_carried_out(
    deployment: Deployment, ledger: Ledger, reaper: Reaper, clocks: Clocks, jump: timedelta
) -> None:
    job = begun(ledger)
    ledger.request_cancel(job.id)
    reaper.sweep()
    clocks.wall += jump
    patience = 3 * deployment.settings.cancel_seconds + deployment.settings.lease_seconds
    while clocks.steady < patience - 1:
        clocks.pass_seconds(1)
        ledger.renew(job.id, 1, lease_seconds=4)  # frozen, but for its heartbeat
        assert reaper.sweep() == 0
    clocks.pass_seconds(2)
    assert reaper.sweep() == 1
    assert ledger.job(job.id).state is JobState.CANCELLED


def test_a_ledger_that_was_away_costs_nobody_a_lease(
    ledger: Ledger, reaper: Reaper, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    job = begun(ledger)
    reaper.sweep()

    def refuse(*_: object, **__: object) -> None:
        raise OperationalError("UPDATE", {}, Exception("database or disk is full"))

    with monkeypatch.context() as full:
        full.setattr(ledger, "requeue", refuse)
        clocks.pass_seconds(30)
        with pytest.raises(OperationalError):
            reaper.sweep()
    assert reaper.sweep() == 0, "the worker could not renew either"
    clocks.pass_seconds(5)
    assert reaper.sweep() == 1
    assert ledger.job(job.id).state is JobState.QUEUED


def test_the_lock_of_a_reaper_that_is_gone_does_not_last(
    deployment: Deployment, ledger: Ledger, reaper: Reaper, clocks: Clocks
) -> None:
    add_network(ledger)
    job = submit(ledger)
    clocks.pass_seconds(10)
    deployment.dispatcher.redis.set("netproof:reaper", "somebody else")  # as when its server's clock was set back
    assert reaper.sweep() == 0
    clocks.pass_seconds(60)
    assert reaper.sweep() == 0
    clocks.pass_seconds(61)
    assert reaper.sweep() == 0
    assert reaper.sweep() == 1
    assert deployment.dispatcher.missing([job]) == []


def test_a_watch_counts_from_the_last_change() -> None:
    clocks = Clocks()
    watch: Watch[str] = Watch(lambda: clocks.steady)
    assert watch.unchanged({"a": 1, "b": None}) == {"a": 0, "b": 0}
    clocks.pass_seconds(2)
    assert watch.unchanged({"a": 1, "b": 3}) == {"a": 2, "b": 0}
    clocks.pass_seconds(1)
    assert watch.unchanged({"b": 3}) == {"b": 1}
    assert watch.unchanged({"a": 1}) == {"a": 0}
    watch.forget()
    clocks.pass_seconds(1)
    assert watch.unchanged({"a": 1}) == {"a": 0}
