"""Keys in the ledger: what is kept of them, how long they open something, and what happens when they are replaced."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from service.access import Quota, Scope
from service.access.keys import Keys
from service.access.sessions import SESSION_HOURS, Sessions
from service.errors import NotFoundError, StateChangeError
from service.ledger import Ledger

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A time that tests move."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(ledger: Ledger, clock: Clock) -> Keys:
    return Keys(ledger.keys._engine, clock)


def test_a_key_is_found_by_its_text_alone(keys: Keys) -> None:
    made = keys.create("ann", Scope.SUBMIT, name="CI", quota=Quota(running=3))
    found = keys.find(made.text)
    assert found == made.record == keys.get(made.record.id)
    assert (found.owner, found.scope, found.quota, found.name) == ("ann", Scope.SUBMIT, Quota(running=3), "CI")
    for wrong in ("", "np_", made.text[:-1], made.text + "A", made.text.upper(), made.record.id, made.record.digest):
        assert keys.find(wrong) is None
    other = keys.create("ann", Scope.SUBMIT)
    assert keys.find(made.text[:16] + other.text[16:]) is None, "one key's name with another's secret"


def test_nothing_that_is_kept_opens_anything(keys: Keys) -> None:
    made = keys.create("ann", Scope.ADMIN)
    secret = made.text.split("_", 2)[2]
    assert len(secret) == 43, "256 bits in base 64"
    with keys._engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM keys")).all()
    assert secret not in repr(rows)
    assert made.record.digest == hashlib.sha256(secret.encode()).hexdigest()
    assert keys.find(f"np_{made.record.id}_{made.record.digest[:43]}") is None


def test_secrets_do_not_repeat(keys: Keys) -> None:
    made = [keys.create("ann", Scope.READ) for _ in range(50)]
    assert len({key.text.split("_", 2)[2] for key in made}) == len({key.record.id for key in made}) == 50


def test_a_key_is_valid_until_it_expires_or_is_revoked(keys: Keys, clock: Clock) -> None:
    lasting = keys.create("ann", Scope.READ).record
    short = keys.create("ann", Scope.READ, expires_at=START + timedelta(hours=1)).record
    assert lasting.valid(START + timedelta(days=9999))
    assert short.valid(START + timedelta(minutes=59))
    assert not short.valid(START + timedelta(hours=1))
    clock.now += timedelta(hours=2)
    revoked = keys.revoke(lasting.id)
    assert not revoked.valid(START), "whatever the clock says"
    clock.now += timedelta(hours=2)
    assert keys.revoke(lasting.id) == revoked, "the time of the first revocation stays"
    with pytest.raises(NotFoundError):
        keys.revoke("nothing")


def test_rotation_keeps_the_owner_and_lets_both_overlap(keys: Keys, clock: Clock) -> None:
    old = keys.create("ann", Scope.SUBMIT, name="CI", quota=Quota(rate=2.0), expires_at=START + timedelta(days=30))
    clock.now += timedelta(days=10)
    new = keys.rotate(old.record.id, overlap=timedelta(hours=6))
    assert new.text != old.text
    facts = ("owner", "scope", "name", "quota")
    assert [getattr(new.record, fact) for fact in facts] == [getattr(old.record, fact) for fact in facts]
    assert new.record.expires_at == clock.now + timedelta(days=30), "as long as the old one was made for"
    before = keys.get(old.record.id)
    assert before.successor == new.record.id
    assert before.valid(clock.now + timedelta(hours=5))
    assert not before.valid(clock.now + timedelta(hours=6))
    with pytest.raises(StateChangeError, match="rotated"):
        keys.rotate(old.record.id)
    assert [key.id for key in keys.all(owner="ann")] == [new.record.id, old.record.id]


def test_an_overlap_makes_no_key_last_longer(keys: Keys) -> None:
    old = keys.create("ann", Scope.READ, expires_at=START + timedelta(hours=1)).record
    keys.rotate(old.id, overlap=timedelta(days=7))
    assert keys.get(old.id).expires_at == START + timedelta(hours=1)


@pytest.mark.parametrize("end", ["expired", "revoked"])
def test_a_key_that_is_not_valid_cannot_be_rotated(keys: Keys, clock: Clock, end: str) -> None:
    key = keys.create("ann", Scope.ADMIN, expires_at=START + timedelta(hours=1)).record
    if end == "revoked":
        keys.revoke(key.id)
    else:
        clock.now += timedelta(hours=1)
    with pytest.raises(StateChangeError, match=end):
        keys.rotate(key.id)


def test_the_last_use_is_kept_to_the_minute(keys: Keys, clock: Clock) -> None:
    key = keys.create("ann", Scope.READ).record
    assert key.used_at is None
    keys.touch(key)
    clock.now += timedelta(seconds=30)
    keys.touch(keys.get(key.id))
    assert keys.get(key.id).used_at == START
    clock.now += timedelta(seconds=31)
    keys.touch(keys.get(key.id))
    assert keys.get(key.id).used_at == clock.now


def test_an_admin_counts_while_the_key_is_valid(keys: Keys, clock: Clock) -> None:
    keys.create("ann", Scope.SUBMIT)
    assert not keys.any_admin()
    keys.create("root", Scope.ADMIN, expires_at=START + timedelta(hours=1))
    assert keys.any_admin()
    clock.now += timedelta(hours=1)
    assert not keys.any_admin()


def test_a_session_stands_for_its_key_for_half_a_day(keys: Keys, clock: Clock) -> None:
    sessions = Sessions(keys._engine, clock)
    key = keys.create("ann", Scope.READ).record
    token = sessions.open(key)
    with keys._engine.connect() as connection:
        assert token not in repr(connection.execute(text("SELECT * FROM sessions")).all())
    assert sessions.find(token) == key
    assert sessions.find(token[:-1]) is None
    clock.now += timedelta(hours=SESSION_HOURS)
    assert sessions.find(token) is None
    second = sessions.open(key)
    with keys._engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM sessions")).scalar() == 1, "ended ones are forgotten"
    sessions.close(second)
    sessions.close(second)
    assert sessions.find(second) is None
