"""What a job would not have the memory for is refused when it is asked."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

import networks
from service.admission import admit, parse_request
from service.models import NetworkRecord
from service.problems import ProblemError
from service.settings import Settings
from service.states import NetworkState
from tests.networks.operator_cases import node
from tests.random_networks import model


def record(inputs: int) -> NetworkRecord:
    nodes = [node("Relu", "x", outputs=["h"]), node("ReduceSum", "h", keepdims=1)]
    network = networks.load_bytes(model(nodes, [1, inputs]), compare=False)
    summary = networks.summarise(network)
    return NetworkRecord(network.sha256, len(network.model), "wide", NetworkState.READY, summary, datetime.now(UTC))


def ask(network: NetworkRecord, memory_mb: int) -> dict:
    specification = "; longer than what is read while the client waits\n" * 2**13
    body = {"network": network.sha256, "query": {"vnnlib": specification}, "time_limit": 5}
    return admit(parse_request(json.dumps(body).encode()), network, Settings(memory_limit_mb=memory_mb))


def test_network_that_no_job_could_bound_is_refused_with_the_estimate() -> None:
    wide = record(2**20)
    with pytest.raises(ProblemError) as caught:
        ask(wide, 256)
    error = caught.value
    assert (error.kind.slug, error.kind.status) == ("too-large", 413)
    assert error.errors[0].pointer == "/network"
    assert "256 MiB are available to a job" in str(error)
    assert "NETPROOF_MEMORY_LIMIT_MB" in str(error)
    assert ask(wide, 8192)["network"] == wide.sha256


def test_small_network_is_admitted_at_the_smallest_limit() -> None:
    small = record(16)
    assert ask(small, 256)["network"] == small.sha256
