"""The service's settings from the environment and the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from service.settings import Settings

__all__ = ["settings"]


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
