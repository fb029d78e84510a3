"""No engine, with any back end, answers a constructed query wrongly; exact arithmetic certifies the robust ones."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

import networks
from certificates import Certificate, Claim, Node, PhaseSplit, Tree, check, write
from networks import Network, Property, Query, Region
from networks.exact_evaluation import evaluate_exactly
from solver import Budget, Engine, Options, Outcome, Trust, verify
from solver.errors import BackendError
from solver.replay import Replayer
from tests.constructed import CASES
from tests.solver.test_fooling import AS_BASE, ENGINES, REFUSED


def test_there_are_many() -> None:
    assert len(CASES) >= 50
    assert {case.robust for case in CASES.values()} == {True, False}


@pytest.mark.parametrize("options", ENGINES, ids=lambda o: f"{o.engine}-{o.backend}")
@pytest.mark.parametrize("name", CASES)
def test_no_engine_answers_wrongly(name: str, options: Options) -> None:
    case = CASES[name]
    network, query = case.network(), case.query()
    options = replace(options, certificate=options.engine is Engine.BAB)
    try:
        verdict = verify(network, query, options=options, budget=Budget(2, 1))
    except BackendError:
        return  # a back end may refuse numbers that it would not handle faithfully
    if verdict.counterexample is not None:
        found = verdict.counterexample
        point = found.input.reshape(-1)
        ((region, prop),) = query.cases
        if found.exact_input is None:
            assert region.contains(point)
        else:
            assert not region.replayable
            assert region.contains_exactly(found.exact_input)
            assert prop.margin(evaluate_exactly(network, found.exact_input)) <= 0
        assert prop.violated(Replayer(network)(point))
    if not case.robust:
        assert verdict.outcome is not Outcome.ROBUST, case.why
        assert verdict.trust is not Trust.CERTIFIED
    elif not case.either:
        assert verdict.outcome is not Outcome.COUNTEREXAMPLE, case.why


def proofs(network: Network, query: Query) -> list[bytes]:
    """The claim of every clause on the whole region, and on every cell of all phases where these are few."""
    ((_, prop),) = query.cases
    claims = tuple(Claim(number, (1.0,) * len(clause.rows)) for number, clause in enumerate(prop.clauses))
    trees = [Tree(0, (Node(claims),))]
    neurons = [(k, j) for k in network.relu_nodes for j in range(network.nodes[k].features)]
    if len(neurons) <= 8:
        trees.append(Tree(0, tuple(_cells(neurons, claims))))
    return [write(Certificate(network.sha256, query, (tree,))) for tree in trees]


def searched(network: Network, query: Query) -> list[bytes]:
    """What branch and bound finds."""
    options = Options(Engine.BAB, certificate=True)
    certificate = verify(network, query, options=options, budget=Budget(60, 1)).certificate
    return [certificate] if certificate is not None else []


def _cells(neurons: list[tuple[int, int]], claims: tuple[Claim, ...]) -> list[Node]:
    if not neurons:
        return [Node(claims)]
    below = _cells(neurons[1:], claims)
    return [Node((), PhaseSplit(*neurons[0], keep=False)), *below, *below]


@pytest.mark.parametrize("name", CASES)
def test_exact_arithmetic_decides_the_robust_ones(name: str) -> None:
    case = CASES[name]
    network, query = case.network(), case.query()
    found = proofs(network, query)
    proven = any(check(data, network, exact=True).proven for data in found)
    if case.robust and not proven:
        proven = any(check(data, network, exact=True).proven for data in searched(network, query))
    assert proven == case.robust, case.why
    for data in found:
        for semantics in ("real", "float32"):
            try:
                report = check(data, network, semantics=semantics)
            except networks.InputError:
                continue  # float32 inference of some operators is not covered
            assert case.robust or not report.proven
            assert not (case.either and semantics == "float32" and report.proven)


@pytest.mark.parametrize("name", ["2^-60 above a tie", "absorbed gain", "huge bias, gain", "float64 overflow, near"])
def test_exact_arithmetic_is_asked_where_float64_cannot_decide(name: str) -> None:
    case = CASES[name]
    network, query = case.network(), case.query()
    reports = [check(data, network) for data in proofs(network, query)]
    assert any(report.proven and report.exact for report in reports)


@pytest.mark.data
def test_exact_arithmetic_decides_the_robust_ones_of_the_private_set(data_folder: Path) -> None:
    decided = 0
    for entry in json.loads((data_folder / "fooling" / "manifest.json").read_text()):
        expected = entry.get("expected_real", entry.get("expected", ""))
        if entry["name"] in REFUSED | AS_BASE or not expected.startswith("robust"):
            continue
        network = networks.load(data_folder / "fooling" / entry["file"])
        region = Region.box(entry.get("lo", [0, 0]), entry.get("hi", [Fraction(3, 4)] * 2))
        query = Query.single(region, Property.classification(entry.get("label", 0), network.outputs))
        proven = [check(data, network, exact=True).proven for data in proofs(network, query)]
        assert any(proven) or entry["name"] == "a_trickle_2p16", entry["name"]
        decided += any(proven)
    assert decided >= 8
