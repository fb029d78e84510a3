"""The checker from netproof's wheel, in an environment that has NumPy and onnx and nothing else."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from certificates import check
from tests.certificates.proofs import proven

ROOT = Path(__file__).parents[2]
#: NumPy, onnx, and what onnx itself imports.
NEEDED = ["numpy", "onnx", "google.protobuf", "ml_dtypes", "typing_extensions"]


def expose(module: str, site: Path) -> None:
    """Links an installed module, and the libraries beside it, into an environment."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    origin = Path(spec.origin)
    source = origin.parent if origin.name == "__init__.py" else origin
    target = site.joinpath(*module.split(".")[:-1], source.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)
    libraries = source.parent / f"{module}.libs"
    if libraries.is_dir():
        (site / libraries.name).symlink_to(libraries)


def wheel(folder: Path) -> Path:
    """The wheel, as pip builds it."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode and "hatchling" in done.stderr:
        pytest.skip("the wheel's build needs hatchling, which pip could not get")
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("netproof-*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_checks_with_numpy_and_onnx_alone(tmp_path: Path) -> None:
    home = tmp_path / "audit"
    venv.create(home, with_pip=False)
    (site,) = home.glob("lib/python*/site-packages")
    for module in NEEDED:
        expose(module, site)
    with zipfile.ZipFile(wheel(tmp_path / "wheels")) as archive:
        archive.extractall(site)  # which is all that installing a wheel without scripts does
    python = home / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for kind in ("boxes", "phases"):
        network, data = proven(kind)
        (tmp_path / "proof").write_bytes(data)
        (tmp_path / "net.onnx").write_bytes(network.model)
        for options in ([], ["--float32"], ["--exact"]):
            command = [str(python), "-m", "certificates", "proof", "net.onnx", *options]
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode in {0, 1}, done.stderr
            assert done.returncode == 0 or options == ["--float32"]
        report = check(data, network)
        assert f"{report.claims} claims" in done.stdout
    for absent in ("torch", "scipy", "pyomo", "highspy", "gurobipy", "onnxruntime", "flint"):
        command = [str(python), "-c", f"import {absent}"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=60)
        assert done.returncode == 1
    (tmp_path / "proof").write_bytes(data[:100])
    command = [str(python), "-m", "certificates", "proof", "net.onnx"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "damaged or truncated" in done.stderr
