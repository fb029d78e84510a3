"""What a verdict tells its reader beside the facts: what would help, and what is odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from networks.exact import exact
from solver.case import Case
from solver.verdict import Counterexample, Reason

__all__ = ["counterexample_hint", "domain_hint", "float32_hint", "unknown_hint"]

_HINTS = {
    Reason.TIMEOUT: "give it more time, a smaller epsilon, or fewer targets",
    Reason.MEMORY: "ask about a smaller region, or a smaller network",
    Reason.CANCELLED: "",
    Reason.NUMERICS: (
        "the margin is too close to zero for floating-point proofs, or no float32 input attains it; "
        "ask with a slightly smaller or larger epsilon"
    ),
    Reason.INCOMPLETE: "bounds alone do not settle this; use the auto engine",
}


def unknown_hint(
    reason: Reason, cases: Sequence[Case], *, disagreed: bool = False, too_large: Sequence[str] = ()
) -> str:
    """What would help a query that ended undecided for this reason.

    ``too_large``: engines that did not fit, with their figures. ``disagreed``: whether a candidate for an exact witness
    violated the property in one arithmetic only.
    """
    return (_unreplayable(cases) if disagreed else "") or "; ".join(
        filter(None, [*too_large, _HINTS[reason], *_domain_hints(cases)])
    )


def domain_hint(statement: Mapping[str, Any]) -> str:
    """Says so where a ball in linf leaves nothing of its domain out: its epsilon is mostly in other units by mistake.

    Args:
        statement: the region as it was stated, see `networks.Region`.
    """
    if statement.get("norm") != "linf" or not {"epsilon", "domain"} <= statement.keys():
        return ""
    epsilon, (least, most) = statement["epsilon"], statement["domain"]
    if exact(epsilon) < exact(most) - exact(least) or statement.keys() & {"radii", "frozen", "constraints"}:
        return ""
    return (
        f"epsilon {epsilon} is as wide as the domain [{least}, {most}], so the question is about every input there; "
        "epsilon is in the units of the network's input: eight of 255 grey levels are 8/255 of [0, 1]"
    )


def counterexample_hint(counterexample: Counterexample, cases: Sequence[Case]) -> str:
    """What is odd about a counterexample."""
    return "; ".join(filter(None, [float32_hint(counterexample), *_domain_hints(cases)]))


def float32_hint(counterexample: Counterexample) -> str:
    """Says so where the network over the reals keeps the property at a point that float32 inference violates it at."""
    if counterexample.exact_margin is None or counterexample.exact_margin <= 0:
        return ""
    return (
        "over the reals the network keeps the property at this input (exact margin "
        f"{counterexample.exact_margin:.6g}), but ONNX Runtime's float32 arithmetic violates it: rounding alone "
        "changes the decision here"
    )


def _domain_hints(cases: Sequence[Case]) -> list[str]:
    return [domain_hint(cases[0].region.statement)] if len(cases) == 1 else []


def _unreplayable(cases: Sequence[Case]) -> str:
    """Names an input that keeps float32 points out of an open region, if one does."""
    for case in cases:
        if case.open and not case.region.replayable:
            i = int(np.argmax(case.region.replay_lower > case.region.replay_upper))
            return (
                f"no float32 number lies between the bounds of input {i}, and candidates violate the property either "
                "over the reals in the region or in ONNX Runtime at the float32 input beside it, but not in both; "
                "widen the bounds to a float32 number"
            )
    return ""
