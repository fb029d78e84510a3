"""Content-addressed files: whole or absent, equal uploads once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from service.artifacts import FolderArtifacts
from service.errors import NotFoundError, TooLargeError


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_artifact_is_found_by_its_hash(tmp_path: Path) -> None:
    store = FolderArtifacts(tmp_path)
    artifact = store.put([b"ab", b"c"])
    assert artifact.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert artifact.size == 3
    assert store.read(artifact.sha256) == b"abc"
    assert store.get(artifact.sha256) == artifact
    assert artifact.path.parent.name == artifact.sha256[:2]


def test_equal_uploads_are_one_file(tmp_path: Path) -> None:
    store = FolderArtifacts(tmp_path)
    assert store.put(b"abc") == store.put(b"abc")
    assert len(files(tmp_path)) == 1


def test_upload_beyond_the_limit_leaves_nothing(tmp_path: Path) -> None:
    store = FolderArtifacts(tmp_path)
    with pytest.raises(TooLargeError, match="larger than 4 bytes"):
        store.put([b"abc", b"de"], limit=4)
    assert files(tmp_path) == []


def test_abandoned_upload_leaves_nothing(tmp_path: Path) -> None:
    store = FolderArtifacts(tmp_path)
    with store.upload() as upload:
        upload.write(b"abc")
        assert len(files(tmp_path)) == 1
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63])
def test_what_is_no_hash_is_no_artifact(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match="there is no artifact"):
        FolderArtifacts(tmp_path).get(name)


def test_absent_artifact_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        FolderArtifacts(tmp_path).read("a" * 64)
