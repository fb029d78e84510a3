"""The direction of imports, the weight of imports, and the public names of every package."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ALLOWED = {
    "netproof": {"service", "solver", "bounds", "certificates", "networks"},
    "service": {"solver", "bounds", "certificates", "networks"},
    "solver": {"bounds", "certificates", "networks"},
    "bounds": {"networks"},
    "certificates": {"networks"},
    "networks": set(),
}
"""Which of our packages each of them may import: only those to its right in DESIGN's layering."""

FORBIDDEN = {
    "networks": {"torch", "pyomo", "scipy", "highspy", "gurobipy"},
    "certificates": {"torch", "pyomo", "scipy", "highspy", "gurobipy", "onnxruntime"},
    "bounds": {"pyomo", "gurobipy"},
    "solver": {"fastapi", "sqlalchemy", "rq", "redis", "click"},
}
"""What a package must do without altogether."""

HEAVY = ("gurobipy", "highspy", "onnx", "onnxruntime", "pyomo", "scipy", "torch")


def name_of(path):
    return str(path.relative_to(ROOT))


def imported(path):
    """Top-level names that a module imports anywhere, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} line {node.lineno}: imports are absolute here"
            names.add((node.module or "").partition(".")[0])
    return names


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def test_every_package_exists():
    assert {package for package in ALLOWED if modules(package)} == set(ALLOWED)


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package):
    for path in modules(package):
        names = imported(path)
        ours = (names & set(ALLOWED)) - {package}
        assert ours <= ALLOWED[package], f"{name_of(path)} must not import {sorted(ours - ALLOWED[package])}"
        assert not names & FORBIDDEN.get(package, set()), name_of(path)
        assert "tests" not in names, name_of(path)


@pytest.mark.parametrize("package", ALLOWED)
def test_public_names_are_listed_and_sorted(package):
    for path in modules(package):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lists = [
            node.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name) and target.id == "__all__"
        ]
        if path.name == "__init__.py":
            assert ast.get_docstring(tree), f"{name_of(path)} must say what the package is about"
            assert lists or len(tree.body) <= 2, f"{name_of(path)} must list its public names"
        for value in lists:
            names = list(ast.literal_eval(value))
            assert names == sorted(set(names), key=_rank), f"{name_of(path)}: sort __all__ (ruff RUF022 does)"


def _rank(name):
    """The order that ruff's RUF022 keeps: constants, classes, then the rest."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, name


def loaded_after(statement):
    """Which heavy packages a fresh interpreter has loaded after the statement."""
    probe = f"import sys, json; {statement}; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_certificates_is_light():
    assert loaded_after("import certificates") == []


def test_importing_networks_is_light():
    assert loaded_after("import networks") == []


@pytest.mark.parametrize("module", ["service.app", "netproof", "netproof.cli"])
def test_web_process_and_command_line_are_light(module):
    assert loaded_after(f"import {module}") == []


def test_help_is_light():
    help_text = "sys.argv = ['netproof', '--help']; sys.exit = lambda *_: None; from netproof.cli import main; main()"
    assert loaded_after(help_text) == []


def test_a_decision_begins_without_optimisers():
    assert not {"highspy", "pyomo", "scipy"} & set(loaded_after("import solver.kinds, solver.ladder, solver.root"))


def test_bounds_needs_no_solver_library_to_import():
    assert not {"pyomo", "gurobipy", "onnxruntime"} & set(loaded_after("import bounds"))
