"""The ledger's tables of keys, sessions, the audit log, usage and grants, and their records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import JSON, Column, Float, ForeignKey, Index, Integer, RowMapping, String, Table

from service.access.principal import Quota, Scope
from service.models import UtcDateTime, metadata

__all__ = ["AuditRecord", "KeyRecord", "audit", "grants", "keys", "sessions", "usage"]

keys = Table(
    "keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("name", String(255), nullable=False),
    Column("scope", String(16), nullable=False),
    Column("quota", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("used_at", UtcDateTime),
    Column("successor", String(16)),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("key", String(16), ForeignKey("keys.id"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("key", String(16)),
    Column("owner", String(64)),
    Column("action", String(64), nullable=False),
    Column("object", String(255), nullable=False),
    Column("outcome", Integer, nullable=False),
    Column("request", String(64), nullable=False),
    Column("address", String(64), nullable=False),
    Index("ix_audit_owner", "owner", "id"),
)

#: CPU seconds that an owner's attempts took, by day (UTC).
usage = Table(
    "usage",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("seconds", Float, nullable=False),
)

#: Who has which network or data set, by what name and since when: content is kept once, and shown to its holders.
grants = Table(
    "grants",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key, without its secret.

    Attributes:
        digest: SHA-256 of the secret.
        successor: the key that it was rotated to.
    """

    id: str
    digest: str
    owner: str
    name: str
    scope: Scope
    quota: Quota
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None
    successor: str | None

    def valid(self, moment: datetime) -> bool:
        """Whether it opens anything at ``moment``."""
        return self.revoked_at is None and (self.expires_at is None or moment < self.expires_at)

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        return cls(**{**row, "scope": Scope(row["scope"]), "quota": Quota.from_json(row["quota"])})


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One request that changed something, was refused, or took evidence away.

    Attributes:
        key, owner: whose request it was, None where nobody known.
        action: operation of the API, such as ``verify``.
        object: path of what was made or addressed.
        outcome: HTTP status.
        request: identifier of the request, as in the service's log.
    """

    id: str
    at: datetime
    key: str | None
    owner: str | None
    action: str
    object: str
    outcome: int
    request: str
    address: str

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {name: getattr(self, name) for name in self.__slots__} | {"at": self.at.isoformat()}

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        return cls(**row)
