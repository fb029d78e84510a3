"""What ``serve`` and ``worker`` share: their settings, and faults of a deployment in words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from service.settings import Settings

__all__ = ["deployment_faults", "settings"]


def settings(**options: Any) -> Settings:
    """Settings from ``NETPROOF_*`` variables, overridden by the ``options`` that are not None.

    Raises:
        click.UsageError: a value that the settings refuse, named as its environment variable.
    """
    from pydantic import ValidationError

    from service.settings import Settings

    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            place = "_".join(str(part) for part in fault["loc"])
            name = f"NETPROOF_{place.upper()}: " if place else ""
            faults.append(f"{name}{fault['msg'].removeprefix('Value error, ')}")
        raise click.UsageError("; ".join(faults)) from error


@contextlib.contextmanager
def deployment_faults(chosen: Settings) -> Iterator[None]:
    """Turn what goes wrong between the parts of a deployment into messages.

    Raises:
        click.ClickException: the queue server, the ledger or the listening address cannot be used.
    """
    from redis import RedisError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (RedisError, ValueError) as error:
        if isinstance(error, ValueError) and "Redis URL" not in str(error):
            raise
        where = "of --redis" if chosen.redis_url else f"in {chosen.data_dir}"
        advice = "check the URL" if chosen.redis_url else "start `netproof serve` there, or name another with --redis"
        msg = f"the queue server {where} does not answer ({error}); {advice}"
        raise click.ClickException(msg) from error
    except (SQLAlchemyError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError) and not chosen.database_url:
            raise
        msg = f"the ledger cannot be used: {error}; check --database and that its driver is installed"
        raise click.ClickException(msg) from error
