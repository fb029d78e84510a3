"""Questions by names: what they become, and that what is wrong is named."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netproof
from netproof.commands.compare import compare
from netproof.commands.monotone import monotone
from netproof.commands.verify import verify
from networks import InputError, PropertyError, RegionError, VnnlibError, evaluate, load_bytes
from service.queries import QueryDocument
from solver.question import MEMBERS, faults, pose
from solver.universal_question import UNIVERSAL
from solver.verdict import Kind
from tests.random_networks import dense_model, random_dense

NETWORK = random_dense(0, (3, 4, 2))
BALL: dict[str, Any] = {"input": [0.5, 0.25, 1], "epsilon": 0.1, "label": 1}
BOX: dict[str, Any] = {"lower": 0, "upper": ["1/3", 1, 2], "label": 0}
SPACE: dict[str, Any] = {"lower": 0, "upper": 1}
VNNLIB = "\n".join(
    [f"(declare-const {name} Real)" for name in ("X_0", "X_1", "X_2", "Y_0", "Y_1")]
    + [f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(3)]
    + ["(assert (<= Y_0 Y_1))"]
)


@dataclass(frozen=True)
class Outline:
    """All that a web process knows of a network."""

    inputs: int
    outputs: int
    input_shape: tuple[int, ...]


def test_a_ball_and_its_class() -> None:
    question = pose(NETWORK, **BALL, domain=(0, 1), norm="linf", targets=None)
    ((region, prop),) = question.query.cases
    assert question.network is NETWORK
    assert region.exact_lower == (Fraction(2, 5), Fraction(3, 20), Fraction(9, 10))
    assert region.exact_upper == (Fraction(3, 5), Fraction(7, 20), Fraction(1))
    assert [clause.label for clause in prop.clauses] == ["class 0"]


def test_the_label_is_the_networks_own() -> None:
    own = int(evaluate(NETWORK, [[0.5, 0.25, 1.0]])[0].argmax())
    question = pose(NETWORK, **BALL | {"label": None})
    assert question.query.statement["property"]["label"] == own


def test_a_box_takes_one_number_or_one_for_each_entry() -> None:
    ((region, _),) = pose(NETWORK, **BOX).query.cases
    assert region.exact_lower == (0, 0, 0)
    assert region.exact_upper == (Fraction(1, 3), 1, 2)
    ((same, _),) = pose(NETWORK, **BOX | {"lower": np.zeros((1, 3)), "upper": [["1/3", 1], [2]]}).query.cases
    assert (same.exact_lower, same.exact_upper) == (region.exact_lower, region.exact_upper)


def test_vnnlib_as_text_and_as_file(tmp_path: Path) -> None:
    path = tmp_path / "spec.vnnlib"
    path.write_text(VNNLIB)
    for given in (VNNLIB, path):
        question = pose(NETWORK, vnnlib=given, norm="linf", input=None)
        assert question.query.clauses == 1


WRONG: list[tuple[dict[str, Any], str, type[InputError], str]] = [
    ({}, "input", InputError, "input and epsilon missing: give either vnnlib, or"),
    ({"input": [0, 0, 0]}, "epsilon", InputError, "^epsilon missing"),
    ({"lower": 0, "label": 0}, "upper", InputError, "^upper missing"),
    ({**BALL, "epsilom": 1}, "epsilom", InputError, "epsilom is not known; a question may have input, epsilon"),
    ({**BALL, **BOX}, "lower", RegionError, "are two regions"),
    ({**BALL, "norm": "l7"}, "norm", RegionError, "norm 'l7' is not supported"),
    ({**BALL, "epsilon": "-1/2"}, "epsilon", RegionError, "at least 0, got -1/2"),
    ({**BALL, "input": [1, 2]}, "input", RegionError, r"has 2 entries, but the network takes 3 \(3\)"),
    ({**BALL, "input": [[1, 2], [3]]}, "input", RegionError, "nested lists of equal lengths"),
    ({**BALL, "domain": (0, 0.75)}, "input", RegionError, "outside the domain"),
    ({**BALL, "domain": (1, 0)}, "domain", RegionError, "give them in order"),
    ({**BALL, "domain": 1}, "domain", RegionError, "two finite numbers"),
    ({**BOX, "upper": [1, 2]}, "upper", RegionError, "upper has 2 entries, but the network takes 3"),
    ({**BOX, "upper": -1}, "lower", RegionError, "lower bound 0 above its upper bound -1"),
    ({**BOX, "lower": "x"}, "lower", RegionError, "entry 0 is 'x'"),
    ({"lower": 0, "upper": 1}, "label", PropertyError, "a box has no class of its own"),
    ({**BALL, "label": 2}, "label", PropertyError, "label 2 does not exist"),
    ({**BALL, "label": "cat"}, "label", PropertyError, "label must be a whole number, got 'cat'"),
    ({**BALL, "targets": [0, 1]}, "targets", PropertyError, "target 1 is the label itself"),
    ({**BALL, "norm": "l0"}, "epsilon", RegionError, "so it is a whole number"),
    ({**BALL, "norm": "l0", "epsilon": 1}, "norm", RegionError, "give a domain, or radii"),
    ({**BALL, "radii": [1, 2]}, "radii", RegionError, "radii has 2 entries"),
    ({**BALL, "radii": [1, -2, 0]}, "radii", RegionError, "the radius -2"),
    ({**BALL, "frozen": [3]}, "frozen", RegionError, "frozen names input entry 3"),
    ({**BALL, "frozen": [0.5]}, "frozen", PropertyError, "an entry of frozen must be a whole number, got 0.5"),
    ({**BALL, "constraints": {"0": 1}}, "constraints", RegionError, "constraints are a list"),
    ({**BALL, "constraints": [{"0": 1}]}, "constraints", RegionError, 'a constraint is {"coefficients": '),
    ({**BALL, "constraints": [{"coefficients": {"3": 1}, "bound": 0}]}, "constraints", RegionError, "3"),
    ({**BALL, "top_k": 2}, "top_k", PropertyError, "top_k must be between 1 and 1"),
    ({**BALL, "confidence": -1}, "confidence", PropertyError, "at least 0"),
    ({**BALL, "confidence": 0, "top_k": 1}, "confidence", PropertyError, "are two properties"),
    ({**BALL, "violations": [[]]}, "violations", PropertyError, "label, violations are 2 properties"),
    ({**BALL, "label": None, "violations": [1]}, "violations", PropertyError, "a list of clauses, each a list of rows"),
    ({**BALL, "label": None, "output_range": [0]}, "output_range", PropertyError, "is a mapping of output"),
    ({**BALL, "label": None, "output_range": {"lower": 0}}, "output_range", PropertyError, "either output or coeff"),
    ({**BALL, "label": None, "output_range": {"output": 0}}, "output_range", PropertyError, "lower or an upper"),
    ({**BALL, "kind": "guess"}, "kind", InputError, "kind 'guess' is not known; use decide, margin, distance"),
    ({**BALL, "tolerance": 1}, "tolerance", InputError, "ask with kind 'margin' or 'distance'"),
    ({**BALL, "tolerance": 0, "kind": "margin"}, "tolerance", InputError, "above 0, got 0"),
    ({**BALL, "label": None, "output_range": {"output": 0, "end": "least"}}, "kind", PropertyError, "kind 'margin'"),
    ({**BALL, "equivalent_to": {"network": NETWORK}}, "equivalent_to", PropertyError, "equivalent_to, label are 2"),
    ({**SPACE, "equivalent_to": {"within": 1}}, "equivalent_to", PropertyError, "is a mapping of network, within"),
    ({**SPACE, "equivalent_to": {"network": NETWORK, "within": 0}}, "equivalent_to", InputError, "above 0, got 0"),
    ({**SPACE, "equivalent_to": random_dense(0, (3, 4, 5))}, "equivalent_to", PropertyError, "these have 2 and 5"),
    ({**SPACE, "monotone": {"input": 0}}, "monotone", PropertyError, r"input, output \(optional\)"),
    ({**SPACE, "monotone": {"input": 3, "within": 1}}, "monotone", PropertyError, "has 3 inputs, counted from 0"),
    ({**SPACE, "monotone": {"input": 0, "within": "x"}}, "monotone", InputError, "got 'x'"),
    ({**SPACE, "monotone": {"input": 0, "within": 1, "direction": "up"}}, "monotone", PropertyError, "got 'up'"),
    ({"vnnlib": VNNLIB, "norm": "l1"}, "vnnlib", InputError, "not both"),
    ({"input": [0, 0, 0], "label": 0, "kind": "distance"}, "epsilon", InputError, "or a domain, to search all"),
    ({"vnnlib": VNNLIB, "label": 1}, "vnnlib", InputError, "give either vnnlib or label, not both"),
    ({"vnnlib": "(assert"}, "vnnlib", VnnlibError, "line 1"),
]


@pytest.mark.parametrize(("members", "member", "error", "message"), WRONG)
def test_what_is_wrong_is_named(members: dict[str, Any], member: str, error: type[InputError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        pose(NETWORK, **members)
    (fault,) = faults(members, Outline(3, 2, (3,)))
    assert (fault.member, str(fault.error)) == (member, str(caught.value))


def test_norms_and_what_else_shapes_a_ball() -> None:
    shape: dict[str, Any] = {"norm": "l2", "radii": [1, "1/4", 1], "frozen": [2], "domain": (0, 1)}
    ((region, _),) = pose(NETWORK, **BALL, **shape).query.cases
    assert region.ball is not None
    assert (region.ball.norm, region.ball.radius) == ("l2", Fraction(1, 10))
    assert region.exact_lower[2] == region.exact_upper[2] == 1
    ((same, _),) = pose(NETWORK, **BALL, **shape | {"frozen": np.array([False, False, True])}).query.cases
    assert same.exact_lower == region.exact_lower
    ((alone, _),) = pose(NETWORK, input=BALL["input"], radii=[0, "1/4", 0], label=0).query.cases
    assert (alone.exact_lower[1], alone.exact_upper[1]) == (0, Fraction(1, 2))


@pytest.mark.parametrize("region", [BALL, BOX])
def test_constraints_on_the_input(region: dict[str, Any]) -> None:
    ((found, _),) = pose(
        NETWORK, **region, constraints=[{"coefficients": {"0": 1, "1": "-1/3"}, "bound": 2}]
    ).query.cases
    (constraint,) = found.constraints
    assert (constraint.indices, constraint.values, constraint.bound) == ((0, 1), (1, Fraction(-1, 3)), 2)


@pytest.mark.parametrize(
    ("stated", "kind", "rows"),
    [
        ({"label": 1, "top_k": 1}, "top_k", [[-1, 1, 0]]),
        ({"label": 1, "confidence": "0.5"}, "confidence", [[-1, 1, -0.5]]),
        ({"output_range": {"output": 0, "lower": -1, "upper": 2}}, "output_range", [[1, 0, 1], [-1, 0, 2]]),
        ({"output_range": {"coefficients": {"1": 2}, "upper": 2}}, "output_range", [[0, -2, 2]]),
        ({"violations": [[{"coefficients": {"1": 1}, "offset": 3}]]}, "rows", [[0, 1, 3]]),
    ],
)
def test_properties(stated: dict[str, Any], kind: str, rows: list[list[float]]) -> None:
    ((_, prop),) = pose(NETWORK, lower=0, upper=1, **stated).query.cases
    assert prop.statement["kind"] == kind
    assert [[*clause.matrix[0], clause.offsets[0]] for clause in prop.clauses] == rows


def test_kinds() -> None:
    assert pose(NETWORK, **BALL).kind is Kind.DECIDE
    question = pose(NETWORK, **BALL, kind="margin", tolerance="1/8")
    assert (question.kind, question.tolerance, question.norm) == (Kind.MARGIN, 0.125, None)
    assert question.query.statement["kind"] == "margin"
    assert pose(NETWORK, **BALL, kind="distance").norm == "linf"
    assert pose(NETWORK, vnnlib=VNNLIB, kind="distance", norm="l1").norm == "l1"
    assert pose(NETWORK, **BOX, kind="distance", norm="l2").norm == "l2"


@pytest.mark.parametrize("norm", ["linf", "l2", "l0"])
def test_a_distance_may_look_at_the_whole_domain(norm: str) -> None:
    question = pose(NETWORK, input=[0.5, 0.25, 1], label=0, domain=(-1, 2), norm=norm, kind="distance", frozen=[1])
    ((region, _),) = question.query.cases
    assert region.exact_lower == (-1, Fraction(1, 4), -1)
    assert region.exact_upper == (2, Fraction(1, 4), 2)
    assert region.center is not None
    assert region.center.tolist() == [0.5, 0.25, 1]
    assert question.norm == norm
    assert region.statement == {"kind": "ball", "norm": norm, "domain": ["-1", "2"], "frozen": [1]}
    with pytest.raises(RegionError, match="outside the domain"):
        pose(NETWORK, input=[3, 0, 0], label=0, domain=(0, 1), kind="distance")


@pytest.mark.parametrize(("end", "sign"), [("least", 1), ("greatest", -1)])
def test_the_end_of_a_range(end: str, sign: int) -> None:
    asked = {"coefficients": {"0": "1/3", "1": 1}, "end": end}
    ((_, prop),) = pose(NETWORK, lower=0, upper=1, output_range=asked, kind="margin").query.cases
    assert [clause.matrix.tolist() for clause in prop.clauses] == [[[sign, 3 * sign]]]
    assert prop.statement["multiple"] == "3"


def test_two_networks_and_two_inputs_become_one_network(tmp_path: Path) -> None:
    first, second = load_bytes(dense_model(7)), load_bytes(dense_model(8))
    question = pose(first, **SPACE, equivalent_to={"network": second, "within": "0.1"})
    assert question.query.statement["property"]["kind"] == "equivalence"
    assert question.network.inputs == 3
    assert question.network.sha256 not in {first.sha256, second.sha256}
    path = tmp_path / "second.onnx"
    path.write_bytes(dense_model(8))
    same = pose(first, input=[0, 0, 0], epsilon=1, equivalent_to=path)
    assert same.query.statement["property"]["same_decision"] is True
    assert same.center is not None
    raised = pose(first, **SPACE, monotone={"input": 1, "output": 0, "within": "0.1"})
    assert raised.network.inputs == 4
    assert raised.query.statement["property"]["direction"] == "increasing"
    assert faults(SPACE | {"equivalent_to": {"network": Outline(3, 2, (3,))}}, Outline(3, 2, (3,))) == []


def test_command_line_python_and_http_use_the_same_names() -> None:
    options = {option.name for each in (verify, compare, monotone) for option in each.params}
    elsewhere = {"input", "lower", "upper", "vnnlib", "equivalent_to", "monotone"}
    assert set(inspect.signature(netproof.verify).parameters) >= set(MEMBERS)
    assert set(QueryDocument.model_fields) == {*MEMBERS, *UNIVERSAL}
    assert set(inspect.signature(netproof.universal).parameters) >= set(UNIVERSAL)
    assert {"data", "index", "box", "spec", "second", "within", "raised"} | set(MEMBERS) - elsewhere <= options


def test_all_that_is_wrong_is_found_at_once() -> None:
    found = faults({"input": [1], "epsilon": -1, "label": 5, "domain": [1, 0], "size": 3}, Outline(3, 2, (3,)))
    assert sorted(fault.member for fault in found) == ["domain", "epsilon", "input", "label", "size"]


def test_a_signature_is_enough_to_find_nothing_wrong() -> None:
    for members in (BALL, BALL | {"label": None}, BOX, {"vnnlib": VNNLIB}):
        assert faults(members, Outline(3, 2, (3,))) == []


def test_one_output_has_no_class() -> None:
    with pytest.raises(PropertyError, match="one output, so there is no class to keep"):
        pose(random_dense(0, (3, 4, 1)), input=[0, 0, 0], epsilon=1)
