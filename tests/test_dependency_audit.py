"""The audit of dependencies fails on a known vulnerability, and says so when it could not look."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.small_servers import Handler, running

SCRIPT = Path(__file__).parents[1] / ".ci" / "audit.py"
ADVISORY = {
    "id": "PYSEC-2026-1",
    "modified": "2026-01-01T00:00:00Z",
    "published": "2026-01-01T00:00:00Z",
    "summary": "left open",
    "affected": [
        {
            "package": {"name": "leaky", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.2.4"}]}],
        }
    ],
}


class _Advisories(Handler):
    """An OSV service that knows one leak."""

    def answer(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"vulns": [ADVISORY]} if asked["package"]["name"] == "leaky" else {}).encode()
        self.reply(200, body, Content_Type="application/json")


@pytest.fixture(scope="module")
def advisories() -> Iterator[str]:
    with running(_Advisories) as url:
        yield f"{url}/v1/query"


def audit(folder: Path, pins: str, url: str) -> tuple[int, str]:
    file = folder / "pins.txt"
    file.write_text(pins)
    command = [sys.executable, str(SCRIPT), str(file), "--osv-url", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_known_vulnerability_fails(tmp_path: Path, advisories: str) -> None:
    status, said = audit(tmp_path, "tight==2.0\nleaky==1.2.3\n", advisories)
    assert (status, said) == (1, "leaky 1.2.3: PYSEC-2026-1, fixed in 1.2.4\n")


def test_sound_versions_pass(tmp_path: Path, advisories: str) -> None:
    assert audit(tmp_path, "tight==2.0\n", advisories) == (0, "no known vulnerability in 1 packages\n")


def test_without_a_network_nothing_is_claimed(tmp_path: Path) -> None:
    status, said = audit(tmp_path, "tight==2.0\n", "http://127.0.0.1:9/v1/query")
    assert status == 0
    assert said.startswith("not audited: the advisory service cannot be reached")


def test_a_broken_audit_fails(tmp_path: Path, advisories: str) -> None:
    status, said = audit(tmp_path, "this is not a pin !!\n", advisories)
    assert status == 1
    assert "pip-audit failed" in said
