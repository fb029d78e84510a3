"""Certificates of what was proven without evidence: proven again, or not certified and saying so."""

from __future__ import annotations

import math

import numpy as np
import pytest

import networks
from certificates import read
from networks import Property, Query, Region
from solver import Budget, Engine, Options, Outcome, Trust, rungs, verify
from tests.certificates.proofs import proven
from tests.random_networks import dense_model


def decided(network, query, engine=Engine.MILP, seconds=60, **options):
    return verify(network, query, options=Options(engine, certificate=True, **options), budget=Budget(seconds, 1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["root", "boxes", "phases"])
def test_a_mip_solvers_word_is_proven_again(kind):
    network, data = proven(kind)
    verdict = decided(network, read(data).query)
    assert (verdict.outcome, verdict.trust) == (Outcome.ROBUST, Trust.CERTIFIED)
    assert verdict.decided_by in {"milp", "tighten"}
    stage = verdict.stages[-1]
    assert stage.name == "certificate"
    assert stage.detail["proven_again"] == 2
    assert stage.detail["nodes"] > 0
    assert verdict.hint == ""


def test_without_time_to_prove_it_again_it_stays_the_solvers_word(monkeypatch):
    monkeypatch.setattr("solver.policy.PROOF_SHARE", 0.0)
    network, data = proven("phases")
    verdict = decided(network, read(data).query)
    assert (verdict.outcome, verdict.trust, verdict.certificate) == (Outcome.ROBUST, Trust.SOLVER, None)
    assert "left no proof that can be checked" in verdict.hint
    assert verdict.to_json()["semantics"] == "real"


def lying(climb, case, seconds):
    """A MIP solver that proves everything."""
    with climb.stage("milp"):
        for c, clause in enumerate(case.prop.clauses):
            case.prove(clause, 0.0, proven=True)
            case.trusted.add(c)


def test_a_solver_that_is_wrong_is_found_out(monkeypatch):
    network = networks.load_bytes(dense_model(1, (6, 8, 8, 3)))
    center = np.random.default_rng(1).uniform(-1, 1, 6).astype(np.float32)
    label = int(networks.evaluate(network, center[None])[0].argmax())
    query = Query.single(Region.linf_ball(center, "0.8"), Property.classification(label, 3))
    assert decided(network, query, Engine.BAB).outcome is Outcome.COUNTEREXAMPLE
    monkeypatch.setattr(rungs, "milp", lying)
    monkeypatch.setattr(rungs, "tighten", lying)
    verdict = decided(network, query)
    assert verdict.outcome is Outcome.COUNTEREXAMPLE
    assert verdict.decided_by == "certificate"
    assert verdict.counterexample.exact_margin <= 0


@pytest.mark.slow
def test_tightened_bounds_are_proven_again_from_those_that_the_checker_knows():
    network, data = proven("phases")
    reported = []
    verdict = verify(
        network,
        read(data).query,
        options=Options(Engine.MILP, certificate=True),
        budget=Budget(60, 1),
        progress=reported.append,
    )
    assert verdict.trust is Trust.CERTIFIED
    bounds = [report.lower for report in reported if report.lower > -math.inf]
    assert bounds == sorted(bounds), "what is reported never falls"
