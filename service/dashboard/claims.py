"""What was asked and what an answer claims, in sentences that somebody may quote."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from service.dashboard.wording import number

__all__ = ["claim_of", "property_of", "reason_of", "region_of", "trust_of"]

_BALLS = {
    "linf": "each entry is changed by at most {epsilon}",
    "l2": "the changes have a Euclidean length (ℓ2) of at most {epsilon}",
    "l1": "the changes add up (ℓ1) to at most {epsilon}",
    "l0": "at most {epsilon} entries are changed",
}
_ROBUST = {
    "real": "No input of the region breaks the property, for the network over the reals with its stored weights.",
    "float32": (
        "No input of the region breaks the property, for the network over the reals with its stored weights, and in "
        "float32 inference in any order of summation as well."
    ),
}
_TRUST = {
    "certified": "An independent checker accepted the proof; it trusts neither the prover nor a solver.",
    "solver": "This is the prover's word. No certificate was checked.",
    "replayed": "ONNX Runtime was seen to violate the property at this very input, which lies in the region exactly.",
    "exact": (
        "The violation is one over the reals, in exact arithmetic. The region holds no float32 input, but ONNX Runtime "
        "violates the property at the one beside it."
    ),
}
_REASONS = {
    "timeout": "The time limit came before a decision.",
    "memory": "What was left did not fit into memory.",
    "cancelled": "It was stopped on request, and keeps what was proven until then.",
    "numerics": "What is left is closer to zero than the numbers of a solver can tell.",
    "incomplete": "The engine that was named cannot decide further.",
}


def region_of(query: Mapping[str, Any]) -> str:
    """The inputs that a question is about."""
    if _has(query, "vnnlib"):
        return "The inputs that the VNNLIB text allows."
    if query.get("kind") == "universal":
        epsilon = _text(query.get("epsilon"))
        return (
            f"The inputs that were given, all changed by one and the same perturbation of at most {epsilon} an entry."
        )
    if _has(query, "radii"):
        words = "Inputs in which each entry is changed by at most a radius of its own"
    elif query.get("epsilon") is not None:
        ball = _BALLS[query.get("norm") or "linf"].format(epsilon=_text(query["epsilon"]))
        words = f"Inputs in which {ball}"
    elif _has(query, "lower") or _has(query, "upper"):
        words = "Inputs between the lower and the upper bounds that were given"
    else:
        words = "Inputs at any distance from the one that was given"
    return words + _limits(query) + "."


def _limits(query: Mapping[str, Any]) -> str:
    """What narrows a region down."""
    words = ""
    if query.get("domain") is not None:
        low, high = query["domain"]
        words += f" and every entry stays between {_text(low)} and {_text(high)}"
    if query.get("frozen"):
        count = len(query["frozen"])
        words += f"; {count} {'entry keeps its value' if count == 1 else 'entries keep their values'}"
    if query.get("constraints"):
        count = len(query["constraints"])
        words += f"; {count} linear {'constraint holds' if count == 1 else 'constraints hold'} as well"
    return words


def property_of(query: Mapping[str, Any]) -> str:
    """What must hold on the whole region."""
    kind = query.get("kind") or "decide"
    if _has(query, "vnnlib"):
        return "No output that the VNNLIB text calls a violation occurs."
    if kind == "universal":
        return "How many of the inputs does one perturbation flip?"
    words = _property(query)
    if kind == "margin":
        return f"{words} How small does its margin become?"
    if kind == "distance":
        return f"{words} How far away is the nearest violation?"
    return words


def _property(query: Mapping[str, Any]) -> str:
    if query.get("output_range") is not None:
        return _range(query["output_range"])
    if query.get("equivalent_to") is not None:
        within = query["equivalent_to"].get("within")
        how = "decide for the same class" if within is None else f"differ by less than {_text(within)} in every output"
        return f"This network and network {query['equivalent_to']['network'][:10]} {how}."
    if query.get("monotone") is not None:
        asked = query["monotone"]
        falls = "falls" if asked.get("direction", "increasing") == "increasing" else "rises"
        return (
            f"As entry {asked['input']} alone is raised, output {asked.get('output', 0)} never {falls} by "
            f"{_text(asked['within'])} or more."
        )
    if query.get("violations") is not None:
        return "No output meets all rows of one of the clauses that were given as violations."
    return _class(query)


def _class(query: Mapping[str, Any]) -> str:
    label = query.get("label")
    who = "the class at the given input" if label is None else f"class {label}"
    others = "all others" if query.get("targets") is None else f"classes {', '.join(map(str, query['targets']))}"
    if query.get("top_k"):
        return f"The network keeps {who} among the {query['top_k']} best; a tie is a violation."
    if query.get("confidence") is not None:
        return f"The network scores {who} above {others} by more than {_text(query['confidence'])}."
    return f"The network decides for {who}: its score is above {others}; a tie is a violation."


def _range(asked: Mapping[str, Any]) -> str:
    what = f"Output {asked['output']}" if asked.get("output") is not None else "The linear form of the outputs"
    if asked.get("end") is not None:
        return f"{what} has a {asked['end']} value."
    low, high = asked.get("lower"), asked.get("upper")
    ends = [f"above {_text(low)}"] * (low is not None) + [f"below {_text(high)}"] * (high is not None)
    return f"{what} stays {' and '.join(ends)}."


def claim_of(verdict: Mapping[str, Any]) -> str:
    """What a verdict claims."""
    kind = verdict.get("kind") or "decide"
    if kind == "distance":
        return _distance(verdict)
    if kind == "universal":
        least, most = verdict["universal"]["flips"]
        return f"One perturbation flips {least} of the inputs" + (
            f", and none flips more than {most}." if most else "."
        )
    lower, upper = verdict["margin"]
    if kind == "margin":
        proven = "nothing is proven from below" if lower is None else f"at least {number(lower)} is proven"
        attained = "nothing was replayed" if upper is None else f"{number(upper)} is attained"
        return f"The least margin over the region: {proven}, {attained}."
    match verdict["verdict"]:
        case "robust":
            return _ROBUST[verdict.get("semantics") or "real"]
        case "counterexample":
            found = verdict.get("counterexample") or {}
            return f"An input of the region breaks the property{_breach(found.get('clause', ''))}."
        case _:
            return "Neither a proof nor a counterexample was found; the bounds below hold."


def _breach(clause: str) -> str:
    """What a clause names: a class that does not lose as it should, or what the outputs do that they must not."""
    if re.fullmatch(r"class \d+", clause):
        return f": it does not hold against {clause}"
    return f": {clause}" if clause else ""


def _distance(verdict: Mapping[str, Any]) -> str:
    lower, upper = verdict["distance"]
    if lower is not None and upper is not None and number(lower) == number(upper):
        return f"The nearest violation is between {number(lower, 7)} and {number(upper, 7)} away."
    away = "" if lower is None else f"Every violation is farther away than {number(lower)}"
    if upper is None:
        return f"{away or 'Nothing is proven'}, and none is known."
    return f"{away}, and one is {number(upper)} away." if away else f"A violation is {number(upper)} away."


def trust_of(verdict: Mapping[str, Any]) -> str:
    """Whose word a verdict is."""
    if verdict.get("kind") == "universal" and verdict.get("trust") == "replayed":
        return "ONNX Runtime was seen to flip these inputs; that none flips more is the solver's word."
    return _TRUST.get(verdict.get("trust") or "", "")


def reason_of(verdict: Mapping[str, Any]) -> str:
    """Why a verdict is unknown."""
    return _REASONS.get(verdict.get("reason") or "", "")


def _has(query: Mapping[str, Any], name: str) -> bool:
    """Whether a query has a member, be it one that is left out as too long."""
    return query.get(name) is not None or name in query.get("omitted", ())


def _text(value: object) -> str:
    return value if isinstance(value, str) else number(value) if isinstance(value, int | float) else str(value)
