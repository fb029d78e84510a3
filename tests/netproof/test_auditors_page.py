"""The page for auditors says what is true: its example is real, and its program accepts that question and no other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import certificates
from tests.netproof.conftest import EXAMPLES

ROOT = EXAMPLES.parent
PAGE = (ROOT / "docs" / "auditors.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's commands were run."""
    folder = tmp_path_factory.mktemp("auditor")
    (folder / "examples").symlink_to(EXAMPLES)
    (command,) = re.findall(r"^\$ netproof (verify .*)$", PAGE, re.MULTILINE)
    done = netproof(folder, *command.split())
    assert done.returncode == 0, done.stderr
    said = [line.strip() for line in done.stdout.splitlines()]
    for line in re.findall(r"^  (?:trust|claim) .*$", PAGE, re.MULTILINE):
        assert line.strip() in said
    return folder


def netproof(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "netproof", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_certificate_is_what_the_page_says(folder: Path) -> None:
    data = (folder / "proof.zip").read_bytes()
    # Another machine's rounding may lead to another tree, so numbers are compared in size only.
    (kilobytes,) = re.findall(r"`proof.zip` has about ([\d.]+) kB", PAGE)
    assert len(data) / 1000 == pytest.approx(float(kilobytes), rel=0.3)
    for semantics in ("real", "float32"):
        report = certificates.check(data, _network(folder), semantics=semantics)
        assert str(report).partition(";")[0] in PAGE


def _network(folder: Path):
    from networks import load

    return load(folder / "examples" / "digits_robust.onnx", compare=False)


def test_the_program_knows_its_question(folder: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    def run(text: str) -> subprocess.CompletedProcess[str]:
        environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
        return subprocess.run(
            [sys.executable, "-c", text], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )

    assert run(program).stdout.startswith("the question is mine: 02b28419")
    for old, new in (("Fraction(1, 10)", "Fraction(1, 9)"), ("[10]", "[11]"), ("range(10)", "range(8)")):
        assert old in program
        assert "AssertionError" in run(program.replace(old, new)).stderr
