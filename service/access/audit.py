"""The audit log: who changed what, who was refused, and who took evidence away; a part of `service.ledger.Ledger`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, insert

from service.access.models import AuditRecord, audit
from service.database import newest
from service.identifiers import new_id

__all__ = ["Audit"]

_INSERT = insert(audit)


class Audit:
    """Records of the audit log, which are added and never changed."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def add(self, action: str, target: str, outcome: int, **who: str) -> None:
        """Write a line of this moment; ``who`` is as in `line`."""
        self.write([self.line(action, target, outcome, **who)])

    def line(
        self,
        action: str,
        target: str,
        outcome: int,
        *,
        key: str | None = None,
        owner: str | None = None,
        request: str = "",
        address: str = "",
    ) -> dict[str, Any]:
        """A line of this moment, to be written, see `AuditRecord`."""
        moment = self._now()
        return {
            "id": new_id(int(moment.timestamp() * 1000)),
            "at": moment,
            "key": key,
            "owner": owner,
            "action": action[:64],
            "object": target[:255],
            "outcome": outcome,
            "request": request[:64],
            "address": address[:64],
        }

    def write(self, lines: Sequence[dict[str, Any]]) -> list[None]:
        """Write lines in one transaction; what each of them comes to is nothing."""
        with self._engine.begin() as connection:
            connection.execute(_INSERT, list(lines))
        return [None] * len(lines)

    def lines(
        self, *, limit: int = 100, before: str | None = None, owner: str | None = None, key: str | None = None
    ) -> list[AuditRecord]:
        """The newest lines first; ``before`` is the identifier that ended the previous page."""
        query = newest(audit, limit=limit, before=before, owner=owner, key=key)
        with self._engine.connect() as connection:
            return [AuditRecord.of(row) for row in connection.execute(query).mappings()]
