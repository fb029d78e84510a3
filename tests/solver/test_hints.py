"""What a verdict tells its reader beside the facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import netproof
from networks import RegionError
from solver.hints import domain_hint
from tests.random_networks import random_conv, random_dense

BALL = {"norm": "linf", "epsilon": "8", "domain": [0, 1]}


@pytest.mark.parametrize(
    ("changes", "odd"),
    [
        ({}, True),
        ({"epsilon": "1"}, True),
        ({"epsilon": "8/255"}, False),
        ({"domain": [0, 255]}, False),
        ({"norm": "l2"}, False),
        ({"frozen": [0]}, False),
    ],
)
def test_epsilon_that_covers_the_domain_is_odd(changes: Mapping[str, Any], odd: bool) -> None:
    assert bool(domain_hint({**BALL, **changes})) == odd
    assert not domain_hint({"norm": "linf", "epsilon": "8"})


def test_verdict_notes_an_epsilon_in_other_units() -> None:
    verdict = netproof.verify(random_dense(0), input=[0.5, 0.5, 0.5], label=0, epsilon=8, domain=(0, 1), threads=1)
    assert verdict.outcome == "counterexample"
    assert "epsilon 8 is as wide as the domain [0, 1]" in verdict.hint


def test_input_whose_axes_differ_is_refused() -> None:
    with pytest.raises(RegionError, match=r"the input has shape 4×9, but the network takes 1×6×6: .*rearrange it"):
        netproof.verify(random_conv(0, size=6), input=np.zeros((4, 9)), label=0, epsilon="0.1")
