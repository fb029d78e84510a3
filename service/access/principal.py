"""Callers: who they are, what they may do, whose objects they see, and how much they may use."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["EVERYBODY", "LOCAL", "Principal", "Quota", "Scope"]

#: The owner of what is made while access is off; a key for this owner sees it when access is on.
LOCAL = "local"


class Scope(enum.StrEnum):
    """What a key may do; each scope includes the ones before it."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        """Whether a key of this scope may do what ``other`` is needed for."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Quota:
    """What a key may use; None is unlimited. What is counted is counted over all that its owner has.

    Attributes:
        running: jobs at work at the same time; others wait.
        queued: questions of their own (not of batches) that have not ended.
        batches: batches that have not ended.
        cpu_seconds: of solving on one day (UTC): seconds that attempts ran, times the threads that they had.
        model_bytes: the largest network, unpacked.
        time_limit: the longest time limit of a question, seconds.
        rate: requests a second, on average.
        burst: requests at once.
    """

    running: int | None = None
    queued: int | None = None
    batches: int | None = None
    cpu_seconds: float | None = None
    model_bytes: int | None = None
    time_limit: float | None = None
    rate: float | None = None
    burst: int | None = None

    def or_else(self, other: Quota) -> Quota:
        """This quota, and ``other`` where it says nothing."""
        mine = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return dataclasses.replace(other, **mine)

    def to_json(self) -> dict[str, Any]:
        """Its members that say something."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, members: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**members)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        owner: of what the caller makes.
        key: identifier of the key that was shown, None for the local principal.
        scope: what the caller may do.
        quota: what the caller may use.
        session: whether a browser's cookie stood for the key.
    """

    owner: str
    key: str | None
    scope: Scope
    quota: Quota = Quota()
    session: bool = False

    @property
    def scopes(self) -> frozenset[Scope]:
        """All that its scope includes."""
        return frozenset(scope for scope in Scope if self.scope.includes(scope))

    @property
    def reach(self) -> str | None:
        """Whose objects it sees: one owner's, or None for everybody's."""
        return None if self.scope is Scope.ADMIN else self.owner


#: Everybody, while access is off.
EVERYBODY = Principal(LOCAL, None, Scope.ADMIN)
