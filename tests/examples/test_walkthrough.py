"""What the README and ``make demo`` promise, done as they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from netproof.local import local_service

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with local_service(workers=1) as url:
        end = time.monotonic() + 30
        while not (answer := httpx.get(f"{url}/readyz", timeout=30).json())["ready"]:
            assert time.monotonic() < end, answer
            time.sleep(0.2)
        yield url
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/healthz", timeout=2)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment)


def test_demo_shows_both_verdicts():
    done = run([sys.executable, "examples/demo.py"])
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(robust|counterexample|unknown)  in", done.stdout, re.MULTILINE) == [
        "robust",
        "counterexample",
    ]
    assert "which the network takes for a" in done.stdout
    assert done.stdout.endswith("the service has stopped\n")


def test_python_block_runs():
    (block,) = blocks("python")
    done = run([sys.executable, "-c", block])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("counterexample (")


def test_command_lines_end_as_they_say(tmp_path):
    calls = re.findall(r"^\$ (netproof (?:verify|check) .*)\n(\w+) ", README, re.MULTILINE)
    assert len(calls) == 3
    for call, verdict in calls:
        done = run([sys.executable, "-m", *call.replace("proof.zip", str(tmp_path / "proof.zip")).split()])
        assert done.stdout.startswith(verdict), done.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_block_gets_a_verdict(url):
    (block,) = blocks("bash")
    done = run(["bash", "-euo", "pipefail", "-c", block.replace("http://127.0.0.1:8000", url)])
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert job["state"] == "succeeded"
    assert job["verdict"]["verdict"] == "robust"


def test_make_help_lists_every_target():
    listed = set(re.findall(r"^  make ([\w-]+)", run(["make", "help"]).stdout, re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE).group(1).split())
    assert listed == phony


def test_make_refuses_an_old_python(tmp_path):
    old = tmp_path / "python2"
    old.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (2, 7); exec(sys.argv[1])" "$2"\n'
    )
    old.chmod(0o755)
    done = run(["make", "venv", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"])
    assert done.returncode != 0
    assert f"netproof needs Python 3.11 or newer, but {old} is 2.7" in done.stdout + done.stderr


def test_continuous_integration_is_make_check():
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make check")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "$(PYTEST)" in MAKEFILE.partition("\ncheck:")[2].partition("\n\n")[0]
    assert re.search(r"^PYTEST +:= .*pytest", MAKEFILE, re.MULTILINE)
