"""Networks that were built to fool verifiers, with known answers (private data)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import networks
from networks import Property, Query, Region
from solver import Backend, Budget, Engine, Options, Outcome, Trust, verify
from solver.errors import BackendError
from solver.replay import Replayer

ENGINES = [
    Options(Engine.AUTO),
    Options(Engine.BOUNDS),
    Options(Engine.BAB),
    Options(Engine.MILP, Backend.HIGHS),
    Options(Engine.MILP, Backend.GUROBI),
]
REFUSED = {"nan_weight", "sigmoid_hidden"}
#: The manifest words some answers as "as base": the function of base_unsafe on its box.
AS_BASE = {"gemm_alpha_beta", "matmul_add_swapped", "residual", "softmax_end", "dynamic_batch"}
#: Rounding alone decides these: real and float32 arithmetic differ, or both answers are defensible.
EITHER = {"f32_absorb_real_robust", "a_trickle_2p16"}


def instances(folder: Path) -> list[dict]:
    return json.loads((folder / "fooling" / "manifest.json").read_text())


@pytest.mark.data
@pytest.mark.parametrize("options", ENGINES, ids=lambda o: f"{o.engine}-{o.backend}")
def test_no_engine_is_fooled(data_folder: Path, options: Options) -> None:
    seen = 0
    for entry in instances(data_folder):
        name = entry["name"]
        path = data_folder / "fooling" / entry["file"]
        if name in REFUSED:
            with pytest.raises(networks.NetworkError):
                networks.load(path)
            continue
        network = networks.load(path)
        region = Region.box(entry.get("lo", [0, 0]), entry.get("hi", [0.75, 0.75]))
        prop = Property.classification(entry.get("label", 0), network.outputs)
        try:
            verdict = verify(network, Query.single(region, prop), options=options, budget=Budget(10, 1))
        except BackendError:
            continue  # a back end may refuse numbers that it would not handle faithfully
        seen += 1
        if verdict.counterexample is not None:
            point = verdict.counterexample.input.reshape(-1)
            assert region.contains(point), name
            assert prop.violated(Replayer(network)(point)), name
        if name in EITHER:
            continue
        expected = entry.get("expected_real", entry.get("expected", ""))
        unsafe = name in AS_BASE or expected.startswith("not robust")
        wrong = Outcome.ROBUST if unsafe else Outcome.COUNTEREXAMPLE
        assert verdict.outcome is not wrong, f"{name}: expected {expected}, got {verdict.outcome}"
        assert verdict.trust is not Trust.CERTIFIED, "no certificate was asked for"
    assert seen >= 20


@pytest.mark.data
def test_the_known_counterexamples_replay(data_folder: Path) -> None:
    for entry in instances(data_folder):
        if "counterexample" in entry and entry["name"] not in REFUSED:
            network = networks.load(data_folder / "fooling" / entry["file"])
            point = np.array(entry["counterexample"], np.float32)
            assert Property.classification(entry.get("label", 0), network.outputs).violated(Replayer(network)(point))
