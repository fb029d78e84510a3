"""One query to one verdict: attack, engine ladder, Pyomo MILP, back ends, branch and bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from solver.options import Backend, Budget, Engine, Options
from solver.question import Question, pose
from solver.verdict import Counterexample, Outcome, Progress, Reason, Stage, Trust, Verdict

if TYPE_CHECKING:
    from solver.ladder import verify

__all__ = [
    "Backend",
    "Budget",
    "Counterexample",
    "Engine",
    "Options",
    "Outcome",
    "Progress",
    "Question",
    "Reason",
    "Stage",
    "Trust",
    "Verdict",
    "pose",
    "verify",
]


def __getattr__(name: str) -> Any:
    # The ladder brings torch and ONNX Runtime; whoever only reads verdicts should not pay for them.
    if name == "verify":
        from solver.ladder import verify

        return verify
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
