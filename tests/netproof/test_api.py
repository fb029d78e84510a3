"""``netproof.verify`` and the queries it builds."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import netproof
import netproof.api
import netproof.ranging
import netproof.torch_modules
from networks.errors import InputError, PropertyError, RegionError
from solver import Engine, Outcome, Reason, pose
from solver.local_helpers import LocalHelpers
from tests.netproof.conftest import EXAMPLES

DOCUMENTED = [netproof, netproof.api, netproof.ranging, netproof.torch_modules]


@pytest.mark.parametrize("module", DOCUMENTED, ids=lambda m: m.__name__)
def test_examples_in_docstrings(module, monkeypatch):
    monkeypatch.chdir(EXAMPLES.parent)
    finished = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert finished.attempted > 0
    assert finished.failed == 0


def test_path_and_network_and_shapes_are_equivalent(plain, digits):
    image, label = digits[0][10], int(digits[1][10])
    network = netproof.load(plain)
    verdicts = [
        netproof.verify(given, input=shaped, label=label, epsilon="1/1000", threads=1)
        for given, shaped in ((plain, image), (str(plain), image.reshape(-1)), (network, image.tolist()))
    ]
    assert {str(verdict.outcome) for verdict in verdicts} == {"robust"}
    assert len({verdict.margin[0] for verdict in verdicts}) == 1


def test_workers_are_asked_for_help_and_end_with_the_verdict(robust, digits, monkeypatch):
    """Whether they are needed is theirs to say: here the query ends before any process could have started."""
    asked = []
    monkeypatch.setattr(LocalHelpers, "wanted", lambda helpers: asked.append(helpers) or 0)
    image = digits[0][10]
    verdict = netproof.verify(robust, input=image, epsilon="0.1", domain=(0, 1), engine="bab", threads=1, workers=3)
    assert verdict.outcome is Outcome.ROBUST
    assert asked
    assert not asked[0].pids


def test_label_defaults_to_the_networks_own(plain, digits):
    network = netproof.load(plain)
    query = pose(network, input=digits[0][10], epsilon=0.1).query
    assert query.cases[0][1].statement["label"] == int(digits[1][10])


def test_cancel_and_progress_reach_the_solver(robust, digits):
    seen = []
    verdict = netproof.verify(
        robust,
        input=digits[0][10],
        epsilon="0.1",
        domain=(0, 1),
        threads=1,
        progress=seen.append,
        cancel=lambda: True,
    )
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason is Reason.CANCELLED


def test_engine_may_be_a_word(robust, digits):
    for engine in ("bounds", Engine.BOUNDS):
        verdict = netproof.verify(robust, input=digits[0][10], epsilon=0.1, domain=(0, 1), engine=engine, threads=1)
        assert verdict.reason is Reason.INCOMPLETE


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, InputError, "input and epsilon missing"),
        ({"input": np.zeros(64)}, InputError, "epsilon missing"),
        ({"input": np.zeros(63), "epsilon": 0.1}, RegionError, "63 entries, but the network takes 64"),
        ({"input": np.full(64, np.inf), "epsilon": 0.1}, RegionError, "entry 0 is inf"),
        ({"input": np.zeros(64), "epsilon": -1}, RegionError, "at least 0"),
        ({"input": np.zeros(64), "epsilon": 0.1, "norm": "l7"}, RegionError, "norm 'l7' is not supported"),
        ({"input": np.zeros(64), "epsilon": 0.1, "label": -1}, PropertyError, "label -1 does not exist"),
        ({"vnnlib": EXAMPLES / "digits.vnnlib", "epsilon": 0.1}, InputError, "not both"),
    ],
)
def test_bad_queries_say_what_to_do(plain, arguments, error, message):
    with pytest.raises(error, match=message):
        netproof.verify(plain, **arguments)
