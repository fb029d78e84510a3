from __future__ import annotations

import math

import torch

from solver.cell_pool import Batch, CellPool


def pool_of(rows: int, memory: int = 2**20) -> CellPool:
    low, high = torch.full((3,), -10.0, dtype=torch.float64), torch.full((3,), 0.1, dtype=torch.float64)
    return CellPool(low, high, rows, memory)


def put(pool: CellPool, bounds: list[float], columns: int = 3) -> None:
    values = torch.tensor(bounds, dtype=torch.float64)
    low = values[:, None].expand(-1, columns) / 10
    high = torch.full_like(low, 0.1)
    theta = values[:, None, None].expand(-1, 2, columns).float()
    pool.put(Batch(values, low, high, theta, torch.arange(len(bounds)) + 10))


def test_the_weakest_come_first_with_what_belongs_to_them() -> None:
    pool = pool_of(2)
    put(pool, [-1.0, -3.0, -2.0])
    assert pool.lower == -3
    batch = pool.take(2)
    assert batch.bound.tolist() == [-3, -2]
    assert batch.branch.tolist() == [11, 12]
    assert batch.theta is not None
    assert batch.theta[:, 0, 0].tolist() == [-3, -2]
    assert (len(pool), pool.lower) == (1, -1)
    assert pool.take(5).bound.tolist() == [-1]
    assert pool.lower == math.inf


def test_slots_grow_and_are_used_again() -> None:
    pool = pool_of(0)
    for turn in range(5):
        put(pool, [-float(i) for i in range(100)])
        assert len(pool) == (turn + 1) * 100
    assert pool.take(1).theta is None
    taken = pool.take(499).bound
    assert (taken[1:] >= taken[:-1]).all()
    slots = len(pool._bound)
    put(pool, [-float(i) for i in range(100)])
    assert len(pool._bound) == slots


def test_a_full_pool_goes_deep_and_keeps_its_weakest() -> None:
    pool = pool_of(0, memory=40)
    put(pool, [-float(i) for i in range(50)])
    pool.take(10)
    assert pool.lower == -49


def test_bounds_of_pre_activations_are_rounded_outward_and_the_root_s_are_kept() -> None:
    pool = pool_of(0)
    put(pool, [-1.0, -3.0])
    batch = pool.take(2)
    exact = torch.tensor([-3.0, -1.0], dtype=torch.float64) / 10
    assert (batch.low[:, 0] <= exact).all()
    torch.testing.assert_close(batch.low[:, 0], exact, atol=0, rtol=2**-23)
    assert (batch.high == 0.1).all()
