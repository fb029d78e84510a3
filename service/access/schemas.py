"""What travels over HTTP about keys, sessions and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field

from service.access.models import AuditRecord, KeyRecord
from service.access.principal import Quota, Scope
from service.schema_base import AnswerModel, RequestModel

__all__ = [
    "AuditLine",
    "AuditPage",
    "CallerDocument",
    "KeyDocument",
    "KeyPage",
    "KeyRequest",
    "LoginRequest",
    "NewKeyDocument",
    "QuotaDocument",
    "RotationRequest",
    "UsedDocument",
]

_Owner = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$", description="a person, team or program")]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Days = Annotated[float, Field(gt=0, le=36500, allow_inf_nan=False)]


class QuotaDocument(RequestModel):
    """What a key may use; what is left out is as the service's settings say, or else unlimited."""

    running: int | None = Field(default=None, ge=1, description="jobs of the owner at work at the same time")
    queued: int | None = Field(default=None, ge=1, description="questions of the owner that have not ended")
    batches: int | None = Field(default=None, ge=1, description="batches of the owner that have not ended")
    cpu_seconds: _Seconds | None = Field(default=None, description="of the owner's jobs on one day (UTC)")
    model_bytes: int | None = Field(default=None, ge=1, description="the largest network, unpacked")
    time_limit: _Seconds | None = Field(default=None, description="the longest time limit of a question, seconds")
    rate: _Seconds | None = Field(default=None, description="requests a second")
    burst: int | None = Field(default=None, ge=1, description="requests at once")

    @classmethod
    def of(cls, quota: Quota) -> Self:
        return cls(**quota.to_json())

    def quota(self) -> Quota:
        return Quota(**self.model_dump())


class KeyRequest(RequestModel):
    """A key to be made."""

    owner: _Owner
    scope: Scope = Field(description="`submit` includes `read`, and `admin` both")
    name: str = Field(default="", max_length=255, description="what it is for")
    expires_days: _Days | None = Field(default=None, description="days that it is valid for; null: until revoked")
    quota: QuotaDocument = Field(default_factory=QuotaDocument)


class RotationRequest(RequestModel):
    """How a key changes over to its successor."""

    overlap_hours: float = Field(
        default=24.0, ge=0, le=24 * 366, allow_inf_nan=False, description="hours that the old key stays valid"
    )


class LoginRequest(RequestModel):
    """A key that a session is opened for."""

    key: str = Field(min_length=1, max_length=200)


class KeyDocument(AnswerModel):
    """A key, without its secret."""

    id: str
    owner: str
    name: str
    scope: Scope
    quota: QuotaDocument = Field(description="what it says itself")
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None = Field(description="to the minute")
    successor: str | None = Field(description="the key that it was rotated to")

    @classmethod
    def of(cls, key: KeyRecord) -> Self:
        named = {name: getattr(key, name) for name in cls.model_fields if name not in {"quota", "key"}}
        return cls(quota=QuotaDocument.of(key.quota), **named)


class NewKeyDocument(AnswerModel):
    """A key that was just made."""

    key: str = Field(description="what callers send; it is shown here once, and kept nowhere")
    record: KeyDocument


class KeyPage(AnswerModel):
    """All keys, the newest first."""

    keys: list[KeyDocument]


class UsedDocument(AnswerModel):
    """What an owner uses now, and has used today."""

    running: int = Field(description="jobs at work")
    queued: int = Field(description="questions that have not ended, those at work included")
    batches: int = Field(description="batches that have not ended")
    cpu_seconds: float = Field(description="of attempts that ended today (UTC): their seconds times their threads")


class CallerDocument(AnswerModel):
    """Who asks, as the service sees it."""

    access: bool = Field(description="whether callers need a key; without, everybody is `local`")
    owner: str
    key: str | None
    scope: Scope
    session: bool = Field(description="whether a browser's session stands for the key")
    quota: QuotaDocument
    used: UsedDocument


class AuditLine(AnswerModel):
    """One request that changed something, was refused, or took evidence away."""

    id: str
    at: datetime
    key: str | None
    owner: str | None
    action: str = Field(description="operation of this API")
    object: str = Field(description="path of what was made or addressed")
    outcome: int = Field(description="HTTP status")
    request: str
    address: str

    @classmethod
    def of(cls, record: AuditRecord) -> Self:
        return cls(**{name: getattr(record, name) for name in cls.model_fields})


class AuditPage(AnswerModel):
    """The newest lines first; `next_cursor` leads to older ones."""

    lines: list[AuditLine]
    next_cursor: str | None
