"""Questions and answers in sentences."""

from __future__ import annotations

import pytest

from service.dashboard.claims import claim_of, property_of, reason_of, region_of, trust_of
from solver.verdict import Reason, Semantics, Trust


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"epsilon": "8/255", "domain": [0, 1]}, "at most 8/255 and every entry stays between 0 and 1."),
        ({"epsilon": 0.5, "norm": "l2"}, "Euclidean length (ℓ2) of at most 0.5."),
        ({"epsilon": 3, "norm": "l0", "frozen": [1]}, "at most 3 entries are changed; 1 entry keeps its value."),
        ({"radii": [0.1], "frozen": [1, 2]}, "a radius of its own; 2 entries keep their values."),
        (
            {"lower": 0, "upper": 1, "constraints": [{}]},
            "upper bounds that were given; 1 linear constraint holds as well.",
        ),
        ({"kind": "distance"}, "Inputs at any distance"),
        ({"omitted": ["vnnlib"]}, "VNNLIB"),
        ({"kind": "universal", "epsilon": "0.1"}, "one and the same perturbation of at most 0.1 an entry."),
    ],
)
def test_regions(query, words):
    assert words in region_of(query)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"label": 7}, "decides for class 7: its score is above all others; a tie is a violation."),
        ({"label": 7, "targets": [1, 3]}, "above classes 1, 3"),
        ({"label": 7, "top_k": 3}, "class 7 among the 3 best"),
        ({"label": 7, "confidence": "0.5"}, "by more than 0.5"),
        ({}, "the class at the given input"),
        ({"output_range": {"output": 2, "lower": 0, "upper": 1}}, "Output 2 stays above 0 and below 1."),
        ({"output_range": {"coefficients": {"0": 1}, "end": "least"}, "kind": "margin"}, "has a least value."),
        ({"equivalent_to": {"network": "ab" * 32, "within": 0.1}}, "differ by less than 0.1 in every output."),
        ({"equivalent_to": {"network": "ab" * 32}}, "decide for the same class."),
        ({"monotone": {"input": 3, "within": 0.1, "direction": "decreasing"}}, "output 0 never rises by 0.1 or more."),
        ({"violations": [[{}]]}, "clauses that were given"),
        ({"vnnlib": "…"}, "VNNLIB"),
        ({"label": 1, "kind": "distance"}, "How far away is the nearest violation?"),
        ({"label": 1, "kind": "margin"}, "How small does its margin become?"),
    ],
)
def test_properties(query, words):
    assert words in property_of(query)


def verdict(outcome, **members):
    return {"verdict": outcome, "margin": [None, None], "kind": "decide"} | members


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (verdict("robust", semantics="float32"), "in float32 inference in any order of summation as well."),
        (verdict("counterexample", counterexample={"clause": "class 3"}), "it does not hold against class 3."),
        (verdict("unknown"), "Neither a proof nor a counterexample"),
        (verdict("unknown", kind="margin", margin=[-1.0, None]), "at least −1 is proven, nothing was replayed."),
        (verdict("robust", kind="margin", margin=[0.5, 0.75]), "at least 0.5 is proven, 0.75 is attained."),
        (verdict("robust", kind="distance", distance=[0.5, None]), "farther away than 0.5, and none is known."),
        (verdict("counterexample", kind="distance", distance=[0.5, 0.75]), "than 0.5, and one is 0.75 away."),
        (verdict("counterexample", kind="distance", distance=[None, 0.75]), "A violation is 0.75 away."),
        (verdict("counterexample", kind="distance", distance=[0.1, 0.10000001]), "between 0.1 and 0.1 away."),
        (verdict("counterexample", kind="universal", universal={"flips": [2, 3]}), "2 of the inputs, and none flips"),
    ],
)
def test_claims(found, words):
    assert words in claim_of(found)


def test_a_claim_about_real_numbers_does_not_speak_of_float32():
    assert "float32" not in claim_of(verdict("robust", semantics="real"))


@pytest.mark.parametrize("trust", Trust)
def test_every_trust_has_its_sentence(trust):
    assert trust_of({"trust": str(trust)})


@pytest.mark.parametrize("semantics", Semantics)
def test_every_arithmetic_has_its_claim(semantics):
    assert claim_of(verdict("robust", semantics=str(semantics)))


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_its_sentence(reason):
    assert reason_of({"reason": str(reason)})
