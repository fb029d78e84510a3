"""API keys: made, looked up, rotated and revoked; a part of `service.ledger.Ledger`.

A key reads ``np_<id>_<secret>``. The identifier is public and finds the record; the secret has 256 bits from the
operating system, so its SHA-256 is all that is kept of it: there is nothing to guess that a slow hash would protect.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, insert, select, update

from service.access.models import KeyRecord, keys
from service.access.principal import Quota, Scope
from service.errors import NotFoundError, StateChangeError

__all__ = ["Keys", "NewKey", "digest_of"]

_KEY = re.compile(r"np_([0-9a-z]{12})_([A-Za-z0-9_-]{43})")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
#: What is compared where no key has the identifier, so that this takes as long.
_NOTHING = "0" * 64
#: ``used_at`` is written no more often than that.
_USED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made; ``text`` is shown once and kept nowhere."""

    record: KeyRecord
    text: str


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Keys:
    """Records of keys."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def create(
        self,
        owner: str,
        scope: Scope,
        *,
        name: str = "",
        quota: Quota | None = None,
        expires_at: datetime | None = None,
    ) -> NewKey:
        """Make a key for ``owner``, who need not be known before."""
        with self._engine.begin() as connection:
            return self._insert(connection, owner, scope, name, quota or Quota(), expires_at)

    def find(self, text: str) -> KeyRecord | None:
        """The key that ``text`` is, valid or not any more; None for what is none, or has another secret."""
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        with self._engine.connect() as connection:
            row = connection.execute(select(keys).where(keys.c.id == match[1])).mappings().first()
        kept = _NOTHING if row is None else str(row["digest"])
        same = hmac.compare_digest(kept, digest_of(match[2]))
        return KeyRecord.of(row) if row is not None and same else None

    def get(self, key_id: str) -> KeyRecord:
        """The key with this identifier. Raises NotFoundError."""
        with self._engine.connect() as connection:
            return _read(connection, key_id)

    def all(self, *, owner: str | None = None) -> list[KeyRecord]:
        """All keys, the newest first; of ``owner``, or of everybody."""
        query = select(keys).order_by(keys.c.created_at.desc(), keys.c.id)
        if owner is not None:
            query = query.where(keys.c.owner == owner)
        with self._engine.connect() as connection:
            return [KeyRecord.of(row) for row in connection.execute(query).mappings()]

    def rotate(
        self, key_id: str, *, overlap: timedelta = timedelta(days=1), expires_at: datetime | None = None
    ) -> NewKey:
        """A new key in the place of an old one, which stays valid for ``overlap``.

        Owner, scope, name and quota are the same, and what the owner has stays the owner's.

        Args:
            key_id: of the old key.
            overlap: time in which both are valid, so that whoever uses the old one can change over.
            expires_at: of the new key; None: after as long as the old one was made for.

        Raises:
            NotFoundError: there is no such key.
            StateChangeError: it is not valid any more, or was rotated before.
        """
        moment = self._now()
        with self._engine.begin() as connection:
            old = _read(connection, key_id)
            if not old.valid(moment) or old.successor is not None:
                state = "rotated" if old.successor is not None else _state(old)
                raise StateChangeError(key_id, state, "rotated", kind="key")
            if expires_at is None and old.expires_at is not None:
                expires_at = moment + (old.expires_at - old.created_at)
            new = self._insert(connection, old.owner, old.scope, old.name, old.quota, expires_at)
            end = moment + overlap if old.expires_at is None else min(moment + overlap, old.expires_at)
            ends = {"expires_at": end, "successor": new.record.id}
            mine = (keys.c.id == key_id) & keys.c.successor.is_(None)
            if connection.execute(update(keys).where(mine).values(ends)).rowcount != 1:
                raise StateChangeError(key_id, "rotated", "rotated", kind="key")
            return new

    def revoke(self, key_id: str) -> KeyRecord:
        """Make a key worthless from now on; again, it changes nothing. Raises NotFoundError."""
        with self._engine.begin() as connection:
            mine = (keys.c.id == key_id) & keys.c.revoked_at.is_(None)
            connection.execute(update(keys).where(mine).values(revoked_at=self._now()))
            return _read(connection, key_id)

    def touch(self, key: KeyRecord) -> None:
        """Note that a key was used, to the minute."""
        moment = self._now()
        if key.used_at is not None and (moment - key.used_at).total_seconds() < _USED_SECONDS:
            return
        with self._engine.begin() as connection:
            connection.execute(update(keys).where(keys.c.id == key.id).values(used_at=moment))

    def any_admin(self) -> bool:
        """Whether somebody could make further keys over HTTP."""
        moment = self._now()
        return any(key.scope is Scope.ADMIN and key.valid(moment) for key in self.all())

    def _insert(
        self,
        connection: Connection,
        owner: str,
        scope: Scope,
        name: str,
        quota: Quota,
        expires_at: datetime | None,
    ) -> NewKey:
        identifier = "".join(secrets.choice(_ALPHABET) for _ in range(12))
        secret = secrets.token_urlsafe(32)
        values = {
            "id": identifier,
            "digest": digest_of(secret),
            "owner": owner,
            "name": name[:255],
            "scope": scope,
            "quota": quota.to_json(),
            "created_at": self._now(),
            "expires_at": expires_at,
        }
        connection.execute(insert(keys).values(values))
        return NewKey(_read(connection, identifier), f"np_{identifier}_{secret}")


def _read(connection: Connection, key_id: str) -> KeyRecord:
    row = connection.execute(select(keys).where(keys.c.id == key_id)).mappings().first()
    if row is None:
        raise NotFoundError(key_id[:40], kind="key")
    return KeyRecord.of(row)


def _state(key: KeyRecord) -> str:
    return "revoked" if key.revoked_at is not None else "expired"
