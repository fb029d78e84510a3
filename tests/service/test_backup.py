"""A backup of a running service, restored elsewhere, answers with its evidence."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

import netproof
from netproof.cli import cli
from service.artifacts import FolderArtifacts
from service.backup import back_up, check_stored, restore
from service.errors import BackupError
from service.settings import Settings
from tests.service.serving import NETWORK, Service, ball


def admin(folder: Path, *arguments: str, database: str | None = None) -> tuple[int, dict[str, object]]:
    """What ``netproof admin`` prints for a data directory."""
    named = ["--data-dir", str(folder), *(["--database", database] if database else [])]
    ran = CliRunner().invoke(cli, ["admin", *named, *arguments], standalone_mode=False)
    assert ran.exception is None, ran.output
    return ran.return_value, json.loads(ran.stdout)


@pytest.fixture
def on_sqlite(live: Service) -> Service:
    """The service, whose backup holds the ledger, too."""
    if live.settings.database_url:
        pytest.skip("a PostgreSQL ledger is copied by its own tools; test_postgresql_is_left_to_its_own_tools has that")
    return live


def certified(service: Service) -> httpx.Response:
    """An answer with a certificate, waited for."""
    answer = service.ask(ball(epsilon=0.002, label=1), certificate=True)
    while answer.json()["state"] not in {"succeeded", "failed"}:
        answer = service.http.get(f"/v1/jobs/{answer.json()['id']}", params={"wait": 30})
    assert answer.json()["verdict"]["trust"] == "certified", answer.text
    return answer


def test_a_restored_service_answers_with_the_certificate(on_sqlite: Service, tmp_path: Path) -> None:
    asked = certified(on_sqlite).json()
    code, manifest = admin(on_sqlite.settings.data_dir, "backup", str(tmp_path / "backup"))
    assert (code, manifest["missing"]) == (0, [])
    artifacts = tmp_path / "backup" / "artifacts"
    before = {path: path.stat().st_mtime_ns for path in artifacts.rglob("*") if path.is_file()}
    assert before
    again = back_up(on_sqlite.settings, tmp_path / "backup")
    assert again["artifacts"] == manifest["artifacts"]
    assert before == {path: path.stat().st_mtime_ns for path in artifacts.rglob("*") if path.is_file()}, "copied once"

    code, _ = admin(tmp_path / "new" / "data", "restore", str(tmp_path / "backup"))
    assert code == 0
    assert admin(tmp_path / "new" / "data", "check", "--read")[0] == 0
    restored = Service(tmp_path / "new")
    try:
        job = restored.http.get(f"/v1/jobs/{asked['id']}").json()
        assert job["verdict"] == asked["verdict"]
        proof = restored.http.get(f"/v1/jobs/{asked['id']}/certificate").content
        (tmp_path / "proof.zip").write_bytes(proof)
        (tmp_path / "network.onnx").write_bytes(NETWORK)
        assert netproof.check(tmp_path / "proof.zip", tmp_path / "network.onnx").proven
        later = certified(restored).json()
        assert later["verdict"]["cached_from"]["job"] == asked["id"], "answered at once, without a worker"
    finally:
        restored.close()


def test_what_is_missing_or_damaged_is_said(on_sqlite: Service, tmp_path: Path) -> None:
    certified(on_sqlite)
    back_up(on_sqlite.settings, tmp_path / "backup")
    settings = Settings(data_dir=tmp_path / "data")
    restore(settings, tmp_path / "backup")
    store = FolderArtifacts(settings.artifact_dir)
    lost, hurt = sorted(store.names())[:2]
    store.delete(lost)
    store.path(hurt).write_bytes(b"other")
    code, found = admin(settings.data_dir, "check", "--read")
    assert code == 70
    assert found["missing"] == [lost]
    assert found["damaged"] == [hurt]
    code, _ = admin(settings.data_dir, "check")
    assert code == 70
    with pytest.raises(BackupError, match="a ledger at"):
        restore(settings, tmp_path / "backup")


def test_folders_that_hold_something_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(BackupError, match="not empty and holds no backup"):
        back_up(Settings(data_dir=tmp_path / "data"), tmp_path / "mine")
    with pytest.raises(BackupError, match="no complete backup"):
        restore(Settings(data_dir=tmp_path / "data"), tmp_path / "mine")
    ran = CliRunner().invoke(cli, ["admin", "--data-dir", str(tmp_path / "data"), "restore", str(tmp_path / "mine")])
    assert ran.exit_code != 0
    assert "no complete backup" in ran.output


def test_commands_need_a_ledger_to_look_after(tmp_path: Path) -> None:
    ran = CliRunner().invoke(cli, ["admin", "--data-dir", str(tmp_path), "gc"])
    assert ran.exit_code != 0
    assert "there is no ledger in" in ran.output
    assert not (tmp_path / "ledger.db").exists()


def test_collecting_by_command(live: Service) -> None:
    certified(live)
    database = live.settings.database_url
    code, found = admin(live.settings.data_dir, "gc", "--dry-run", database=database)
    assert code == 0
    assert found["dry_run"] is True
    assert found["jobs"] == 0
    code, found = admin(live.settings.data_dir, "gc", "--vacuum", database=database)
    assert (code, found["jobs"], found["artifacts"]) == (0, 0, 0)
    code, found = admin(live.settings.data_dir, "stats", database=database)
    assert found["rows"]["jobs"] > 0
    assert found["artifacts"] > 0


def test_postgresql_is_left_to_its_own_tools(postgres, tmp_path: Path) -> None:
    from service.ledger import Ledger

    url = postgres.database()
    ledger = Ledger(url)
    ledger.create()
    settings = Settings(data_dir=tmp_path / "data", database_url=url)
    sha256 = FolderArtifacts(settings.artifact_dir).put(b"network").sha256
    from tests.service.records import add_network

    add_network(ledger, sha256)
    manifest = back_up(settings, tmp_path / "backup")
    assert (manifest["ledger"], manifest["artifacts"]) == (None, 1)
    other = Settings(data_dir=tmp_path / "other", database_url=url)
    restore(other, tmp_path / "backup")
    assert check_stored(ledger, FolderArtifacts(other.artifact_dir), read=True).missing == ()
    ledger.close()
