"""Which input to cut: what trials teach."""

from __future__ import annotations

import numpy as np

from solver import policy
from solver.pseudocosts import Pseudocosts


def test_trials_outweigh_a_prediction_that_misleads() -> None:
    cuts = Pseudocosts(3)
    score = np.array([[5.0, 1.0, 1.0]])
    lower, upper = np.zeros((1, 3)), np.ones((1, 3))
    for number in range(1, policy.BOX_TRY_ONE_IN + 1):
        box, entry = cuts.choose(lower, upper, score)
        assert sorted(entry) == ([0, 1, 2] if number == policy.BOX_TRY_ONE_IN else [0])
        gain = np.where(entry == 2, 0.5, 0.01)
        (best,) = cuts.best(box, entry, gain, score)
    assert entry[best] == 2
    many = 2 * policy.BOX_TRY_ONE_IN
    box, entry = cuts.choose(lower.repeat(many, 0), upper.repeat(many, 0), score.repeat(many, 0))
    counts = np.bincount(box, minlength=many)
    assert sorted(set(counts)) == [1, 3]
    assert np.count_nonzero(counts == 3) == 2
    assert (entry[counts[box] == 1] == 2).all()


def test_what_cannot_be_halved_is_never_cut() -> None:
    cuts = Pseudocosts(3)
    lower = np.array([[0.0, 0.5, 0.0], [0.5, 0.5, 0.5]])
    upper = np.array([[1.0, 0.5, np.nextafter(0, 1)], [0.5, 0.5, 0.5]])
    box, entry = cuts.choose(lower, upper, np.array([[0.0, 9.0, 9.0], [1.0, 1.0, 1.0]]))
    assert box.tolist() == [0]
    assert entry.tolist() == [0]


def test_the_widest_input_is_cut_where_nothing_is_predicted() -> None:
    cuts = Pseudocosts(2)
    box, entry = cuts.choose(np.zeros((1, 2)), np.array([[1.0, 2.0]]), np.zeros((1, 2)))
    assert entry[0] == 1
    assert cuts.best(box, entry, np.zeros(1), np.zeros((1, 2))).tolist() == [0]
