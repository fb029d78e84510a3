"""Summaries are JSON and agree with the network."""

from __future__ import annotations

import json

import pytest

from networks import summarise
from tests.random_networks import random_conv, random_dense, random_residual


@pytest.mark.parametrize("make", [random_dense, random_conv, random_residual])
def test_layers_add_up(make):
    network = make(0)
    summary = json.loads(json.dumps(summarise(network)))
    assert summary["parameters"] == network.parameters == sum(layer["parameters"] for layer in summary["layers"])
    assert summary["relus"] == network.relus
    assert summary["sha256"] == network.sha256
    assert summary["inputs"] == network.inputs
    assert summary["layers"][0]["kind"] == "input"
    assert summary["layers"][-1]["shape"] == summary["output_shape"]


def test_kinds_are_named():
    kinds = [layer["kind"] for layer in summarise(random_conv(0))["layers"]]
    assert kinds == ["input", "conv", "relu", "conv", "relu", "dense"]
    assert "identity" in [layer["kind"] for layer in summarise(random_residual(0))["layers"]]
