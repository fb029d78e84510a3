"""The package as it is shipped: names, versions, metadata, light imports, and files that must agree with each other."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import netproof
from service.settings import Settings

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_public_names_are_sorted_and_exist():
    assert sorted(netproof.__all__) == netproof.__all__
    for name in netproof.__all__:
        assert getattr(netproof, name) is not None
    assert set(netproof.__all__) <= set(dir(netproof))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'verfiy'"):
        netproof.verfiy  # noqa: B018


def test_version_is_the_projects():
    assert netproof.__version__ == PROJECT["version"]


def test_entry_point_exists():
    module, _, function = PROJECT["scripts"]["netproof"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_wheel_holds_every_package():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages == set(WHEEL)


def test_every_package_documents_itself_and_sorts_its_names():
    for name in WHEEL:
        module = importlib.import_module(name)
        assert module.__doc__, name
        assert list(module.__all__) == sorted(module.__all__), name


def requirement_name(line: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!;~ ]", line, maxsplit=1)[0]).lower()


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {requirement_name(name): version for name, version in pins.items()}


def test_constraints_pin_every_requirement():
    wanted = [*PROJECT["dependencies"], *(r for group in PROJECT["optional-dependencies"].values() for r in group)]
    assert not {requirement_name(line) for line in wanted} - set(constraints())


def test_constraints_carry_no_local_versions():
    assert not [version for version in constraints().values() if not re.fullmatch(r"[\w.]+", version)]


@pytest.mark.parametrize("package", ["netproof.cli", "service", "networks", "solver", "netproof"])
def test_import_is_light(package: str):
    heavy = {"torch", "pyomo", "highspy", "gurobipy", "onnx", "onnxruntime", "rich", "fastapi", "scipy"}
    if package == "netproof.cli":
        heavy |= {"numpy", "pydantic", "httpx"}
    code = f"import sys, {package}; print(*sorted({heavy!r} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.split() == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")), ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_setting_is_documented():
    table = (ROOT / "docs" / "service.md").read_text()
    assert set(re.findall(r"^\| `NETPROOF_(\w+)`", table, re.MULTILINE)) == {n.upper() for n in Settings.model_fields}
