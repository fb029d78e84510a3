"""``netproof admin``: what an operator does now and then to a deployment's ledger and artifacts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netproof.commands.service import deployment_faults, settings

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.ledger import Ledger
    from service.settings import Settings

__all__ = ["admin"]

#: Exit code where something that ought to be there is not.
_INCOMPLETE = 70


@click.group(short_help="Look after a service's ledger and artifacts.")
@click.option("--database", metavar="URL", help="SQLAlchemy URL of the ledger; default: SQLite in the data directory.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="The service's data directory; default: ~/.local/share/netproof.",
)
@click.pass_context
def admin(ctx: click.Context, *, database: str | None, data_dir: Path | None) -> None:
    """Collect what has expired, back up, restore, check: beside the running service, with the settings it has.

    Every setting has an environment variable, NETPROOF_DATA_DIR, NETPROOF_DATABASE_URL, NETPROOF_ARTIFACTS and
    NETPROOF_KEEP_* among them.
    """
    ctx.obj = settings(database_url=database, data_dir=data_dir)


@admin.command()
@click.option("--dry-run", is_flag=True, help="Say what would go now, and change nothing.")
@click.option(
    "--safety-hours",
    type=click.FloatRange(min=0),
    help="Keep what nothing refers to for so long; less than the default, 24 or an hour more than any job may take, "
    "only while the service is stopped.",
)
@click.option("--vacuum", is_flag=True, help="Then give the room in a SQLite ledger back to the disk.")
@click.pass_obj
def gc(chosen: Settings, *, dry_run: bool, safety_hours: float | None, vacuum: bool) -> int:
    """Remove what has expired (NETPROOF_KEEP_JOBS_DAYS and the like) and what nothing refers to.

    Run it daily, from cron or a timer. Networks, data sets and files that nothing refers to are found by one run and
    removed by a later one, so that nobody loses what is just being used. Prints what was removed as JSON.
    """
    from service.collection import collect

    with _deployment(chosen) as (ledger, artifacts):
        safety = None if safety_hours is None else safety_hours * 3600
        found = collect(ledger, artifacts, chosen, dry_run=dry_run, safety=safety)
        if vacuum and not dry_run:
            ledger.retention.vacuum()
    return _say(found.to_json() | {"dry_run": dry_run})


@admin.command()
@click.option("--read", is_flag=True, help="Also read every file and compare it with its hash.")
@click.pass_obj
def check(chosen: Settings, *, read: bool) -> int:
    """Look for every file that the ledger names. Exits 70 if one is missing or damaged."""
    from service.backup import check_stored

    with _deployment(chosen) as (ledger, artifacts):
        found = check_stored(ledger, artifacts, read=read)
    _say({"artifacts": found.artifacts, "missing": list(found.missing), "damaged": list(found.damaged)})
    return _INCOMPLETE if found.missing or found.damaged else 0


@admin.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.pass_obj
def backup(chosen: Settings, *, folder: Path) -> int:
    """Copy ledger and artifacts to FOLDER while the service runs; again into the same folder, only what is new.

    A PostgreSQL ledger is copied by pg_dump; run it before this command, which copies the artifacts.
    """
    from service.backup import back_up

    with _faults(chosen):
        manifest = back_up(chosen, folder)
    if manifest["ledger"] is None:
        click.echo("the ledger is in PostgreSQL: copy it by pg_dump --format=custom, before the artifacts", err=True)
    _say(manifest)
    return _INCOMPLETE if manifest["missing"] else 0


@admin.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_obj
def restore(chosen: Settings, *, folder: Path) -> int:
    """Bring a backup into a new data directory; then start the service there."""
    from service.backup import restore as bring_back

    with _faults(chosen):
        manifest = bring_back(chosen, folder)
    return _say(manifest)


@admin.command()
@click.pass_obj
def stats(chosen: Settings) -> int:
    """Count rows of the ledger, and the artifacts and their bytes."""
    with _deployment(chosen) as (ledger, artifacts):
        names = list(artifacts.names())
        stored = {"artifacts": len(names), "bytes": sum(artifacts.size(name) for name in names)}
        return _say({"rows": ledger.retention.rows()} | stored)


@contextmanager
def _faults(chosen: Settings) -> Iterator[None]:
    from service.errors import BackupError

    with deployment_faults(chosen):
        try:
            yield
        except BackupError as error:
            raise click.ClickException(str(error)) from error


@contextmanager
def _deployment(chosen: Settings) -> Iterator[tuple[Ledger, Artifacts]]:
    from service.artifacts import open_artifacts
    from service.ledger import Ledger

    with deployment_faults(chosen):
        if chosen.database_url is None and not (chosen.data_dir / "ledger.db").exists():
            msg = f"there is no ledger in {chosen.data_dir}; name the service's folder with --data-dir"
            raise click.ClickException(msg)
        ledger = Ledger(chosen.ledger_url)
        try:
            ledger.create()
            yield ledger, open_artifacts(chosen)
        finally:
            ledger.close()


def _say(document: dict[str, Any]) -> int:
    click.echo(json.dumps(document, indent=1))
    return 0
