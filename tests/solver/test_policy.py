"""The table of numbers says each of them once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from solver import policy, rungs


def test_every_number_is_set_once_and_listed():
    tree = ast.parse(Path(policy.__file__).read_text())
    names = [node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)]
    assert sorted(names) == sorted({*policy.__all__, "__all__"})


@pytest.mark.parametrize(("left", "turn"), [(-1, 0), (0, 0), (1, 0.4), (20, 2), (100, 5), (300, 15), (720, 15)])
def test_the_first_turn_of_relu_splits_is_neither_too_short_nor_too_long(left, turn):
    share = rungs._first_share(left)
    assert 0 <= share <= policy.BAB_SHARE
    assert share * max(left, 0) == pytest.approx(turn)
