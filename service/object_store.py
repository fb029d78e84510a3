"""Artifacts in an object store that `fsspec` reaches: S3 and what speaks its protocol, Google's, Azure's, and others.

Objects are ``<prefix>/<first two digits>/<sha256>``. Whoever uses one gets a local file: a download is written beside
its place in a folder of this machine, checked against its hash and renamed, and serves until the folder is larger than
it may be; what was used longest ago goes first. The folder may be shared by all processes of a machine and may be
emptied at any time.

Credentials come from where the store's library looks for them (``AWS_ACCESS_KEY_ID`` and the like, profiles, the
machine's role), never from a URL, and errors carry the kind of a fault but not the words of the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from service.artifacts import Artifact, Artifacts, FolderArtifacts, Upload, is_full
from service.errors import NotFoundError, StorageDamagedError, StorageError, StorageFullError

__all__ = ["ObjectArtifacts"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_UPLOADS = "uploads"
#: Pauses between tries, in seconds.
_PAUSES = (0.2, 0.6, 1.8, 5.0)
#: An object that was put less than so many seconds ago is not sent again; `service.retention` waits far longer.
_FRESH_SECONDS = 600.0
#: A cached file is not removed within so many seconds of its last use: a process may be about to open it.
_IN_USE_SECONDS = 900.0
#: What libraries call a refusal.
_REFUSALS = frozenset({"PermissionError", "PermissionDeniedError", "UnauthenticatedError", "NoCredentialsError"})
#: obstore's own patience, minutes by default.
_PROMPT = {
    "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=20)},
}
#: Stores in which a write shows only when it is complete.
_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory"})


class ObjectArtifacts(Artifacts):
    """Artifacts behind a URL.

    Args:
        url: such as ``s3://bucket/prefix``.
        cache: folder for local copies.
        cache_bytes: how large that may grow.

    Raises:
        StorageError: no installed library knows the URL's scheme.
    """

    def __init__(self, url: str, cache: Path, *, cache_bytes: int) -> None:
        self._scheme = urlsplit(url).scheme
        self._system, self._prefix = _open(url)
        self._local = FolderArtifacts(cache)
        self._cache_bytes = cache_bytes

    def upload(self, *, limit: int | None = None) -> Upload:
        return Upload(self, self._local.root, limit)

    def get(self, sha256: str) -> Artifact:
        path = self._local.path(sha256)
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)  # its last use, also against being removed
            return Artifact(sha256, path.stat().st_size, path)
        return self._fetch(sha256)

    def read(self, sha256: str) -> bytes:
        self.get(sha256)
        try:
            return self._local.read(sha256)
        except (StorageError, NotFoundError):  # damaged here, or removed this moment
            self._local.delete(sha256)
            return self._fetch(sha256).path.read_bytes()

    def age(self, sha256: str) -> float | None:
        place = self._place(sha256)
        try:
            found = self._ask("looked at", lambda: self._modified(place), sha256)
        except NotFoundError:
            return None
        return max(0.0, (datetime.now(UTC) - found).total_seconds())

    def size(self, sha256: str) -> int:
        place = self._place(sha256)
        try:
            return self._ask("looked at", lambda: int(self._system.info(place)["size"]), sha256)
        except NotFoundError:
            return 0

    def names(self) -> Iterator[str]:
        try:
            found = self._ask("listed", lambda: self._system.find(self._prefix))
        except NotFoundError:
            return
        for place in found:
            folder, name = str(place).rsplit("/", 2)[-2:]
            if _SHA256.fullmatch(name) and folder == name[:2]:
                yield name

    def delete(self, sha256: str) -> int:
        place = self._place(sha256)
        self._local.delete(sha256)
        size = self.size(sha256)
        with contextlib.suppress(NotFoundError):
            self._ask("removed", lambda: self._system.rm_file(place), sha256)
        return size

    def tidy(self, seconds: float) -> int:
        removed = self._local.tidy(seconds)
        if self._scheme in _ATOMIC:
            return removed
        with contextlib.suppress(NotFoundError):
            for draft in self._ask("listed", lambda: self._system.find(f"{self._prefix}/{_UPLOADS}")):
                removed += self._tidy(str(draft), seconds)
        return removed

    def _tidy(self, draft: str, seconds: float) -> bool:
        try:
            age = datetime.now(UTC) - self._ask("looked at", lambda: self._modified(draft))
            if age.total_seconds() < seconds:
                return False
            self._ask("removed", lambda: self._system.rm_file(draft))
        except NotFoundError:  # its upload has just ended
            return False
        return True

    def keep(self, path: Path, sha256: str, size: int) -> Artifact:
        age = self.age(sha256)
        if age is None or age > _FRESH_SECONDS:  # sent again, it is as new to a collection as it is to its user
            self._send(path, sha256)
        artifact = self._local.keep(path, sha256, size)
        self._trim()
        return artifact

    # -- the store ---------------------------------------------------------------------------------------------

    def _send(self, path: Path, sha256: str) -> None:
        place = self._place(sha256)
        if self._scheme in _ATOMIC:
            self._ask("written", lambda: self._system.put_file(str(path), place), sha256)
            return
        draft = f"{self._prefix}/{_UPLOADS}/{secrets.token_hex(12)}"
        self._ask("written", lambda: self._system.makedirs(f"{self._prefix}/{_UPLOADS}", exist_ok=True), sha256)
        self._ask("written", lambda: self._system.makedirs(place.rsplit("/", 1)[0], exist_ok=True), sha256)
        self._ask("written", lambda: self._system.put_file(str(path), draft), sha256)
        self._ask("written", lambda: self._system.mv(draft, place), sha256)

    def _fetch(self, sha256: str) -> Artifact:
        """Download an artifact, checking it while it comes.

        Raises:
            NotFoundError: the store does not have it.
            StorageError: it does not answer, or has other bytes.
        """
        place = self._place(sha256)
        with self._local.upload() as download:
            self._ask("read", lambda: self._system.get_file(place, str(download.path)), sha256)
            digest = hashlib.sha256()
            size = 0
            with download.path.open("rb") as stream:
                while piece := stream.read(2**20):
                    digest.update(piece)
                    size += len(piece)
            if digest.hexdigest() != sha256:
                msg = f"artifact {sha256} has other bytes in the object store than its name says; restore it there"
                raise StorageDamagedError(msg)
            artifact = self._local.keep(download.path, sha256, size)
        self._trim()
        return artifact

    def _place(self, sha256: str) -> str:
        if not _SHA256.fullmatch(sha256):
            raise NotFoundError(sha256, kind="artifact")
        return f"{self._prefix}/{sha256[:2]}/{sha256}"

    def _modified(self, place: str) -> datetime:
        """When an object was put; a store that does not say has only new ones."""
        info: dict[str, Any] = self._system.info(place)
        for key in ("LastModified", "last_modified", "mtime", "updated", "modified", "created"):
            value = info.get(key)
            if isinstance(value, datetime):
                return value if value.tzinfo else value.replace(tzinfo=UTC)
            if isinstance(value, int | float):
                return datetime.fromtimestamp(value, UTC)
            if isinstance(value, str):
                with contextlib.suppress(ValueError):
                    return datetime.fromisoformat(value)
        return datetime.now(UTC)

    def _ask(self, done: str, action: Callable[[], _T], sha256: str | None = None) -> _T:
        """What the store answers, after a few tries.

        Raises:
            NotFoundError: it says that there is no such object.
            StorageError: it does not answer, or refuses.
        """
        what = "artifacts" if sha256 is None else f"artifact {sha256}"
        for pause in (*_PAUSES, None):
            self._system.invalidate_cache()  # what other machines did since counts
            try:
                return action()
            except FileNotFoundError as error:
                if done != "written":
                    raise NotFoundError(sha256 or self._prefix, kind="artifact") from error
                raise self._no_bucket(what) from None
            except Exception as error:  # noqa: BLE001 - every store's library has errors of its own
                kind = type(error).__name__
                if "NoSuchBucket" in str(error):
                    raise self._no_bucket(what) from None
                if kind in _REFUSALS:
                    msg = f"{what} cannot be {done}: the object store refuses the credentials of this process"
                    raise StorageError(msg) from None
                if pause is None:
                    msg = f"{what} cannot be {done}: the object store does not answer as it should ({kind})"
                    raise (StorageFullError if is_full(error) else StorageError)(msg) from None
                logger.warning("%s could not be %s (%s); tried again in %g s", what, done, kind, pause)
                time.sleep(pause)
        raise AssertionError  # the last try returns or raises

    def _no_bucket(self, what: str) -> StorageError:
        bucket = self._prefix.partition("/")[0]
        return StorageError(
            f"{what} cannot be kept: there is no bucket or folder {bucket} in the object store; make it"
        )

    # -- local copies ------------------------------------------------------------------------------------------

    def _trim(self) -> None:
        """Make the folder of local copies as small as it may be; what is in use stays."""
        files = []
        for path in self._local.root.glob("[0-9a-f][0-9a-f]/*"):
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                files.append((found.st_mtime, found.st_size, path))
        excess = sum(size for _, size, _ in files) - self._cache_bytes
        limit = time.time() - _IN_USE_SECONDS
        for used, size, path in sorted(files):
            if excess <= 0 or used > limit:
                return
            path.unlink(missing_ok=True)
            excess -= size


def _open(url: str) -> tuple[Any, str]:
    """The file system behind ``url`` and the prefix in it.

    fsspec's own library for the scheme is taken where it is installed (such as s3fs), else obstore, which speaks the
    protocols of the large stores.
    """
    scheme = urlsplit(url).scheme
    try:
        import fsspec

        library = fsspec.get_filesystem_class(scheme)
    except ImportError:
        library = None
    except ValueError as error:
        msg = f"artifacts cannot be kept under a {scheme}: URL, which is none that fsspec knows; use s3://, gs:// or …"
        raise StorageError(msg) from error
    options: dict[str, Any] = {"skip_instance_cache": True}
    try:
        if library is None:
            importlib.import_module("obstore.fsspec").register(scheme)
        if library is None or library.__module__.startswith("obstore"):
            options |= _PROMPT  # it is tried again here, too
        system, prefix = fsspec.core.url_to_fs(url, **options)
    except (ImportError, NameError, ValueError) as error:
        msg = f"artifacts under {scheme}: URLs need a library for them: pip install 'netproof[s3]'"
        raise StorageError(msg) from error
    return system, str(prefix).rstrip("/")
