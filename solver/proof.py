"""The last rung: the certificate of a robust verdict, and the independent checker's word on it.

What the engines proved without leaving anything that a checker could check (a MIP solver's word, bounds that LPs or
optimised slopes had tightened) is proven again first, by our own branch and bound from the bounds that the checker
knows, within a share of the time that is left. A certificate never decides whether a query is robust, only whether
others need to believe us; so a search that fails here costs time alone, but a counterexample that it finds is one.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np

from certificates import Report
from solver import policy, rungs
from solver.case import Case
from solver.certify import certificate, grown
from solver.checking import Checker
from solver.climb import Climb
from solver.options import Engine
from solver.verdict import Progress

__all__ = ["certify"]


def certify(climb: Climb, checker: Checker | None) -> tuple[bytes, Report] | str:
    """The certificate of a robust verdict and what the checker found, or why there is none.

    Args:
        climb: the climb, at its end.
        checker: of certificates about this network; None where none is wanted.
    """
    if checker is None or not climb.options.certificate or climb.counterexample is not None or climb.open_count:
        return ""
    with climb.stage("certificate") as detail:
        _prove_again(climb, detail)
        if climb.counterexample is not None:
            return ""
        missing = [clause.label for case in climb.cases for clause in case.unproven]
        if missing:
            detail["missing"] = len(missing)
            return (
                f"no certificate: the stage {climb.decided_by!r} left no proof that can be checked, and proving "
                f"{missing[0]!r} again did not end within its share of the time limit; give it more time"
            )
        records = [
            (i, record) for i, case in enumerate(climb.cases) for record in dict.fromkeys(case.evidence.values())
        ]
        data = certificate(climb.network, climb.query, *grown(records))
        detail["bytes"] = len(data)
        report = checker.check(data, stop=lambda: climb.stop() is not None)
        detail["checker"] = str(report)
    if isinstance(report, Report) and report.proven:
        return data, report
    return f"no certificate: {report.reason if isinstance(report, Report) else report}"


def _prove_again(climb: Climb, detail: dict[str, Any]) -> None:
    """Searches for proofs that can be checked of the clauses that have none; what it finds goes to their cases."""
    cases = [case for case in climb.cases if case.unproven]
    seconds = policy.PROOF_SHARE * (climb.deadline - time.monotonic())
    if not cases or seconds <= 0:
        return
    wanted = sum(len(case.unproven) for case in cases)
    told = climb.progress

    def progress(report: Progress) -> None:
        if told is not None:
            told(dataclasses.replace(report, stage="certificate", lower=climb.lower, upper=climb.upper))

    options = dataclasses.replace(climb.options, engine=Engine.BAB)
    second = Climb(
        climb.network, climb.query, options, dataclasses.replace(climb.budget, seconds=seconds), progress, climb.cancel
    )
    second.cases = [_afresh(case) for case in cases]
    if len(climb.network.relu_nodes) > 1 and climb.network.inputs > policy.SPLIT_INPUTS and not climb.near:
        for case in second.cases:
            if second.undecided:
                rungs.deep(second, case, policy.DEEP_SHARE * seconds / len(cases))
    if second.undecided:
        rungs.search(second)
    climb.take(second.upper, second.counterexample)
    if second.counterexample is not None:
        climb.decided_by = "certificate"
    detail["proven_again"] = wanted - sum(len(case.unproven) for case in cases)
    detail["nodes"] = sum(stage.detail.get("nodes", 0) for stage in second.stages)


def _afresh(case: Case) -> Case:
    """The case with the clauses open that have no evidence; evidence for them reaches ``case`` as well."""
    unproven = case.unproven
    return dataclasses.replace(
        case,
        lower=np.full(len(case.lower), -math.inf),
        proven=np.array([clause not in unproven for clause in case.prop.clauses]),
        enclosure=case.enclosure if case.slopes is not None else case.default or case.enclosure,
        default=None,
        recomputed=case.recomputed if case.slopes is not None else None,
    )
