"""VNNLIB: what a file says, and how it is told that it does not say it right."""

from __future__ import annotations

import csv
import gzip
import itertools
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import networks
from networks import VnnlibError, parse_vnnlib, read_vnnlib


def declared(inputs, outputs, body):
    lines = [f"(declare-const X_{i} Real)" for i in range(inputs)] + [
        f"(declare-const Y_{i} Real)" for i in range(outputs)
    ]
    return "\n".join(lines) + "\n" + body


UNIT = "(assert (<= X_0 1)) (assert (>= X_0 0))\n"


def parse(body, inputs=1, outputs=2):
    return parse_vnnlib(declared(inputs, outputs, body), inputs, outputs)


def single(body, **sizes):
    ((region, prop),) = parse(body, **sizes).cases
    return region, prop


def test_common_form():
    region, prop = single(
        """
        ; a comment (with parentheses
        (assert (<= X_0 0.1))  ; another
        (assert (>= X_0 -1e-3))
        (assert (or
            (and (>= Y_1 Y_0))
            (and (>= Y_2 Y_0) (<= Y_2 2.5))))
        """,
        outputs=3,
    )
    assert (region.exact_lower, region.exact_upper) == ((Fraction(-1, 1000),), (Fraction(1, 10),))
    one = Fraction(1)
    assert [set(row.coefficients) for row in prop.clauses[0].rows] == [{(0, one), (1, -one)}]
    assert [row.offset for row in prop.clauses[1].rows] == [0, Fraction(-5, 2)]
    assert prop.clauses[0].label == "Y_0 - Y_1 <= 0"
    assert not prop.violated(np.float32([1, 0, 0]))
    assert prop.violated(np.float32([1, 1, 0]))
    assert prop.violated(np.float32([1, 0, 2.5]))
    assert not prop.violated(np.float32([1, 0, 3]))


@pytest.mark.parametrize(
    ("condition", "y", "violated"),
    [
        ("(<= Y_0 1.5)", [1.5, 0], True),
        ("(<= 1.5 Y_0)", [1.25, 0], False),
        ("(>= 1.5 Y_0)", [1.5, 0], True),
        ("(>= Y_0 Y_1)", [1, 2], False),
        ("(= Y_0 Y_1)", [1, 1], True),
        ("(= Y_0 Y_1)", [1, 2], False),
        ("(<= (+ (* 2 Y_0) Y_1) 3)", [1, 1], True),
        ("(<= (+ (* 2 Y_0) Y_1 0.5) 3)", [1, 1], False),
        ("(<= (- Y_0 Y_1 1) (- 2))", [0, 1], True),
        ("(<= (* Y_0 0.1) 0.1)", [1, 0], True),
        ("(<= (* Y_0 0.1) 0.1)", [1.0000001, 0], False),
        ("(and (<= Y_0 0) (or (<= Y_1 0) (>= Y_1 2)))", [0, 3], True),
        ("(and (<= Y_0 0) (or (<= Y_1 0) (>= Y_1 2)))", [0, 1], False),
    ],
)
def test_output_conditions(condition, y, violated):
    _, prop = single(UNIT + f"(assert {condition})")
    assert prop.violated(np.float32(y)) == violated


def test_assertions_are_a_conjunction():
    _, prop = single(
        UNIT + "(assert (<= Y_0 0)) (assert (or (<= Y_1 0) (>= Y_1 2))) (assert (or (<= Y_0 -1) (>= Y_0 -2)))"
    )
    assert len(prop.clauses) == 4
    assert all(len(clause.rows) == 3 for clause in prop.clauses)


def test_boxes_inside_disjuncts_become_cases_and_equal_ones_are_shared():
    query = parse(
        """
        (assert (>= X_1 0)) (assert (<= X_1 1))
        (assert (or
            (and (>= X_0 0) (<= X_0 0.5) (<= Y_0 1))
            (and (>= X_0 0) (<= X_0 0.5) (>= Y_0 2))
            (and (<= X_0 9) (>= X_0 8) (<= X_1 0.5) (<= Y_0 1))
            (and (<= X_0 9) (>= X_0 8) (>= X_1 2) (<= Y_0 1))))
        """,
        inputs=2,
    )
    assert [len(prop.clauses) for _, prop in query.cases] == [2, 1]
    assert query.cases[0][0].upper.tolist() == [0.5, 1]
    assert query.cases[1][0].upper.tolist() == [9, 0.5]
    assert query.statement["cases"] == 2


def test_equality_and_repeated_bounds_of_inputs():
    region, _ = single("(assert (= X_0 0.25)) (assert (<= X_0 7)) (assert (>= X_0 -3)) (assert (<= Y_0 0))")
    assert region.exact_lower == region.exact_upper == (Fraction(1, 4),)
    region, _ = single("(assert (<= (* -2 X_0) 1)) (assert (<= (+ X_0 1) 2)) (assert (<= Y_0 0))")
    assert (region.exact_lower, region.exact_upper) == ((Fraction(-1, 2),), (Fraction(1),))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("(assert (<= X_0 1))\n(assert (<= Y_0 0))", r"line 1: X_0 has no lower bound"),
        ("(assert (>= X_0 1))\n(assert (<= Y_0 0))", r"line 1: X_0 has no upper bound"),
        ("(assert (<= X_0 0))\n(assert (>= X_0 1))\n(assert (<= Y_0 0))", r"line [45]: X_0 is bounded to nothing"),
        (
            UNIT + "(assert (or (and (<= X_0 -1) (<= Y_0 0))\n (and (>= X_0 2) (<= Y_0 0))))",
            "bounds some input to nothing",
        ),
        (UNIT + "(assert (<= Y_0 Z_1))", r"line 5: 'Z_1' is neither"),
        (UNIT + "(assert (<= Y_0 Y_2))", r"line 5: Y_2 is not declared"),
        (UNIT + "(assert (<= X_0 Y_0))", "relates X_0 and Y_0"),
        (UNIT + "(assert (<= (+ X_0 Y_0) 1))", "not supported"),
        (UNIT + "(assert (< Y_0 1))", r"line 5: strict comparison"),
        (UNIT + "(assert (not (<= Y_0 1)))", "unknown connective not"),
        (UNIT + "(assert (<= (* Y_0 Y_1) 1))", "multiplies variables"),
        (UNIT + "(assert (<= (sin Y_0) 1))", "unknown term"),
        (UNIT + "(assert (<= Y_0))", "compares two terms"),
        (UNIT + "(assert (<= 0 1))", "does not restrict"),
        (UNIT + "(assert (<= Y_0 Y_0))", "does not restrict"),
        (UNIT + "(assert (<= Y_0 1e999999999))", "finite number"),
        (UNIT + "(assert (<= Y_0 1e400))", "too large"),
        (UNIT + "(assert (<= Y_0 nan))", "finite number"),
        (UNIT + "(assert Y_0)", "expected a condition"),
        (UNIT + "(assert)", "takes one condition"),
        (UNIT + "(assert (or))", "empty disjunction"),
        (UNIT + "(assert (<= Y_0 1)", r"line 5: the parenthesis that opens here is never closed"),
        (UNIT + "(assert (<= Y_0 1)))", r"line 5: a closing parenthesis"),
        (UNIT + "stray (assert (<= Y_0 1))", "outside of parentheses"),
        (UNIT + "(minimize Y_0)", "unknown command"),
        (UNIT, "says nothing about the outputs"),
        ("", "there is no assert"),
        (UNIT + "(declare-const X_0 Real)", "declared twice"),
        (UNIT + "(declare-const X_7 Real)", r"X_7 is declared, but the network has 1 inputs"),
        (UNIT + "(declare-const X_1 Int)", "expected"),
        (UNIT + "(vnnlib-version <2.0>)", "VNNLIB 2"),
        (UNIT + "(assert " + "(and " * 200 + "(<= Y_0 1)" + ")" * 201, "nested deeper"),
        (UNIT + "(assert (and " + "(or (<= Y_0 1) (<= Y_1 1)) " * 30 + "))", "more than 200000 disjuncts"),
        (UNIT + "(assert (or (<= Y_0 1) (<= Y_1 1)))" * 30, "more than 200000 disjuncts"),
    ],
)
def test_errors_name_the_line_and_the_reason(body, word):
    with pytest.raises(VnnlibError, match=word) as caught:
        parse(body)
    assert "line " in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "outputs", "word"), [(2, 2, "1 inputs"), (1, 3, "2 outputs"), (1, 1, "Y_1 is declared")]
)
def test_specification_of_another_network_is_refused(inputs, outputs, word):
    with pytest.raises(VnnlibError, match=word):
        parse_vnnlib(declared(1, 2, UNIT + "(assert (<= Y_0 0))"), inputs, outputs)


def test_older_declarations_and_other_commands_are_read():
    text = (
        "(set-logic QF_LRA)(declare-fun X_0 () Real)(declare-fun Y_0 () Real)" + UNIT + "(assert (<= Y_0 0))(check-sat)"
    )
    assert parse_vnnlib(text, 1, 1).clauses == 1


def test_files(tmp_path):
    text = declared(1, 2, UNIT + "(assert (<= Y_0 0))")
    (tmp_path / "p.vnnlib").write_text(text)
    (tmp_path / "p.vnnlib.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("p.vnnlib", "p.vnnlib.gz"):
        assert read_vnnlib(tmp_path / name, 1, 2).statement["name"] == name
    with pytest.raises(VnnlibError, match="there is no specification"):
        read_vnnlib(tmp_path / "absent", 1, 2)
    (tmp_path / "half.gz").write_bytes(gzip.compress(text.encode())[:40])
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("half.gz", "binary"):
        with pytest.raises(VnnlibError, match=name):
            read_vnnlib(tmp_path / name, 1, 2)


FORMULAS = st.recursive(
    st.tuples(
        st.sampled_from(["<=", ">="]),
        st.sampled_from(["Y_0", "Y_1"]),
        st.sampled_from(["Y_0", "Y_1", "0", "0.5", "-1"]),
    ).filter(lambda f: f[1] != f[2]),
    lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=8,
)


def written(formula):
    if len(formula) == 3:
        return f"({formula[0]} {formula[1]} {formula[2]})"
    return f"({formula[0]} {' '.join(written(f) for f in formula[1])})"


def holds(formula, y):
    if len(formula) == 3:
        left, right = (y[int(t[2])] if t[0] == "Y" else float(t) for t in formula[1:])
        return left <= right if formula[0] == "<=" else left >= right
    return (all if formula[0] == "and" else any)(holds(f, y) for f in formula[1])


@given(FORMULAS)
def test_normal_form_means_the_same(formula):
    _, prop = single(UNIT + f"(assert {written(formula)})")
    for y in itertools.product([-1, 0, 0.25, 0.5, 1], repeat=2):
        assert prop.violated(np.float32(y)) == holds(formula, y)


def test_megabytes_take_seconds():
    disjuncts = "\n".join(
        f"(and (>= X_0 0.{i:05d}1) (<= X_0 0.{i:05d}2) ({op} Y_0 0.{i:05d}))"
        for i in range(5_000)
        for op in ("<=", ">=")
    )
    text = declared(1, 1, f"(assert (or {disjuncts}))")
    start = time.perf_counter()
    query = parse_vnnlib(text, 1, 1)
    assert time.perf_counter() - start < 20
    assert len(query.cases) == 5_000


@pytest.mark.data
def test_real_specifications_are_read(data_folder):
    seen = set()
    with (data_folder / "ground_truth.csv").open() as file:
        for row in csv.DictReader(file):
            folder = data_folder / row["set"]
            key = (row["set"], row["vnnlib"][:16])
            if key in seen or row["set"] == "nn4sys_lindex":
                continue
            seen.add(key)
            network = networks.load(folder / row["onnx"], compare=False)
            query = read_vnnlib(folder / row["vnnlib"], network.inputs, network.outputs)
            assert query.clauses >= 1


@pytest.mark.data
def test_learned_index_has_one_case_per_key(data_folder):
    (path,) = data_folder.glob("nn4sys_lindex/*/lindex_200.vnnlib.gz")
    query = read_vnnlib(path, 1, 1)
    assert (len(query.cases), query.clauses) == (200, 400)
