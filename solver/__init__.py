"""One query to one verdict: attack, engine ladder, Pyomo MILP, back ends, branch and bound."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from solver.options import Backend, Budget, Engine, Options
from solver.question import Question, answer, pose
from solver.verdict import Counterexample, Kind, Outcome, Progress, Reason, Stage, Trust, Verdict

if TYPE_CHECKING:
    from solver.kinds import ask, distance, largest_epsilon, margin
    from solver.ladder import verify

__all__ = [
    "Backend",
    "Budget",
    "Counterexample",
    "Engine",
    "Kind",
    "Options",
    "Outcome",
    "Progress",
    "Question",
    "Reason",
    "Stage",
    "Trust",
    "Verdict",
    "answer",
    "ask",
    "distance",
    "largest_epsilon",
    "margin",
    "pose",
    "verify",
]


#: What brings torch and ONNX Runtime; whoever only reads verdicts should not pay for them.
_HEAVY = {
    "ask": "solver.kinds",
    "distance": "solver.kinds",
    "largest_epsilon": "solver.kinds",
    "margin": "solver.kinds",
    "verify": "solver.ladder",
}


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(importlib.import_module(_HEAVY[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
