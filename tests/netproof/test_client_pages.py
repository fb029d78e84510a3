"""The pages about the Python client and about continuous integration say what is true: their code is run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.service.serving import Service

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DEFAULT = "http://127.0.0.1:8000"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def test_the_clients_page(service: Service, folder: Path) -> None:
    """All blocks, one after the other, in one program."""
    program = "\n".join(blocks("python-client.md", "python")).replace(DEFAULT, service.url)
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", f"{program}\nclient.close()"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "robust certified"
    assert "['counterexample', 'robust']" in said
    assert any(line.startswith("finished (") for line in said)
    assert "64" in said[-1], "the refusal names the number of inputs"
    assert (folder / "records.csv").read_text().count("\n") == 5


def shell(command: str, folder: Path, service: Service) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment | {"NETPROOF_SERVER": service.url},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.parametrize("number", range(3), ids=["here", "submit", "curl"])
def test_the_gates_pass_a_robust_network_and_stop_another(number: int, service: Service, folder: Path) -> None:
    if number == 2 and subprocess.run(["which", "curl"], capture_output=True, check=False).returncode:
        pytest.skip("there is no curl")
    gate = blocks("ci.md", "bash")[number]
    passed = shell(gate, folder, service)
    assert passed.returncode == 0, passed.stderr
    stopped = shell(gate.replace("digits_robust", "digits_plain"), folder, service)
    assert stopped.returncode == 1, stopped.stderr


def test_the_workflow_is_one_and_its_steps_run(service: Service, folder: Path) -> None:
    (text,) = blocks("ci.md", "yaml")
    steps = yaml.safe_load(text)["jobs"]["robustness"]["steps"]
    named = {step["name"]: step["run"] for step in steps if "name" in step}
    (folder / "models").mkdir()
    (folder / "models" / "digits.onnx").write_bytes((ROOT / "examples" / "digits_robust.onnx").read_bytes())
    verify = named["verify"].replace("${{ matrix.specification }}", "examples/digits.vnnlib")
    assert shell(verify, folder, service).returncode == 0
    assert json.loads((folder / "verdict.json").read_text())["verdict"] == "robust"
    assert (folder / "proof.zip").stat().st_size > 100
    summary = shell(named["summary"].replace('"$GITHUB_STEP_SUMMARY"', "summary.md"), folder, service)
    assert summary.returncode == 0, summary.stderr
    assert (folder / "summary.md").read_text().startswith("### robust\n\nmargin ")
