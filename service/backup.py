"""Backups: one consistent copy of a deployment's ledger and artifacts in a folder, and the way back.

A backup is a folder with ``manifest.json``, the SQLite ledger ``ledger.db`` and ``artifacts/``. The ledger is copied
first, page by page while others write (SQLite's own backup), and artifacts after it: every file that the copied ledger
names existed before it and is kept by `service.collection` for far longer than a copy takes. Files that are there
already, from an earlier backup into the same folder, are not copied again.

A PostgreSQL ledger is copied by its own ``pg_dump``; the backup then has the artifacts that it names, and says so.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from service.artifacts import Artifacts, FolderArtifacts, open_artifacts
from service.database import HEAD
from service.errors import BackupError, NotFoundError, StorageError
from service.ledger import Ledger
from service.settings import Settings

__all__ = ["Checked", "back_up", "check_stored", "restore"]

_FORMAT = 1
_LEDGER, _ARTIFACTS, _MANIFEST = "ledger.db", "artifacts", "manifest.json"


@dataclass(frozen=True, slots=True)
class Checked:
    """What the ledger names, and what of it is not there, or has other bytes than its name says."""

    artifacts: int
    missing: tuple[str, ...]
    damaged: tuple[str, ...]


def check_stored(ledger: Ledger, artifacts: Artifacts, *, read: bool = False) -> Checked:
    """Look for every artifact that the ledger names; with ``read``, also at its bytes."""
    missing, damaged = [], []
    names = sorted(ledger.retention.evidence())
    for name in names:
        try:
            if read:
                artifacts.read(name)
            elif artifacts.age(name) is None:
                missing.append(name)
        except NotFoundError:
            missing.append(name)
        except StorageError:
            damaged.append(name)
    return Checked(len(names), tuple(missing), tuple(damaged))


def back_up(settings: Settings, folder: Path) -> dict[str, Any]:
    """Write a backup of the deployment to ``folder``, while it runs; returns the manifest.

    Raises:
        BackupError: the folder holds something else.
        StorageError: artifacts cannot be read, or not be written.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / _MANIFEST).exists():
        msg = f"{folder} is not empty and holds no backup; name a new folder, or that of an earlier backup"
        raise BackupError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    url = make_url(settings.ledger_url)
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite:
        _copy_ledger(Path(str(url.database)), folder / _LEDGER)
        names_from = f"sqlite:///{folder / _LEDGER}"
    else:
        names_from = settings.ledger_url
    ledger = Ledger(names_from)
    try:
        names = sorted(ledger.retention.evidence())
    finally:
        ledger.close()
    source, target = open_artifacts(settings), FolderArtifacts(folder / _ARTIFACTS)
    missing = [name for name in names if not _copy(source, target, name)]
    manifest = {
        "format": _FORMAT,
        "netproof": metadata.version("netproof"),
        "schema": HEAD,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "ledger": _LEDGER if sqlite else None,
        "artifacts": len(names) - len(missing),
        "missing": missing,
    }
    draft = folder / f"{_MANIFEST}.tmp"
    draft.write_text(json.dumps(manifest, indent=1))
    draft.replace(folder / _MANIFEST)
    return manifest


def restore(settings: Settings, folder: Path) -> dict[str, Any]:
    """Bring a backup into a deployment that has nothing yet; returns the manifest.

    With PostgreSQL, the ledger is to be restored by ``pg_restore`` before, and the artifacts come from the backup.

    Raises:
        BackupError: the folder holds no backup, or the deployment has a ledger.
        StorageError: artifacts cannot be read, or not be written.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / _MANIFEST).read_text())
    except (FileNotFoundError, ValueError) as error:
        msg = f"{folder} holds no complete backup: it has no readable {_MANIFEST}"
        raise BackupError(msg) from error
    if manifest.get("format") != _FORMAT:
        msg = f"{folder} holds a backup of format {manifest.get('format')}, but this netproof reads format {_FORMAT}"
        raise BackupError(msg)
    source, target = FolderArtifacts(folder / _ARTIFACTS), open_artifacts(settings)
    for name in source.names():
        _copy(source, target, name)
    url = make_url(settings.ledger_url)
    if manifest["ledger"] is not None:
        if url.get_backend_name() != "sqlite":
            msg = "the backup holds a SQLite ledger, but NETPROOF_DATABASE_URL names another kind of database; unset it"
            raise BackupError(msg)
        place = Path(str(url.database))
        if place.exists():
            msg = f"there is a ledger at {place} already; restore into a new data directory, or move it away"
            raise BackupError(msg)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_suffix(".restoring")
        shutil.copyfile(folder / _LEDGER, draft)
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        draft.replace(place)
    ledger = Ledger(settings.ledger_url)
    try:
        ledger.create()  # an older backup is brought to this version's schema
    finally:
        ledger.close()
    return manifest


def _copy_ledger(source: Path, target: Path) -> None:
    draft = target.with_suffix(".tmp")
    draft.unlink(missing_ok=True)
    # a few pages at a time: writers are hindered for milliseconds only
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as live, closing(sqlite3.connect(draft)) as copy:
        live.backup(copy, pages=1000, sleep=0.01)
        copy.execute("PRAGMA journal_mode=DELETE")
    draft.replace(target)


def _copy(source: Artifacts, target: Artifacts, name: str) -> bool:
    """Copy one artifact, checked on the way; False if it is not there."""
    if target.age(name) is not None:
        return True
    try:
        data = source.read(name)
    except NotFoundError:
        return False
    target.put(data)
    return True
