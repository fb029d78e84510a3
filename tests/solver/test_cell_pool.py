from __future__ import annotations

import math

import pytest
import torch

from solver import policy
from solver.cell_pool import CellPool


def put(pool: CellPool, bounds: list[float], columns: int = 3) -> None:
    values = torch.tensor(bounds, dtype=torch.float64)
    phases = torch.arange(len(bounds), dtype=torch.int8)[:, None].expand(-1, columns)
    numbers = torch.arange(len(bounds)) + 10
    pool.put(values, phases, values[:, None, None].expand(-1, 2, columns).float(), numbers)


def test_the_weakest_come_first_with_what_belongs_to_them() -> None:
    pool = CellPool(3, 2)
    put(pool, [-1.0, -3.0, -2.0])
    assert pool.lower == -3
    batch = pool.take(2)
    assert batch.bound.tolist() == [-3, -2]
    assert batch.phases.tolist() == [[1] * 3, [2] * 3]
    assert batch.branch.tolist() == [11, 12]
    assert batch.theta is not None
    assert batch.theta[:, 0, 0].tolist() == [-3, -2]
    assert (len(pool), pool.lower) == (1, -1)
    assert pool.take(5).bound.tolist() == [-1]
    assert pool.lower == math.inf


def test_slots_grow_and_are_used_again() -> None:
    pool = CellPool(3, 0)
    for turn in range(5):
        put(pool, [-float(i) for i in range(100)])
        assert len(pool) == (turn + 1) * 100
    assert pool.take(1).theta is None
    taken = pool.take(499).bound
    assert (taken[1:] >= taken[:-1]).all()
    slots = len(pool._phases)
    put(pool, [-float(i) for i in range(100)])
    assert len(pool._phases) == slots


def test_a_full_pool_goes_deep_and_keeps_its_weakest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "BAB_MEMORY", 40)
    pool = CellPool(3, 0)
    put(pool, [-float(i) for i in range(50)])
    pool.take(10)
    assert pool.lower == -49
