"""Artifacts behind a URL: S3's protocol, and fsspec's own stores."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from service import object_store
from service.artifacts import Artifacts, FolderArtifacts, open_artifacts
from service.errors import NotFoundError, StorageDamagedError, StorageError, TooLargeError
from service.object_store import ObjectArtifacts
from service.settings import Settings
from tests.service.s3 import SECRET, FakeS3

pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'netproof[s3]'")

DATA = b"abc" * 1000
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    pytest.importorskip("obstore", reason="obstore is not installed: pip install 'netproof[s3]'")
    monkeypatch.setattr(object_store, "_PAUSES", (0.01, 0.02))
    with FakeS3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture(params=["folder", "memory", "draft", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifacts:
    """Artifacts in each kind of place; ``draft`` is a store that shows incomplete writes."""
    if request.param == "folder":
        return FolderArtifacts(tmp_path / "artifacts")
    if request.param == "s3":
        request.getfixturevalue("s3")
        url = f"s3://bucket/{uuid.uuid4().hex}"
    else:
        url = f"memory://{uuid.uuid4().hex}"
    if request.param == "draft":
        monkeypatch.setattr(object_store, "_ATOMIC", frozenset())
    return ObjectArtifacts(url, tmp_path / "cache", cache_bytes=2**20)


def remote(tmp_path: Path, machine: str, **changes: int) -> ObjectArtifacts:
    return ObjectArtifacts("s3://bucket/some/prefix", tmp_path / machine, **{"cache_bytes": 2**20, **changes})


def test_what_was_put_is_read_named_and_deleted(store: Artifacts) -> None:
    assert list(store.names()) == []
    artifact = store.put([DATA[:10], DATA[10:]])
    assert (artifact.sha256, artifact.size) == (NAME, len(DATA))
    assert artifact.path.read_bytes() == DATA
    assert store.get(NAME) == artifact
    assert store.read(NAME) == DATA
    assert list(store.names()) == [NAME]
    age = store.age(NAME)
    assert age is not None
    assert age < 60
    assert store.delete(NAME) == len(DATA)
    assert store.delete(NAME) == 0
    assert store.age(NAME) is None
    assert list(store.names()) == []
    with pytest.raises(NotFoundError):
        store.read(NAME)


def test_what_a_collection_took_is_put_again(store: Artifacts) -> None:
    with store.upload() as upload:
        upload.write(DATA)
        upload.commit()
        store.delete(NAME)
        upload.confirm()
    assert store.read(NAME) == DATA
    store.delete(NAME)
    store.confirm(DATA)
    assert store.read(NAME) == DATA


def test_uploads_beyond_the_limit_or_given_up_leave_nothing(store: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(TooLargeError):
        store.put([b"abc", b"de"], limit=4)
    with store.upload() as upload:
        upload.write(b"abc")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list(store.names()) == []


def test_files_of_dead_uploads_are_tidied_up(store: Artifacts, tmp_path: Path) -> None:
    upload = store.upload()
    upload.write(b"abc")
    assert store.tidy(3600) == 0
    assert store.tidy(0) == 1
    upload.abort()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63])
def test_what_is_no_hash_is_no_artifact(store: Artifacts, name: str) -> None:
    for ask in (store.get, store.read, store.delete, store.age):
        with pytest.raises(NotFoundError):
            ask(name)


def test_machines_share_what_is_in_the_store(s3: FakeS3, tmp_path: Path) -> None:
    remote(tmp_path, "one").put(DATA)
    assert list(s3.objects) == [f"some/prefix/{NAME[:2]}/{NAME}"]
    other = remote(tmp_path, "two")
    assert other.read(NAME) == DATA
    assert (tmp_path / "two") in other.get(NAME).path.parents
    gets = s3.counts["GET"]
    assert other.read(NAME) == DATA
    assert s3.counts["GET"] == gets, "read from the local copy"


def test_large_artifacts_go_in_parts(s3: FakeS3, tmp_path: Path) -> None:
    data = os.urandom(12 * 2**20)
    artifact = remote(tmp_path, "one").put(data)
    assert s3.counts["POST"] >= 2, "a multipart upload"
    assert remote(tmp_path, "two").read(artifact.sha256) == data


def test_equal_uploads_are_sent_once_and_refreshed_when_they_are_old(s3: FakeS3, tmp_path: Path) -> None:
    store = remote(tmp_path, "one")
    store.put(DATA)
    store.put(DATA)
    assert s3.counts["PUT"] == 1
    s3.age(7200)
    assert (store.age(NAME) or 0) > 7000
    store.put(DATA)
    assert s3.counts["PUT"] == 2
    assert (store.age(NAME) or 0) < 60


def test_damage_in_the_store_is_noticed(s3: FakeS3, tmp_path: Path) -> None:
    remote(tmp_path, "one").put(DATA)
    key = next(iter(s3.objects))
    s3.objects[key] = (b"other", 0.0)
    with pytest.raises(StorageDamagedError, match="other bytes"):
        remote(tmp_path, "two").get(NAME)
    assert [path for path in (tmp_path / "two").rglob("*") if path.is_file()] == [], "nothing half right stays"


def test_damage_of_a_local_copy_is_mended(s3: FakeS3, tmp_path: Path) -> None:
    store = remote(tmp_path, "one")
    store.put(DATA).path.write_bytes(b"other")
    assert store.read(NAME) == DATA


def test_damage_in_a_folder_is_noticed(tmp_path: Path) -> None:
    store = FolderArtifacts(tmp_path)
    store.put(DATA).path.write_bytes(b"other")
    with pytest.raises(StorageDamagedError, match="restore"):
        store.read(NAME)


def test_a_store_that_is_away_for_a_moment_is_asked_again(
    s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "_PAUSES", (0.1,) * 20)
    store = remote(tmp_path, "one")
    s3.denying, s3.failing = False, True
    back = threading.Timer(0.5, lambda: setattr(s3, "failing", False))
    back.start()
    store.put(DATA)
    back.join()
    assert remote(tmp_path, "two").read(NAME) == DATA


def test_refusals_name_neither_credentials_nor_addresses(
    s3: FakeS3, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = remote(tmp_path, "one")
    s3.denying = True
    with caplog.at_level(logging.DEBUG), pytest.raises(StorageError) as refused:
        store.put(DATA)
    for text in (str(refused.value), caplog.text):
        assert SECRET not in text
        assert s3.url not in text
    assert "refuses the credentials" in str(refused.value)


def test_a_bucket_that_is_not_there_is_said_so(s3: FakeS3, tmp_path: Path) -> None:
    store = ObjectArtifacts("s3://elsewhere/x", tmp_path, cache_bytes=2**20)
    with pytest.raises(StorageError, match="no bucket or folder elsewhere"):
        store.put(DATA)


def test_local_copies_are_limited_but_those_in_use_stay(
    s3: FakeS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = remote(tmp_path, "one", cache_bytes=2500)
    pieces = [bytes([i]) * 1000 for i in range(4)]
    kept = [store.put(piece) for piece in pieces]
    assert all(artifact.path.exists() for artifact in kept), "just used"
    monkeypatch.setattr(object_store, "_IN_USE_SECONDS", 10.0)
    for i, artifact in enumerate(kept):
        os.utime(artifact.path, (1000 + i, 1000 + i))
    store.get(kept[0].sha256)
    store.put(b"new")
    assert [artifact.path.exists() for artifact in kept] == [True, False, False, True]
    assert store.read(kept[1].sha256) == pieces[1], "fetched again"


def test_settings_choose_the_place(tmp_path: Path) -> None:
    default = open_artifacts(Settings(data_dir=tmp_path))
    assert isinstance(default, FolderArtifacts)
    assert default.root == tmp_path / "artifacts"
    for place in (str(tmp_path / "share"), f"file://{tmp_path}/share"):
        folder = open_artifacts(Settings(data_dir=tmp_path, artifacts=place))
        assert isinstance(folder, FolderArtifacts)
        assert folder.root == tmp_path / "share"
    assert isinstance(open_artifacts(Settings(data_dir=tmp_path, artifacts="memory://x")), ObjectArtifacts)


def test_credentials_in_the_url_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="must not hold credentials"):
        Settings(data_dir=tmp_path, artifacts="s3://key:secret@bucket/prefix")


def test_an_unknown_scheme_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="gopher"):
        ObjectArtifacts("gopher://x/y", tmp_path, cache_bytes=1)
