"""The table of numbers says each of them once."""

from __future__ import annotations

import ast
from pathlib import Path

from solver import policy


def test_every_number_is_set_once_and_listed():
    tree = ast.parse(Path(policy.__file__).read_text())
    names = [node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)]
    assert sorted(names) == sorted({*policy.__all__, "__all__"})
