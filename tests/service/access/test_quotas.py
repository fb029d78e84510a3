"""Quotas: how much of an owner's may be at work, how long it may take, and what is charged to whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.access import Quota, Scope
from service.access.usage import check_questions
from service.errors import QuotaError
from service.ledger import Ledger
from service.models import JobRecord
from service.states import JobState
from tests.random_networks import dense_model
from tests.service.access.world import World
from tests.service.records import add_network, submit
from tests.service.serving import ball, problem

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class _At(Ledger):
    """A ledger whose time the test sets."""

    def at(self, moment: datetime) -> None:
        self._now = lambda: moment
        self.usage._now = self._now


@pytest.fixture
def dated(ledger: Ledger) -> _At:
    ledger.__class__ = _At
    assert isinstance(ledger, _At)
    ledger.at(NOON)
    return ledger


def _check(ledger: _At, owner: str, quota: Quota, adding: int = 1) -> None:
    with ledger._engine.connect() as connection:
        check_questions(connection, owner, quota, adding, ledger._now())


def _run(ledger: _At, owner: str, begin: datetime, seconds: float, threads: int = 1) -> None:
    job = submit(ledger, owner=owner)
    ledger.at(begin)
    assert ledger.start(job.id, worker="w", lease_seconds=9, threads=threads)
    ledger.at(begin + timedelta(seconds=seconds))
    assert ledger.finish(job.id, 1, JobState.FAILED, error={"code": "crashed", "message": ""})


def test_attempts_are_charged_to_their_owner_by_day(dated: _At) -> None:
    _run(dated, "ann", NOON, 10)
    _run(dated, "ann", NOON, 5, threads=4)
    _run(dated, "bob", NOON, 1)
    assert (dated.usage.spent("ann"), dated.usage.spent("bob"), dated.usage.spent("cat")) == (30, 1, 0)
    lost = submit(dated, owner="bob")
    dated.at(NOON)
    assert dated.start(lost.id, worker="w", lease_seconds=9)
    dated.at(NOON + timedelta(seconds=7))
    assert dated.requeue(lost.id, 1, reason="lost", lost=True)
    assert dated.usage.spent("bob") == 8, "what a lost worker used was used, too"
    dated.at(NOON + timedelta(hours=12))
    assert dated.usage.spent("ann") == 0, "the next day begins at 0:00 UTC"


def test_a_day_is_used_up(dated: _At) -> None:
    quota = Quota(cpu_seconds=60)
    _run(dated, "ann", NOON - timedelta(seconds=59), 59)
    _check(dated, "ann", quota)
    _run(dated, "ann", NOON - timedelta(seconds=1), 1)
    with pytest.raises(QuotaError, match="60 CPU seconds") as refused:
        _check(dated, "ann", quota)
    assert refused.value.seconds == 12 * 3600 + 1
    _check(dated, "bob", quota)


def test_questions_at_work_are_counted_for_each_owner(dated: _At) -> None:
    quota = Quota(queued=2)
    first = submit(dated, owner="ann")
    _check(dated, "ann", quota)
    with pytest.raises(QuotaError, match="at work"):
        _check(dated, "ann", quota, 2)
    submit(dated, owner="ann")
    with pytest.raises(QuotaError):
        _check(dated, "ann", quota)
    _check(dated, "bob", quota)
    dated.request_cancel(first.id)
    _check(dated, "ann", quota)


def _start(ledger: Ledger, job: JobRecord) -> bool:
    return ledger.start(job.id, worker="w", lease_seconds=9) is not None


def test_a_job_waits_for_others_of_its_owner(ledger: Ledger) -> None:
    add_network(ledger)
    first, second, third = (submit(ledger, owner="ann", at_once=2) for _ in range(3))
    free, other = submit(ledger, owner="ann"), submit(ledger, owner="bob", at_once=1)
    assert _start(ledger, first)
    assert _start(ledger, second)
    assert not _start(ledger, third)
    assert ledger.job(third.id).state is JobState.QUEUED
    assert ledger.job(third.id).attempts == ()
    assert _start(ledger, other), "others wait for none of them"
    assert [job.id for job in ledger.waiting(-1)] == [free.id], "the reaper leaves what has to wait"
    assert _start(ledger, free), "what has no limit waits for nobody"
    assert ledger.finish(free.id, 1, JobState.FAILED)
    assert ledger.following(ledger.job(free.id)) is None
    assert not _start(ledger, third)
    assert ledger.finish(first.id, 1, JobState.FAILED)
    following = ledger.following(ledger.job(first.id))
    assert following is not None
    assert following.id == third.id
    assert [job.id for job in ledger.waiting(-1)] == [third.id]
    assert _start(ledger, third)


def _key(world: World, owner: str, **quota: Any) -> str:
    return world.service.ledger.keys.create(owner, Scope.SUBMIT, quota=Quota(**quota)).text


def _ask(world: World, key: str, **members: Any) -> httpx.Response:
    body = {"network": world.things["ann"].network, "query": ball(), "reuse": False} | members
    return world.ask("POST", "/v1/verify", key=key, json=body)


def test_questions_beyond_the_quota_are_refused_until_one_has_ended(world: World) -> None:
    used = world.service.ledger.usage.of("ann").queued
    key = _key(world, "ann", queued=used + 2)
    made = [_ask(world, key).json()["id"] for _ in range(2)]
    refused = _ask(world, key)
    document = problem(refused, 429)
    assert document["type"].endswith("quota-exceeded")
    assert refused.headers["Retry-After"] == "5"
    assert world.ask("POST", f"/v1/jobs/{made[0]}/cancel", key=key).status_code == 202
    assert _ask(world, key).status_code == 202
    assert _ask(world, _key(world, "ann")).status_code == 202, "the quota is the key's, the count the owner's"


def test_a_repeated_request_gets_its_job_whatever_the_quota_says(world: World) -> None:
    key = _key(world, "ann", queued=world.service.ledger.usage.of("ann").queued + 1)
    body = {"network": world.things["ann"].network, "query": ball(), "reuse": False}
    headers = {"Idempotency-Key": "again and again"}
    first, again = (world.ask("POST", "/v1/verify", key=key, json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202), again.text
    assert again.json()["id"] == first.json()["id"]


def test_batches_have_a_quota_and_take_no_more_than_is_left_of_the_day(world: World) -> None:
    ann = world.things["ann"]
    body = {"network": ann.network, "dataset": ann.dataset, "query": {"epsilon": 0.001}, "reuse": False}
    running = world.service.ledger.usage.of("ann").batches
    key = _key(world, "ann", batches=running + 1, cpu_seconds=1000, running=1)
    named = {"Idempotency-Key": "a batch"}
    made = world.ask("POST", "/v1/batches", key=key, json=body | {"total_limit": 5000}, headers=named)
    assert made.status_code == 202, made.text
    batch = world.service.ledger.batches.get(made.json()["id"])
    assert batch.total_limit is not None
    assert batch.total_limit <= 1000
    assert batch.at_once == 1
    assert {job.at_once for job in world.service.ledger.jobs(batch=batch.id)} == {1}
    again = world.ask("POST", "/v1/batches", key=key, json=body | {"total_limit": 5000}, headers=named)
    assert again.json()["id"] == batch.id, "a repeated request"
    refused = world.ask("POST", "/v1/batches", key=key, json=body)
    assert problem(refused, 429)["type"].endswith("quota-exceeded")
    assert world.ask("POST", f"/v1/batches/{batch.id}/cancel", key=key).status_code == 202
    again = world.ask("POST", f"/v1/batches/{batch.id}/resume", key=key, json={"total_limit": 9000})
    assert again.status_code == 202
    limit = world.service.ledger.batches.get(batch.id).total_limit
    assert limit is not None
    assert limit <= 1000
    assert world.ask("POST", f"/v1/batches/{batch.id}/cancel", key=key).status_code == 202


def test_a_time_limit_is_the_keys_if_that_is_shorter(world: World) -> None:
    key = _key(world, "ann", time_limit=20)
    refused = problem(_ask(world, key, time_limit=21), 422)
    assert refused["errors"][0]["pointer"] == "/time_limit"
    job = world.service.ledger.job(_ask(world, key).json()["id"])
    assert job.time_limit == 20, "the default fits, too"
    batch = world.things["ann"].batch
    refused = problem(world.ask("POST", f"/v1/batches/{batch}/retry", key=key, json={"time_limit": 21}), 422)
    assert refused["errors"][0]["pointer"] == "/time_limit"


def test_a_network_may_be_too_large_for_a_key(world: World) -> None:
    model = dense_model(5)
    key = _key(world, "cat", model_bytes=len(model) - 1)
    assert problem(world.ask("POST", "/v1/networks", key=key, content=model), 413)["type"].endswith("too-large")
    assert world.ask("POST", "/v1/networks", key=_key(world, "cat", model_bytes=len(model)), content=model).is_success


def test_settings_say_what_a_key_does_not(world: World) -> None:
    shown = world.ask("GET", "/v1/session", key=_key(world, "ann", rate=7.0)).json()
    assert shown["quota"]["rate"] == 7.0
    assert shown["quota"]["burst"] == 400, "NETPROOF_QUOTA_BURST"
    assert shown["used"]["queued"] == world.service.ledger.usage.of("ann").queued
