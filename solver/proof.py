"""The last rung: the certificate of a robust verdict, and the independent checker's word on it."""

from __future__ import annotations

from certificates import Report
from solver.certify import certificate
from solver.checking import Checker
from solver.climb import Climb

__all__ = ["certify"]


def certify(climb: Climb, checker: Checker | None) -> tuple[bytes, Report] | None:
    """The certificate of a robust verdict and what the checker found, if the engines left one and it was accepted.

    Args:
        climb: the climb, at its end.
        checker: a process for this network that may be at work already; None starts one.
    """
    if not climb.options.certificate or climb.counterexample is not None or climb.open_count:
        return None
    with climb.stage("certificate") as detail:
        trees = []
        for number, case in enumerate(climb.cases):
            if len(case.evidence) < len(case.prop.clauses):
                detail["missing"] = f"the engine {climb.decided_by!r} left no proof that can be checked"
                return None
            records = dict.fromkeys(case.evidence.values())
            trees += [tree for record in records if (tree := record.tree(number)) is not None]
        data = certificate(climb.network, climb.query, trees)
        detail["bytes"] = len(data)
        own = checker or Checker(climb.network, threads=climb.budget.threads)
        try:
            report = own.check(data, stop=lambda: climb.stop() is not None)
        finally:
            if checker is None:
                own.close()
        detail["checker"] = str(report)
    return (data, report) if isinstance(report, Report) and report.proven else None
