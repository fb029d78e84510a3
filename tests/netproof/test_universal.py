"""One perturbation of many inputs, from the command line, Python and over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netproof
from netproof.client import Client
from networks import evaluate, load_bytes
from networks.errors import InputError
from solver.universal_question import universal_faults
from tests.random_networks import dense_model
from tests.service.serving import NETWORK, Service, problem

POINTS = np.array([[0.5, 0.25, 0.75], [0.1, 0.9, 0.4], [0.8, 0.2, 0.3]], np.float32)
LABELS = [int(label) for label in evaluate(load_bytes(NETWORK), POINTS.astype(float)).argmax(1)]


def flips(delta: np.ndarray) -> list[int]:
    moved = np.clip(POINTS + np.asarray(delta, np.float32).reshape(-1), 0, 1)
    found = evaluate(load_bytes(NETWORK), moved.astype(float)).argmax(1)
    return np.flatnonzero(found != LABELS).tolist()


@pytest.mark.slow
def test_python_and_http_and_the_command_line_agree(run: Any, service: Service, tmp_path: Path) -> None:
    asked = {"inputs": POINTS, "labels": LABELS, "epsilon": 1, "domain": (0, 1)}
    found = netproof.universal(load_bytes(NETWORK), **asked, threads=1)
    assert found.reason is None
    assert list(found.flipped) == flips(found.delta)
    with Client(service.url) as client:
        job = client.verify(NETWORK, **asked, kind="universal")
    told = job.result["universal"]
    assert told["flips"] == [len(found.flipped), found.bound]
    assert told["flipped"] == flips(np.array(told["delta"]))
    assert job.verdict == ("counterexample" if found.flipped else "robust")
    (tmp_path / "net.onnx").write_bytes(NETWORK)
    np.savez(tmp_path / "data.npz", x=POINTS, y=LABELS)
    options = ("--first", "3", "--eps", "1", "--domain", "0", "1", "--threads", "1", "--out", tmp_path / "delta.npy")
    answer = run("universal", tmp_path / "net.onnx", "--data", tmp_path / "data.npz", *options, "--json")
    assert answer.code == (1 if found.flipped else 0)
    document = json.loads(answer.out)
    assert document["universal"]["flips"] == told["flips"]
    assert document["universal"]["flipped"] == flips(np.load(tmp_path / "delta.npy"))


WRONG = [
    ({"labels": None}, "labels", "labels missing"),
    ({"labels": [0, 1]}, "labels", "3 inputs but 2 labels"),
    ({"labels": [0, 1, 2]}, "labels", "label 2 does not exist"),
    ({"inputs": [[1, 2]] * 3}, "inputs", "with 3 numbers each"),
    ({"inputs": [[2, 0, 0]] * 3}, "inputs", "outside the domain"),
    ({"epsilon": -1}, "epsilon", "at least 0"),
    ({"norm": "l2"}, "norm", "no part of a universal perturbation"),
]


@pytest.mark.parametrize(("changes", "member", "message"), WRONG)
def test_what_is_wrong_is_named(service: Service, changes: dict[str, Any], member: str, message: str) -> None:
    asked: dict[str, Any] = {"inputs": POINTS.tolist(), "labels": LABELS, "epsilon": 0.1, "domain": [0, 1]} | changes
    network = load_bytes(dense_model(7))
    (fault,) = universal_faults(asked, network)
    assert (fault.member, message in str(fault.error)) == (member, True)
    if member != "norm":
        with pytest.raises(InputError, match=message):
            netproof.universal(network, **{"labels": None, **asked})
    query = {name: value for name, value in asked.items() if value is not None} | {"kind": "universal"}
    document = problem(service.ask(query), 422)
    assert document["errors"][0]["pointer"] == f"/query/{member}"
