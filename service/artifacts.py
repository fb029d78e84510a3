"""Files by the hash of their content.

An artifact's name is the sha256 of its bytes, so equal uploads are one file, a file never changes, and a reader can
check what it got. Artifacts are kept in a folder, or in an object store that several machines reach
(`service.object_store`); either way whoever uses one reads a local file. They appear whole or not at all.

What no record of the ledger names is collected some day (`service.retention`), so the order of writing is: put the
bytes, then the row that names them, then `Upload.confirm` (or `Artifacts.confirm`), which puts them again in the case
that a collection ran in between.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import unquote, urlsplit

from service.errors import NotFoundError, StorageDamagedError, StorageError, StorageFullError, TooLargeError
from service.settings import Settings

__all__ = ["Artifact", "Artifacts", "FolderArtifacts", "Upload", "is_full", "open_artifacts"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: File names of uploads that are not complete.
_UPLOAD = "upload-"
_PIECE = 2**20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored file, and where it can be read on this machine."""

    sha256: str
    size: int
    path: Path


class Artifacts(Protocol):
    """Where artifacts are kept. Every method raises StorageError where the store does not do what it is asked for."""

    def upload(self, *, limit: int | None = None) -> Upload:
        """A file in the making, to be used as a context manager; more than ``limit`` bytes raise TooLargeError."""

    def put(self, chunks: bytes | Iterable[bytes], *, limit: int | None = None) -> Artifact:
        """Store bytes, or a stream of them."""
        with self.upload(limit=limit) as upload:
            for chunk in (chunks,) if isinstance(chunks, bytes) else chunks:
                upload.write(chunk)
            return upload.commit()

    def confirm(self, data: bytes) -> None:
        """Store bytes again that were put before, should they be gone."""
        if self.age(hashlib.sha256(data).hexdigest()) is None:
            self.put(data)

    def get(self, sha256: str) -> Artifact:
        """The stored artifact. Raises NotFoundError if it is not there."""

    def read(self, sha256: str) -> bytes:
        """The artifact's bytes, checked against their hash. Raises NotFoundError if it is not there."""

    def age(self, sha256: str) -> float | None:
        """Seconds since the artifact was put last; None if it is not there."""

    def size(self, sha256: str) -> int:
        """Bytes of the artifact, 0 if it is not there."""

    def names(self) -> Iterator[str]:
        """The sha256 of every artifact, in no order."""

    def delete(self, sha256: str) -> int:
        """Remove an artifact; returns the bytes that this frees, 0 if it was not there."""

    def tidy(self, seconds: float) -> int:
        """Remove what uploads left behind that ended more than ``seconds`` ago without a word; how many files."""

    def keep(self, path: Path, sha256: str, size: int) -> Artifact:
        """Take over the complete local file of an upload; for `Upload` alone."""


def open_artifacts(settings: Settings) -> Artifacts:
    """The artifacts of one deployment.

    Raises:
        StorageError: the settings name a store that this installation cannot reach.
    """
    if settings.artifacts is None:
        return FolderArtifacts(settings.artifact_dir)
    parts = urlsplit(settings.artifacts)
    if parts.scheme in {"", "file", "local"}:
        return FolderArtifacts(Path(unquote(parts.path) if parts.scheme else settings.artifacts).expanduser())
    from service.object_store import ObjectArtifacts

    return ObjectArtifacts(
        settings.artifacts, settings.artifact_cache_dir, cache_bytes=settings.artifact_cache_mb * 2**20
    )


class FolderArtifacts(Artifacts):
    """A folder of content-addressed files, spread over 256 subfolders by the first two digits.

    Files are written beside their place, synced and renamed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def upload(self, *, limit: int | None = None) -> Upload:
        return Upload(self, self.root, limit)

    def path(self, sha256: str) -> Path:
        """Where the artifact is, or will be; raises NotFoundError for what cannot be a sha256."""
        if not _SHA256.fullmatch(sha256):
            raise NotFoundError(sha256, kind="artifact")
        return self.root / sha256[:2] / sha256

    def get(self, sha256: str) -> Artifact:
        path = self.path(sha256)
        with _faults("read", sha256):
            return Artifact(sha256, path.stat().st_size, path)

    def read(self, sha256: str) -> bytes:
        path = self.path(sha256)
        with _faults("read", sha256):
            data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            msg = f"artifact {sha256} has other bytes than its name says; restore {path} from a backup"
            raise StorageDamagedError(msg)
        return data

    def age(self, sha256: str) -> float | None:
        try:
            return max(0.0, time.time() - self.path(sha256).stat().st_mtime)
        except FileNotFoundError:
            return None

    def size(self, sha256: str) -> int:
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def names(self) -> Iterator[str]:
        with _faults("listed"):
            for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
                yield from (path.name for path in folder.iterdir() if _SHA256.fullmatch(path.name))

    def delete(self, sha256: str) -> int:
        path = self.path(sha256)
        with _faults("removed", sha256):
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                return 0
        return size

    def tidy(self, seconds: float) -> int:
        removed = 0
        limit = time.time() - seconds
        for path in self.root.glob(f"{_UPLOAD}*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime <= limit:
                    path.unlink()
                    removed += 1
        return removed

    def keep(self, path: Path, sha256: str, size: int) -> Artifact:
        place = self.path(sha256)
        place.parent.mkdir(exist_ok=True)
        path.replace(place)
        _sync_directory(place.parent)
        return Artifact(sha256, size, place)


class Upload:
    """Bytes on their way in; what is not committed leaves nothing behind.

    Args:
        artifacts: gets them.
        folder: local, for the incomplete file.
        limit: the most bytes that are taken.
    """

    def __init__(self, artifacts: Artifacts, folder: Path, limit: int | None) -> None:
        self._artifacts = artifacts
        self._limit = limit
        self._digest = hashlib.sha256()
        self._size = 0
        with _faults("written"):
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=_UPLOAD, dir=folder)
        self._file = os.fdopen(handle, "w+b")
        self._temporary: Path | None = Path(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    @property
    def path(self) -> Path:
        """The incomplete file, with all that was written so far."""
        if self._temporary is None:
            msg = "the upload has ended; ask the Artifact for its path"
            raise ValueError(msg)
        with _faults("written"):
            self._file.flush()
        return self._temporary

    @property
    def sha256(self) -> str:
        """Hash of what was written so far."""
        return self._digest.hexdigest()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, chunk: bytes) -> None:
        """Append bytes.

        Raises:
            TooLargeError: the limit is exceeded.
            StorageError: they cannot be written.
        """
        self._size += len(chunk)
        if self._limit is not None and self._size > self._limit:
            raise TooLargeError(self._limit)
        self._digest.update(chunk)
        with _faults("written"):
            self._file.write(chunk)

    def commit(self) -> Artifact:
        """Put the file in its place, durably."""
        temporary = self.path
        with _faults("written"):
            os.fsync(self._file.fileno())
            artifact = self._artifacts.keep(temporary, self.sha256, self._size)
        self._temporary = None
        return artifact

    def confirm(self) -> None:
        """After `commit` and the row that names the artifact: put it again, should a collection have taken it."""
        if self._artifacts.age(self.sha256) is None:
            self._file.seek(0)  # the open file has its bytes even where no name leads to it any more
            self._artifacts.put(iter(lambda: self._file.read(_PIECE), b""))

    def abort(self) -> None:
        """Forget the bytes; what was committed stays."""
        with contextlib.suppress(OSError):  # a full disk refuses what the buffer still held
            self._file.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None


@contextlib.contextmanager
def _faults(done: str, sha256: str | None = None) -> Iterator[None]:
    """Turn what the operating system says about a file into the errors of this module."""
    what = "artifacts" if sha256 is None else f"artifact {sha256}"
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        if sha256 is None:
            msg = f"{what} cannot be {done}: {error.strerror}"
            raise StorageError(msg) from error
        raise NotFoundError(sha256, kind="artifact") from error
    except OSError as error:
        if is_full(error):
            msg = f"{what} cannot be {done}: {error.strerror}; free some space, the service goes on by itself"
            raise StorageFullError(msg) from error
        msg = f"{what} cannot be {done}: {error.strerror or type(error).__name__}"
        raise StorageError(msg) from error


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room left, on a disk or in a quota."""
    return isinstance(error, OSError) and error.errno in _FULL


def _sync_directory(path: Path) -> None:
    """Make a rename inside ``path`` survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
