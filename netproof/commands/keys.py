"""``netproof keys``: who may ask a service, straight in its ledger."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netproof.commands.service import deployment_faults, settings

if TYPE_CHECKING:
    from service.access.models import KeyRecord
    from service.ledger import Ledger

__all__ = ["keys"]

_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
_WHOLE = ("running", "queued", "batches", "model_bytes", "burst")
_MEASURED = ("cpu_seconds", "time_limit", "rate")


class _Span(click.ParamType[timedelta]):
    name = "span"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = _SPAN.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is no span of time; say 12h, 90d or 4w", param, ctx)
        return timedelta(hours=float(match[1]) * _HOURS[match[2]])


class _Limit(click.ParamType[tuple[str, float]]):
    name = "limit"

    def convert(
        self, value: str | tuple[str, float], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        name, _, number = value.partition("=")
        if name not in {*_WHOLE, *_MEASURED}:
            self.fail(f"{name!r} is no quota; choose of {', '.join((*_WHOLE, *_MEASURED))}", param, ctx)
        try:
            found = int(number) if name in _WHOLE else float(number)
        except ValueError:
            found = 0
        if not 0 < found < float("inf"):
            self.fail(f"{name} must be a positive number, got {number!r}; say {name}=4", param, ctx)
        return name, found


def _ledger_options(command: Callable[..., int]) -> Callable[..., int]:
    database = click.option("--database", metavar="URL", help="SQLAlchemy URL of the ledger; as for netproof serve.")
    folder = click.option(
        "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Where the ledger lives; as for serve."
    )
    return database(folder(command))


@contextlib.contextmanager
def _ledger(database: str | None, data_dir: Path | None) -> Iterator[Ledger]:
    from service.errors import NotFoundError, StateChangeError
    from service.ledger import Ledger

    chosen = settings(database_url=database, data_dir=data_dir)
    with deployment_faults(chosen):
        ledger = Ledger(chosen.ledger_url)
        try:
            ledger.create()
            yield ledger
        except (NotFoundError, StateChangeError) as error:
            raise click.ClickException(str(error)) from error
        finally:
            ledger.close()


@click.group(short_help="Make, rotate and revoke the keys of a service.")
def keys() -> None:
    """Make, list, rotate and revoke the keys of a service, straight in its ledger.

    Run it where the service runs, with the same NETPROOF_DATA_DIR or NETPROOF_DATABASE_URL. An admin's key does the
    same from elsewhere, by /v1/keys.
    """


@keys.command(short_help="Make a key.")
@click.option("--owner", required=True, help="A person, team or program; 'local' owns what is older than keys.")
@click.option("--scope", type=click.Choice(["read", "submit", "admin"]), default="submit", show_default=True)
@click.option("--name", default="", help="What it is for.")
@click.option("--expires", type=_Span(), metavar="SPAN", help="Valid for so long: 12h, 90d, 4w; default: for good.")
@click.option("--quota", type=_Limit(), multiple=True, metavar="NAME=N", help="Such as running=4; may be repeated.")
@_ledger_options
def create(
    *,
    owner: str,
    scope: str,
    name: str,
    expires: timedelta | None,
    quota: tuple[tuple[str, Any], ...],
    database: str | None,
    data_dir: Path | None,
) -> int:
    """Make a key and print it; it is kept nowhere, so this is the only time that it can be seen.

    Quotas: running, queued, batches, cpu_seconds (a day), model_bytes, time_limit, rate (a second), burst.
    """
    from service.access.principal import Quota, Scope

    if not _OWNER.fullmatch(owner):
        msg = f"{owner!r} is no name of an owner; use up to 64 letters, digits and ._@-"
        raise click.UsageError(msg)
    end = None if expires is None else datetime.now(UTC) + expires
    with _ledger(database, data_dir) as ledger:
        made = ledger.keys.create(owner, Scope(scope), name=name, quota=Quota(**dict(quota)), expires_at=end)
        ledger.audit.add("createKey", f"/v1/keys/{made.record.id}", 201, owner=owner, address="command line")
    click.echo(made.text)
    return 0


@keys.command("list", short_help="List the keys.")
@click.option("--owner", help="Only this owner's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each key.")
@_ledger_options
def list_(*, owner: str | None, as_json: bool, database: str | None, data_dir: Path | None) -> int:
    """List all keys, those that are not valid any more included; their secrets are not known."""
    with _ledger(database, data_dir) as ledger:
        found = ledger.keys.all(owner=owner)
    for key in found:
        click.echo(json.dumps(_document(key)) if as_json else _line(key))
    return 0


@keys.command(short_help="Replace a key by a new one.")
@click.argument("key")
@click.option("--overlap", type=_Span(), default="24h", show_default=True, help="The old key stays valid for so long.")
@_ledger_options
def rotate(*, key: str, overlap: timedelta, database: str | None, data_dir: Path | None) -> int:
    """Make a new key in the place of KEY, an identifier, and print it; its owner keeps everything."""
    with _ledger(database, data_dir) as ledger:
        made = ledger.keys.rotate(_identifier(key), overlap=overlap)
        target = f"/v1/keys/{made.record.id}"
        ledger.audit.add("rotateKey", target, 201, owner=made.record.owner, address="command line")
    click.echo(made.text)
    return 0


@keys.command(short_help="Make a key worthless.")
@click.argument("key")
@_ledger_options
def revoke(*, key: str, database: str | None, data_dir: Path | None) -> int:
    """Make KEY, an identifier, worthless at once; running web processes notice within seconds."""
    with _ledger(database, data_dir) as ledger:
        record = ledger.keys.revoke(_identifier(key))
        ledger.audit.add("revokeKey", f"/v1/keys/{record.id}", 200, owner=record.owner, address="command line")
    click.echo(_line(record))
    return 0


@keys.command(short_help="Read the audit log.")
@click.option("--owner", help="Only requests of this owner.")
@click.option("--key", help="Only requests with this key.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each line.")
@_ledger_options
def audit(
    *, owner: str | None, key: str | None, limit: int, as_json: bool, database: str | None, data_dir: Path | None
) -> int:
    """Show who changed what, who was refused, and who took evidence away, the newest first."""
    with _ledger(database, data_dir) as ledger:
        lines = ledger.audit.lines(limit=limit, owner=owner, key=None if key is None else _identifier(key))
    for line in lines:
        who = f"{line.owner or '-'} ({line.key or '-'})"
        text = f"{line.at:%Y-%m-%d %H:%M:%S}  {line.outcome}  {line.action:<16} {line.object}  {who}  {line.address}"
        click.echo(json.dumps(line.to_json()) if as_json else text)
    return 0


def _identifier(key: str) -> str:
    """What a key is called: users may paste the whole of it."""
    return key.split("_")[1] if key.startswith("np_") else key


def _line(key: KeyRecord) -> str:
    state = "valid"
    if key.revoked_at is not None:
        state = f"revoked {key.revoked_at:%Y-%m-%d}"
    elif key.expires_at is not None:
        state = f"{'until' if key.valid(datetime.now(UTC)) else 'expired'} {key.expires_at:%Y-%m-%d %H:%M}"
    used = "never used" if key.used_at is None else f"used {key.used_at:%Y-%m-%d %H:%M}"
    limits = " ".join(f"{name}={value:g}" for name, value in key.quota.to_json().items())
    return "  ".join(filter(None, (key.id, key.owner, key.scope, state, used, key.name, limits)))


def _document(key: KeyRecord) -> dict[str, Any]:
    times = {name: getattr(key, name) for name in ("created_at", "expires_at", "revoked_at", "used_at")}
    told = {"id": key.id, "owner": key.owner, "name": key.name, "scope": key.scope, "quota": key.quota.to_json()}
    return told | {name: None if at is None else at.isoformat() for name, at in times.items()}
