"""A worker has loaded what a job needs before it forks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
DECIDES = """
import json, sys
from service.worker import preload
preload()
import numpy as np, networks, solver
from solver import Budget, Engine, Options
loaded = set(sys.modules)
network, digits = networks.load(sys.argv[1]), np.load(sys.argv[2])
for engine in Engine.AUTO, Engine.BAB, Engine.MILP:
    question = solver.pose(
        network, input=digits["images"][0], label=int(digits["labels"][0]), epsilon="0.05", domain=(0, 1)
    )
    options = Options(engine, solver.Backend.HIGHS, certificate=engine is not Engine.MILP)
    assert solver.answer(question, options=options, budget=Budget(60, 1)).outcome == "robust", engine
print(json.dumps(sorted(set(sys.modules) - loaded)))
"""


@pytest.mark.slow
def test_a_decision_loads_nothing_more() -> None:
    command = [sys.executable, "-c", DECIDES, str(EXAMPLES / "digits_robust.onnx"), str(EXAMPLES / "digits.npz")]
    late = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)
    ours = ("bounds", "certificates", "networks", "solver")
    heavy = ("highspy", "numpy", "onnx", "onnxruntime", "pyomo", "scipy", "torch")
    assert [name for name in late if name.partition(".")[0] in ours + heavy] == []
