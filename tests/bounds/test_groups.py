"""Groups hold every entry, and only entries of one box in a row."""

from __future__ import annotations

import numpy as np
import torch

from bounds.groups import group


def test_every_entry_is_in_a_group() -> None:
    rng = np.random.default_rng(0)
    for rows in (1, 3, 7, 100):
        box = torch.as_tensor(np.sort(rng.integers(0, 12, 60)))
        seen = []
        for entries in group(box, rows):
            assert entries.numel() <= max(rows, 1)
            assert (box[entries] == box[entries[:, :1]]).all()
            seen += entries.flatten().tolist()
        assert sorted(set(seen)) == list(range(60))


def test_boxes_without_entries_are_left_out() -> None:
    box = torch.tensor([1, 1, 4])
    assert sorted({int(i) for entries in group(box, 10) for i in entries.flatten()}) == [0, 1, 2]
    assert not list(group(box[:0], 10))
