"""``netproof.ranges`` and ``netproof ranges``."""

from __future__ import annotations

import json

import numpy as np
import pytest

import netproof
from networks import evaluate, load_bytes
from networks.errors import PropertyError
from tests.netproof.conftest import BALL
from tests.random_networks import dense_model


def test_ranges_hold_every_sample_and_are_attained():
    network = load_bytes(dense_model(7))
    samples = evaluate(network, np.random.default_rng(0).random((1000, 3)))
    found = list(netproof.ranges(network, lower=0, upper=1, tolerance="1e-4", threads=1))
    assert [each.output for each in found] == [0, 1]
    for each in found:
        low, high = each.enclosure
        values = samples[:, each.output]
        assert low < values.min()
        assert values.max() < high
        assert 0 < each.attained[0] - low < 2e-4 * max(1, abs(low))
        assert 0 < high - each.attained[1] < 2e-4 * max(1, abs(high))
        document = each.to_json()
        assert document["least"] == [low, each.attained[0]]
        assert document["greatest"] == [each.attained[1], high]


def test_an_output_that_is_not_there():
    with pytest.raises(PropertyError, match="output 2 does not exist"):
        next(netproof.ranges(load_bytes(dense_model(7)), outputs=[2], lower=0, upper=1))


def test_the_command_prints_a_line_for_each_output(run, plain):
    answer = run("ranges", plain, *BALL, "--eps", "0.01", "--outputs", "3,8")
    assert answer.code == 0, answer
    head, *rows = answer.out.splitlines()
    assert head.split() == ["output", "proven", "≥", "replayed", "replayed", "proven", "≤", "seconds"]
    assert [row.split()[0] for row in rows] == ["3", "8"]
    for row in rows:
        low, least, greatest, high = map(float, row.split()[1:5])
        assert low < least <= greatest < high


def test_what_is_not_closed_in_time_exits_3(run, plain):
    options = ("--eps", "0.1", "--outputs", "0", "--timeout", "0.01", "--json")
    answer = run("ranges", plain, *BALL, *options)
    assert answer.code == 3
    (found,) = json.loads(answer.out)["ranges"]
    assert set(found) == {"output", "least", "greatest", "verdicts"}
