"""The package as it is shipped: names, versions, metadata, light imports, and files that must agree with each other."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import netproof
from networks.examples import EXAMPLES
from service.settings import Settings

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
WHEEL = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


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


def test_wheel_holds_the_examples():
    added = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert added == {f"examples/{name}": f"networks/digits/{name}" for name in EXAMPLES}


def test_a_wheel_has_all_that_runs_and_nothing_else(tmp_path):
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("netproof-*-py3-none-any.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    here = {path.name for path in site.iterdir()}
    assert here == {*WHEEL, f"netproof-{PROJECT['version']}.dist-info"}
    for package in WHEEL:
        assert (site / package / "py.typed").exists(), package
        ours = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.*") if "__pycache__" not in path.parts}
        assert {path for path in ours if not (site / path).exists()} == set()
    code = "import sys; sys.path.insert(0, sys.argv[1]); from netproof.cli import main; main(['examples', 'here'])"
    subprocess.run([sys.executable, "-c", code, site], cwd=tmp_path, check=True)
    for name in EXAMPLES:
        assert (tmp_path / "here" / name).read_bytes() == (ROOT / "examples" / name).read_bytes()


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


def test_every_setting_is_documented_with_its_default(monkeypatch):
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    page = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| `NETPROOF_(\w+)` \| (?:`(.*?)`)? +\|", page, re.MULTILINE)
    fields = {
        name.upper(): field.get_default(call_default_factory=True) for name, field in Settings.model_fields.items()
    }
    assert len(rows) == len(fields)
    assert dict(rows) == {name: written_default(value) for name, value in fields.items()}


def written_default(value: object) -> str:
    """A default as the manual writes it."""
    if value is None:
        return ""
    if isinstance(value, Path):
        return str(value).replace(str(Path.home()), "~")
    return f"{value:.15g}" if isinstance(value, float) else str(value)
