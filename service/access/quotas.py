"""Quotas of what a single request may ask for; `service.access.usage` counts what an owner has."""

from __future__ import annotations

from service.access.principal import Principal
from service.access.usage import Usage
from service.problems import INVALID_REQUEST, Fault, ProblemError
from service.settings import Settings

__all__ = ["batch_budget", "check_time_limit", "longest", "usual"]


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
