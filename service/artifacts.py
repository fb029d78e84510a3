"""Files by the hash of their content.

An artifact's name is the sha256 of its bytes, so equal uploads are one file, a file never changes, and a reader can
check what it got. Files appear whole or not at all: they are written beside their place, synced and renamed.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from service.errors import NotFoundError, TooLargeError

__all__ = ["Artifact", "Artifacts", "Upload"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored file."""

    sha256: str
    size: int
    path: Path


class Artifacts:
    """A folder of content-addressed files, spread over 256 subfolders by the first two digits."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def upload(self, *, limit: int | None = None) -> Upload:
        """A file in the making, to be used as a context manager; more than ``limit`` bytes raise TooLargeError."""
        return Upload(self, limit)

    def put(self, chunks: bytes | Iterable[bytes], *, limit: int | None = None) -> Artifact:
        """Store bytes, or a stream of them."""
        with self.upload(limit=limit) as upload:
            for chunk in (chunks,) if isinstance(chunks, bytes) else chunks:
                upload.write(chunk)
            return upload.commit()

    def path(self, sha256: str) -> Path:
        """Where the artifact is, or will be; raises NotFoundError for what cannot be a sha256."""
        if not _SHA256.fullmatch(sha256):
            raise NotFoundError(sha256, kind="artifact")
        return self.root / sha256[:2] / sha256

    def get(self, sha256: str) -> Artifact:
        """The stored artifact. Raises NotFoundError if it is not there."""
        path = self.path(sha256)
        try:
            return Artifact(sha256, path.stat().st_size, path)
        except FileNotFoundError as error:
            raise NotFoundError(sha256, kind="artifact") from error

    def read(self, sha256: str) -> bytes:
        """The artifact's bytes. Raises NotFoundError if it is not there."""
        return self.get(sha256).path.read_bytes()


class Upload:
    """Bytes on their way in; what is not committed leaves nothing behind."""

    def __init__(self, artifacts: Artifacts, limit: int | None) -> None:
        self._artifacts = artifacts
        self._limit = limit
        self._digest = hashlib.sha256()
        self._size = 0
        artifacts.root.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="upload-", dir=artifacts.root)
        self._file = os.fdopen(handle, "wb")
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
        """
        self._size += len(chunk)
        if self._limit is not None and self._size > self._limit:
            raise TooLargeError(self._limit)
        self._digest.update(chunk)
        self._file.write(chunk)

    def commit(self) -> Artifact:
        """Put the file in its place, durably."""
        temporary = self.path
        os.fsync(self._file.fileno())
        self._file.close()
        sha256 = self.sha256
        path = self._artifacts.path(sha256)
        path.parent.mkdir(exist_ok=True)
        temporary.replace(path)
        self._temporary = None
        _sync_directory(path.parent)
        return Artifact(sha256, self._size, path)

    def abort(self) -> None:
        """Forget the bytes; after `commit`, nothing."""
        self._file.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None


def _sync_directory(path: Path) -> None:
    """Make a rename inside ``path`` survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
