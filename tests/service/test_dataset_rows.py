"""Inputs of a stored data set, read one by one."""

from __future__ import annotations

import numpy as np
import pytest

from networks.dataset import Dataset
from service.dataset_rows import read_rows


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_those_of_the_whole(tmp_path, dtype, order):
    rng = np.random.default_rng(0)
    images = np.asarray(rng.integers(0, 256, (23, 3, 5)), dtype, order=order)
    labels = rng.integers(0, 10, 23)
    path = tmp_path / "stored.npz"
    np.savez(path, images=images, labels=labels)
    whole = Dataset.read(path)
    for begin, end in [(0, 1), (7, 19), (22, 23), (20, 40), (23, 30)]:
        rows = read_rows(path, begin, end)
        assert np.array_equal(rows.stored, whole.stored[begin:end])
        assert np.array_equal(rows.labels, whole.labels[begin:end])
    assert np.array_equal(read_rows(path, 7, 8).input(0), whole.input(7))
