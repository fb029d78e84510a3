"""Quotas: what is refused because its owner has, or asks for, more than the key allows.

What is counted is counted over all that the owner has, so a second key brings no second quota. Requests that come at
the same moment are counted by each other only once they are recorded, so a quota may be passed by a few.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from service.access.principal import Principal
from service.access.usage import Usage
from service.problems import INVALID_REQUEST, QUOTA_EXCEEDED, Fault, ProblemError
from service.settings import Settings

__all__ = ["batch_budget", "check_batch", "check_question", "check_time_limit", "longest", "usual"]

_BUSY_SECONDS = 5


def check_question(caller: Principal, usage: Usage) -> None:
    """Raise ProblemError, 429, where the caller may not have another question at work."""
    most = caller.quota.queued
    if most is not None and usage.questions(caller.owner) >= most:
        detail = f"{caller.owner} has {most} questions that have not ended, the most that this key allows; wait for one"
        raise ProblemError(QUOTA_EXCEEDED, detail, headers={"Retry-After": str(_BUSY_SECONDS)})
    _check_day(caller, usage)


def check_batch(caller: Principal, usage: Usage) -> None:
    """Raise ProblemError, 429, where the caller may not have another batch at work."""
    most = caller.quota.batches
    if most is not None and usage.of(caller.owner).batches >= most:
        detail = f"{caller.owner} has {most} batches at work, the most that this key allows; wait for one, or cancel it"
        raise ProblemError(QUOTA_EXCEEDED, detail, headers={"Retry-After": str(_BUSY_SECONDS)})
    _check_day(caller, usage)


def batch_budget(caller: Principal, usage: Usage, asked: float | None, *, spent: float = 0.0) -> float | None:
    """Seconds of solving that a batch may take: what was asked for, within what is left of the owner's day.

    Args:
        caller: who asks.
        usage: of all owners.
        asked: the batch's ``total_limit``.
        spent: what the batch has taken so far, which ``total_limit`` includes.
    """
    if caller.quota.cpu_seconds is None:
        return asked
    left = spent + max(0.0, caller.quota.cpu_seconds - usage.spent(caller.owner))
    return left if asked is None else min(asked, left)


def longest(caller: Principal, settings: Settings) -> float:
    """The longest time limit that the caller may ask for, seconds."""
    return min(settings.max_time_limit, caller.quota.time_limit or settings.max_time_limit)


def usual(caller: Principal, settings: Settings) -> Settings:
    """The settings with the caller's time limits in the place of everybody's."""
    most = longest(caller, settings)
    if most == settings.max_time_limit:
        return settings
    return settings.model_copy(
        update={"max_time_limit": most, "default_time_limit": min(most, settings.default_time_limit)}
    )


def check_time_limit(caller: Principal, settings: Settings, seconds: float | None) -> None:
    """Raise ProblemError, 422, where ``seconds`` is more than the caller may ask for."""
    most = longest(caller, settings)
    if seconds is not None and seconds > most:
        detail = f"time_limit is {seconds:g} seconds, but {most:g} are allowed; ask for less"
        raise ProblemError(INVALID_REQUEST, detail, errors=[Fault("/time_limit", detail)])


def _check_day(caller: Principal, usage: Usage) -> None:
    most = caller.quota.cpu_seconds
    if most is None or usage.spent(caller.owner) < most:
        return
    moment = datetime.now(UTC)
    tomorrow = (moment + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    wait = int((tomorrow - moment).total_seconds()) + 1
    detail = (
        f"{caller.owner} has used up {most:g} CPU seconds, all that this key allows a day; the next begins at 0:00 UTC"
    )
    raise ProblemError(QUOTA_EXCEEDED, detail, headers={"Retry-After": str(wait)})
