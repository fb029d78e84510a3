"""ONNX Runtime reports nothing to anybody."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READING = "import networks; networks.load('examples/digits_plain.onnx')"
REPLAYING = "import networks; n = networks.load('examples/digits_plain.onnx', compare=False); "
REPLAYING += "from solver.replay import Replayer; Replayer(n)"


@pytest.mark.parametrize("statement", [READING, REPLAYING], ids=["reading", "replaying"])
def test_no_report_is_kept_or_sent(tmp_path: Path, statement: str) -> None:
    """With reports, the library keeps a database in the home folder and a thread that sends it."""
    # it is silent by itself where it thinks to be tested
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "CI", "GITHUB"))}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    statement += "; import onnxruntime; print(onnxruntime.__version__)"
    done = subprocess.run([sys.executable, "-c", statement], env=environment, cwd=ROOT, check=True, capture_output=True)
    assert done.stdout
    assert [path for path in tmp_path.rglob("*") if "onnxruntime" in str(path)] == []


def test_the_library_is_imported_in_one_place() -> None:
    packages = ("networks", "bounds", "certificates", "solver", "service", "netproof")
    importing = [
        str(path.relative_to(ROOT))
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"^\s*(import|from) onnxruntime", path.read_text(), re.MULTILINE)
    ]
    assert importing == ["networks/runtime.py"]
