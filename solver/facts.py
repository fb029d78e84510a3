"""What exact arithmetic says of a counterexample."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from networks.errors import SoundnessError
from networks.exact import rounded
from networks.exact_evaluation import evaluate_exactly
from networks.graph import Network
from solver.case import Case
from solver.verdict import Counterexample

__all__ = ["examined"]


def examined(counterexample: Counterexample, network: Network, cases: Sequence[Case]) -> Counterexample:
    """The counterexample with its exact margin.

    The output is that of the network's stored weights in rational arithmetic; where a final Softmax was left out, its
    logits. The margin is the least over the cases that contain the point.

    Raises:
        SoundnessError: a clause that was proven on a region, not just by a MIP solver's word, is violated, over the
            reals, at this point of it.
    """
    point = counterexample.point
    output = evaluate_exactly(network, point)
    margins = []
    for case in cases:
        if not case.region.contains_exactly(point):
            continue
        for c, (clause, proven) in enumerate(zip(case.prop.clauses, case.proven, strict=True)):
            margins.append(clause.margin(output))
            if proven and c not in case.trusted and margins[-1] <= 0:
                msg = (
                    f"clause {clause.label!r} was proven, but its exact margin at the counterexample is "
                    f"{rounded(margins[-1])}; please report this with the network and the query"
                )
                raise SoundnessError(msg)
    return dataclasses.replace(counterexample, exact_margin=rounded(min(margins)))
