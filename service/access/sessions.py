"""Sessions of browsers: a cookie that stands for a key, kept in the ledger; a part of `service.ledger.Ledger`.

The cookie is a random token of 256 bits, of which the ledger keeps the SHA-256. A session ends with its key, by logging
out, or after `SESSION_HOURS`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Engine, delete, insert, select

from service.access.keys import digest_of
from service.access.models import KeyRecord, keys, sessions

__all__ = ["SESSION_HOURS", "Sessions"]

SESSION_HOURS = 12


class Sessions:
    """Records of sessions."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def open(self, key: KeyRecord) -> str:
        """Begin a session and return its token; sessions that have ended are forgotten on the occasion."""
        token = secrets.token_urlsafe(32)
        moment = self._now()
        end = moment + timedelta(hours=SESSION_HOURS)
        with self._engine.begin() as connection:
            connection.execute(delete(sessions).where(sessions.c.expires_at <= moment))
            values = {"digest": digest_of(token), "key": key.id, "created_at": moment, "expires_at": end}
            connection.execute(insert(sessions).values(values))
        return token

    def find(self, token: str) -> KeyRecord | None:
        """The key of a session that has not ended, valid or not any more."""
        mine = (sessions.c.digest == digest_of(token)) & (sessions.c.expires_at > self._now())
        query = select(keys).join(sessions, sessions.c.key == keys.c.id).where(mine)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else KeyRecord.of(row)

    def close(self, token: str) -> None:
        """End a session; one that has ended already is left at that."""
        with self._engine.begin() as connection:
            connection.execute(delete(sessions).where(sessions.c.digest == digest_of(token)))
