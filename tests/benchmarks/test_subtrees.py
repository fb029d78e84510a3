from __future__ import annotations

from pathlib import Path

from benchmarks.subtrees import coordinate


def test_parts_go_through_a_ledger(tmp_path: Path) -> None:
    cost = coordinate(3, tmp_path)
    assert cost.parts == 3
    assert min(cost.give, cost.look, cost.work, cost.transactions) > 0
