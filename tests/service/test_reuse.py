"""Which answers serve which questions: only in the direction that is sound, and never the wrong question."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks.errors import SoundnessError
from service.ledger import Ledger
from service.reuse import Asked, asked, served
from service.states import JobState
from tests.service.records import submit

BALL: dict[str, Any] = {"input": [0.25, 0.5], "epsilon": "0.1", "norm": "linf", "domain": [0, 1], "label": 1}


def request(**members: Any) -> dict[str, Any]:
    outer = {
        key: members.pop(key) for key in ("engine", "certificate", "network", "time_limit", "seed") if key in members
    }
    return {"network": "a" * 64, "query": BALL | members, "engine": "auto", "certificate": False} | outer


def key(**members: Any) -> Asked:
    found = asked(request(**members))
    assert found is not None
    return found


def robust(lower: float = 0.5, **more: Any) -> dict[str, Any]:
    return {"verdict": "robust", "trust": "solver", "margin": [lower, 0.75], "seconds": 3.0} | more


def broken(exact_margin: float | None = -0.5) -> dict[str, Any]:
    found = {"exact_margin": exact_margin}
    return {
        "verdict": "counterexample",
        "trust": "replayed",
        "margin": [-2.0, -0.5],
        "counterexample": found,
        "seconds": 1.0,
    }


def keep(ledger: Ledger, question: Asked, verdict: dict[str, Any]) -> str:
    """A job that found ``verdict``."""
    job = submit(ledger)
    ledger.start(job.id, worker="w", lease_seconds=9)
    assert ledger.finish(job.id, 1, JobState.SUCCEEDED, verdict=verdict, asked=question)
    return job.id


@pytest.mark.parametrize(
    "same",
    [
        {"epsilon": 0.1},
        {"epsilon": "1/10"},
        {"domain": ("0.0", "1")},
        {"input": np.array([0.25, 0.5], np.float32)},
        {"targets": None},
        {"kind": "decide"},
        {"time_limit": 7.0},
        {"seed": 9},
    ],
    ids=str,
)
def test_the_same_question_in_other_words(same: dict[str, Any]) -> None:
    assert key(**same) == key()


@pytest.mark.parametrize(
    "other",
    [
        {"input": [0.25, 0.5000001]},
        {"label": 0},
        {"targets": [0]},
        {"domain": None},
        {"domain": [0, 2]},
        {"norm": "l2"},
        {"network": "b" * 64},
        {"frozen": [0]},
        {"radii": [0.1, 0.2]},
    ],
    ids=str,
)
def test_another_question(other: dict[str, Any]) -> None:
    assert key(**other).question != key().question


def test_other_kinds_serve_nobody() -> None:
    assert asked(request(kind="margin")) is None


def test_a_box_and_a_specification_are_questions_without_an_epsilon() -> None:
    box = asked({"network": "a" * 64, "query": {"lower": 0, "upper": [1, "1/2"], "label": 1}})
    text = asked({"network": "a" * 64, "query": {"vnnlib": "(assert (<= X_0 1))"}})
    assert box is not None
    assert text is not None
    assert (box.epsilon, text.epsilon) == (None, None)
    assert box.question != text.question


EPSILONS = st.fractions(min_value=0, max_value=2, max_denominator=50)


@given(found=EPSILONS, wanted=EPSILONS, threshold=EPSILONS, lower=st.floats(-3, 3), upper=st.floats(-3, 3))
def test_what_is_served_is_true_of_the_ball_that_was_asked_about(
    found: Fraction, wanted: Fraction, threshold: Fraction, lower: float, upper: float
) -> None:
    """With a truth that is monotone in ε, as all are: robust up to a threshold, least margin falling."""
    truth = "robust" if found <= threshold else "counterexample"
    if wanted > found if truth == "robust" else wanted < found:
        return  # never served, see the tests of the ledger below
    implied = served({"verdict": truth, "margin": [lower, upper], "seconds": 1.0}, found, wanted, {"job": "j"})
    assert truth == ("robust" if wanted <= threshold else "counterexample")
    low, high = implied["margin"]
    assert low in ({lower} if wanted <= found else {None}), "a lower bound holds for smaller balls"
    assert high in ({upper} if wanted >= found else {None}), "what is attained stays attained in larger balls"


def test_robust_serves_smaller_balls_and_a_counterexample_larger_ones(ledger: Ledger) -> None:
    inside, outside = keep(ledger, key(epsilon="0.1"), robust()), keep(ledger, key(epsilon="0.3"), broken())
    asks = {epsilon: key(epsilon=epsilon) for epsilon in ("0", "0.05", "0.1", "0.2", "0.3", "0.4")}
    found = ledger.answers.find(asks.values())
    served_at = {epsilon: found[each]["verdict"] for epsilon, each in asks.items() if each in found}
    assert served_at == {
        "0": "robust",
        "0.05": "robust",
        "0.1": "robust",
        "0.3": "counterexample",
        "0.4": "counterexample",
    }
    assert found[asks["0.05"]]["cached_from"] == {"job": inside, "seconds": 3.0, "epsilon": "0.1"}
    assert found[asks["0.05"]]["margin"] == [0.5, None]
    assert found[asks["0.1"]]["margin"] == [0.5, 0.75]
    assert found[asks["0.4"]]["cached_from"]["job"] == outside
    assert found[asks["0.4"]]["margin"] == [None, -0.5]
    assert found[asks["0.4"]]["seconds"] == 0.0


def test_an_exact_witness_stays_where_it_was_found(ledger: Ledger) -> None:
    """A larger ball may hold float32 inputs, and then a counterexample is one of them."""
    keep(ledger, key(epsilon="0.1"), broken() | {"trust": "exact"})
    assert set(ledger.answers.find([key(epsilon="0.1"), key(epsilon="0.2")])) == {key(epsilon="0.1")}


def test_unknown_and_served_verdicts_are_not_kept(ledger: Ledger) -> None:
    keep(ledger, key(), {"verdict": "unknown", "margin": [None, None], "seconds": 1.0})
    keep(ledger, key(), robust(cached_from={"job": "elsewhere"}))
    assert ledger.answers.find([key()]) == {}


def test_who_names_an_engine_is_served_by_it_alone(ledger: Ledger) -> None:
    keep(ledger, key(engine="bab"), robust())
    assert key() in ledger.answers.find([key()])
    assert ledger.answers.find([key(engine="milp")]) == {}
    assert ledger.answers.find([key(engine="bab", epsilon="0.01")])


def test_who_wants_a_certificate_is_served_by_certified_answers_alone(ledger: Ledger) -> None:
    wanted = key(certificate=True)
    keep(ledger, key(), robust())
    assert ledger.answers.find([wanted]) == {}
    certified = keep(ledger, wanted, robust(trust="certified", certificate={"sha256": "c" * 64}))
    assert ledger.answers.find([wanted])[wanted]["cached_from"]["job"] == certified
    assert ledger.answers.find([key()])[key()]["trust"] == "certified", "the better word where both fit"


@pytest.mark.parametrize("first", ["robust", "counterexample"])
def test_a_contradiction_is_raised_and_nothing_is_written(ledger: Ledger, first: str) -> None:
    answers = {"robust": (key(epsilon="0.2"), robust()), "counterexample": (key(epsilon="0.1"), broken())}
    keep(ledger, *answers.pop(first))
    ((question, verdict),) = answers.values()
    with pytest.raises(SoundnessError, match="please report this"):
        keep(ledger, question, verdict)
    (running,) = ledger.jobs(state=JobState.RUNNING)
    assert running.verdict is None


def test_a_violation_by_rounding_alone_contradicts_nothing(ledger: Ledger) -> None:
    """Robust over the reals and broken in float32 can both be right."""
    keep(ledger, key(epsilon="0.2"), robust())
    keep(ledger, key(epsilon="0.1"), broken(exact_margin=1e-9))
    assert len(ledger.answers.find([key(epsilon="0.15")])) == 1
